//! Attach: the entry program on an interface, by a pinned link where the kernel has one.

use std::os::fd::AsFd;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{self, NlOptions, TcAttachOptions};
use aya::programs::xdp::XdpMode;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp};

use crate::datapath::{Datapath, chain};
use crate::error::LoaderError;
use crate::hook::Hook;
use crate::interface::interfaces;
use crate::link::{Filter, Pinned, cause_errno, pinned};

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
            self.look_at_interfaces()?;
            let reason = "took over the link that an earlier process had pinned".to_owned();
            return Ok(Attached { interface: interface.into(), attachment, reason });
        }
        let mut reason = match hook {
            Some(hook) => format!("{hook} was asked for"),
            None => "native XDP is the fastest way".to_owned(),
        };
        for (number, &attachment) in ways.iter().enumerate() {
            match self.attach_as(interface, attachment) {
                Ok(()) => {
                    self.look_at_interfaces()?;
                    return Ok(Attached { interface: interface.into(), attachment, reason });
                }
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

    /// Takes over what is pinned in one of `ways`, if it still holds the interface of that name.
    fn adopt(&mut self, interface: &str, ways: &[Attachment]) -> Result<Option<Attachment>, LoaderError> {
        let failed = |attachment: Attachment, error: &dyn std::error::Error| attach_error(interface, attachment, error);
        for pinned in pinned(&self.pins).into_iter().filter(|pinned| pinned.interface == interface) {
            let attachment = pinned.attachment;
            if !ways.contains(&attachment) {
                continue;
            }
            // A link outlives its interface, and goes with it under another name.
            let present = interfaces().map_err(|error| failed(attachment, &error))?.get(interface).copied();
            if present.is_none() || pinned.holds()? != present.map(|present| present.index) {
                tracing::warn!(interface, pin = %pinned.path.display(), "what is pinned holds no interface of this name any more");
                pinned.remove()?;
                continue;
            }
            // A program that does not load must not cost the link that serves.
            match attachment.hook() {
                Hook::Xdp => self.xdp().map(drop),
                Hook::Tc => self.tc().map(drop),
            }
            .map_err(|error| failed(attachment, &error))?;
            match self.take_over(&pinned) {
                Ok(()) => return Ok(Some(attachment)),
                Err(error) if is_gone(&pinned, &error) => {
                    tracing::warn!(interface, cause = chain(&error), "what is pinned is gone; attaching anew");
                    pinned.remove()?;
                }
                Err(error) => return Err(failed(attachment, &error)),
            }
        }
        Ok(None)
    }

    /// Puts this build's program in place of the one that serves.
    fn take_over(&mut self, pinned: &Pinned) -> Result<(), ProgramError> {
        if let Some(filter) = pinned.filter {
            let program = self.tc()?;
            let link = filter.link(&pinned.interface).map_err(ProgramError::IOError)?;
            let id = program.attach_to_link(link)?;
            // Dropped, it would remove the filter.
            std::mem::forget(program.take_link(id)?);
            return self.pin_filter(pinned);
        }
        let link = PinnedLink::from_pin(&pinned.path).map(FdLink::from).map_err(link_failed)?;
        match pinned.attachment.hook() {
            Hook::Xdp => {
                let program = self.xdp()?;
                let id = program.attach_to_link(link.try_into().map_err(link_failed)?)?;
                program.take_link(id).map(drop_pinned)
            }
            Hook::Tc => {
                let program = self.tc()?;
                let id = program.attach_to_link(link.try_into().map_err(link_failed)?)?;
                program.take_link(id).map(drop_pinned)
            }
        }
    }

    fn attach_as(&mut self, interface: &str, attachment: Attachment) -> Result<(), ProgramError> {
        let path = Pinned::new(&self.pins, interface, attachment, None).path;
        match attachment {
            Attachment::XdpNative | Attachment::XdpGeneric => {
                let mode = if attachment == Attachment::XdpNative { XdpMode::Driver } else { XdpMode::Skb };
                let program = self.xdp()?;
                let id = program.attach(interface, mode)?;
                let link: FdLink = program.take_link(id)?.try_into().map_err(link_failed)?;
                link.pin(path).map_err(pin_failed)?;
            }
            Attachment::Tc => {
                if self.tcx == Some(false) {
                    return self.attach_filter(interface);
                }
                let program = self.tc()?;
                let options = TcAttachOptions::TcxOrder(LinkOrder::default());
                match program.attach_with_options(interface, TcAttachType::Ingress, options) {
                    Ok(id) => {
                        let link: FdLink = program.take_link(id)?.try_into().map_err(link_failed)?;
                        link.pin(path).map_err(pin_failed)?;
                    }
                    Err(error) if lacks_tcx(&error) => self.attach_filter(interface)?,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Before 6.6: a filter of clsact, which stays until it is removed by its numbers.
    fn attach_filter(&mut self, interface: &str) -> Result<(), ProgramError> {
        let index = interfaces().map_err(ProgramError::IOError)?.get(interface).map(|present| present.index);
        let index = index.ok_or_else(|| ProgramError::UnknownInterface { name: interface.into() })?;
        // The qdisc may be there already.
        let _ = tc::qdisc_add_clsact(interface);
        let program = self.tc()?;
        let options = TcAttachOptions::Netlink(NlOptions::default());
        let id = program.attach_with_options(interface, TcAttachType::Ingress, options)?;
        let link = program.take_link(id)?;
        let filter = Filter { index, priority: link.priority()?, handle: link.handle()?.into() };
        self.pin_filter(&Pinned::new(&self.pins, interface, Attachment::Tc, Some(filter)))?;
        // Dropped, it would remove the filter: as it does if the pin fails.
        std::mem::forget(link);
        Ok(())
    }

    /// Pins the program of a filter, under the filter's numbers.
    fn pin_filter(&mut self, pinned: &Pinned) -> Result<(), ProgramError> {
        let fd = self.tc()?.fd()?.as_fd().try_clone_to_owned().map_err(ProgramError::IOError)?;
        let program = naam_sys::Program::from_fd(fd);
        program.and_then(|program| program.pin_replacing(&pinned.path)).map_err(|error| other_error(&error))
    }

    /// Detaches the entry from `interface`, at every hook. Returns whether it was attached.
    pub fn detach(&mut self, interface: &str) -> Result<bool, LoaderError> {
        let found: Vec<_> = pinned(&self.pins).into_iter().filter(|pinned| pinned.interface == interface).collect();
        found.iter().try_for_each(Pinned::remove)?;
        Ok(!found.is_empty())
    }

    /// Interfaces with a pinned attachment.
    pub fn attached(&self) -> Vec<(String, Attachment)> {
        pinned(&self.pins).into_iter().map(|pinned| (pinned.interface, pinned.attachment)).collect()
    }

    /// Tells XDP the Ethernet addresses that its interfaces have now. Returns the attachments that
    /// have lost their interface although there is one of its name: it was made again, and
    /// [`Datapath::attach`] attaches to it.
    pub fn look_at_interfaces(&self) -> Result<Vec<(String, Hook)>, LoaderError> {
        let present = interfaces().map_err(|source| LoaderError::Interfaces { source })?;
        let (mut served, mut lost) = (Vec::new(), Vec::new());
        for pinned in pinned(&self.pins) {
            let Some(interface) = present.get(&pinned.interface) else { continue };
            let hook = pinned.attachment.hook();
            match (pinned.holds()? == Some(interface.index), hook, interface.address) {
                (false, ..) => lost.push((pinned.interface, hook)),
                (true, Hook::Xdp, Some(address)) => served.push((interface.index, address)),
                (true, ..) => {}
            }
        }
        self.tables.set_interfaces(&served);
        Ok(lost)
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
    match error {
        LinkError::SyscallError(error) => ProgramError::SyscallError(error),
        error => other_error(&error),
    }
}

fn pin_failed(error: aya::pin::PinError) -> ProgramError {
    other_error(&error)
}

fn other_error(error: &dyn std::error::Error) -> ProgramError {
    ProgramError::IOError(std::io::Error::other(chain(error)))
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

const EINVAL: i32 = 22;

/// Whether an error says that there is nothing left to take over.
fn is_gone(pinned: &Pinned, error: &ProgramError) -> bool {
    const ENOENT: i32 = 2;
    const ENOLINK: i32 = 67;
    match (&pinned.filter, cause_errno(error)) {
        // The interface has gone a moment ago.
        (None, errno) => errno == Some(ENOLINK),
        // Somebody has removed the filter, or its qdisc.
        (Some(_), errno) => matches!(errno, Some(ENOENT | EINVAL)),
    }
}

/// Whether the driver has no native XDP, or not for this interface as it is set up.
fn lacks_native(error: &ProgramError) -> bool {
    const ERANGE: i32 = 34;
    const EOPNOTSUPP: i32 = 95;
    matches!(errno(error), Some(EINVAL | ERANGE | EOPNOTSUPP)) || matches!(error, ProgramError::XdpError(_))
}

/// Whether the kernel has no tcx links (before 6.6).
fn lacks_tcx(error: &ProgramError) -> bool {
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
