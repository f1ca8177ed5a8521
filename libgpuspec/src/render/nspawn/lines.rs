//! A preparation as systemd-nspawn is told it: lines of a settings file, or arguments.

use camino::Utf8Path;

use super::quote::{self, Unwritable};
use crate::nspawn::settings_file::command_line;
use crate::nspawn::{Bind, Loader, Places, Preparation, TREE, Way};

/// The lines of the block for a settings file that says `rest` besides.
///
/// The block counts for what both say: it comes last. What is told to the machine's systemd is told together
/// with what the file told it already.
pub fn lines(preparation: &Preparation, state: &Utf8Path, rest: &[u8]) -> Result<String, Unwritable> {
    let mut text = String::new();
    if !preparation.environment.is_empty() {
        text.push_str("[Exec]\n");
        for assignment in assignments(preparation)? {
            text.push_str(&format!("Environment={}\n", quote::settings_word(&assignment)));
        }
        // The first process alone has those.
        if let Some(variable) = handed_on(preparation, &command_line(rest))? {
            text.push_str(&format!("Environment={}\n", quote::settings_word(&variable)));
        }
    }
    text.push_str("[Files]\n");
    for Mount { key, value, .. } in mounts(preparation, state)? {
        text.push_str(&format!("{key}={value}\n"));
    }
    Ok(text)
}

/// The same as arguments of systemd-nspawn, for a machine that is booted with these words on its systemd's command
/// line, or for a command in its place.
pub fn arguments(
    preparation: &Preparation,
    state: &Utf8Path,
    booted: Option<&str>,
) -> Result<Vec<String>, Unwritable> {
    let mut variables = assignments(preparation)?;
    if let Some(own) = booted {
        variables.extend(handed_on(preparation, own)?);
    }
    let variables = variables.into_iter().map(|assignment| format!("--setenv={assignment}"));
    let mounts = mounts(preparation, state)?;
    Ok(variables.chain(mounts.iter().map(|mount| format!("{}={}", mount.flag, mount.value))).collect())
}

/// The variable by which a machine's systemd hands the others on to whatever it starts: it takes the place of its
/// command line, of which these are the words otherwise.
fn handed_on(preparation: &Preparation, own: &str) -> Result<Option<String>, Unwritable> {
    let variables = assignments(preparation)?.into_iter();
    let words = variables.map(|assignment| quote::settings_word(&format!("systemd.setenv={assignment}")));
    let words: Vec<String> = words.collect();
    let own = if own.is_empty() { String::new() } else { format!("{} ", quote::line_safe(own)?) };
    Ok((!words.is_empty()).then(|| format!("SYSTEMD_PROC_CMDLINE={own}{}", words.join(" "))))
}

fn assignments(preparation: &Preparation) -> Result<Vec<String>, Unwritable> {
    let assignment = |(name, value): &(String, String)| {
        let assignment = format!("{name}={value}");
        quote::line_safe(&assignment).map(str::to_owned)
    };
    preparation.environment.iter().map(assignment).collect()
}

/// A mount, by the key of a settings file and by the option.
struct Mount {
    key: &'static str,
    flag: &'static str,
    value: String,
}

/// In any order: nspawn sorts them by their destinations.
fn mounts(preparation: &Preparation, state: &Utf8Path) -> Result<Vec<Mount>, Unwritable> {
    let places = Places(state);
    let mut mounts = Vec::new();
    if !preparation.tree.is_empty() {
        mounts.push(mount(true, &places.tree(), TREE.into(), "")?);
    }
    for node in &preparation.nodes {
        let is_mapped = matches!(node.way, Way::Cloned { mapped: true, .. });
        let options = if is_mapped { ":idmap" } else { "" };
        mounts.push(mount(false, &places.node(node), &node.path, options)?);
    }
    for Bind { at, source, read_only } in &preparation.binds {
        mounts.push(mount(*read_only, &places.bind(source), at, "")?);
    }
    if let Loader::Overlay(farms) = &preparation.loader {
        for (index, farm) in farms.iter().enumerate() {
            // All layers are in the state. systemd-nspawn only joins `+DIR` to the machine's root: the kernel would
            // follow the machine's links from the host's own root.
            let (below, links) =
                (quote::mount_path(&places.below(index))?, quote::mount_path(&places.farm(index))?);
            let value = format!("{below}:{links}:{}", quote::mount_path(&farm.directory)?);
            mounts.push(Mount { key: "OverlayReadOnly", flag: "--overlay-ro", value });
        }
    }
    Ok(mounts)
}

fn mount(read_only: bool, source: &Utf8Path, at: &Utf8Path, options: &str) -> Result<Mount, Unwritable> {
    let (key, flag) = if read_only { ("BindReadOnly", "--bind-ro") } else { ("Bind", "--bind") };
    let mut value = quote::mount_path(source)?;
    if source != at || !options.is_empty() {
        value = format!("{value}:{}{options}", quote::mount_path(at)?);
    }
    Ok(Mount { key, flag, value })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::nspawn::{BindSource, Content, Farm, Node, NodeKind, TreeEntry};

    const STATE: &str = "/run/gpuspec/nspawn/m";

    fn node(path: &str, source: &str, way: Way) -> Node {
        Node { path: path.into(), source: source.into(), kind: NodeKind::Char, major: 226, minor: 128, way }
    }

    fn preparation() -> Preparation {
        let tree = vec![TreeEntry { at: "lib".into(), content: Content::Link("x".into()) }];
        let cloned = Way::Cloned { uid: 0, gid: 44, mode: 0o660, mapped: true };
        let same_numbers = Way::Cloned { uid: 0, gid: 44, mode: 0o660, mapped: false };
        let nodes = vec![
            node("/dev/nvidia0", "/dev/nvidia0", Way::Plain),
            node("/dev/x", "/host/a:b", Way::Plain),
            node("/dev/dri/renderD128", "/dev/dri/renderD128", cloned),
            node("/dev/kfd", "/dev/kfd", same_numbers),
        ];
        let binds = vec![
            Bind {
                at: "/run/x.socket".into(),
                source: BindSource::Host("/run/x.socket".into()),
                read_only: false,
            },
            Bind {
                at: "/run/opengl-driver/lib".into(),
                source: BindSource::Tree("lib".into()),
                read_only: true,
            },
            Bind {
                at: "/proc/driver/nvidia/params".into(),
                source: BindSource::Machine("/run/gpuspec/params".into()),
                read_only: true,
            },
        ];
        let farm = Farm { directory: "/usr/lib64".into(), links: BTreeMap::new() };
        let environment = vec![("A".into(), "1".into()), ("B".into(), "x y".into())];
        let loader = Loader::Overlay(vec![farm]);
        Preparation { tree, loader, nodes, binds, environment, ..Preparation::default() }
    }

    const MOUNTS: [(&str, &str, &str); 9] = [
        ("BindReadOnly", "--bind-ro", "/run/gpuspec/nspawn/m/tree:/run/gpuspec"),
        ("Bind", "--bind", "/dev/nvidia0"),
        ("Bind", "--bind", "/host/a\\:b:/dev/x"),
        ("Bind", "--bind", "/run/gpuspec/nspawn/m/link/dev/dri/renderD128:/dev/dri/renderD128:idmap"),
        ("Bind", "--bind", "/run/gpuspec/nspawn/m/link/dev/kfd:/dev/kfd"),
        ("Bind", "--bind", "/run/x.socket"),
        ("BindReadOnly", "--bind-ro", "/run/gpuspec/nspawn/m/tree/lib:/run/opengl-driver/lib"),
        ("BindReadOnly", "--bind-ro", "/run/gpuspec/params:/proc/driver/nvidia/params"),
        (
            "OverlayReadOnly",
            "--overlay-ro",
            "/run/gpuspec/nspawn/m/below/0:/run/gpuspec/nspawn/m/farm/0:/usr/lib64",
        ),
    ];

    #[test]
    fn a_preparation_as_lines_and_as_arguments() {
        let lines = lines(&preparation(), STATE.into(), b"").unwrap();
        let mounts: String = MOUNTS.iter().map(|(key, _, value)| format!("{key}={value}\n")).collect();
        let head = "[Exec]\nEnvironment=A=1\nEnvironment=\"B=x y\"\n\
                    Environment='SYSTEMD_PROC_CMDLINE=systemd.setenv=A=1 \"systemd.setenv=B=x y\"'\n[Files]\n";
        assert_eq!(lines, format!("{head}{mounts}"));

        let mounts = MOUNTS.map(|(_, flag, value)| format!("{flag}={value}"));
        let variables = ["--setenv=A=1".to_owned(), "--setenv=B=x y".to_owned()];
        let expected = [&variables[..], &mounts].concat();
        assert_eq!(arguments(&preparation(), STATE.into(), None), Ok(expected));
        let booted = "--setenv=SYSTEMD_PROC_CMDLINE=quiet systemd.setenv=A=1 \"systemd.setenv=B=x y\"";
        let arguments = arguments(&preparation(), STATE.into(), Some("quiet")).unwrap();
        assert_eq!(arguments.get(2).map(String::as_str), Some(booted));
    }

    #[test]
    fn what_the_file_tells_the_machines_systemd_is_told_too() {
        let rest = b"[Exec]\nBoot=yes\nParameters=systemd.unit=rescue.target\n";
        let lines = lines(&preparation(), STATE.into(), rest).unwrap();
        let variable = "'SYSTEMD_PROC_CMDLINE=systemd.unit=rescue.target systemd.setenv=A=1 ";
        assert!(lines.contains(variable), "{lines}");
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(lines(&Preparation::default(), STATE.into(), b"").as_deref(), Ok("[Files]\n"));
        assert_eq!(arguments(&Preparation::default(), STATE.into(), Some("quiet")), Ok(vec![]));
    }

    #[test]
    fn what_no_line_can_hold_is_refused() {
        let variable = ("A".to_owned(), "1\n[Files]\nBind=/".to_owned());
        let bad = Preparation { environment: vec![variable], ..Preparation::default() };
        assert!(lines(&bad, STATE.into(), b"").is_err() && arguments(&bad, STATE.into(), None).is_err());
        let bad = Preparation {
            nodes: vec![node("/dev/x\nBind=/", "/dev/x", Way::Plain)],
            ..Preparation::default()
        };
        assert!(lines(&bad, STATE.into(), b"").is_err());
    }
}
