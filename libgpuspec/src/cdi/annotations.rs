//! Annotations: requests for devices in a container's, and the rules that a spec's own follow.

use std::collections::BTreeMap;

use super::name::{NameError, QualifiedName};

/// How the key of every request starts.
pub const REQUEST_PREFIX: &str = "cdi.k8s.io/";

/// Most bytes of all keys and values of one object, as Kubernetes has it.
const MAX_TOTAL: usize = 256 << 10;
/// Most bytes of a key's name part.
const MAX_NAME: usize = 63;
/// Most bytes of a key's prefix.
const MAX_PREFIX: usize = 253;

/// Why annotations are not what they ought to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnotationError {
    /// The plugin or the device of a request has no name.
    #[error("a request names its plugin and its device; {0} is empty")]
    Empty(&'static str),
    /// The request's key is too long.
    #[error("{0:?} has more than 63 bytes")]
    TooLong(String),
    /// The request's key has a character that it may not have there.
    #[error("{0:?} is not letters and digits with _, - and . between them")]
    Key(String),
    /// Another request has this key already.
    #[error("the key {0:?} is taken by another request")]
    Taken(String),
    /// A value names something that is no device.
    #[error("{key}: {error}")]
    Device {
        /// The annotation's key.
        key: String,
        /// What is wrong with one of the names in it.
        error: NameError,
    },
    /// A spec's annotation has a key that is none.
    #[error("{0:?} is no key; one is an optional DNS name with a slash, and a name")]
    SpecKey(String),
    /// A spec's annotations are too large.
    #[error("{0} bytes of annotations; at most 262144 are allowed")]
    TooLarge(usize),
}

/// The key under which a plugin asks for a device: `cdi.k8s.io/PLUGIN_DEVICE`.
pub fn request_key(plugin: &str, device: &str) -> Result<String, AnnotationError> {
    if plugin.is_empty() {
        return Err(AnnotationError::Empty("the plugin"));
    }
    if device.is_empty() {
        return Err(AnnotationError::Empty("the device"));
    }
    let name = format!("{plugin}_{}", device.replace('/', "_"));
    if name.len() > MAX_NAME {
        return Err(AnnotationError::TooLong(name));
    }
    if !is_name(&name) {
        return Err(AnnotationError::Key(name));
    }
    Ok(format!("{REQUEST_PREFIX}{name}"))
}

/// The value that asks for these devices: their qualified names with commas between.
pub fn request_value<S: AsRef<str>>(devices: &[S]) -> Result<String, NameError> {
    let names =
        devices.iter().map(|device| device.as_ref().parse().map(|name: QualifiedName| name.to_string()));
    Ok(names.collect::<Result<Vec<_>, _>>()?.join(","))
}

/// Adds a request to a container's annotations; one of the same key must not be there.
///
/// ```
/// use libgpuspec::cdi::{add_request, requested};
///
/// let mut annotations = Default::default();
/// add_request(&mut annotations, "example.com", "gpu/0", &["example.com/gpu=0"])?;
/// assert_eq!(annotations["cdi.k8s.io/example.com_gpu_0"], "example.com/gpu=0");
/// assert_eq!(requested(&annotations)?, ["example.com/gpu=0"]);
/// # Ok::<(), libgpuspec::cdi::AnnotationError>(())
/// ```
pub fn add_request<S: AsRef<str>>(
    annotations: &mut BTreeMap<String, String>,
    plugin: &str,
    device: &str,
    devices: &[S],
) -> Result<(), AnnotationError> {
    let key = request_key(plugin, device)?;
    let value = match request_value(devices) {
        Ok(value) => value,
        Err(error) => return Err(AnnotationError::Device { key, error }),
    };
    if annotations.contains_key(&key) {
        return Err(AnnotationError::Taken(key));
    }
    annotations.insert(key, value);
    Ok(())
}

/// All devices that a container's annotations ask for, in the order of their keys.
///
/// One bad name fails all, an empty value too: nobody can tell what was meant.
pub fn requested(annotations: &BTreeMap<String, String>) -> Result<Vec<String>, AnnotationError> {
    let mut devices = Vec::new();
    for (key, value) in annotations.iter().filter(|(key, _)| key.starts_with(REQUEST_PREFIX)) {
        for name in value.split(',') {
            let name: Result<QualifiedName, NameError> = name.parse();
            let name = name.map_err(|error| AnnotationError::Device { key: key.clone(), error })?;
            devices.push(name.to_string());
        }
    }
    Ok(devices)
}

/// Checks a spec's own annotations; readers do not, so only what is written is held to the rules.
pub(crate) fn check(annotations: &BTreeMap<String, String>) -> Result<(), AnnotationError> {
    if let Some(key) = annotations.keys().find(|key| !is_spec_key(&key.to_lowercase())) {
        return Err(AnnotationError::SpecKey(key.clone()));
    }
    let total: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if total > MAX_TOTAL { Err(AnnotationError::TooLarge(total)) } else { Ok(()) }
}

/// A Kubernetes qualified name: an optional DNS-1123 subdomain and a slash, then a name.
fn is_spec_key(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let label = |label: &str| {
        let letters = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        !label.is_empty() && label.chars().all(letters) && !label.starts_with('-') && !label.ends_with('-')
    };
    let is_prefix = |prefix: &str| prefix.len() <= MAX_PREFIX && prefix.split('.').all(label);
    prefix.is_none_or(is_prefix) && name.len() <= MAX_NAME && is_name(name)
}

/// Letters and digits, with `_`, `-` and `.` between them.
fn is_name(name: &str) -> bool {
    let edge = |letter: Option<char>| letter.is_some_and(|letter| letter.is_ascii_alphanumeric());
    let inner = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    edge(name.chars().next()) && edge(name.chars().last()) && name.chars().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_key_is_plugin_and_device_with_slashes_replaced() {
        assert_eq!(request_key("v.com", "a/b/0"), Ok("cdi.k8s.io/v.com_a_b_0".into()));
        assert_eq!(request_key("", "x"), Err(AnnotationError::Empty("the plugin")));
        assert_eq!(request_key("x", ""), Err(AnnotationError::Empty("the device")));
        assert!(request_key("p", &"d".repeat(61)).is_ok());
        assert!(matches!(request_key("p", &"d".repeat(62)), Err(AnnotationError::TooLong(_))));
        for (plugin, device) in
            [("-p", "d"), ("p", "d-"), ("p", "a b"), ("p", "a:b"), ("é", "d"), ("p", "d/")]
        {
            assert!(matches!(request_key(plugin, device), Err(AnnotationError::Key(_))), "{plugin} {device}");
        }
    }

    #[test]
    fn a_request_value_is_qualified_names_with_commas() {
        assert_eq!(request_value(&["v.com/c=0", "v.com/c=1"]), Ok("v.com/c=0,v.com/c=1".into()));
        for bad in ["", "v.com/c", " v.com/c=0", "v.com/c=0,v.com/c=1", "/dev/null"] {
            assert!(request_value(&["v.com/c=0", bad]).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_key_is_given_once() {
        let mut annotations = BTreeMap::new();
        add_request(&mut annotations, "p", "d", &["v.com/c=0"]).unwrap();
        let again = add_request(&mut annotations, "p", "d", &["v.com/c=0"]);
        assert_eq!(again, Err(AnnotationError::Taken("cdi.k8s.io/p_d".into())));
        assert!(add_request(&mut annotations, "p", "e", &["nonsense"]).is_err());
        assert_eq!(annotations.len(), 1);
    }

    fn of(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn requests_are_read_in_the_order_of_their_keys_and_others_ignored() {
        let annotations = of(&[
            ("cdi.k8s.io/b", "v.com/c=0"),
            ("cdi.k8s.io/a", "v.com/c=2,v.com/c=1"),
            ("other", "nonsense"),
            ("cdi.k8s.iox/a", "nonsense"),
        ]);
        assert_eq!(requested(&annotations).unwrap(), ["v.com/c=2", "v.com/c=1", "v.com/c=0"]);
        assert_eq!(requested(&of(&[])).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn one_bad_name_fails_all() {
        for bad in ["", "v.com/c=0,", "v.com/c=0, v.com/c=1", "v.com/c"] {
            let annotations = of(&[("cdi.k8s.io/a", "v.com/c=0"), ("cdi.k8s.io/b", bad)]);
            assert!(
                matches!(requested(&annotations), Err(AnnotationError::Device { key, .. }) if key.ends_with("/b"))
            );
        }
    }

    #[test]
    fn a_specs_own_keys_are_qualified_names_of_kubernetes() {
        let labels = |last: usize| format!("{}.{}/x", vec!["a".repeat(50); 4].join("."), "a".repeat(last));
        let prefix = labels(49);
        for key in ["a", "A", "v.com/name", "V.COM/Name_1.x-y", "0", prefix.as_str()] {
            assert_eq!(check(&of(&[(key, "")])), Ok(()), "{key}");
        }
        let (long, long_prefix) = ("a".repeat(64), labels(50));
        for key in [
            "",
            "/",
            "a/",
            "/a",
            "a/b/c",
            "-a",
            "a-",
            "a b",
            "-.com/a",
            "a..b/c",
            "é",
            "v_v/a",
            long.as_str(),
            long_prefix.as_str(),
        ] {
            assert_eq!(check(&of(&[(key, "")])), Err(AnnotationError::SpecKey(key.into())), "{key}");
        }
    }

    #[test]
    fn a_specs_own_annotations_have_256_kib_in_all() {
        assert_eq!(check(&of(&[("a", &"x".repeat(MAX_TOTAL - 1))])), Ok(()));
        assert_eq!(
            check(&of(&[("a", &"x".repeat(MAX_TOTAL))])),
            Err(AnnotationError::TooLarge(MAX_TOTAL + 1))
        );
    }
}
