//! Conditions that an image sets on the host, in the grammar of `NVIDIA_REQUIRE_*`.
//!
//! A value is alternatives with blanks between, an alternative is factors with commas between, a factor
//! is a property, an operator and a value: `cuda>=12.4 brand=tesla,driver>=470,driver<471`.

use std::cmp::Ordering;

use crate::Notice;

/// What is known of a property, or why nothing is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// One value for each GPU, or one for the host.
    Values(Vec<String>),
    /// This version or a newer one.
    AtLeast(String),
    /// Why it is not known.
    Unknown(String),
}

/// What is known of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The driver's version.
    pub driver: Fact,
    /// The CUDA version that it serves.
    pub cuda: Fact,
    /// The GPUs' compute capabilities.
    pub arch: Fact,
    /// The GPUs' brands.
    pub brand: Fact,
}

/// Why a container cannot run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unmet {
    /// The host is not as the image wants it.
    #[error("{name}={value}: not met by this host ({known})")]
    Unmet {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// What the host is.
        known: String,
    },
    /// Nobody can tell.
    #[error("{name}={value}: cannot be decided: {reason}")]
    Undecided {
        /// The variable.
        name: String,
        /// Its value.
        value: String,
        /// Why not.
        reason: String,
    },
    /// The condition does not follow the grammar.
    #[error("{name}: `{factor}` is no condition; one is written PROPERTY>=VALUE")]
    Grammar {
        /// The variable.
        name: String,
        /// What is wrong.
        factor: String,
    },
}

enum Verdict {
    Met,
    Unmet,
    Undecided(String),
}

/// Checks one variable; what was let pass without being known is told.
pub fn check(name: &str, value: &str, facts: &Facts) -> Result<Vec<Notice>, Unmet> {
    let (mut notices, mut undecided) = (Vec::new(), None);
    let mut alternatives = value.split_whitespace().peekable();
    if alternatives.peek().is_none() {
        return Ok(notices);
    }
    for alternative in alternatives {
        let mut odd = Vec::new();
        match all(name, alternative, facts, &mut odd)? {
            Verdict::Met => {
                notices.extend(odd);
                return Ok(notices);
            }
            Verdict::Unmet => {}
            Verdict::Undecided(reason) => undecided = Some(reason),
        }
    }
    let (name, value) = (name.to_owned(), value.to_owned());
    Err(match undecided {
        Some(reason) => Unmet::Undecided { name, value, reason },
        None => Unmet::Unmet { name, value, known: facts.to_string() },
    })
}

fn all(name: &str, alternative: &str, facts: &Facts, notices: &mut Vec<Notice>) -> Result<Verdict, Unmet> {
    let mut verdict = Verdict::Met;
    for factor in alternative.split(',').filter(|factor| !factor.is_empty()) {
        match one(name, factor, facts, notices)? {
            Verdict::Met => {}
            Verdict::Unmet => verdict = Verdict::Unmet,
            Verdict::Undecided(reason) if matches!(verdict, Verdict::Met) => {
                verdict = Verdict::Undecided(reason)
            }
            Verdict::Undecided(_) => {}
        }
    }
    Ok(verdict)
}

/// Operators, those of two letters first, with the orders that they accept.
const OPERATORS: [(&str, &[Ordering]); 6] = [
    ("!=", &[Ordering::Less, Ordering::Greater]),
    ("<=", &[Ordering::Less, Ordering::Equal]),
    (">=", &[Ordering::Greater, Ordering::Equal]),
    ("=", &[Ordering::Equal]),
    ("<", &[Ordering::Less]),
    (">", &[Ordering::Greater]),
];

fn one(name: &str, factor: &str, facts: &Facts, notices: &mut Vec<Notice>) -> Result<Verdict, Unmet> {
    let grammar = || Unmet::Grammar { name: name.to_owned(), factor: factor.to_owned() };
    let found = OPERATORS.iter().find_map(|(sign, accepted)| {
        let (property, value) = factor.split_once(sign)?;
        Some((property, *accepted, value))
    });
    let (property, accepted, value) = found.ok_or_else(grammar)?;
    let fact = match property {
        "driver" => &facts.driver,
        "cuda" => &facts.cuda,
        "arch" => &facts.arch,
        "brand" => return Ok(brand(name, factor, accepted, value, facts, notices)),
        _ => {
            notices.push(Notice(format!("{name}: `{factor}` is about nothing known here; taken as met")));
            return Ok(Verdict::Met);
        }
    };
    let wanted = version(value).ok_or_else(grammar)?;
    Ok(match fact {
        Fact::Unknown(reason) => Verdict::Undecided(reason.clone()),
        Fact::AtLeast(least) => match version(least) {
            // Whatever it is, it is not older than this.
            Some(least)
                if accepted.contains(&Ordering::Greater) && accepted.contains(&least.cmp(&wanted)) =>
            {
                Verdict::Met
            }
            _ => Verdict::Undecided(format!("{property} is {least} or newer")),
        },
        Fact::Values(values) => {
            let met = |one: &String| version(one).is_some_and(|one| accepted.contains(&one.cmp(&wanted)));
            if values.iter().all(met) { Verdict::Met } else { Verdict::Unmet }
        }
    })
}

fn brand(
    name: &str,
    factor: &str,
    accepted: &[Ordering],
    wanted: &str,
    facts: &Facts,
    notices: &mut Vec<Notice>,
) -> Verdict {
    let equal = accepted.contains(&Ordering::Equal);
    match &facts.brand {
        Fact::Values(brands) if brands.iter().all(|brand| (brand == wanted) == equal) => Verdict::Met,
        Fact::Values(_) => Verdict::Unmet,
        Fact::Unknown(reason) | Fact::AtLeast(reason) => {
            notices.push(Notice(format!("{name}: `{factor}` is taken as met: {reason}")));
            Verdict::Met
        }
    }
}

/// A version's numbers, without zeros at the end; `None` for what is no version.
fn version(text: &str) -> Option<Vec<u64>> {
    let numbers = text.strip_prefix('v').unwrap_or(text).split('.').map(|part| part.parse().ok());
    let mut numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    while numbers.last() == Some(&0) {
        numbers.pop();
    }
    Some(numbers)
}

impl std::fmt::Display for Facts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Facts { driver, cuda, arch, brand } = self;
        write!(formatter, "driver {driver}, cuda {cuda}, arch {arch}, brand {brand}")
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fact::Values(values) => formatter.write_str(&values.join("+")),
            Fact::AtLeast(value) => write!(formatter, "{value} or newer"),
            Fact::Unknown(_) => formatter.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(texts: &[&str]) -> Fact {
        Fact::Values(texts.iter().map(|&text| text.to_owned()).collect())
    }

    fn facts() -> Facts {
        Facts {
            driver: values(&["550.163.01"]),
            cuda: values(&["12.4"]),
            arch: values(&["8.6", "9.0"]),
            brand: values(&["tesla"]),
        }
    }

    fn verdict(value: &str, facts: &Facts) -> String {
        match check("R", value, facts) {
            Ok(notices) => format!("met, {} notices", notices.len()),
            Err(Unmet::Unmet { .. }) => "unmet".to_owned(),
            Err(Unmet::Undecided { reason, .. }) => format!("undecided: {reason}"),
            Err(Unmet::Grammar { factor, .. }) => format!("grammar: {factor}"),
        }
    }

    #[test]
    fn conditions_are_alternatives_of_factors() {
        for (value, expected) in [
            ("", "met, 0 notices"),
            ("cuda>=12.4", "met, 0 notices"),
            ("cuda>=12.5", "unmet"),
            ("cuda>99.0", "unmet"),
            ("cuda>=12.5 driver>=550", "met, 0 notices"),
            ("cuda>=12.4,driver<550", "unmet"),
            ("driver>=550.163,driver<551", "met, 0 notices"),
            ("driver=550.163.1", "met, 0 notices"),
            ("driver!=550.163.1", "unmet"),
            ("driver<=550.163.01.0", "met, 0 notices"),
            ("arch>=8.6", "met, 0 notices"),
            ("arch>=9.0", "unmet"),
            ("brand=tesla,driver>=470", "met, 0 notices"),
            ("brand=geforce", "unmet"),
            ("brand!=geforce", "met, 0 notices"),
            ("weather=fine", "met, 1 notices"),
            ("cuda", "grammar: cuda"),
            ("cuda>=new", "grammar: cuda>=new"),
        ] {
            assert_eq!(verdict(value, &facts()), expected, "{value}");
        }
    }

    #[test]
    fn what_is_not_known_fails_with_its_reason() {
        let unknown = Fact::Unknown("why".to_owned());
        let facts = Facts { cuda: unknown.clone(), brand: unknown, ..facts() };
        for (value, expected) in [
            ("cuda>=1.0", "undecided: why"),
            ("cuda>=1.0 driver>=550", "met, 0 notices"),
            ("cuda>=1.0,driver>=600", "unmet"),
            ("cuda>=1.0 driver>=600", "undecided: why"),
            ("brand=tesla", "met, 1 notices"),
            ("brand=tesla,driver>=600", "unmet"),
        ] {
            assert_eq!(verdict(value, &facts), expected, "{value}");
        }
    }

    #[test]
    fn of_a_version_of_which_only_the_least_is_known_more_is_not_claimed() {
        let facts = Facts { cuda: Fact::AtLeast("13.1".to_owned()), ..facts() };
        for (value, expected) in [
            ("cuda>=13.1", "met, 0 notices"),
            ("cuda>13.0", "met, 0 notices"),
            ("cuda!=13.0", "met, 0 notices"),
            ("cuda>=13.2", "undecided: cuda is 13.1 or newer"),
            ("cuda=13.1", "undecided: cuda is 13.1 or newer"),
            ("cuda<=13.1", "undecided: cuda is 13.1 or newer"),
            ("cuda!=13.1", "undecided: cuda is 13.1 or newer"),
        ] {
            assert_eq!(verdict(value, &facts), expected, "{value}");
        }
    }
}
