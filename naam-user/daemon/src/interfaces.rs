//! Interfaces: where frames enter.

use std::os::fd::AsFd;

use naam_control::ControlError;
use naam_control::protocol::admin::{self, AttachedHook, Unserved};
use naam_loader::{Attached, Attachment, Hook};
use rustix::net::{AddressFamily, SocketType};

use crate::host::Host;

/// Why an interface is not served that does not exist.
const ABSENT: &str = "there is no interface of this name";

impl Host {
    /// Attaches the entry to an interface, or takes over the link that is there.
    pub fn attach(&mut self, interface: &str, hook: admin::Hook) -> Result<admin::Attachment, ControlError> {
        self.notice_losses();
        if let Some(other) = self.interfaces.iter().find(|attached| attached.interface == interface) {
            let cause = format!("it is served at {} already", other.hook.name());
            return Err(
                ControlError::new("attach to", interface, cause).way_out(format!("`naam detach {interface}` first"))
            );
        }
        let attachment = self.attach_now(interface, hook)?;
        self.wanted_hooks.insert(interface.to_owned(), hook);
        Ok(attachment)
    }

    /// Attaches to an interface of the configuration. One that does not exist is served as soon as it does.
    pub fn serve_configured(&mut self, interface: &str, hook: admin::Hook) -> Result<(), ControlError> {
        if interface_index(interface).is_ok() {
            return self.attach(interface, hook).map(drop);
        }
        let cause = ABSENT.to_owned();
        tracing::warn!(interface, cause, "not served until it is there");
        self.unserved.push(Unserved { interface: interface.to_owned(), hook, cause });
        Ok(())
    }

    /// Whether an interface is served, or is to be.
    pub fn is_wanted(&self, interface: &str) -> bool {
        self.interfaces.iter().any(|attached| attached.interface == interface)
            || self.unserved.iter().any(|unserved| unserved.interface == interface)
    }

    fn attach_now(&mut self, interface: &str, hook: admin::Hook) -> Result<admin::Attachment, ControlError> {
        let wanted = match hook {
            admin::Hook::Auto => None,
            admin::Hook::Xdp => Some(Hook::Xdp),
            admin::Hook::Tc => Some(Hook::Tc),
        };
        self.move_to_hook(interface, wanted)?;
        let attached = self.datapath.attach(interface, wanted);
        let attached = attached.map_err(|error| ControlError::new("attach to", interface, error))?;
        let attachment = self.describe(&attached)?;
        tracing::info!(interface, at = attached.attachment.name(), reason = attached.reason, "attached");
        // One that had the name before, and has another now, is not served any more.
        let held = self.datapath.attached();
        self.interfaces.retain(|attached| held.iter().any(|(name, _)| *name == attached.interface));
        self.interfaces.push(attachment.clone());
        self.unserved.retain(|unserved| unserved.interface != interface);
        Ok(attachment)
    }

    /// Takes down what an earlier daemon pinned at a hook that is not wanted any more.
    fn move_to_hook(&mut self, interface: &str, wanted: Option<Hook>) -> Result<(), ControlError> {
        let pinned = self.datapath.attached();
        let elsewhere = pinned
            .iter()
            .any(|(name, attachment)| name == interface && wanted.is_some_and(|wanted| attachment.hook() != wanted));
        if elsewhere {
            let detached = self.datapath.detach(interface);
            detached.map_err(|error| ControlError::new("detach from", interface, error))?;
        }
        Ok(())
    }

    fn describe(&mut self, attached: &Attached) -> Result<admin::Attachment, ControlError> {
        let failed =
            |error: &dyn ToString| ControlError::new("look at", attached.interface.as_str(), error.to_string());
        let program = self.datapath.entry_program(attached.attachment.hook()).map_err(|error| failed(&error))?;
        Ok(admin::Attachment {
            interface: attached.interface.clone(),
            ifindex: interface_index(&attached.interface).map_err(|error| failed(&error))?,
            hook: attached_hook(attached.attachment),
            reason: attached.reason.clone(),
            program_id: program.info().map_err(|error| failed(&error))?.id,
        })
    }

    /// Detaches from an interface, or gives it up.
    pub fn detach(&mut self, interface: &str) -> Result<(), ControlError> {
        let failed = |cause: &dyn ToString| ControlError::new("detach from", interface, cause.to_string());
        self.notice_losses();
        let pinned = self.datapath.detach(interface).map_err(|error| failed(&error))?;
        if !pinned && !self.is_wanted(interface) {
            return Err(failed(&"nothing of this instance is attached there").way_out("`naam inspect` lists the links"));
        }
        self.interfaces.retain(|attached| attached.interface != interface);
        self.unserved.retain(|unserved| unserved.interface != interface);
        self.wanted_hooks.remove(interface);
        tracing::info!(interface, "detached");
        Ok(())
    }

    /// Calls the interfaces by the names that they have now.
    fn follow_names(&mut self) {
        for attached in &mut self.interfaces {
            // One that is gone keeps its name.
            let Ok(name) = interface_name(attached.ifindex) else { continue };
            if name != attached.interface {
                tracing::info!(interface = attached.interface, name, "the interface has another name");
                if let Some(hook) = self.wanted_hooks.get(&attached.interface).copied() {
                    self.wanted_hooks.insert(name.clone(), hook);
                }
                attached.interface = name;
            }
        }
    }

    /// Asks the kernel what is served no more: links, filters and interfaces go without a word.
    pub fn notice_losses(&mut self) {
        self.follow_names();
        let holding = match self.datapath.holding() {
            Ok(holding) => holding,
            Err(error) => return tracing::warn!(%error, "cannot look at what is attached"),
        };
        let holds = |served: &admin::Attachment| {
            let hook = |attachment: &Attachment| attached_hook(*attachment) == served.hook;
            interface_name(served.ifindex).is_ok()
                && holding.iter().any(|(index, attachment)| *index == served.ifindex && hook(attachment))
        };
        let (held, lost): (Vec<_>, Vec<_>) = std::mem::take(&mut self.interfaces).into_iter().partition(holds);
        self.interfaces = held;
        for admin::Attachment { interface, ifindex, hook, .. } in lost {
            let cause = match (interface_name(ifindex), interface_index(&interface)) {
                (Ok(_), _) => "its link or filter was removed by somebody else",
                (Err(_), Ok(_)) => "the interface was made again",
                (Err(_), Err(_)) => "the interface is gone",
            };
            let at = if hook == AttachedHook::Tc { Hook::Tc } else { Hook::Xdp };
            self.note_loss(interface, at, cause);
        }
    }

    fn note_loss(&mut self, interface: String, at: Hook, cause: &str) {
        if self.is_wanted(&interface) {
            return;
        }
        tracing::warn!(interface, at = %at, cause, "the interface is not served any more; it will be attached to again");
        let hook = match (self.wanted_hooks.get(&interface), at) {
            (Some(hook), _) => *hook,
            (None, Hook::Xdp) => admin::Hook::Xdp,
            (None, Hook::Tc) => admin::Hook::Tc,
        };
        self.unserved.push(Unserved { interface, hook, cause: cause.to_owned() });
    }

    /// Follows the interfaces: what has lost its link, was made again or has come is attached to, and one
    /// that has a new Ethernet address is served under it.
    pub fn follow_interfaces(&mut self) {
        self.notice_losses();
        match self.datapath.look_at_interfaces() {
            Ok(lost) => lost.into_iter().for_each(|(interface, at)| {
                self.note_loss(interface, at, "another interface has its name now, or it has lost its filter");
            }),
            Err(error) => tracing::warn!(%error, "cannot look at the interfaces"),
        }
        for mut unserved in std::mem::take(&mut self.unserved) {
            let interface = unserved.interface.clone();
            let cause = match interface_index(&interface) {
                Err(_) => ABSENT.to_owned(),
                Ok(_) => match self.attach_now(&interface, unserved.hook) {
                    Ok(_) => {
                        self.wanted_hooks.insert(interface, unserved.hook);
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
            };
            // Said once, not every second.
            if cause != unserved.cause {
                tracing::error!(interface, cause, "the interface is not served");
                unserved.cause = cause;
            }
            self.unserved.push(unserved);
        }
    }

    /// Takes over links that the configuration does not name: attached at run time, or by an earlier
    /// configuration, which is undone.
    pub fn adopt_links(&mut self, configured_before: &[String]) -> Result<(), ControlError> {
        for (interface, attachment) in self.datapath.attached() {
            if self.is_wanted(&interface) {
                continue;
            }
            let hook = match attachment.hook() {
                Hook::Xdp => admin::Hook::Xdp,
                Hook::Tc => admin::Hook::Tc,
            };
            if configured_before.contains(&interface) {
                tracing::info!(interface, "no longer configured");
                self.detach(&interface)?;
            } else if let Err(error) = self.attach(&interface, hook) {
                // The interface may be gone; its link is dead then, and only in the way.
                tracing::warn!(interface, %error, "a link of an earlier daemon cannot be taken over");
                let detached = self.datapath.detach(&interface);
                detached.map_err(|error| ControlError::new("detach from", interface.as_str(), error))?;
            }
        }
        Ok(())
    }
}

fn attached_hook(attachment: Attachment) -> AttachedHook {
    match attachment {
        Attachment::XdpNative => AttachedHook::XdpNative,
        Attachment::XdpGeneric => AttachedHook::XdpGeneric,
        Attachment::Tc => AttachedHook::Tc,
    }
}

fn interface_name(index: u32) -> rustix::io::Result<String> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    rustix::net::netdevice::index_to_name(socket.as_fd(), index)
}

fn interface_index(name: &str) -> rustix::io::Result<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    rustix::net::netdevice::name_to_index(socket.as_fd(), name)
}
