//! Interfaces: where frames enter.

use std::os::fd::AsFd;

use naam_control::ControlError;
use naam_control::protocol::admin::{self, AttachedHook};
use naam_loader::{Attached, Attachment, Hook};
use rustix::net::{AddressFamily, SocketType};

use crate::host::Host;

impl Host {
    /// Attaches the entry to an interface, or takes over the link that is there.
    pub fn attach(&mut self, interface: &str, hook: admin::Hook) -> Result<admin::Attachment, ControlError> {
        let wanted = match hook {
            admin::Hook::Auto => None,
            admin::Hook::Xdp => Some(Hook::Xdp),
            admin::Hook::Tc => Some(Hook::Tc),
        };
        self.follow_names();
        if let Some(other) = self.interfaces.iter().find(|attached| attached.interface == interface) {
            let refused =
                ControlError::new("attach to", interface, format!("it is served at {:?} already", other.hook));
            return Err(refused.way_out(format!("`naam detach {interface}` first")));
        }
        self.move_to_hook(interface, wanted)?;
        let attached = self.datapath.attach(interface, wanted);
        let attached = attached.map_err(|error| ControlError::new("attach to", interface, error))?;
        let attachment = self.describe(&attached)?;
        tracing::info!(interface, at = attached.attachment.name(), reason = attached.reason, "attached");
        // One that had the name before, and has another now, is not served any more.
        let held = self.datapath.attached();
        self.interfaces.retain(|attached| held.iter().any(|(name, _)| *name == attached.interface));
        self.interfaces.push(attachment.clone());
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
            hook: match attached.attachment {
                Attachment::XdpNative => AttachedHook::XdpNative,
                Attachment::XdpGeneric => AttachedHook::XdpGeneric,
                Attachment::Tc => AttachedHook::Tc,
            },
            reason: attached.reason.clone(),
            program_id: program.info().map_err(|error| failed(&error))?.id,
        })
    }

    /// Detaches from an interface.
    pub fn detach(&mut self, interface: &str) -> Result<(), ControlError> {
        let failed = |cause: &dyn ToString| ControlError::new("detach from", interface, cause.to_string());
        self.follow_names();
        if !self.datapath.detach(interface).map_err(|error| failed(&error))? {
            return Err(failed(&"nothing of this instance is attached there").way_out("`naam inspect` lists the links"));
        }
        self.interfaces.retain(|attached| attached.interface != interface);
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
                attached.interface = name;
            }
        }
    }

    /// Follows the interfaces: one that was made again is attached to again, and one that has a new
    /// Ethernet address is served under it.
    pub fn follow_interfaces(&mut self) {
        self.follow_names();
        let lost = match self.datapath.look_at_interfaces() {
            Ok(lost) => lost,
            Err(error) => return tracing::warn!(%error, "cannot look at the interfaces"),
        };
        for (interface, hook) in lost {
            self.interfaces.retain(|attached| attached.interface != interface);
            let hook = match hook {
                Hook::Xdp => admin::Hook::Xdp,
                Hook::Tc => admin::Hook::Tc,
            };
            tracing::warn!(interface, "the interface was made again or has lost its filter; attaching to it");
            if let Err(error) = self.attach(&interface, hook) {
                tracing::error!(interface, %error, "the interface is not served any more");
            }
        }
    }

    /// Takes over links that the configuration does not name: attached at run time, or by an earlier
    /// configuration, which is undone.
    pub fn adopt_links(&mut self, configured_before: &[String]) -> Result<(), ControlError> {
        for (interface, attachment) in self.datapath.attached() {
            if self.interfaces.iter().any(|attached| attached.interface == interface) {
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

fn interface_name(index: u32) -> rustix::io::Result<String> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    rustix::net::netdevice::index_to_name(socket.as_fd(), index)
}

fn interface_index(name: &str) -> rustix::io::Result<u32> {
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    rustix::net::netdevice::name_to_index(socket.as_fd(), name)
}
