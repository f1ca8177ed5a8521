//! Options of systemd-nspawn, of which only those are understood that bear on what a machine is given.

use libgpuspec::nspawn::settings_file::is_no;

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
    /// The directory that a root which is missing is copied from.
    pub(crate) template: Option<String>,
    pub(crate) settings: Option<String>,
    /// The root is that of an OCI bundle.
    pub(crate) has_bundle: bool,
    pub(crate) boots: bool,
    /// It has no scope of its own.
    pub(crate) keeps_unit: bool,
    /// systemd-machined is not told of it.
    pub(crate) is_unregistered: bool,
    /// Whether it has a user namespace of its own, where that is said.
    pub(crate) user_namespace: Option<bool>,
    /// What is written to the root is gone with the machine, or cannot be written.
    pub(crate) is_passing: bool,
    /// Whether it says itself what is mounted, and so hides what a settings file says of that.
    pub(crate) has_mounts: bool,
    /// The variables that it sets, as `NAME=VALUE`.
    pub(crate) variables: Vec<String>,
}

/// Short options that have a value (nspawn.c, 252 to 262).
const WITH_VALUE: &str = "DuLMSZipE";
/// Those without.
const FLAGS: &str = "habjqxnUP";
/// Long options without, or whose value is optional and so never a word of its own.
const LONG_FLAGS: [&str; 19] = [
    "as-pid2",
    "boot",
    "cleanup",
    "ephemeral",
    "help",
    "keep-unit",
    "network-veth",
    "no-ask-password",
    "no-pager",
    "pipe",
    "private-network",
    "private-users",
    "private-users-chown",
    "quiet",
    "read-only",
    "share-system",
    "system",
    "version",
    "volatile",
];
/// Long ones with a value; `--user` has none since 258.
const LONG_WITH_VALUE: [&str; 65] = [
    "ambient-capability",
    "background",
    "bind",
    "bind-ro",
    "bind-user",
    "bind-user-group",
    "bind-user-shell",
    "capability",
    "chdir",
    "console",
    "cpu-affinity",
    "directory",
    "drop-capability",
    "forward-journal",
    "forward-journal-keep-free",
    "forward-journal-max-file-size",
    "forward-journal-max-files",
    "forward-journal-max-use",
    "hostname",
    "image",
    "image-policy",
    "inaccessible",
    "kill-signal",
    "link-journal",
    "load-credential",
    "machine",
    "network-bridge",
    "network-interface",
    "network-ipvlan",
    "network-macvlan",
    "network-namespace-path",
    "network-veth-extra",
    "network-zone",
    "no-new-privileges",
    "notify-ready",
    "oci-bundle",
    "oom-score-adjust",
    "overlay",
    "overlay-ro",
    "personality",
    "pivot-root",
    "port",
    "private-users-delegate",
    "private-users-ownership",
    "property",
    "register",
    "resolv-conf",
    "restrict-address-families",
    "rlimit",
    "root-hash",
    "root-hash-sig",
    "selinux-apifs-context",
    "selinux-context",
    "set-credential",
    "setenv",
    "settings",
    "slice",
    "suppress-sync",
    "system-call-filter",
    "template",
    "timezone",
    "tmpfs",
    "uid",
    "uuid",
    "verity-data",
];
/// Keys of a settings file that mount, and the long options that say the same.
pub(crate) const MOUNTS: [(&str, &str); 6] = [
    ("Bind", "bind"),
    ("BindReadOnly", "bind-ro"),
    ("TemporaryFileSystem", "tmpfs"),
    ("Inaccessible", "inaccessible"),
    ("Overlay", "overlay"),
    ("OverlayReadOnly", "overlay-ro"),
];

/// A long option by its whole name: getopt_long(3) takes any beginning that only one name has.
///
/// `None` where several names known here begin so: an older systemd-nspawn may know only one of them.
fn whole(word: &str) -> Option<String> {
    let Some(long) = word.strip_prefix("--").filter(|long| !long.is_empty()) else {
        return Some(word.to_owned());
    };
    let name = long.split_once('=').map_or(long, |(name, _)| name);
    let known = || LONG_FLAGS.iter().chain(&LONG_WITH_VALUE).filter(|known| known.starts_with(name));
    match (known().any(|known| *known == name), known().next(), known().count()) {
        (true, ..) | (_, None, _) => Some(word.to_owned()),
        (false, Some(known), 1) => Some(format!("--{known}{}", long.get(name.len()..).unwrap_or_default())),
        (false, Some(_), _) => None,
    }
}

/// Whether the word behind an option is its value; `None` of one that is not known.
fn has_value_behind(option: &str) -> Option<bool> {
    if let Some(long) = option.strip_prefix("--") {
        let is_whole = long.contains('=') || LONG_FLAGS.contains(&long);
        return if is_whole { Some(false) } else { LONG_WITH_VALUE.contains(&long).then_some(true) };
    }
    let letters = option.trim_start_matches('-');
    match letters.find(|letter| !FLAGS.contains(letter)) {
        None => Some(false),
        Some(at) => {
            let mut rest = letters.get(at..).unwrap_or_default().chars();
            let is_known = rest.next().is_some_and(|letter| WITH_VALUE.contains(letter));
            is_known.then_some(rest.as_str().is_empty())
        }
    }
}

/// A command line with options of another program among its own.
#[derive(Debug, Default)]
pub(crate) struct Line<'a> {
    pub(crate) others: Vec<String>,
    pub(crate) command: Command,
    /// An option of which nobody here knows whether the word behind it is its value, or the command.
    pub(crate) unclear: Option<&'a str>,
    /// The beginning of more than one option's name.
    pub(crate) ambiguous: Option<&'a str>,
}

impl<'a> Line<'a> {
    /// Options up to the command, before which `--` may stand; `others` are options with a value.
    pub(crate) fn read(words: &'a [String], others: &[String]) -> Line<'a> {
        let mut line = Line::default();
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            if word == "--" || word == "-" || !word.starts_with('-') {
                line.command.words.extend((word != "--").then(|| word.clone()));
                line.command.words.extend(rest.cloned());
                break;
            }
            let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
            if others.iter().any(|other| other == name) {
                line.others.push(word.clone());
                line.others.extend((name == word).then(|| rest.next().cloned()).flatten());
                continue;
            }
            let named = whole(word).unwrap_or_else(|| {
                line.ambiguous = Some(word);
                word.clone()
            });
            let behind = match (has_value_behind(&named), rest.as_slice()) {
                (Some(has), _) => has,
                (None, [next, ..]) if !next.starts_with('-') => {
                    let is_clear = rest.as_slice().iter().any(|word| word == "--");
                    line.unclear = line.unclear.or((!is_clear).then_some(word));
                    true
                }
                (None, _) => false,
            };
            let value = behind.then(|| rest.next().cloned()).flatten();
            line.command.options.push(named.clone());
            line.command.options.extend(value.clone());
            line.command.take(&named, value);
        }
        line
    }
}

impl Command {
    /// What a line says that has no other options.
    pub(crate) fn new(words: &[String]) -> Command {
        Line::read(words, &[]).command
    }

    fn take(&mut self, word: &str, behind: Option<String>) {
        match (word.strip_prefix("--"), word.strip_prefix('-')) {
            (Some(long), _) => match long.split_once('=') {
                Some((name, value)) => self.understand(name, Some(value.to_owned())),
                None => self.understand(long, behind),
            },
            (None, Some(letters)) => self.understand_short(letters, behind),
            (None, None) => {}
        }
    }

    /// Letters of one word, of which the last may have a value.
    fn understand_short(&mut self, letters: &str, behind: Option<String>) {
        for (index, letter) in letters.char_indices() {
            let value = letters.get(index + letter.len_utf8()..).unwrap_or_default();
            if WITH_VALUE.contains(letter) {
                let value = if value.is_empty() { behind } else { Some(value.to_owned()) };
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
            "template" => self.template = value,
            "settings" => self.settings = value,
            "oci-bundle" => self.has_bundle = true,
            "b" | "boot" => self.boots = true,
            "keep-unit" => self.keeps_unit = true,
            "register" => self.is_unregistered = value.is_some_and(|value| is_no(&value)),
            "U" => self.user_namespace = Some(true),
            "private-users" => {
                self.user_namespace = Some(!value.is_some_and(|value| is_no(&value)));
            }
            "x" | "ephemeral" | "read-only" => self.is_passing = true,
            "volatile" => self.is_passing |= !value.is_some_and(|value| is_no(&value)),
            "E" | "setenv" => self.variables.extend(value),
            name if MOUNTS.iter().any(|(_, option)| *option == name) => self.has_mounts = true,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn parsed(line: &str) -> Command {
        Command::new(&words(line))
    }

    #[test]
    fn options_of_another_program_are_apart_up_to_the_command() {
        let others = ["--device".to_owned(), "--loader".to_owned()];
        let cases = [
            ("-D /m --device a -b", "--device a", "-D /m -b", ""),
            ("--device=a -D /m -- ls --device b", "--device=a", "-D /m", "ls --device b"),
            ("-D /m --device /x --loader overlay", "--device /x --loader overlay", "-D /m", ""),
            ("-D /m --device", "--device", "-D /m", ""),
            ("--devices a -- x", "", "--devices a", "x"),
            ("-D /m --device a id -u --device b", "--device a", "-D /m", "id -u --device b"),
            ("ls", "", "", "ls"),
            ("--bind /x -U - x", "", "--bind /x -U", "- x"),
            (
                "--settings no --volatile --new --device a ls",
                "--device a",
                "--settings no --volatile --new",
                "ls",
            ),
        ];
        for (line, others_words, options, command) in cases {
            let line_words = words(line);
            let read = Line::read(&line_words, &others);
            let (found, unclear) = (read.command, read.unclear);
            assert_eq!((read.others, unclear), (words(others_words), None), "{line}");
            assert_eq!((found.options, found.words), (words(options), words(command)), "{line}");
        }
        for (line, option) in [("-D /m --new ls", "--new"), ("--user ls -l", "--user")] {
            assert_eq!(Line::read(&words(line), &others).unclear, Some(option), "{line}");
        }
        assert_eq!(parsed("--new x -D /m").directory.as_deref(), Some("/m"), "a unit's: its value");
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
            (
                "-D /m --register=no --keep-unit",
                Command { keeps_unit: true, is_unregistered: true, ..root("/m") },
            ),
            ("-D -b --register no", Command { is_unregistered: true, ..root("-b") }),
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
            ("-D /m --read-only --volatile=no", Command { is_passing: true, ..root("/m") }),
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
    fn which_options_have_a_word_behind_them() {
        let cases = [
            ("-D", Some(true)),
            ("-bD", Some(true)),
            ("-D/m", Some(false)),
            ("-qb", Some(false)),
            ("-w", None),
            ("--directory", Some(true)),
            ("--directory=/m", Some(false)),
            ("--volatile", Some(false)),
            ("--user", None),
            ("--new", None),
            ("--new=x", Some(false)),
        ];
        for (option, expected) in cases {
            assert_eq!(has_value_behind(option), expected, "{option}");
        }
    }

    /// H12: systemd-nspawn takes a beginning of a name, so the root that it starts must be the one that is looked at.
    #[test]
    fn h12_the_beginning_of_an_options_name_is_that_option() {
        let cases = [
            ("--direct=/m", "--directory=/m"),
            ("--sett=override", "--settings=override"),
            ("--temp=/t", "--template=/t"),
            ("--oci=/b", "--oci-bundle=/b"),
            ("--image=/i", "--image=/i"),
            ("--bind=/x", "--bind=/x"),
            ("--", "--"),
            ("-D", "-D"),
        ];
        for (word, expected) in cases {
            assert_eq!(whole(word).as_deref(), Some(expected));
        }
        // systemd 252 knows no --image-policy=.
        let words = ["--imag=/i".to_owned()];
        assert_eq!((whole("--imag=/i"), Line::read(&words, &[]).ambiguous), (None, Some("--imag=/i")));
        assert_eq!(parsed("--direct=/m --sett=override").directory.as_deref(), Some("/m"));
        assert_eq!(parsed("--direct /m -- ls").directory.as_deref(), Some("/m"));
        assert!(parsed("--oci-b=/x").has_bundle && parsed("--oci-bundle /x").has_bundle);
    }

    #[test]
    fn behind_two_dashes_nothing_is_an_option() {
        assert!(!parsed("-D /m ls -b").boots, "nor behind the command");
        let command = parsed("-D /m -- ls -b -D /x --");
        assert_eq!((command.directory.as_deref(), command.boots), (Some("/m"), false));
        assert_eq!(command.words, ["ls", "-b", "-D", "/x", "--"]);
        assert_eq!(command.options, ["-D", "/m"]);
    }
}
