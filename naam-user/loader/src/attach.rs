//! Attach: the entry program on an interface, by a pinned link where the kernel has one.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::tc::{self, NlOptions, TcAttachOptions};
use aya::programs::xdp::XdpMode;
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType, Xdp};
use naam_sys::tc::Place;

use crate::datapath::{Datapath, chain};
use crate::error::LoaderError;
use crate::hook::Hook;
use crate::interface::{Interface, interfaces, name_of};
use crate::link::{Filter, Pinned, cause_errno, pinned};

/// Priority of our filters at TC: a number that neither people nor the kernel (which counts down from 0xc000) choose by
/// themselves, so that a place that was ours is not somebody else's by chance.
const FILTER_PRIORITY: u16 = 0x4e41;

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

    /// Takes over what is pinned in one of `ways`, if it holds the interface of that name, whatever the name was when it
    /// was attached.
    fn adopt(&mut self, interface: &str, ways: &[Attachment]) -> Result<Option<Attachment>, LoaderError> {
        let present = interfaces().map_err(|source| LoaderError::Interfaces { source })?;
        // What is pinned under the name of one that is absent may serve under another.
        let Some(index) = present.get(interface).map(|present| present.index) else { return Ok(None) };
        let mut adopted = None;
        for pinned in pinned(&self.pins) {
            let attachment = pinned.attachment;
            if !ways.contains(&attachment) || pinned.holds()? != Some(index) {
                continue;
            }
            let failed = |error: &dyn std::error::Error| attach_error(interface, attachment, error);
            // A program that does not load must not cost the link that serves.
            match attachment.hook() {
                Hook::Xdp => self.xdp().map(drop),
                Hook::Tc => self.tc().map(drop),
            }
            .map_err(|error| failed(&error))?;
            match self.take_over(&pinned, interface) {
                Ok(()) => {
                    adopted = Some(attachment);
                    break;
                }
                Err(error) if is_gone(&pinned, &error) => {
                    tracing::warn!(interface, cause = chain(&error), "what is pinned is gone; attaching anew");
                    pinned.remove()?;
                }
                Err(error) => return Err(failed(&error)),
            }
        }
        self.let_go(interface, index, adopted.is_some())?;
        Ok(adopted)
    }

    /// Takes the name from what is pinned under it and does not hold its interface. A link outlives its interface, and
    /// goes with it under another name; when that name is another interface's, it is not what was configured and is
    /// removed, unless the two were `swapped`: both are configured then.
    fn let_go(&self, interface: &str, index: u32, swapped: bool) -> Result<(), LoaderError> {
        let present = interfaces().map_err(|source| LoaderError::Interfaces { source })?;
        for pinned in pinned(&self.pins).into_iter().filter(|pinned| pinned.interface == interface) {
            let held = pinned.holds()?;
            match held.and_then(|index| name_of(&present, index)) {
                _ if held == Some(index) => {}
                Some(name) if swapped => pinned.rename(name)?,
                _ => {
                    let pin = pinned.path.display();
                    tracing::warn!(interface, %pin, "what is pinned holds no interface of this name any more");
                    pinned.remove()?;
                }
            }
        }
        Ok(())
    }

    /// Puts this build's program in place of the one that serves.
    fn take_over(&mut self, pinned: &Pinned, interface: &str) -> Result<(), ProgramError> {
        if let Some(filter) = pinned.filter {
            return self.take_over_filter(pinned, filter, interface);
        }
        let link = PinnedLink::from_pin(&pinned.path).map(FdLink::from).map_err(link_failed)?;
        match pinned.attachment.hook() {
            Hook::Xdp => {
                let program = self.xdp()?;
                let id = program.attach_to_link(link.try_into().map_err(link_failed)?)?;
                program.take_link(id).map(drop_pinned)?;
            }
            Hook::Tc => {
                let program = self.tc()?;
                let id = program.attach_to_link(link.try_into().map_err(link_failed)?)?;
                program.take_link(id).map(drop_pinned)?;
            }
        }
        pinned.rename(interface).map_err(|error| other_error(&error))
    }

    /// The new program is pinned before it serves, and the old one for as long as it may: whenever this process ends, one
    /// of the pins is the filter's.
    fn take_over_filter(&mut self, pinned: &Pinned, filter: Filter, interface: &str) -> Result<(), ProgramError> {
        let program = self.tc_program()?;
        let next = self.pin_filter(&program, filter.place, interface)?;
        let replaced = filter.place.replace(&program);
        if next != pinned.path {
            let unused = if replaced.is_ok() { &pinned.path } else { &next };
            std::fs::remove_file(unused).map_err(ProgramError::IOError)?;
        }
        replaced.map_err(|error| ProgramError::IOError(std::io::Error::from_raw_os_error(error.errno.0)))
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
        let ifindex = index.ok_or_else(|| ProgramError::UnknownInterface { name: interface.into() })?;
        // The qdisc may be there already.
        let _ = tc::qdisc_add_clsact(interface);
        let program = self.tc()?;
        let options = NlOptions { priority: FILTER_PRIORITY, ..NlOptions::default() };
        let id = program.attach_with_options(interface, TcAttachType::Ingress, TcAttachOptions::Netlink(options))?;
        let link = program.take_link(id)?;
        let place = Place { ifindex, priority: link.priority()?, handle: link.handle()?.into() };
        let program = self.tc_program()?;
        self.pin_filter(&program, place, interface)?;
        // Dropped, it would remove the filter: as it does if the pin fails.
        std::mem::forget(link);
        Ok(())
    }

    /// Pins the program of a filter, under the numbers of both; where.
    fn pin_filter(&self, program: &naam_sys::Program, place: Place, interface: &str) -> Result<PathBuf, ProgramError> {
        let id = program.info().map_err(|error| other_error(&error))?.id;
        let filter = Filter { place, program: id };
        let pinned = Pinned::new(&self.pins, interface, Attachment::Tc, Some(filter));
        program.pin_replacing(&pinned.path).map_err(|error| other_error(&error))?;
        Ok(pinned.path)
    }

    /// Detaches the entry from the interface that has this name now, at every hook. Returns whether it was attached.
    pub fn detach(&mut self, interface: &str) -> Result<bool, LoaderError> {
        let present = interfaces().map_err(|source| LoaderError::Interfaces { source })?;
        let mut found = pinned(&self.pins);
        found.retain(|pinned| pinned.name(&present) == interface);
        found.iter().try_for_each(Pinned::remove)?;
        Ok(!found.is_empty())
    }

    /// Interfaces with a pinned attachment, by the names that they have now in this thread's network namespace.
    pub fn attached(&self) -> Vec<(String, Attachment)> {
        let present = interfaces().unwrap_or_default();
        pinned(&self.pins).into_iter().map(|pinned| (pinned.name(&present), pinned.attachment)).collect()
    }

    /// What is attached, as the kernel has it: indices of interfaces. A pin whose link holds no interface is not here.
    pub fn holding(&self) -> Result<Vec<(u32, Attachment)>, LoaderError> {
        let held =
            pinned(&self.pins).into_iter().map(|pinned| Ok(pinned.holds()?.map(|index| (index, pinned.attachment))));
        held.filter_map(Result::transpose).collect()
    }

    /// Tells XDP the Ethernet addresses that its interfaces have now, whatever they are called. Returns the attachments
    /// that do not hold the interface of their name: it was made again, another has taken its name, or somebody has
    /// removed the filter; [`Datapath::attach`] attaches to it.
    pub fn look_at_interfaces(&self) -> Result<Vec<(String, Hook)>, LoaderError> {
        let present = interfaces().map_err(|source| LoaderError::Interfaces { source })?;
        let (mut served, mut lost) = (Vec::new(), Vec::new());
        for pinned in pinned(&self.pins) {
            let (held, hook) = (pinned.holds()?, pinned.attachment.hook());
            let holding = held.and_then(|index| name_of(&present, index)).map(|name| present[name]);
            if let (Hook::Xdp, Some(Interface { index, address: Some(address) })) = (hook, holding) {
                served.push((index, address));
            }
            if present.get(&pinned.interface).is_some_and(|named| held != Some(named.index)) {
                lost.push((pinned.interface, hook));
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

    fn tc_program(&mut self) -> Result<naam_sys::Program, ProgramError> {
        own(self.tc()?.fd()?.as_fd())
    }

    /// Loads the entry for `hook`, for test runs; its descriptor.
    pub fn entry_program(&mut self, hook: Hook) -> Result<naam_sys::Program, LoaderError> {
        let program = match hook {
            Hook::Xdp => self.xdp().and_then(|program| own(program.fd()?.as_fd())),
            Hook::Tc => self.tc_program(),
        };
        program.map_err(|error| LoaderError::Entry { what: format!("entry for {hook}"), cause: chain(&error) })
    }
}

/// A descriptor of our own for a program of aya's.
fn own(program: BorrowedFd<'_>) -> Result<naam_sys::Program, ProgramError> {
    let fd = program.try_clone_to_owned().map_err(ProgramError::IOError)?;
    naam_sys::Program::from_fd(fd).map_err(|error| other_error(&error))
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
    const ENODEV: i32 = 19;
    const ENOLINK: i32 = 67;
    match (&pinned.filter, cause_errno(error)) {
        // The interface has gone a moment ago.
        (None, errno) => errno == Some(ENOLINK),
        // Somebody has removed the filter, or its qdisc.
        (Some(_), errno) => matches!(errno, Some(ENOENT | ENODEV | EINVAL)),
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
