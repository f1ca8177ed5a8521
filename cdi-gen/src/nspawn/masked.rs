//! What a machine's settings file says and options of the same class would hide: read, to be said by options too.

use libgpuspec::nspawn::SettingsFile;
use libgpuspec::render::nspawn::settings::{self, Assignment, assignments, is_no};

use super::command::Command;

/// Keys of a settings file that mount, and their options.
const MOUNTS: [(&str, &str); 6] = [
    ("Bind", "--bind"),
    ("BindReadOnly", "--bind-ro"),
    ("TemporaryFileSystem", "--tmpfs"),
    ("Inaccessible", "--inaccessible"),
    ("Overlay", "--overlay"),
    ("OverlayReadOnly", "--overlay-ro"),
];

/// The file's mounts and variables as options, where `added` would hide them and the user's own do not anyway.
pub(super) fn arguments(command: &Command, file: Option<&SettingsFile>, added: &[String]) -> Vec<String> {
    let Some(file) = read(command, file) else { return Vec::new() };
    let hides = |is: fn(&str) -> bool| added.iter().any(|argument| is(argument));
    let mounts = !command.has_mounts && is_trusted(command, file) && hides(|argument| !is_variable(argument));
    let variables = command.variables.is_empty() && hides(is_variable);
    let mut arguments = Vec::new();
    for Assignment { section, key, value } in assignments(&file.text) {
        match (section.as_str(), key.as_str()) {
            ("Files", key) if mounts => {
                let flag = MOUNTS.iter().find(|(name, _)| *name == key);
                arguments.extend(flag.map(|(_, flag)| format!("{flag}={value}")));
            }
            ("Exec", "Environment") if variables && value.is_empty() => {
                arguments.retain(|one| !is_variable(one))
            }
            ("Exec", "Environment") if variables => {
                // A name alone would be given what this process has by that name, whoever wrote the file.
                let words = settings::words(&value).into_iter().filter(|word| word.contains('='));
                arguments.extend(words.map(|word| format!("--setenv={word}")));
            }
            _ => {}
        }
    }
    arguments
}

fn is_variable(argument: &str) -> bool {
    argument.starts_with("--setenv=")
}

/// Whether the machine has a user namespace of its own: systemd-nspawn gives it none unless told to.
pub(super) fn user_namespace(command: &Command, file: Option<&SettingsFile>) -> bool {
    let said = || {
        let file = read(command, file).filter(|file| is_trusted(command, file))?;
        let is_it = |one: &Assignment| one.section == "Exec" && one.key == "PrivateUsers";
        assignments(&file.text).into_iter().rfind(is_it).map(|one| !is_no(&one.value))
    };
    match command.settings.as_deref() {
        Some("override") => said().or(command.user_namespace),
        _ => command.user_namespace.or_else(said),
    }
    .unwrap_or(false)
}

/// The words that a machine's systemd would be told, if it is booted.
pub(super) fn command_line(command: &Command, file: Option<&SettingsFile>) -> Option<String> {
    let file = read(command, file);
    if command.boots {
        return Some(command.words.join(" "));
    }
    let text = &file?.text;
    let is_boot = |one: &Assignment| one.section == "Exec" && one.key == "Boot";
    let boots = assignments(text).into_iter().rfind(is_boot).is_some_and(|one| !is_no(&one.value));
    // With a command, systemd-nspawn runs that whatever the file says.
    (boots && command.words.is_empty()).then(|| settings::command_line(text))
}

fn read<'a>(command: &Command, file: Option<&'a SettingsFile>) -> Option<&'a SettingsFile> {
    file.filter(|_| !command.settings.as_deref().is_some_and(is_no))
}

fn is_trusted(command: &Command, file: &SettingsFile) -> bool {
    file.trusted || command.settings.as_deref() == Some("trusted")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[Exec]\nBoot=yes\nParameters=quiet\nEnvironment=X=0\nEnvironment=\nEnvironment=A=1 \"B=2 3\" PATH\n\
                        PrivateUsers=pick\n[Files]\nBind=/a:/b\nTemporaryFileSystem=/t\nReadOnly=yes\n[Network]\nBind=/no\n";

    fn file(trusted: bool) -> SettingsFile {
        SettingsFile { path: "/m.nspawn".into(), text: TEXT.into(), trusted }
    }

    fn command(line: &str) -> Command {
        Command::new(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_would_be_hidden_is_said() {
        const MOUNTS: &str = "--bind=/a:/b --tmpfs=/t";
        const VARIABLES: &str = "--setenv=A=1 --setenv=B=2 3";
        let both = &format!("{VARIABLES} {MOUNTS}");
        let cases = [
            ("", true, both.as_str()),
            ("", false, VARIABLES),
            ("--settings=trusted", false, both),
            ("--settings=no", true, ""),
            ("--bind=/x", true, VARIABLES),
            ("-E X=y", true, MOUNTS),
            ("-E X=y --tmpfs /z", true, ""),
        ];
        let added = ["--setenv=N=1".to_owned(), "--bind=/dev/x".to_owned()];
        for (line, trusted, expected) in cases {
            assert_eq!(arguments(&command(line), Some(&file(trusted)), &added).join(" "), expected, "{line}");
        }
        assert_eq!(arguments(&command(""), Some(&file(true)), &added[..1]).join(" "), VARIABLES);
        assert_eq!(arguments(&command(""), Some(&file(true)), &added[1..]).join(" "), MOUNTS);
        assert!(arguments(&command(""), Some(&file(true)), &[]).is_empty());
        assert!(arguments(&command(""), None, &added).is_empty());
    }

    #[test]
    fn a_user_namespace_is_what_is_said_last() {
        let cases = [
            ("", true, true),
            ("", false, false),
            ("-U", false, true),
            ("--private-users=no", true, false),
            ("--settings=no", true, false),
            ("--private-users=no --settings=override", true, true),
            ("-U --settings=override", false, true),
        ];
        for (line, trusted, expected) in cases {
            assert_eq!(user_namespace(&command(line), Some(&file(trusted))), expected, "{line}");
        }
    }

    #[test]
    fn a_booted_machine_keeps_its_command_line() {
        let cases = [
            ("", Some("quiet")),
            ("-- ls", None),
            ("-b -- a b", Some("a b")),
            ("-b", Some("")),
            ("--settings=no", None),
        ];
        for (line, expected) in cases {
            assert_eq!(command_line(&command(line), Some(&file(false))).as_deref(), expected, "{line}");
        }
        assert_eq!(command_line(&command(""), None), None);
    }
}
