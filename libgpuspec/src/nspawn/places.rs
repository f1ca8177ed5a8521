//! Where the state of a machine has what its mounts show, and where what is bound by itself is.

use camino::{Utf8Path, Utf8PathBuf};

use super::{BindSource, Node, TREE, Way};

/// The layout of a machine's state, which is at this path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a>(pub(crate) &'a Utf8Path);

impl Places<'_> {
    /// What the machine sees as [`TREE`].
    pub(crate) fn tree(self) -> Utf8PathBuf {
        self.0.join("tree")
    }

    /// What is laid over one of its directories of libraries.
    pub(crate) fn farm(self, index: usize) -> Utf8PathBuf {
        self.0.join("farm").join(index.to_string())
    }

    /// The machine's directory that they are laid over, mounted here: in the machine it has no safe path.
    pub(crate) fn below(self, index: usize) -> Utf8PathBuf {
        self.0.join("below").join(index.to_string())
    }

    /// The second node of one that is made for it alone.
    pub(crate) fn clone_of(self, node: &Node) -> Utf8PathBuf {
        self.0.join("dev").join(below_root(node))
    }

    /// The link to it that is bound in its place, and its text. systemd-nspawn started by hand lets each node through
    /// that it binds, by its path, and such a rule is refused for a path outside /dev: of a link nothing is said.
    pub(crate) fn link_to_clone(self, node: &Node) -> (Utf8PathBuf, Utf8PathBuf) {
        let path = self.0.join("link").join(below_root(node));
        let up = "../".repeat(below_root(node).split('/').count());
        (path, Places(up.as_str().into()).clone_of(node))
    }

    /// What is bound to give a machine this node.
    pub(crate) fn node(self, node: &Node) -> Utf8PathBuf {
        match node.way {
            Way::Plain => node.source.clone(),
            Way::Cloned { .. } => self.link_to_clone(node).0,
        }
    }

    /// The mount by which what is at this path of the host is held.
    pub(crate) fn held(self, path: &Utf8Path) -> Utf8PathBuf {
        self.0.join("held").join(path.as_str().trim_start_matches('/'))
    }

    /// Where systemd-nspawn finds what is bound by itself.
    pub(crate) fn bind(self, source: &BindSource) -> Utf8PathBuf {
        match source {
            BindSource::Host(path) | BindSource::Machine(path) => path.clone(),
            BindSource::Held(path) => self.held(path),
            BindSource::Tree(below) => self.tree().join(below),
        }
    }

    /// The same on this machine, whoever looks.
    pub(crate) fn bind_here(self, source: &BindSource) -> Utf8PathBuf {
        match source {
            BindSource::Machine(path) => self.tree().join(path.strip_prefix(TREE).unwrap_or(path)),
            BindSource::Host(_) | BindSource::Held(_) | BindSource::Tree(_) => self.bind(source),
        }
    }
}

fn below_root(node: &Node) -> &str {
    node.path.as_str().trim_start_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nspawn::NodeKind;

    #[test]
    fn a_link_leads_to_its_clone() {
        let cloned = Way::Cloned { uid: 0, gid: 44, mode: 0o660, mapped: true };
        let path = Utf8PathBuf::from("/dev/dri/renderD128");
        let node =
            Node { source: path.clone(), path, kind: NodeKind::Char, major: 226, minor: 128, way: cloned };
        let (path, text) = Places("/s".into()).link_to_clone(&node);
        assert_eq!(
            (path.as_str(), text.as_str()),
            ("/s/link/dev/dri/renderD128", "../../../dev/dev/dri/renderD128")
        );
    }

    #[test]
    fn what_the_machine_calls_its_tree_is_here_in_its_state() {
        let places = Places("/s".into());
        let cases = [
            (BindSource::Host("/run/x".into()), "/run/x", "/run/x"),
            (BindSource::Held("/run/x".into()), "/s/held/run/x", "/s/held/run/x"),
            (BindSource::Tree("lib".into()), "/s/tree/lib", "/s/tree/lib"),
            (BindSource::Machine("/run/gpuspec/params".into()), "/run/gpuspec/params", "/s/tree/params"),
        ];
        for (source, told, here) in cases {
            assert_eq!((places.bind(&source).as_str(), places.bind_here(&source).as_str()), (told, here));
        }
    }
}
