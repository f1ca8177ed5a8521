//! Options of systemd-nspawn, of which only those are understood that bear on what a machine is given.

use libgpuspec::render::nspawn::settings::is_no;

/// What options of systemd-nspawn say, and all of their words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// The options as they are.
    pub(crate) options: Vec<String>,
    /// Behind `--`: the program and its arguments, or those of the machine's systemd.
    pub(crate) words: Vec<String>,
    pub(crate) directory: Option<String>,
    pub(crate) image: Option<String>,
    pub(crate) machine: Option<String>,
    pub(crate) settings: Option<String>,
    pub(crate) boots: bool,
    /// It has no scope of its own.
    pub(crate) keeps_unit: bool,
    /// Whether it has a user namespace of its own, where that is said.
    pub(crate) user_namespace: Option<bool>,
    /// What is written to the root is gone with the machine, or cannot be written.
    pub(crate) is_passing: bool,
    /// Whether it says itself what is mounted, and so hides what a settings file says of that.
    pub(crate) has_mounts: bool,
    /// The variables that it sets, as `NAME=VALUE`.
    pub(crate) variables: Vec<String>,
}

/// Short options that have a value (systemd-nspawn(1)).
const WITH_VALUE: &str = "DuLMSZipE";
/// Long ones that mount.
const MOUNTS: [&str; 6] = ["bind", "bind-ro", "tmpfs", "inaccessible", "overlay", "overlay-ro"];

impl Command {
    /// The options, each with the word behind it where that is its value, and what is behind `--`.
    pub(crate) fn new(words: &[String]) -> Command {
        let mut command = Command::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--" {
                command.words = rest.cloned().collect();
                break;
            }
            command.options.push(word.clone());
            let next = || rest.as_slice().first().filter(|next| !next.starts_with('-')).cloned();
            if let Some(long) = word.strip_prefix("--") {
                match long.split_once('=') {
                    Some((name, value)) => command.understand(name, Some(value.to_owned())),
                    // Their value is optional, and so never a word of its own.
                    None if matches!(long, "private-users" | "volatile") => command.understand(long, None),
                    None => command.understand(long, next()),
                }
            } else if let Some(short) = word.strip_prefix('-') {
                command.understand_short(short, next);
            }
        }
        command
    }

    /// Letters of one word, of which the last may have a value.
    fn understand_short(&mut self, letters: &str, next: impl Fn() -> Option<String>) {
        for (index, letter) in letters.char_indices() {
            let value = letters.get(index + letter.len_utf8()..).unwrap_or_default();
            if WITH_VALUE.contains(letter) {
                let value = if value.is_empty() { next() } else { Some(value.to_owned()) };
                self.understand(&letter.to_string(), value);
                return;
            }
            self.understand(&letter.to_string(), None);
        }
    }

    fn understand(&mut self, name: &str, value: Option<String>) {
        match name {
            "D" | "directory" => self.directory = value,
            "i" | "image" => self.image = value,
            "M" | "machine" => self.machine = value,
            "settings" => self.settings = value,
            "b" | "boot" => self.boots = true,
            "keep-unit" => self.keeps_unit = true,
            "U" => self.user_namespace = Some(true),
            "private-users" => {
                self.user_namespace = Some(!value.is_some_and(|value| is_no(&value)));
            }
            "x" | "ephemeral" | "read-only" => self.is_passing = true,
            "volatile" => self.is_passing = !value.is_some_and(|value| is_no(&value)),
            "E" | "setenv" => self.variables.extend(value),
            name if MOUNTS.contains(&name) => self.has_mounts = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Command {
        Command::new(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_bears_on_a_machine_is_found_however_it_is_typed() {
        let root = |directory: &str| Command { directory: Some(directory.to_owned()), ..Command::default() };
        let cases = [
            ("-D /m", root("/m")),
            ("-D/m", root("/m")),
            ("--directory /m", root("/m")),
            ("--directory=/m", root("/m")),
            ("-qbD /m", Command { boots: true, ..root("/m") }),
            ("-D /m -b", Command { boots: true, ..root("/m") }),
            ("-D /m --boot -U", Command { boots: true, user_namespace: Some(true), ..root("/m") }),
            ("-D /m --register=no --keep-unit", Command { keeps_unit: true, ..root("/m") }),
            ("-D /m --private-users=no", Command { user_namespace: Some(false), ..root("/m") }),
            ("-D /m --private-users", Command { user_namespace: Some(true), ..root("/m") }),
            ("-D /m --bind=/a --tmpfs /b", Command { has_mounts: true, ..root("/m") }),
            ("-D /m -EA=b", Command { variables: vec!["A=b".into()], ..root("/m") }),
            ("-D /m -Eb=D", Command { variables: vec!["b=D".into()], ..root("/m") }),
            (
                "--image=/m.raw -M n",
                Command { image: Some("/m.raw".into()), machine: Some("n".into()), ..Command::default() },
            ),
            ("-xi /m.raw", Command { image: Some("/m.raw".into()), is_passing: true, ..Command::default() }),
            ("-D /m --volatile --read-only", Command { is_passing: true, ..root("/m") }),
            ("-D /m --volatile=no", root("/m")),
            ("-D /m --settings=no", Command { settings: Some("no".into()), ..root("/m") }),
        ];
        for (line, expected) in cases {
            let found = parsed(line);
            let expected = Command { options: found.options.clone(), ..expected };
            assert_eq!(found, expected, "{line}");
            assert_eq!(found.options.join(" "), line);
        }
    }

    #[test]
    fn behind_two_dashes_nothing_is_an_option() {
        let command = parsed("-D /m -- ls -b -D /x --");
        assert_eq!((command.directory.as_deref(), command.boots), (Some("/m"), false));
        assert_eq!(command.words, ["ls", "-b", "-D", "/x", "--"]);
        assert_eq!(command.options, ["-D", "/m"]);
    }
}
