//! What a machine's settings file says and options of the same class would hide: read, to be said by options too.

use libgpuspec::nspawn::SettingsFile;
use libgpuspec::nspawn::settings_file::{self, Assignment, assignments, environment, is_no};

use super::nspawn_options::{Command, MOUNTS};

/// The file's mounts and variables as options, where `added` would hide them and the user's own do not anyway.
pub(super) fn arguments(command: &Command, file: Option<&SettingsFile>, added: &[String]) -> Vec<String> {
    let Some(file) = read(command, file) else { return Vec::new() };
    let hides = |is: fn(&str) -> bool| added.iter().any(|argument| is(argument));
    let mounts = !command.has_mounts && is_trusted(command, file) && hides(|argument| !is_variable(argument));
    let variables = command.variables.is_empty() && hides(is_variable);
    let mut arguments: Vec<String> = Vec::new();
    if variables {
        arguments.extend(environment(&file.text).iter().map(|one| format!("--setenv={one}")));
    }
    for Assignment { key, value, .. } in
        assignments(&file.text).into_iter().filter(|one| mounts && one.section == "Files")
    {
        let option = MOUNTS.iter().find(|(name, _)| *name == key);
        arguments.extend(option.map(|(_, option)| format!("--{option}={value}")));
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

/// The words that a machine's systemd would be told, if it is booted: by the variable for that, which hides its
/// arguments, else by these.
pub(super) fn command_line(command: &Command, file: Option<&SettingsFile>) -> Option<String> {
    let text = read(command, file).map(|file| file.text.as_slice()).unwrap_or_default();
    let is_boot = |one: &Assignment| one.section == "Exec" && one.key == "Boot";
    let boot = assignments(text).into_iter().rfind(is_boot);
    // With a command, systemd-nspawn runs that whatever the file says.
    let by_file = boot.is_some_and(|one| !is_no(&one.value)) && command.words.is_empty();
    if !command.boots && !by_file {
        return None;
    }
    let variables = match command.variables.is_empty() {
        true => environment(text),
        false => command.variables.clone(),
    };
    let told = variables.iter().rev().find_map(|one| one.strip_prefix("SYSTEMD_PROC_CMDLINE="));
    Some(told.map(str::to_owned).unwrap_or_else(|| match command.boots {
        true => command.words.join(" "),
        false => settings_file::command_line(text),
    }))
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
            ("-b -E SYSTEMD_PROC_CMDLINE=single", Some("single")),
            ("-b --setenv=SYSTEMD_PROC_CMDLINE=single --setenv=A=b -- a b", Some("single")),
            ("-b -E A=b -- a", Some("a")),
            ("-E SYSTEMD_PROC_CMDLINE=single -- ls", None),
        ];
        for (line, expected) in cases {
            assert_eq!(command_line(&command(line), Some(&file(false))).as_deref(), expected, "{line}");
        }
        assert_eq!(command_line(&command(""), None), None);
        let text = "[Exec]\nEnvironment=SYSTEMD_PROC_CMDLINE=single\n";
        let file = SettingsFile { text: text.into(), ..file(true) };
        for (line, expected) in [("-b -- a", Some("single")), ("-b -E A=b -- a", Some("a")), ("", None)] {
            assert_eq!(command_line(&command(line), Some(&file)).as_deref(), expected, "{line}");
        }
    }
}
