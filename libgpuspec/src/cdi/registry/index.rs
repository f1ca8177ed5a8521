//! Which files define a device, and what follows from that.

use std::collections::BTreeMap;
use std::sync::Arc;

use camino::Utf8Path;

use super::{Contested, Found, Listing, SpecFile, Unresolved};

/// The files that define each device, by its qualified name, lowest precedence first.
#[derive(Default)]
pub(super) struct Index(BTreeMap<String, Vec<Found>>);

impl Index {
    pub(super) fn insert(&mut self, file: &Arc<SpecFile>) {
        for (index, name) in names(file).enumerate() {
            let claims = self.0.entry(name).or_default();
            let place = claims.partition_point(|claim| place(&claim.file) < place(file));
            claims.insert(place, Found { file: Arc::clone(file), index });
        }
    }

    pub(super) fn remove(&mut self, file: &Arc<SpecFile>) {
        for name in names(file) {
            if let Some(claims) = self.0.get_mut(&name) {
                claims.retain(|claim| !Arc::ptr_eq(&claim.file, file));
                if claims.is_empty() {
                    self.0.remove(&name);
                }
            }
        }
    }

    /// The definition that counts, if there is one; an error where two of one directory conflict.
    pub(super) fn find(&self, device: &str) -> Result<Option<Found>, Unresolved> {
        match self.0.get(device) {
            Some(claims) if conflicts(claims) => {
                Err(Unresolved::Conflict(contested(device, &conflicting(claims))))
            }
            claims => Ok(claims.and_then(|claims| claims.last()).cloned()),
        }
    }

    /// Everything but the files and the directories' errors.
    pub(super) fn listing(&self) -> Listing {
        let mut listing = Listing::default();
        for (device, claims) in &self.0 {
            if conflicts(claims) {
                listing.conflicts.push(contested(device, &conflicting(claims)));
                continue;
            }
            listing.devices.push(device.clone());
            if claims.len() > 1 {
                listing.shadowed.push(contested(device, claims));
            }
        }
        listing
    }
}

/// Where a file stands in the order of precedence.
fn place(file: &SpecFile) -> (usize, &Utf8Path) {
    (file.priority, &file.path)
}

/// Whether two files of one directory are among the claims; one in a later directory helps nothing.
fn conflicts(claims: &[Found]) -> bool {
    claims.windows(2).any(|pair| matches!(pair, [one, next] if one.file.priority == next.file.priority))
}

/// Those of the claims that conflict, which others shadow or are shadowed by.
fn conflicting(claims: &[Found]) -> Vec<Found> {
    // The claims are sorted by priority, so rivals stand together.
    let directories = claims.chunk_by(|one, next| one.file.priority == next.file.priority);
    directories.filter(|rivals| rivals.len() > 1).flatten().cloned().collect()
}

fn contested(device: &str, claims: &[Found]) -> Contested {
    let files = claims.iter().map(|claim| claim.file.path.clone()).collect();
    Contested { device: device.to_owned(), files }
}

/// The qualified names of a file's devices, in its order; none of a bad file.
fn names(file: &SpecFile) -> impl Iterator<Item = String> {
    let spec = file.spec.as_ref().ok();
    spec.into_iter()
        .flat_map(|spec| spec.devices.iter().map(move |device| format!("{}={}", spec.kind, device.name)))
}
