//! The drop-in of a machine's unit, `systemd-nspawn@NAME.service`: what it may open, and what makes its GPU ready.

use camino::Utf8Path;

use super::devices::{self, DeviceRule};
use super::quote::{self, Unwritable};
use crate::nspawn::SettingsPlace;

/// What a machine without its GPU does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// It starts, and its journal says why.
    Start,
    /// It does not start.
    Fail,
}

/// What a drop-in says.
#[derive(Debug, Clone, Copy)]
pub struct DropIn<'a> {
    /// Lines for people at its head, comments without their marks.
    pub comments: &'a [String],
    /// The program of all verbs.
    pub hook: &'a Utf8Path,
    /// Arguments of `nspawn-prepare` but for the machine's name.
    pub arguments: &'a [String],
    /// What the machine may open.
    pub rules: &'a [DeviceRule],
    /// What it does when it cannot be prepared.
    pub on_failure: OnFailure,
    /// Where its settings are written.
    pub settings: SettingsPlace,
}

/// The drop-in's text.
pub fn text(dropin: &DropIn<'_>) -> Result<String, Unwritable> {
    let hook = quote::command_word(dropin.hook.as_str())?;
    if hook != dropin.hook.as_str() {
        let why = "a program's path in a unit has to do without blanks, quotes, %, $ and backslashes";
        return Err(Unwritable { text: dropin.hook.to_string(), why });
    }
    let mut text = String::new();
    for comment in dropin.comments {
        text.push_str(&format!("# {}\n", quote::line_safe(comment)?));
    }
    text.push_str(
        "\n[Unit]\n# Loads the driver's modules and makes its nodes, which this unit may not.\n\
         Wants=gpuspec-refresh.service\nAfter=gpuspec-refresh.service\n\n[Service]\n",
    );
    let prefix = match (dropin.on_failure, dropin.settings) {
        (OnFailure::Start, SettingsPlace::Shared) => "-",
        (OnFailure::Fail, SettingsPlace::Shared) => "",
        // Outside of the unit's own view of /etc.
        (OnFailure::Start, SettingsPlace::Private) => "-+",
        (OnFailure::Fail, SettingsPlace::Private) => "+",
    };
    // Where a unit has a view of its own, so has each of its commands, `+` or not (systemd 252), and what one mounts
    // there is gone with it.
    let within = match dropin.settings {
        SettingsPlace::Shared => "",
        SettingsPlace::Private => "nsenter --mount=/proc/1/ns/mnt ",
    };
    text.push_str(&format!("ExecStartPre={prefix}{within}{hook} nspawn-prepare --machine=%i"));
    for argument in dropin.arguments {
        text.push_str(&format!(" {}", quote::command_word(argument)?));
    }
    let after = match dropin.settings {
        SettingsPlace::Shared => "-",
        SettingsPlace::Private => "-+",
    };
    if dropin.on_failure == OnFailure::Start {
        text.push_str(&format!("\nExecStartPost={after}{within}{hook} nspawn-report --machine=%i"));
    }
    text.push_str(&format!("\nExecStopPost={after}{within}{hook} nspawn-cleanup --machine=%i\n"));
    if dropin.settings == SettingsPlace::Private {
        text.push_str("BindReadOnlyPaths=-/run/gpuspec/nspawn/%i/settings:/etc/systemd/nspawn\n");
    }
    for rule in dropin.rules {
        text.push_str(&format!("# {}\n", quote::line_safe(&rule.names.join(", "))?));
        let rule = format!("{} {}", quote::unit_word(&rule.device)?, rule.access);
        text.push_str(&format!("{}\n", devices::assignment(&rule)));
    }
    Ok(text)
}

/// The text that has a unit run a program at each stop, whatever became of it and in no view of its own.
pub fn at_stop(comment: &str, program: &Utf8Path, arguments: &[&str]) -> Result<String, Unwritable> {
    let words = std::iter::once(program.as_str()).chain(arguments.iter().copied());
    let words: Vec<String> = words.map(quote::command_word).collect::<Result<_, _>>()?;
    Ok(format!("# {}\n[Service]\nExecStopPost=-+{}\n", quote::line_safe(comment)?, words.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOOK: &str = "/usr/libexec/libgpuspec/oci-hook-inject";

    fn dropin<'a>(arguments: &'a [String], rules: &'a [DeviceRule]) -> DropIn<'a> {
        DropIn {
            comments: &[],
            hook: HOOK.into(),
            arguments,
            rules,
            on_failure: OnFailure::Start,
            settings: SettingsPlace::Shared,
        }
    }

    #[test]
    fn a_whole_dropin() {
        let arguments = ["--device=v.com/c=all".to_owned(), "--spec-dir=/a 50%".to_owned()];
        let rules = [DeviceRule {
            device: "char-nvidia-uvm".into(),
            access: "rw".into(),
            names: vec!["nvidia-uvm".into(), "nvidia-uvm-tools".into()],
        }];
        let comments = ["made by a test".to_owned()];
        let dropin = DropIn { comments: &comments, ..dropin(&arguments, &rules) };
        let expected = "\
# made by a test

[Unit]
# Loads the driver's modules and makes its nodes, which this unit may not.
Wants=gpuspec-refresh.service
After=gpuspec-refresh.service

[Service]
ExecStartPre=-/usr/libexec/libgpuspec/oci-hook-inject nspawn-prepare --machine=%i --device=v.com/c=all \"--spec-dir=/a 50%%\"
ExecStartPost=-/usr/libexec/libgpuspec/oci-hook-inject nspawn-report --machine=%i
ExecStopPost=-/usr/libexec/libgpuspec/oci-hook-inject nspawn-cleanup --machine=%i
# nvidia-uvm, nvidia-uvm-tools
DeviceAllow=char-nvidia-uvm rw
";
        assert_eq!(text(&dropin).as_deref(), Ok(expected));
    }

    #[test]
    fn the_prefixes_say_what_a_failure_means_and_whose_etc_is_seen() {
        let cases = [
            (OnFailure::Start, SettingsPlace::Shared, "ExecStartPre=-/usr", "ExecStopPost=-/usr"),
            (OnFailure::Fail, SettingsPlace::Shared, "ExecStartPre=/usr", "ExecStopPost=-/usr"),
            (
                OnFailure::Start,
                SettingsPlace::Private,
                "ExecStartPre=-+nsenter --mount=/proc/1/ns/mnt /usr",
                "ExecStopPost=-+nsenter --mount=/proc/1/ns/mnt /usr",
            ),
            (
                OnFailure::Fail,
                SettingsPlace::Private,
                "ExecStartPre=+nsenter --mount=/proc/1/ns/mnt /usr",
                "ExecStopPost=-+nsenter --mount=/proc/1/ns/mnt /usr",
            ),
        ];
        for (on_failure, settings, before, after) in cases {
            let text = text(&DropIn { on_failure, settings, ..dropin(&[], &[]) }).unwrap();
            assert!(text.contains(before) && text.contains(after), "{text}");
            let reports = text.contains(&after.replace("StopPost", "StartPost"));
            assert_eq!(reports, on_failure == OnFailure::Start, "{text}");
            assert_eq!(text.contains("BindReadOnlyPaths=-"), settings == SettingsPlace::Private);
        }
    }

    #[test]
    fn nothing_gets_out_of_its_line() {
        let bad = ["x\nExecStart=/evil".to_owned()];
        assert!(text(&dropin(&bad, &[])).is_err());
        assert!(text(&DropIn { comments: &bad, ..dropin(&[], &[]) }).is_err());
        let rule = DeviceRule { device: "/dev/x".into(), access: "rw".into(), names: bad.to_vec() };
        assert!(text(&dropin(&[], &[rule])).is_err());
        for hook in ["/a b", "/a%i", "/a$B", "/a\\b", "/a;"] {
            assert!(text(&DropIn { hook: hook.into(), ..dropin(&[], &[]) }).is_err(), "{hook}");
        }
    }

    #[test]
    fn a_program_at_the_stop() {
        let text = at_stop("x", "/opt/a b%/cdi-gen".into(), &["detach", "m"]).unwrap();
        assert_eq!(text, "# x\n[Service]\nExecStopPost=-+\"/opt/a b%%/cdi-gen\" detach m\n");
        assert!(at_stop("x\n[Service]", HOOK.into(), &[]).is_err());
    }
}
