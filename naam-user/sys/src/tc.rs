//! Filters at TC ingress, by their numbers.

use std::os::fd::{AsFd, AsRawFd};

use libbpf_sys as bpf;

use crate::error::check;
use crate::{Errno, Operation, Program, SysError};

/// A place for a filter of the qdisc clsact, at ingress of an interface of this network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the interface.
    pub ifindex: u32,
    /// The filter's priority there; not 0.
    pub priority: u16,
    /// Its number in that priority; not 0.
    pub handle: u32,
}

impl Place {
    /// Id of the program of the BPF filter there; `None` if there is none. Kernel 4.13.
    pub fn program(&self) -> Result<Option<u32>, SysError> {
        let mut opts = self.opts();
        // SAFETY: both structures are initialised, say their own sizes, and outlive the call.
        let returned = unsafe { bpf::bpf_tc_query(&self.hook(), &mut opts) };
        match check(returned) {
            Ok(_) => Ok(Some(opts.prog_id)),
            // No filter; no qdisc, or a filter of another kind; no interface.
            Err(Errno::NOENT | Errno::INVAL | Errno::NODEV) => Ok(None),
            Err(errno) => Err(self.failed(Operation::Info, errno)),
        }
    }

    /// Puts `program` there, in place of the filter's, without a gap.
    pub fn replace(&self, program: &Program) -> Result<(), SysError> {
        let mut opts = self.opts();
        opts.prog_fd = program.as_fd().as_raw_fd();
        opts.flags = bpf::BPF_TC_F_REPLACE;
        // SAFETY: as in `program`; the descriptor is open for as long as `program` is borrowed.
        let returned = unsafe { bpf::bpf_tc_attach(&self.hook(), &mut opts) };
        check(returned).map(drop).map_err(|errno| self.failed(Operation::Update, errno))
    }

    /// Removes the filter there; it may be gone.
    pub fn clear(&self) -> Result<(), SysError> {
        // SAFETY: as in `program`.
        let returned = unsafe { bpf::bpf_tc_detach(&self.hook(), &self.opts()) };
        match check(returned) {
            Ok(_) | Err(Errno::NOENT | Errno::INVAL | Errno::NODEV) => Ok(()),
            Err(errno) => Err(self.failed(Operation::Delete, errno)),
        }
    }

    fn hook(&self) -> bpf::bpf_tc_hook {
        bpf::bpf_tc_hook {
            sz: size_of::<bpf::bpf_tc_hook>() as _,
            ifindex: self.ifindex as i32,
            attach_point: bpf::BPF_TC_INGRESS,
            ..Default::default()
        }
    }

    fn opts(&self) -> bpf::bpf_tc_opts {
        bpf::bpf_tc_opts {
            sz: size_of::<bpf::bpf_tc_opts>() as _,
            handle: self.handle,
            priority: self.priority.into(),
            ..Default::default()
        }
    }

    fn failed(&self, operation: Operation, errno: Errno) -> SysError {
        let Self { ifindex, priority, handle } = self;
        SysError::new(operation, format!("TC filter {priority}:{handle:#x} of interface {ifindex}"), errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_filter_is_there_is_no_program() {
        for ifindex in [1, 0x7fff_fff0] {
            let place = Place { ifindex, priority: 0x4e41, handle: 0x4e41_414d };
            assert_eq!(place.program().unwrap(), None);
        }
    }
}
