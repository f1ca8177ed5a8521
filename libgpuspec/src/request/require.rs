//! Conditions that an image sets on the host, in the grammar of `NVIDIA_REQUIRE_*`.
//!
//! A value is alternatives with blanks between, an alternative is factors with commas between, a factor
//! is a property, an operator and a value: `cuda>=12.4 brand=tesla,driver>=470,driver<471`.

use std::cmp::Ordering;

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

/// Checks one variable. A condition that cannot be decided is an error, unless an alternative is met.
pub fn check(name: &str, value: &str, facts: &Facts) -> Result<(), Unmet> {
    let has_factors = |alternative: &&str| alternative.split(',').any(|factor| !factor.is_empty());
    let mut alternatives = value.split_whitespace().filter(has_factors).peekable();
    if alternatives.peek().is_none() {
        return Ok(());
    }
    let mut undecided = None;
    for alternative in alternatives {
        match all(name, alternative, facts)? {
            Verdict::Met => return Ok(()),
            Verdict::Unmet => {}
            Verdict::Undecided(reason) => drop(undecided.get_or_insert(reason)),
        }
    }
    let (name, value) = (name.to_owned(), value.to_owned());
    Err(match undecided {
        Some(reason) => Unmet::Undecided { name, value, reason },
        None => Unmet::Unmet { name, value, known: facts.to_string() },
    })
}

/// One factor that is not met decides against the alternative, whatever the others are.
fn all(name: &str, alternative: &str, facts: &Facts) -> Result<Verdict, Unmet> {
    let mut verdict = Verdict::Met;
    for factor in alternative.split(',').filter(|factor| !factor.is_empty()) {
        match one(name, factor, facts)? {
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

/// Operators with the orders that they accept.
const OPERATORS: [(&str, &[Ordering]); 6] = [
    ("!=", &[Ordering::Less, Ordering::Greater]),
    ("<=", &[Ordering::Less, Ordering::Equal]),
    (">=", &[Ordering::Greater, Ordering::Equal]),
    ("=", &[Ordering::Equal]),
    ("<", &[Ordering::Less]),
    (">", &[Ordering::Greater]),
];

/// The property, the orders that its operator accepts, and the value.
fn parts(factor: &str) -> Option<(&str, &'static [Ordering], &str)> {
    let is_sign = |character: char| "<>=!".contains(character);
    let start = factor.find(is_sign)?;
    let (property, rest) = factor.split_at_checked(start)?;
    let value = rest.trim_start_matches(is_sign);
    let sign = rest.strip_suffix(value)?;
    let (_, accepted) = OPERATORS.iter().find(|(known, _)| *known == sign)?;
    (!property.is_empty() && !value.is_empty()).then_some((property, *accepted, value))
}

fn one(name: &str, factor: &str, facts: &Facts) -> Result<Verdict, Unmet> {
    let grammar = || Unmet::Grammar { name: name.to_owned(), factor: factor.to_owned() };
    let (property, accepted, value) = parts(factor).ok_or_else(grammar)?;
    let fact = match property.to_ascii_lowercase().as_str() {
        "driver" => &facts.driver,
        "cuda" => &facts.cuda,
        "arch" => &facts.arch,
        "brand" => return brand(accepted, value, facts).ok_or_else(grammar),
        _ => {
            return Ok(Verdict::Undecided(format!(
                "`{property}` is an unknown property; known are cuda, driver, arch and brand"
            )));
        }
    };
    let wanted = version(value).ok_or_else(grammar)?;
    Ok(match fact {
        Fact::Unknown(reason) => Verdict::Undecided(format!("{property} is unknown: {reason}")),
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

/// Brands are equal or not; `None` for an operator that orders them.
fn brand(accepted: &[Ordering], wanted: &str, facts: &Facts) -> Option<Verdict> {
    let equal = match accepted {
        [Ordering::Equal] => true,
        [Ordering::Less, Ordering::Greater] => false,
        _ => return None,
    };
    Some(match &facts.brand {
        Fact::Values(brands) if brands.iter().all(|brand| brand.eq_ignore_ascii_case(wanted) == equal) => {
            Verdict::Met
        }
        Fact::Values(_) => Verdict::Unmet,
        Fact::Unknown(reason) | Fact::AtLeast(reason) => {
            Verdict::Undecided(format!("brand is unknown: {reason}"))
        }
    })
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
            Ok(()) => "met".to_owned(),
            Err(Unmet::Unmet { .. }) => "unmet".to_owned(),
            Err(Unmet::Undecided { reason, .. }) => format!("undecided: {reason}"),
            Err(Unmet::Grammar { factor, .. }) => format!("grammar: {factor}"),
        }
    }

    #[test]
    fn conditions_are_alternatives_of_factors() {
        for (value, expected) in [
            ("", "met"),
            ("cuda>=12.4", "met"),
            ("cuda>=12.5", "unmet"),
            ("cuda>99.0", "unmet"),
            ("cuda>=12.5 driver>=550", "met"),
            ("cuda>=12.4,driver<550", "unmet"),
            ("driver>=550.163,driver<551", "met"),
            ("driver=550.163.1", "met"),
            ("driver!=550.163.1", "unmet"),
            ("driver<=550.163.01.0", "met"),
            ("arch>=8.6", "met"),
            ("arch>=9.0", "unmet"),
            ("brand=tesla,driver>=470", "met"),
            ("brand=geforce", "unmet"),
            ("brand!=geforce", "met"),
            ("Cuda>=12.4,BRAND=Tesla", "met"),
            (" , ", "met"),
            ("cuda>=99 ,", "unmet"),
            ("cuda>=99,,brand=tesla", "unmet"),
            ("cuda", "grammar: cuda"),
            ("cuda>=new", "grammar: cuda>=new"),
            ("cuda>=", "grammar: cuda>="),
            (">=12", "grammar: >=12"),
            ("cuda==12.4", "grammar: cuda==12.4"),
            ("cuda=>12.4", "grammar: cuda=>12.4"),
            ("cuda!12.4", "grammar: cuda!12.4"),
            ("cuda~12.4", "grammar: cuda~12.4"),
            ("brand>tesla", "grammar: brand>tesla"),
        ] {
            assert_eq!(verdict(value, &facts()), expected, "{value}");
        }
    }

    #[test]
    fn what_is_not_known_fails_with_its_reason() {
        let unknown = Fact::Unknown("why".to_owned());
        let facts = Facts { cuda: unknown.clone(), brand: unknown, ..facts() };
        for (value, expected) in [
            ("cuda>=1.0", "undecided: cuda is unknown: why"),
            ("cuda!=1.0", "undecided: cuda is unknown: why"),
            ("cuda>=1.0 driver>=550", "met"),
            ("cuda>=1.0,driver>=600", "unmet"),
            ("cuda>=1.0 driver>=600", "undecided: cuda is unknown: why"),
            ("brand=tesla", "undecided: brand is unknown: why"),
            ("brand!=tesla", "undecided: brand is unknown: why"),
            ("brand=tesla cuda>=1.0", "undecided: brand is unknown: why"),
            ("brand=tesla,driver>=600", "unmet"),
        ] {
            assert_eq!(verdict(value, &facts), expected, "{value}");
        }
    }

    #[test]
    fn r_an_unknown_property_fails_the_condition() {
        let unknown = "undecided: `foo` is an unknown property; known are cuda, driver, arch and brand";
        for (value, expected) in [
            ("foo=bar", unknown),
            ("foo!=bar", unknown),
            ("foo>=1", unknown),
            ("cuda>=99 foo=bar", unknown),
            ("foo=bar cuda>=99", unknown),
            ("cuda>=12.4,foo=bar", unknown),
            ("foo=bar,cuda>=12.4", unknown),
            // What is known decides these.
            ("cuda>=12.4 foo=bar", "met"),
            ("foo=bar cuda>=12.4", "met"),
            ("cuda>=99,foo=bar", "unmet"),
            ("foo=bar,cuda>=99", "unmet"),
        ] {
            assert_eq!(verdict(value, &facts()), expected, "{value}");
        }
    }

    #[test]
    fn of_a_version_of_which_only_the_least_is_known_more_is_not_claimed() {
        let facts = Facts { cuda: Fact::AtLeast("13.1".to_owned()), ..facts() };
        for (value, expected) in [
            ("cuda>=13.1", "met"),
            ("cuda>13.0", "met"),
            ("cuda!=13.0", "met"),
            ("cuda>=13.2", "undecided: cuda is 13.1 or newer"),
            ("cuda=13.1", "undecided: cuda is 13.1 or newer"),
            ("cuda<=13.1", "undecided: cuda is 13.1 or newer"),
            ("cuda!=13.1", "undecided: cuda is 13.1 or newer"),
        ] {
            assert_eq!(verdict(value, &facts), expected, "{value}");
        }
    }
}
