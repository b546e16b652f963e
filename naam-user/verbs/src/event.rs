//! What a device tells without being asked.

use std::ffi::CStr;

use naam_verbs_sys::{self as sys, ibv_event_type as kind};

use crate::Device;

/// Something that has happened to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The device is of no use any more: what was made from it is to be given up.
    Gone,
    /// A port went down; connections wait, and break after a while.
    PortDown(u8),
    /// A port came up.
    PortUp(u8),
    /// A queue pair broke, or a peer asked it for what it may not have. It takes no requests any more.
    QueuePair {
        /// Its number.
        qpn: u32,
        /// What the library calls it.
        what: String,
    },
    /// Something else, as the library calls it.
    Other(String),
}

impl Device {
    /// What has happened since the last call, one after another; never waits.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        std::iter::from_fn(|| self.next_event())
    }

    fn next_event(&self) -> Option<Event> {
        let mut event = sys::ibv_async_event::default();
        // SAFETY: the context is open, its descriptor does not block, and the structure may be written.
        if unsafe { self.verbs().ibv_get_async_event(self.context(), &raw mut event) } != 0 {
            return None;
        }
        // SAFETY: the library answers every number with a string of its own.
        let what = unsafe { CStr::from_ptr(self.verbs().ibv_event_type_str(event.event_type)) };
        let what = what.to_string_lossy().into_owned();
        let told = match event.event_type {
            kind::IBV_EVENT_DEVICE_FATAL => {
                self.fail();
                Event::Gone
            }
            // SAFETY: of these kinds the element is a port's number.
            kind::IBV_EVENT_PORT_ERR => Event::PortDown(unsafe { event.element.port_num } as u8),
            // SAFETY: as above.
            kind::IBV_EVENT_PORT_ACTIVE => Event::PortUp(unsafe { event.element.port_num } as u8),
            kind::IBV_EVENT_QP_FATAL | kind::IBV_EVENT_QP_REQ_ERR | kind::IBV_EVENT_QP_ACCESS_ERR => {
                // SAFETY: of these kinds the element is a queue pair, which lives until its event is acknowledged, below.
                let qpn = unsafe { (*event.element.qp).qp_num };
                Event::QueuePair { qpn, what }
            }
            _ => Event::Other(what),
        };
        // SAFETY: the library filled the structure, and it is acknowledged once.
        unsafe { self.verbs().ibv_ack_async_event(&raw mut event) };
        Some(told)
    }
}
