//! What the hook is asked to do, and how it reads on its command line.

use std::str::FromStr;

use camino::Utf8PathBuf;
use serde::Serialize;

use super::cuda::CudaCompat;
use super::optional::OptionalMount;
use crate::ldcache::Abi;

/// All that is asked for in one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Links to make in any case.
    pub links: Vec<Link>,
    /// Links to make where what they lead to is there.
    pub device_links: Vec<Link>,
    /// Libraries for the loader to find.
    pub libraries: Vec<Libraries>,
    /// Directories whose libraries the loader shall find, whatever they are.
    pub folders: Vec<Utf8PathBuf>,
    /// Sockets and directories of the host to mount where they are there.
    pub optional_mounts: Vec<OptionalMount>,
    /// Whether the image's own CUDA compatibility libraries shall be looked at.
    pub cuda_compat: Option<CudaCompat>,
    /// What becomes of the driver's leave to make device nodes.
    pub device_files: DeviceFiles,
    /// What becomes of the driver's application profiles.
    pub profile: Profile,
    /// Directories that shall have this mode.
    pub modes: Vec<(Utf8PathBuf, u32)>,
}

/// Whether a container's programs see that the driver lets them make and change device nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeviceFiles {
    /// As the host has it.
    #[default]
    Keep,
    /// As forbidden: a node of another GPU is not made, and a node's mode not changed.
    Hide,
}

/// Whether the driver is told which GPUs a container has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Profile {
    /// No profile is written.
    #[default]
    Keep,
    /// EGL is to list the container's GPUs only.
    Write,
}

/// A symbolic link, written `TARGET::PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its text.
    pub target: Utf8PathBuf,
    /// The directory it lies in, absolute inside the container.
    pub directory: String,
    /// Its name there.
    pub name: String,
}

/// Libraries of one ABI in one directory, written `ABI:DIR:NAME[:NAME…]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Libraries {
    /// Which programs can use them.
    pub abi: Abi,
    /// Where they lie, absolute inside the container, without a slash at the end.
    pub directory: Utf8PathBuf,
    /// The names that programs ask for.
    pub names: Vec<String>,
}

/// Why an argument of the hook cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// A link is not `TARGET::PATH`.
    #[error("a link is written TARGET::PATH, with one double colon")]
    Link,
    /// Libraries are not `ABI:DIR:NAME…`.
    #[error("libraries are written ABI:DIR:NAME[:NAME...]")]
    Libraries,
    /// An optional mount is not `TYPE:HOST::CONTAINER`.
    #[error("an optional mount is written TYPE:HOST::CONTAINER, with `socket` or `directory` as TYPE")]
    OptionalMount,
    /// An ABI by a name not known here.
    #[error("{0}")]
    Abi(#[from] crate::ldcache::UnknownAbi),
    /// A path that does not say one place below the container's root.
    #[error("a path in the container is absolute, without empty, `.` or `..` components, and below `/`")]
    Path,
    /// A mode that is more than permissions.
    #[error("a mode is octal and at most 777")]
    Mode,
    /// A name that is none.
    #[error("a library's name is one file name")]
    Name,
}

impl FromStr for Link {
    type Err = BadRequest;

    fn from_str(text: &str) -> Result<Link, BadRequest> {
        let (target, path) = text.split_once("::").ok_or(BadRequest::Link)?;
        if target.is_empty() || path.contains("::") {
            return Err(BadRequest::Link);
        }
        let (directory, name) = plain(path)?.rsplit_once('/').ok_or(BadRequest::Path)?;
        let directory = if directory.is_empty() { "/" } else { directory };
        Ok(Link { target: target.into(), directory: directory.to_owned(), name: name.to_owned() })
    }
}

impl FromStr for Libraries {
    type Err = BadRequest;

    fn from_str(text: &str) -> Result<Libraries, BadRequest> {
        let (abi, rest) = text.split_once(':').ok_or(BadRequest::Libraries)?;
        let (directory, names) = rest.split_once(':').ok_or(BadRequest::Libraries)?;
        let names: Vec<String> = names.split(':').map(str::to_owned).collect();
        if names.iter().any(|name| !is_component(name) || name.contains('/')) {
            return Err(BadRequest::Name);
        }
        Ok(Libraries { abi: abi.parse()?, directory: plain(directory)?.into(), names })
    }
}

/// A directory in the container, absolute and without a slash at the end.
pub fn directory(text: &str) -> Result<Utf8PathBuf, BadRequest> {
    let text = text.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(text);
    Ok(plain(text)?.into())
}

/// A path that says one place below the root, whatever links lie on the way.
pub(super) fn plain(path: &str) -> Result<&str, BadRequest> {
    let components = path.strip_prefix('/').ok_or(BadRequest::Path)?;
    if path.len() < 4096 && components.split('/').all(is_component) && !path.contains('\n') {
        Ok(path)
    } else {
        Err(BadRequest::Path)
    }
}

fn is_component(name: &str) -> bool {
    !matches!(name, "" | "." | "..") && name.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read() {
        let cases = [
            ("libcuda.so.1::/usr/lib64/libcuda.so", ("libcuda.so.1", "/usr/lib64", "libcuda.so")),
            ("/a::/b", ("/a", "/", "b")),
            (
                "../card0::/dev/dri/by-path/pci-0000:01:00.0-card",
                ("../card0", "/dev/dri/by-path", "pci-0000:01:00.0-card"),
            ),
        ];
        for (text, (target, directory, name)) in cases {
            let expected =
                Link { target: target.into(), directory: directory.to_owned(), name: name.to_owned() };
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn links_that_cannot_be_meant_are_refused() {
        let long = format!("x::/{}", "y/".repeat(2100));
        let cases = [
            ("x", BadRequest::Link),
            ("", BadRequest::Link),
            ("::/y", BadRequest::Link),
            ("a::/b::/c", BadRequest::Link),
            ("x::", BadRequest::Path),
            ("x::/", BadRequest::Path),
            ("x::y", BadRequest::Path),
            ("x::..", BadRequest::Path),
            ("x::/a/..", BadRequest::Path),
            ("x::/a/../b", BadRequest::Path),
            ("x::/a//b", BadRequest::Path),
            ("x::/a/./b", BadRequest::Path),
            ("x::/a/", BadRequest::Path),
            ("x::/a\n/b", BadRequest::Path),
            (long.as_str(), BadRequest::Path),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Link>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn libraries_are_read() {
        let expected = Libraries {
            abi: Abi::X86_64,
            directory: "/usr/lib64".into(),
            names: vec!["libcuda.so.1".to_owned(), "libcuda.so".to_owned()],
        };
        assert_eq!("x86-64:/usr/lib64:libcuda.so.1:libcuda.so".parse(), Ok(expected));
    }

    #[test]
    fn libraries_that_cannot_be_meant_are_refused() {
        let cases = [
            ("x86-64", BadRequest::Libraries),
            ("x86-64:/usr/lib64", BadRequest::Libraries),
            ("x86-64:/usr/lib64:", BadRequest::Name),
            ("x86-64:/usr/lib64:a::b", BadRequest::Name),
            ("x86-64:/usr/lib64:../a", BadRequest::Name),
            ("x86-64:/usr/lib64:..", BadRequest::Name),
            ("x86-64:usr/lib64:a", BadRequest::Path),
            ("x86-64:/:a", BadRequest::Path),
            ("vax:/usr/lib64:a", BadRequest::Abi(crate::ldcache::UnknownAbi)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Libraries>(), Err(expected), "{text}");
        }
    }
}
