//! The container engines of a host, by dpkg's database: which versions of the specification they read.

use camino::Utf8Path;

use crate::Root;
use crate::cdi::Consumer;
use crate::error::Result;

/// Packages by their names in Debian, Ubuntu and Docker's repository, and the programs in them that read specs.
const PACKAGES: [(&str, &str); 7] = [
    ("podman", "podman"),
    ("buildah", "buildah"),
    ("docker.io", "docker"),
    ("docker-ce", "docker"),
    ("containerd", "containerd"),
    ("containerd.io", "containerd"),
    ("cri-o", "cri-o"),
];

const STATUS: &str = "/var/lib/dpkg/status";
/// Ten times the largest seen.
const MAX_STATUS: u64 = 64 << 20;

/// The installed engines that read specs, by the host's package database; none where it is not dpkg's.
pub fn engines(host: &Root) -> Result<Vec<Consumer>> {
    let status = host.read_text(Utf8Path::new(STATUS), MAX_STATUS)?.unwrap_or_default();
    Ok(status.split("\n\n").filter_map(engine).collect())
}

/// The engine of one paragraph (deb-control(5)).
fn engine(paragraph: &str) -> Option<Consumer> {
    let field = |name: &str| paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let package = field("Package")?;
    let (_, program) = PACKAGES.iter().find(|(name, _)| *name == package)?;
    if !field("Status")?.ends_with(" installed") {
        return None;
    }
    // A release that reads no specs at all is not hurt by one.
    format!("{program}-{}", release(field("Version")?)).parse().ok()
}

/// The upstream release in a version of Debian's (deb-version(7)): its first three numbers.
fn release(version: &str) -> String {
    let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
    let end = upstream.find(|character: char| !character.is_ascii_digit() && character != '.');
    let numbers = upstream.get(..end.unwrap_or(upstream.len())).unwrap_or_default();
    numbers.split('.').take(3).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // trees are made by plain means
mod tests {
    use super::*;

    #[test]
    fn runtime_q_installed_engines_are_read_from_the_package_database() {
        let paragraph = |package: &str, status: &str, version: &str| {
            format!(
                "Package: {package}\nStatus: install ok {status}\nDescription: x\n podman\nVersion: {version}\n\n"
            )
        };
        let database = [
            paragraph("bash", "installed", "5.2"),
            paragraph("podman", "installed", "4.3.1+ds1-8+deb12u1+b3"),
            paragraph("docker-ce", "installed", "5:28.5.2-1~debian.12~bookworm"),
            paragraph("docker.io", "config-files", "20.10.24+dfsg1-1"),
            paragraph("containerd", "installed", "1.6.20~ds1-1+b1"),
            paragraph("containerd.io", "installed", "1.7.28-1"),
            paragraph("cri-o", "installed", "no-version"),
        ];
        let tree = tempfile::tempdir().unwrap();
        let root = || Root::open(Utf8Path::from_path(tree.path()).unwrap()).unwrap();
        assert_eq!(engines(&root()).unwrap(), Vec::new());
        std::fs::create_dir_all(tree.path().join("var/lib/dpkg")).unwrap();
        std::fs::write(tree.path().join("var/lib/dpkg/status"), database.concat()).unwrap();
        let found: Vec<String> = engines(&root()).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(found, ["podman-4.3.1", "docker-28.5.2", "containerd-1.7.28"]);
    }
}
