//! What the variables of a container ask for, by one vendor's table of variables.

use std::collections::BTreeMap;

use super::{BadRequest, Request, Visible, capabilities, visible};
use crate::Notice;
use crate::vendor::requests::{More, Variables};

/// One vendor's variables in one container.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) variables: &'static Variables,
    /// Kinds that the vendor's own variable may ask for.
    pub(super) kinds: Vec<String>,
    /// Further variables, each with its kind.
    pub(super) named: Vec<(String, String)>,
    pub(super) environment: &'a BTreeMap<&'a str, &'a str>,
    pub(super) notices: &'a mut Vec<Notice>,
}

impl Reader<'_> {
    pub(super) fn read(&mut self, request: &mut Request) -> Result<(), BadRequest> {
        let mut kinds = self.kinds.clone();
        kinds.extend(self.named.iter().map(|(_, kind)| kind.clone()));
        if kinds.is_empty() {
            return Ok(());
        }
        let asked = self.devices(request)?;
        let is_given = request
            .devices
            .iter()
            .any(|device| kinds.iter().any(|kind| device.split('=').next() == Some(kind)));
        if asked.is_empty() && !is_given {
            return Ok(());
        }
        kinds.sort();
        kinds.dedup();
        for kind in &kinds {
            self.capabilities(request, kind, asked.contains(kind))?;
        }
        self.more()?;
        self.conditions(request)
    }

    /// Adds the devices that the variables name; returns the kinds that were asked for by them.
    fn devices(&mut self, request: &mut Request) -> Result<Vec<String>, BadRequest> {
        let mut asked = Vec::new();
        let own = self.variables.visible;
        let mut first = None;
        for (name, kind) in std::mem::take(&mut self.named) {
            if self.ask(request, &name, std::slice::from_ref(&kind))? {
                first.get_or_insert(name);
                asked.push(kind);
            }
        }
        if let Some(first) = first {
            if !self.value(own).is_empty() {
                self.notices.push(Notice(format!("{own}: ignored, since {first} names the devices")));
            }
        } else if let Some(kind) = self.kinds.first().cloned()
            && self.ask(request, own, &self.kinds.clone())?
        {
            asked.push(kind);
        }
        Ok(asked)
    }

    /// Reads one variable; a name without a kind is of the first of these. Returns whether it asks for anything.
    fn ask(&mut self, request: &mut Request, name: &str, kinds: &[String]) -> Result<bool, BadRequest> {
        let Some(kind) = kinds.first() else { return Ok(false) };
        let bad = |entry| BadRequest::Devices { name: name.to_owned(), entry };
        match visible(self.value(name), self.variables.ranges).map_err(bad)? {
            Visible::Nothing => return Ok(false),
            Visible::Driver => request.drivers.push(kind.clone()),
            Visible::Devices(devices) => {
                for device in devices {
                    let device = if device.contains('=') { device } else { format!("{kind}={device}") };
                    request.add(device, kinds, name, self.notices);
                }
            }
        }
        Ok(true)
    }

    fn value(&self, name: &str) -> &str {
        self.environment.get(name).copied().unwrap_or_default()
    }

    /// Where the variable is not set, its default applies to requests by variables alone.
    fn capabilities(&self, request: &mut Request, kind: &str, is_asked: bool) -> Result<(), BadRequest> {
        let Some(name) = self.variables.capabilities else { return Ok(()) };
        let is_empty = |value: &str| value.chars().all(|one| one == ',' || one.is_whitespace());
        let value = match self.value(name) {
            value if !is_empty(value) => value,
            _ if is_asked => self.variables.default_capabilities,
            _ => return Ok(()),
        };
        let bad = |word| BadRequest::Capability { name, word };
        if let Some(read) = capabilities(value).map_err(bad)? {
            request.capabilities.insert(kind.to_owned(), read);
        }
        Ok(())
    }

    /// Refuses what no container gets: an image that starts without it would fail later, without a reason.
    fn more(&mut self) -> Result<(), BadRequest> {
        for More { name, word, what } in self.variables.more {
            let value = self.value(name).trim().to_owned();
            match word {
                _ if matches!(value.as_str(), "" | "void") => {}
                Some(word) if value != *word => {
                    self.notices
                        .push(Notice(format!("{name}={value}: ignored; only `{word}` has a meaning")));
                }
                _ => return Err(BadRequest::Unsupported { name, value, what }),
            }
        }
        Ok(())
    }

    fn conditions(&self, request: &mut Request) -> Result<(), BadRequest> {
        let off = self.value(self.variables.disable_require);
        let Some(prefix) =
            self.variables.require.filter(|_| !matches!(off, "1" | "t" | "T" | "true" | "TRUE" | "True"))
        else {
            return Ok(());
        };
        // These are about files of one vendor's boards, not about the host.
        let condition =
            |name: &str| name.strip_prefix(prefix).is_some_and(|rest| !rest.starts_with("JETPACK"));
        let all = self.environment.iter().filter(|(name, _)| condition(name));
        request.conditions.extend(all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        if let Some((name, instead)) = self.variables.version
            && self.value(instead).trim().is_empty()
            && !self.value(name).trim().is_empty()
        {
            let value = self.value(name).trim();
            let version =
                major_minor(value).ok_or_else(|| BadRequest::Version { name, value: value.to_owned() })?;
            request.conditions.push((name.to_owned(), format!("cuda>={version}")));
        }
        Ok(())
    }
}

/// The first two numbers of a version such as `12.4.1` or `v12.4.1-1`.
fn major_minor(text: &str) -> Option<String> {
    let numbers = text.strip_prefix('v').unwrap_or(text).split(['-', '+']).next()?;
    let numbers: Vec<u32> = numbers.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    let (major, minor) = (numbers.first()?, numbers.get(1).unwrap_or(&0));
    Some(format!("{major}.{minor}"))
}
