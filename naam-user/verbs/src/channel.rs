//! Where a device tells that requests have completed.

use std::{
    os::fd::{AsFd, BorrowedFd},
    ptr::NonNull,
    sync::Arc,
};

use naam_verbs_sys as sys;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::{Domain, Error};

/// A completion channel of one completion queue. Its descriptor does not block.
#[derive(Debug)]
pub(crate) struct Channel {
    channel: NonNull<sys::ibv_comp_channel>,
    domain: Arc<Domain>,
}

// SAFETY: a handle of a library that may be called from any thread.
unsafe impl Send for Channel {}

impl Channel {
    pub fn new(domain: &Arc<Domain>) -> Result<Self, Error> {
        let device = domain.device();
        // SAFETY: the context is open.
        let made = unsafe { device.verbs().ibv_create_comp_channel(device.context()) };
        let channel = device.made("create a completion channel", made)?;
        let made = Self { channel, domain: Arc::clone(domain) };
        // Who looks for events does not want to wait for one.
        fcntl_getfl(made.as_fd())
            .and_then(|flags| fcntl_setfl(made.as_fd(), flags | OFlags::NONBLOCK))
            .map_err(|error| Error::call("look for completions", device.name(), error.into()))?;
        Ok(made)
    }

    pub fn as_ptr(&self) -> *mut sys::ibv_comp_channel {
        self.channel.as_ptr()
    }

    /// Takes what was told of `queue`, the only one of this channel. A queue waits with its end until all of it was
    /// acknowledged.
    pub fn forget(&self, queue: NonNull<sys::ibv_cq>) {
        let (mut told, mut context) = (std::ptr::null_mut(), std::ptr::null_mut());
        let verbs = self.domain.device().verbs();
        // SAFETY: the channel is live, its descriptor does not block, and both pointers may be written.
        while unsafe { verbs.ibv_get_cq_event(self.as_ptr(), &raw mut told, &raw mut context) } == 0 {
            // SAFETY: the queue is live, and each event is acknowledged once.
            unsafe { verbs.ibv_ack_cq_events(queue.as_ptr(), 1) };
        }
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the channel is live for as long as we are, and its descriptor with it.
        unsafe { BorrowedFd::borrow_raw((*self.as_ptr()).fd) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        let device = self.domain.device();
        // SAFETY: the channel is ours, and its queue was destroyed before.
        let outcome = unsafe { device.verbs().ibv_destroy_comp_channel(self.as_ptr()) };
        device.destroyed("destroy a completion channel", outcome);
    }
}
