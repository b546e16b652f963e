//! What keeps an entry program attached, by its name in `links/`.
//!
//! ```text
//! xdp-native:eth0               a link of XDP in the driver; xdp-generic likewise
//! tc:eth0                       a link at TC ingress (6.6)
//! tc-filter-7-4e41-1-2f0:eth0   the program of a filter at TC ingress: interface 7, priority, handle, program
//! ```
//! Interfaces are renamed: a link knows its own by the index, and so does the name of a filter's pin. What
//! stands behind the colon is the name at the last attach.
//!
//! The kernel has no link for a filter, and lists it by the interface alone. The name tells which one
//! is ours, so that it can be replaced and removed; the program's id tells whether it still is. Another
//! program in that place is somebody else's, and is left alone.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use naam_sys::tc::Place;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use crate::attach::Attachment;
use crate::error::LoaderError;
use crate::interface::{Interface, interfaces, name_of};

/// A filter at TC ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Where it is. When its interface goes, the filter goes with it.
    pub place: Place,
    /// Id of its program, which the pin keeps: no other program gets that number.
    pub program: u32,
}

impl Filter {
    /// What stands before the interface in the pin's name.
    fn kind(self) -> String {
        let Place { ifindex, priority, handle } = self.place;
        format!("tc-filter-{ifindex:x}-{priority:x}-{handle:x}-{:x}", self.program)
    }

    fn parse(kind: &str) -> Option<Self> {
        let numbers = kind.strip_prefix("tc-filter-")?.split('-').map(|number| u32::from_str_radix(number, 16).ok());
        let numbers: [u32; 4] = numbers.collect::<Option<Vec<_>>>()?.try_into().ok()?;
        let [ifindex, priority, handle, program] = numbers;
        Some(Self { place: Place { ifindex, priority: priority.try_into().ok()?, handle }, program })
    }

    /// Whether it is still there, with our program.
    fn is_ours(self) -> Result<bool, LoaderError> {
        Ok(self.place.program()? == Some(self.program))
    }
}

/// Something pinned in `links/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// Its pin.
    pub path: PathBuf,
    /// The name of its interface when it was attached, or taken over.
    pub interface: String,
    /// Where the entry runs.
    pub attachment: Attachment,
    /// The filter, if the pin is one's program and no link.
    pub filter: Option<Filter>,
}

impl Pinned {
    /// The pin of a link, or of a filter's program.
    pub fn new(pins: &Path, interface: &str, attachment: Attachment, filter: Option<Filter>) -> Self {
        Self::new_in(&pins.join("links"), interface, attachment, filter)
    }

    fn new_in(links: &Path, interface: &str, attachment: Attachment, filter: Option<Filter>) -> Self {
        let kind = filter.map_or_else(|| attachment.name().to_owned(), Filter::kind);
        // bpffs reserves dots in names; interface names have no colons.
        let path = links.join(format!("{kind}:{}", interface.replace('.', ":")));
        Self { path, interface: interface.into(), attachment, filter }
    }

    fn read(path: PathBuf) -> Option<Self> {
        let (kind, interface) = path.file_name()?.to_str()?.split_once(':')?;
        let kinds = [Attachment::XdpNative, Attachment::XdpGeneric, Attachment::Tc];
        let filter = Filter::parse(kind);
        let attachment = match filter {
            Some(_) => Attachment::Tc,
            None => kinds.into_iter().find(|attachment| attachment.name() == kind)?,
        };
        Some(Self { interface: interface.replace(':', "."), attachment, filter, path })
    }

    /// Index of the interface that it holds; `None` if that is gone, or the filter is.
    pub fn holds(&self) -> Result<Option<u32>, LoaderError> {
        match self.filter {
            Some(filter) => Ok(filter.is_ours()?.then_some(filter.place.ifindex)),
            None => Ok(naam_sys::link::interface_of_pinned(&self.path)?),
        }
    }

    /// The name that its interface has now; the one it had, if that is gone.
    pub fn name(&self, present: &HashMap<String, Interface>) -> String {
        let held = self.holds().ok().flatten();
        held.and_then(|index| name_of(present, index)).unwrap_or(&self.interface).to_owned()
    }

    /// Lets the pin say the name that its interface has now. What has that name already changes places with it.
    pub fn rename(&self, interface: &str) -> Result<(), LoaderError> {
        let renamed = Self::new_in(self.path.parent().unwrap_or(&self.path), interface, self.attachment, self.filter);
        if renamed.path == self.path {
            return Ok(());
        }
        let flags = if renamed.path.exists() { RenameFlags::RENAME_EXCHANGE } else { RenameFlags::RENAME_NOREPLACE };
        renameat2(AT_FDCWD, &self.path, AT_FDCWD, &renamed.path, flags).map_err(|errno| LoaderError::Pin {
            operation: "rename link",
            path: self.path.clone(),
            source: errno.into(),
        })
    }

    /// Detaches, and removes the pin.
    pub fn remove(&self) -> Result<(), LoaderError> {
        if let Some(filter) = self.filter {
            let removed = filter.is_ours().and_then(|ours| if ours { Ok(filter.place.clear()?) } else { Ok(()) });
            removed.map_err(|error| LoaderError::Detach {
                interface: self.name(&interfaces().unwrap_or_default()),
                cause: error.to_string(),
            })?;
        }
        // At once: without its last name a link detaches a moment later, and is in the way of the next until then.
        if self.filter.is_none() && self.holds().is_ok_and(|held| held.is_some()) {
            naam_sys::link::detach_pinned(&self.path)?;
        }
        fs::remove_file(&self.path).map_err(|source| LoaderError::Pin {
            operation: "remove link",
            path: self.path.clone(),
            source,
        })
    }
}

/// Everything that is pinned in `links/`, by interface.
pub(crate) fn pinned(pins: &Path) -> Vec<Pinned> {
    let entries = fs::read_dir(pins.join("links")).into_iter().flatten().flatten();
    let mut pinned: Vec<_> = entries.filter_map(|entry| Pinned::read(entry.path())).collect();
    pinned.sort_by(|a, b| a.interface.cmp(&b.interface));
    pinned
}

/// Removes the filters, which do not go by themselves when their pins go.
pub(crate) fn remove_filters(pins: &Path) -> Result<(), LoaderError> {
    pinned(pins).iter().filter(|pinned| pinned.filter.is_some()).try_for_each(Pinned::remove)
}

/// The kernel's answer, somewhere among an error's causes.
pub(crate) fn cause_errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(errno) = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error) {
            return Some(errno);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_is_pinned() {
        let pins = Path::new("/pins");
        let place = Place { ifindex: 70_000, priority: 0xc000, handle: 0x1_0002 };
        let filter = Filter { place, program: 0x2f0 };
        let cases = [
            ("links/xdp-native:eth0", Pinned::new(pins, "eth0", Attachment::XdpNative, None)),
            ("links/tc:eth0:7", Pinned::new(pins, "eth0.7", Attachment::Tc, None)),
            ("links/tc-filter-11170-c000-10002-2f0:eth0", Pinned::new(pins, "eth0", Attachment::Tc, Some(filter))),
        ];
        for (path, pinned) in cases {
            assert_eq!(pinned.path, pins.join(path));
            assert_eq!(Pinned::read(pins.join(path)), Some(pinned));
        }
        for other in ["links/other:eth0", "links/tc", "links/tc-filter-1-2-3:eth0", "links/tc-filter-1-10000-1-1:eth0"]
        {
            assert_eq!(Pinned::read(pins.join(other)), None, "{other}");
        }
    }
}
