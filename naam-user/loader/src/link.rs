//! What keeps an entry program attached, by its name in `links/`.
//!
//! ```text
//! xdp-native:eth0            a link of XDP in the driver; xdp-generic likewise
//! tc:eth0                    a link at TC ingress (6.6)
//! tc-filter-7-c000-1:eth0    the program of a filter at TC ingress: interface 7, priority, handle
//! ```
//! The kernel has no link for a filter, and lists it by the interface alone. The name tells which one
//! is ours, so that it can be replaced and removed, and no other.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::TcAttachType;
use aya::programs::links::Link as _;
use aya::programs::tc::{SchedClassifierLink, TcHandle};

use crate::attach::Attachment;
use crate::datapath::chain;
use crate::error::LoaderError;
use crate::interface::interfaces;

/// A filter at TC ingress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    /// Its interface. When that goes, the filter goes with it.
    pub index: u32,
    /// The filter's priority on it.
    pub priority: u16,
    /// Its number in that priority.
    pub handle: u32,
}

impl Filter {
    /// What stands before the interface in the pin's name.
    fn kind(self) -> String {
        format!("tc-filter-{:x}-{:x}-{:x}", self.index, self.priority, self.handle)
    }

    fn parse(kind: &str) -> Option<Self> {
        let mut numbers =
            kind.strip_prefix("tc-filter-")?.split('-').map(|number| u32::from_str_radix(number, 16).ok());
        let (index, priority, handle) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some(Self { index, priority: u16::try_from(priority).ok()?, handle })
    }

    /// The filter, for aya.
    pub fn link(self, interface: &str) -> std::io::Result<SchedClassifierLink> {
        let handle = TcHandle::new((self.handle >> 16) as u16, self.handle as u16);
        SchedClassifierLink::attached(interface, TcAttachType::Ingress, self.priority, handle, None)
    }
}

/// Something pinned in `links/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pinned {
    /// Its pin.
    pub path: PathBuf,
    /// The name of its interface when it was attached.
    pub interface: String,
    /// Where the entry runs.
    pub attachment: Attachment,
    /// The filter, if the pin is one's program and no link.
    pub filter: Option<Filter>,
}

impl Pinned {
    /// The pin of a link, or of a filter's program.
    pub fn new(pins: &Path, interface: &str, attachment: Attachment, filter: Option<Filter>) -> Self {
        let kind = filter.map_or_else(|| attachment.name().to_owned(), Filter::kind);
        // bpffs reserves dots in names; interface names have no colons.
        let path = pins.join("links").join(format!("{kind}:{}", interface.replace('.', ":")));
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

    /// Index of the interface that it holds; `None` if that is gone.
    pub fn holds(&self) -> Result<Option<u32>, LoaderError> {
        match self.filter {
            Some(filter) => Ok(Some(filter.index)),
            None => Ok(naam_sys::link::interface_of_pinned(&self.path)?),
        }
    }

    /// Detaches, and removes the pin.
    pub fn remove(&self) -> Result<(), LoaderError> {
        if let Some(filter) = self.filter {
            filter.remove(&self.interface)?;
        }
        fs::remove_file(&self.path).map_err(|source| LoaderError::Pin {
            operation: "remove link",
            path: self.path.clone(),
            source,
        })
    }
}

impl Filter {
    /// Removes the filter, unless its interface has gone already.
    fn remove(self, interface: &str) -> Result<(), LoaderError> {
        const ENOENT: i32 = 2;
        const EINVAL: i32 = 22;
        let failed = |cause: String| LoaderError::Detach { interface: interface.into(), cause };
        let present = interfaces().map_err(|error| failed(error.to_string()))?;
        if present.get(interface).is_none_or(|present| present.index != self.index) {
            return Ok(());
        }
        let link = self.link(interface).map_err(|error| failed(error.to_string()))?;
        match link.detach() {
            Ok(()) => Ok(()),
            // Somebody has removed the filter, or its qdisc.
            Err(error) if matches!(cause_errno(&error), Some(ENOENT | EINVAL)) => Ok(()),
            Err(error) => Err(failed(chain(&error))),
        }
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
        let filter = Filter { index: 70_000, priority: 0xc000, handle: 0x1_0002 };
        let cases = [
            ("links/xdp-native:eth0", Pinned::new(pins, "eth0", Attachment::XdpNative, None)),
            ("links/tc:eth0:7", Pinned::new(pins, "eth0.7", Attachment::Tc, None)),
            ("links/tc-filter-11170-c000-10002:eth0", Pinned::new(pins, "eth0", Attachment::Tc, Some(filter))),
        ];
        for (path, pinned) in cases {
            assert_eq!(pinned.path, pins.join(path));
            assert_eq!(Pinned::read(pins.join(path)), Some(pinned));
        }
        for other in ["links/other:eth0", "links/tc", "links/tc-filter-1-2:eth0", "links/tc-filter-1-10000-1:eth0"] {
            assert_eq!(Pinned::read(pins.join(other)), None, "{other}");
        }
    }
}
