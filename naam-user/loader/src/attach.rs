//! Attach: the entry program on an interface, by a pinned link where the kernel has one.

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{self, TcAttachOptions};
use aya::programs::xdp::XdpMode;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp};

use crate::datapath::{Datapath, chain};
use crate::error::LoaderError;
use crate::hook::Hook;

/// Where and how the entry runs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// XDP in the driver.
    XdpNative,
    /// XDP behind the driver: works everywhere, with a socket buffer made first.
    XdpGeneric,
    /// TC ingress.
    Tc,
}

impl Attachment {
    /// Its hook.
    pub fn hook(self) -> Hook {
        match self {
            Self::XdpNative | Self::XdpGeneric => Hook::Xdp,
            Self::Tc => Hook::Tc,
        }
    }

    /// Name in pins, listings and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::XdpNative => "xdp-native",
            Self::XdpGeneric => "xdp-generic",
            Self::Tc => "tc",
        }
    }
}

/// An attachment and why it is this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// The interface.
    pub interface: String,
    /// Where.
    pub attachment: Attachment,
    /// Why, for the log and `doctor`.
    pub reason: String,
}

impl Datapath {
    /// Attaches the entry to `interface`.
    ///
    /// `Some(Hook::Xdp)` takes native XDP, or generic where the driver has none; `Some(Hook::Tc)`
    /// takes TC; `None` takes native XDP, or TC. A link that an earlier process has pinned is taken
    /// over and its program replaced in place, without a gap.
    pub fn attach(&mut self, interface: &str, hook: Option<Hook>) -> Result<Attached, LoaderError> {
        let ways: &[Attachment] = match hook {
            Some(Hook::Xdp) => &[Attachment::XdpNative, Attachment::XdpGeneric],
            Some(Hook::Tc) => &[Attachment::Tc],
            None => &[Attachment::XdpNative, Attachment::Tc],
        };
        // Where XDP is asked for or may be chosen, an earlier process may have had to take generic XDP.
        let adoptable: &[Attachment] = match hook {
            Some(Hook::Tc) => &[Attachment::Tc],
            Some(Hook::Xdp) => ways,
            None => &[Attachment::XdpNative, Attachment::XdpGeneric, Attachment::Tc],
        };
        if let Some(attachment) = self.adopt(interface, adoptable)? {
            let reason = "took over the link that an earlier process had pinned".to_owned();
            return Ok(Attached { interface: interface.into(), attachment, reason });
        }
        let mut reason = match hook {
            Some(hook) => format!("{hook} was asked for"),
            None => "native XDP is the fastest way".to_owned(),
        };
        for (number, &attachment) in ways.iter().enumerate() {
            match self.attach_as(interface, attachment) {
                Ok(()) => return Ok(Attached { interface: interface.into(), attachment, reason }),
                // Another owner is no reason to slip in elsewhere.
                Err(error) if number + 1 < ways.len() && lacks_native(&error) => {
                    reason = format!("the driver has no native XDP for it ({})", chain(&error));
                }
                Err(error) => {
                    let cause = explain(interface, &error);
                    return Err(LoaderError::Attach { interface: interface.into(), hook: attachment.hook(), cause });
                }
            }
        }
        unreachable!("every list of ways ends with a return")
    }

    fn link_path(&self, interface: &str, attachment: Attachment) -> PathBuf {
        // bpffs reserves dots in names; interface names have no colons.
        self.pins.join("links").join(format!("{}:{}", attachment.name(), interface.replace('.', ":")))
    }

    /// Takes over a pinned link of one of `ways`.
    fn adopt(&mut self, interface: &str, ways: &[Attachment]) -> Result<Option<Attachment>, LoaderError> {
        for &attachment in ways {
            let path = self.link_path(interface, attachment);
            if !path.exists() {
                continue;
            }
            // A program that does not load must not cost the link that serves.
            match attachment.hook() {
                Hook::Xdp => self.xdp().map(drop),
                Hook::Tc => self.tc().map(drop),
            }
            .map_err(|error| attach_error(interface, attachment, &error))?;
            let link = match PinnedLink::from_pin(&path) {
                Ok(link) => FdLink::from(link),
                Err(LinkError::SyscallError(error)) if error.io_error.kind() == std::io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(attach_error(interface, attachment, &error)),
            };
            // A link outlives its interface; one without is only in the way.
            let taken = match attachment.hook() {
                Hook::Xdp => link.try_into().map_err(link_failed).and_then(|link| {
                    let program = self.xdp()?;
                    program.attach_to_link(link).and_then(|id| program.take_link(id)).map(drop_pinned)
                }),
                Hook::Tc => link.try_into().map_err(link_failed).and_then(|link| {
                    let program = self.tc()?;
                    program.attach_to_link(link).and_then(|id| program.take_link(id)).map(drop_pinned)
                }),
            };
            match taken {
                Ok(()) => return Ok(Some(attachment)),
                Err(error) if errno(&error) == Some(ENOLINK) => {
                    tracing::warn!(interface, cause = chain(&error), "a pinned link has no interface; attaching anew");
                    remove_pin(path)?;
                }
                Err(error) => return Err(attach_error(interface, attachment, &error)),
            }
        }
        Ok(None)
    }

    fn attach_as(&mut self, interface: &str, attachment: Attachment) -> Result<(), ProgramError> {
        let path = self.link_path(interface, attachment);
        match attachment {
            Attachment::XdpNative | Attachment::XdpGeneric => {
                let mode = if attachment == Attachment::XdpNative { XdpMode::Driver } else { XdpMode::Skb };
                let program = self.xdp()?;
                let id = program.attach(interface, mode)?;
                let link: FdLink = program.take_link(id)?.try_into().map_err(link_failed)?;
                link.pin(path).map_err(pin_failed)?;
            }
            Attachment::Tc => {
                let program = self.tc()?;
                let options = TcAttachOptions::TcxOrder(LinkOrder::default());
                match program.attach_with_options(interface, TcAttachType::Ingress, options) {
                    Ok(id) => {
                        let link: FdLink = program.take_link(id)?.try_into().map_err(link_failed)?;
                        link.pin(path).map_err(pin_failed)?;
                    }
                    Err(error) if lacks_tcx(&error) => {
                        // Before 6.6: a classic filter, which stays until it is removed by name.
                        // The qdisc may be there already.
                        let _ = tc::qdisc_add_clsact(interface);
                        let id = program.attach(interface, TcAttachType::Ingress)?;
                        std::mem::forget(program.take_link(id)?);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Detaches the entry from `interface`, at every hook. Returns whether it was attached.
    pub fn detach(&mut self, interface: &str) -> Result<bool, LoaderError> {
        let mut found = false;
        for attachment in [Attachment::XdpNative, Attachment::XdpGeneric, Attachment::Tc] {
            let path = self.link_path(interface, attachment);
            if path.exists() {
                remove_pin(path)?;
                found = true;
            }
        }
        if !found {
            found = tc::qdisc_detach_program(interface, TcAttachType::Ingress, self.entry_name(Hook::Tc)).is_ok();
        }
        Ok(found)
    }

    /// Interfaces with a pinned attachment.
    pub fn attached(&self) -> Vec<(String, Attachment)> {
        let entries = fs::read_dir(self.pins.join("links")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let mut attached: Vec<_> = names
            .filter_map(|name| {
                let (kind, interface) = name.split_once(':')?;
                let kinds = [Attachment::XdpNative, Attachment::XdpGeneric, Attachment::Tc];
                let attachment = kinds.into_iter().find(|attachment| attachment.name() == kind)?;
                Some((interface.replace(':', "."), attachment))
            })
            .collect();
        attached.sort_by(|a, b| a.0.cmp(&b.0));
        attached
    }

    /// The entry program's name for a hook and this kernel's loops.
    pub(crate) fn entry_name(&self, hook: Hook) -> &'static str {
        match (hook, self.may_goto) {
            (Hook::Xdp, true) => "naam_entry",
            (Hook::Xdp, false) => "naam_entry_loop",
            (Hook::Tc, true) => "naam_entry_tc",
            (Hook::Tc, false) => "naam_entry_tc_loop",
        }
    }

    fn xdp(&mut self) -> Result<&mut Xdp, ProgramError> {
        let name = self.entry_name(Hook::Xdp);
        let program: &mut Xdp = self.entry.program_mut(name).expect("the build's entry object").try_into()?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
            Err(error) => Err(error),
        }
    }

    fn tc(&mut self) -> Result<&mut SchedClassifier, ProgramError> {
        let name = self.entry_name(Hook::Tc);
        let program: &mut SchedClassifier =
            self.entry.program_mut(name).expect("the build's entry object").try_into()?;
        match program.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(program),
            Err(error) => Err(error),
        }
    }

    /// Loads the entry for `hook`, for test runs; its descriptor.
    pub fn entry_program(&mut self, hook: Hook) -> Result<naam_sys::Program, LoaderError> {
        let fd = match hook {
            Hook::Xdp => {
                self.xdp().and_then(|program| program.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::IOError))
            }
            Hook::Tc => {
                self.tc().and_then(|program| program.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::IOError))
            }
        };
        let fd = fd.map_err(|error| LoaderError::Entry { what: format!("entry for {hook}"), cause: chain(&error) })?;
        Ok(naam_sys::Program::from_fd(fd)?)
    }
}

/// The descriptor may go: the pin keeps the link.
fn drop_pinned<T>(link: T) {
    drop(link);
}

fn link_failed(error: LinkError) -> ProgramError {
    ProgramError::IOError(std::io::Error::other(chain(&error)))
}

fn pin_failed(error: aya::pin::PinError) -> ProgramError {
    ProgramError::IOError(std::io::Error::other(chain(&error)))
}

fn remove_pin(path: PathBuf) -> Result<(), LoaderError> {
    fs::remove_file(&path).map_err(|source| LoaderError::Pin { operation: "remove link", path, source })
}

fn attach_error(interface: &str, attachment: Attachment, error: &dyn std::error::Error) -> LoaderError {
    LoaderError::Attach { interface: interface.into(), hook: attachment.hook(), cause: chain(error) }
}

fn errno(error: &ProgramError) -> Option<i32> {
    match error {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        _ => None,
    }
}

/// The link's interface is gone.
const ENOLINK: i32 = 67;

/// Whether the driver has no native XDP, or not for this interface as it is set up.
fn lacks_native(error: &ProgramError) -> bool {
    const EINVAL: i32 = 22;
    const ERANGE: i32 = 34;
    const EOPNOTSUPP: i32 = 95;
    matches!(errno(error), Some(EINVAL | ERANGE | EOPNOTSUPP)) || matches!(error, ProgramError::XdpError(_))
}

/// Whether the kernel has no tcx links (before 6.6).
fn lacks_tcx(error: &ProgramError) -> bool {
    const EINVAL: i32 = 22;
    matches!(errno(error), Some(EINVAL))
}

fn explain(interface: &str, error: &ProgramError) -> String {
    const EBUSY: i32 = 16;
    const EPERM: i32 = 1;
    const EEXIST: i32 = 17;
    let cause = chain(error);
    match errno(error) {
        Some(EBUSY | EEXIST) => format!(
            "it already carries an XDP program ({cause}); `bpftool net show dev {interface}` shows whose, \
             `ip link set dev {interface} xdp off` removes one that no link holds; or use --hook tc"
        ),
        Some(EPERM) => format!("{cause}; run as root, or with CAP_NET_ADMIN and CAP_BPF"),
        _ if matches!(error, ProgramError::UnknownInterface { .. }) => {
            format!("{cause}; `ip link` lists the interfaces of this network namespace")
        }
        _ => cause,
    }
}
