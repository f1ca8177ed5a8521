//! The names of devices: `vendor/class=device`, its parts, and the rules each part follows.

use std::fmt;
use std::str::FromStr;

/// What is wrong with one part of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// Nothing is there.
    #[error("is empty")]
    Empty,
    /// The first character may not stand there.
    #[error("starts with {0:?}, not with {1}")]
    Start(char, &'static str),
    /// The last character may not stand there.
    #[error("ends with {0:?}, not with a letter or digit")]
    End(char),
    /// A character in between may not stand in a name.
    #[error("holds {0:?}, which no such name may")]
    Inside(char),
}

/// Checks a vendor or class: a letter, then letters, digits, `_`, `-`, `.`, ending alphanumeric.
///
/// Neither a length nor the rules of host names are checked, as in every other reader.
pub fn check_vendor_or_class(name: &str) -> Result<(), PartError> {
    match name.chars().next() {
        None => Err(PartError::Empty),
        Some(first) if !first.is_ascii_alphabetic() => Err(PartError::Start(first, "a letter")),
        Some(_) => check_rest(name, "_-."),
    }
}

/// Checks a device's name: letters, digits, `_`, `-`, `.`, `:`, both ends alphanumeric.
pub fn check_device(name: &str) -> Result<(), PartError> {
    match name.chars().next() {
        None => Err(PartError::Empty),
        Some(first) if !first.is_ascii_alphanumeric() => Err(PartError::Start(first, "a letter or digit")),
        Some(_) => check_rest(name, "_-.:"),
    }
}

fn check_rest(name: &str, marks: &str) -> Result<(), PartError> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || marks.contains(letter);
    match (name.chars().find(|&letter| !allowed(letter)), name.chars().last()) {
        (Some(letter), _) => Err(PartError::Inside(letter)),
        (None, Some(last)) if !last.is_ascii_alphanumeric() => Err(PartError::End(last)),
        (None, _) => Ok(()),
    }
}

/// The two halves of a kind: what stands before and after the first `/`.
pub(crate) fn split_kind(kind: &str) -> (&str, &str) {
    kind.split_once('/').unwrap_or((kind, ""))
}

/// A device's whole name, valid in every part.
///
/// ```
/// use libgpuspec::cdi::QualifiedName;
///
/// let name: QualifiedName = "nvidia.com/gpu=all".parse()?;
/// assert_eq!((name.kind(), name.device()), ("nvidia.com/gpu", "all"));
/// assert!("/dev/nvidia0".parse::<QualifiedName>().is_err());
/// # Ok::<(), libgpuspec::cdi::NameError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QualifiedName {
    text: String,
    /// Where `/` and `=` are in the text.
    slash: usize,
    equals: usize,
}

impl QualifiedName {
    /// `vendor/class`.
    pub fn kind(&self) -> &str {
        self.text.get(..self.equals).unwrap_or_default()
    }

    /// What stands before the `/`.
    pub fn vendor(&self) -> &str {
        self.text.get(..self.slash).unwrap_or_default()
    }

    /// What stands between the `/` and the `=`.
    pub fn class(&self) -> &str {
        self.text.get(self.slash + 1..self.equals).unwrap_or_default()
    }

    /// What stands after the `=`.
    pub fn device(&self) -> &str {
        self.text.get(self.equals + 1..).unwrap_or_default()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for QualifiedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Why a text is not the qualified name of a device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It has not the form.
    #[error("{0:?} is not of the form vendor/class=device")]
    Unqualified(String),
    /// Its vendor is not a name.
    #[error("{0:?}: the vendor {1}")]
    Vendor(String, PartError),
    /// Its class is not a name.
    #[error("{0:?}: the class {1}")]
    Class(String, PartError),
    /// Its device is not a name.
    #[error("{0:?}: the device {1}")]
    Device(String, PartError),
}

impl FromStr for QualifiedName {
    type Err = NameError;

    /// Splits at the first `=`, then at the first `/` before it; no part may be empty.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let unqualified = || NameError::Unqualified(text.to_owned());
        let (kind, device) = text.split_once('=').ok_or_else(unqualified)?;
        let (vendor, class) = kind.split_once('/').ok_or_else(unqualified)?;
        if vendor.is_empty() || class.is_empty() || device.is_empty() {
            return Err(unqualified());
        }
        check_vendor_or_class(vendor).map_err(|error| NameError::Vendor(text.to_owned(), error))?;
        check_vendor_or_class(class).map_err(|error| NameError::Class(text.to_owned(), error))?;
        check_device(device).map_err(|error| NameError::Device(text.to_owned(), error))?;
        Ok(QualifiedName { text: text.to_owned(), slash: vendor.len(), equals: kind.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vendor_and_class_have_no_length_or_dns_rule() {
        let long = "a".repeat(300);
        for name in ["a", "nvidia.com", "a..b", "UPPER", "a-_.b", "nodot", "a1", long.as_str()] {
            assert_eq!(check_vendor_or_class(name), Ok(()), "{name:?}");
        }
        let refused = [
            ("", PartError::Empty),
            ("3dfx.com", PartError::Start('3', "a letter")),
            (".com", PartError::Start('.', "a letter")),
            ("é", PartError::Start('é', "a letter")),
            ("a.", PartError::End('.')),
            ("a-", PartError::End('-')),
            ("a b", PartError::Inside(' ')),
            ("a:b", PartError::Inside(':')),
            ("aé", PartError::Inside('é')),
            ("a/b", PartError::Inside('/')),
        ];
        for (name, error) in refused {
            assert_eq!(check_vendor_or_class(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn device_names_may_start_with_a_digit_and_hold_colons() {
        for name in ["0", "a", "all", "0:1", "GPU-8b7f", "mig1:0", "a__b", "0000:01:00.0"] {
            assert_eq!(check_device(name), Ok(()), "{name:?}");
        }
        let refused = [
            ("", PartError::Empty),
            (":0", PartError::Start(':', "a letter or digit")),
            ("0:", PartError::End(':')),
            ("a/b", PartError::Inside('/')),
            ("a=b", PartError::Inside('=')),
            ("a\n", PartError::Inside('\n')),
        ];
        for (name, error) in refused {
            assert_eq!(check_device(name), Err(error), "{name:?}");
        }
    }

    #[test]
    fn a_qualified_name_splits_at_the_first_equals_then_the_first_slash() {
        let name: QualifiedName = "v.com/c=d:0".parse().unwrap();
        assert_eq!((name.vendor(), name.class(), name.device()), ("v.com", "c", "d:0"));
        assert_eq!((name.kind(), name.as_str()), ("v.com/c", "v.com/c=d:0"));
        let one: QualifiedName = "v/c=d".parse().unwrap();
        assert_eq!((one.vendor(), one.class(), one.device()), ("v", "c", "d"));
    }

    #[test]
    fn unqualified_names() {
        for text in ["", "/v/c=d", "v/c", "vc=d", "=d", "v/c=", "v/=d", "/c=d", "=", "/="] {
            assert_eq!(
                text.parse::<QualifiedName>(),
                Err(NameError::Unqualified(text.to_owned())),
                "{text:?}"
            );
        }
        assert!(matches!("v/c/e=d".parse::<QualifiedName>(), Err(NameError::Class(..))));
        assert!(matches!("v/c=d=e".parse::<QualifiedName>(), Err(NameError::Device(..))));
        assert!(matches!("3v/c=d".parse::<QualifiedName>(), Err(NameError::Vendor(..))));
    }
}
