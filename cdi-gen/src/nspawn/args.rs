//! `cdi-gen nspawn args`: devices as arguments of systemd-nspawn, for scripts.

use anyhow::Result;
use camino::Utf8PathBuf;
use clap::Args;
use libgpuspec::Root;
use libgpuspec::nspawn::{self, LoaderKind, Order, RootKind};
use libgpuspec::render::nspawn::flat;
use oci_hook::machine::{Way, ways, yes_or_no};

use super::asked::Given;
use super::machine::Name;
use super::nspawn_options::Command;
use super::sandbox::sandbox;
use super::{resolved, run, settings_file};
use crate::output::{self, Status};

/// What arguments can tell a machine's loader.
const MEANS: [Way; 3] = [None, Some(LoaderKind::Environment), Some(LoaderKind::Nothing)];
const LOADER: &str =
    "How the machine's loader finds the libraries [default: environment, where it has glibc]";

/// Prints arguments by which systemd-nspawn gives a machine devices, one a line.
///
/// Nothing is made for them and nothing has to be taken back, so not all can be had: what cannot be is told on
/// stderr; `cdi-gen nspawn run` has all. The machine's loader is told by LD_LIBRARY_PATH, if it is glibc's.
/// systemd-nspawn drops mounts and variables of a settings file where its command line has some.
#[derive(Debug, Args)]
#[command(mut_arg("loader", |argument| argument.value_parser(ways(&MEANS)).help(LOADER)))]
pub(crate) struct ArgsCommand {
    /// The machine, if it has its root by its name
    #[arg(short = 'M', long, value_name = "MACHINE", required_unless_present_any = ["directory", "image"], conflicts_with_all = ["directory", "image"])]
    machine: Option<Name>,
    #[command(flatten)]
    given: Given,
    /// The machine's root directory
    #[arg(short = 'D', long, value_name = "DIR", conflicts_with = "image")]
    directory: Option<Utf8PathBuf>,
    /// The machine's disk image
    #[arg(short = 'i', long, value_name = "FILE")]
    image: Option<Utf8PathBuf>,
    /// Whether the machine has a user namespace [default: what its settings say, else no]
    #[arg(long, value_name = "YES|NO", value_parser = yes_or_no())]
    user_namespace: Option<bool>,
    /// For a machine that is booted (--boot): its services and shells have the variables too
    #[arg(long)]
    boot: bool,
    /// One line, quoted for a shell: eval "set -- $(cdi-gen nspawn args --shell …)"
    #[arg(long)]
    shell: bool,
}

impl ArgsCommand {
    pub(crate) fn run(&self) -> Result<Status> {
        let host = Root::open("/".into())?;
        let asked = self.given.asked()?;
        let resolved = match resolved::find(&host, &asked)? {
            Ok(resolved) => resolved,
            Err(reasons) => return Ok(resolved::refuse(&reasons)),
        };
        let command = Command {
            directory: self.directory.as_ref().map(ToString::to_string),
            image: self.image.as_ref().map(ToString::to_string),
            machine: self.machine.as_ref().map(ToString::to_string),
            ..Command::default()
        };
        let machine = run::machine(&host, &command)?;
        let order = Order {
            root: Some(machine.root.clone()),
            root_kind: Some(RootKind::OutOfReach),
            user_namespace: self
                .user_namespace
                .or_else(|| Some(settings_file::user_namespace(&command, machine.settings.as_ref()))),
            ..resolved.order(&asked, &machine.name)
        };
        let decided = nspawn::preview(&host, &order, sandbox)?;
        output::notices(&decided.notices);
        let (arguments, left_out) = flat::arguments(&decided.preparation, self.boot.then_some(""))?;
        output::notices(&left_out);
        let text = if self.shell {
            let quoted: Vec<String> = arguments.iter().map(|argument| shell_word(argument)).collect();
            quoted.join(" ") + "\n"
        } else {
            arguments.iter().map(|argument| format!("{argument}\n")).collect()
        };
        output::text(&text)
    }
}

/// A word as a POSIX shell takes it back.
fn shell_word(word: &str) -> String {
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "-_=+:,./@%".contains(one);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell_where_they_must_be() {
        let cases = [
            ("--bind=/a:/b", "--bind=/a:/b"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("$x", "'$x'"),
        ];
        for (word, expected) in cases {
            assert_eq!(shell_word(word), expected);
        }
    }
}
