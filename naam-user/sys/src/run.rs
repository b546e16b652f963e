//! `BPF_PROG_TEST_RUN`: a program on given bytes, without a device.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use libbpf_sys as bpf;

use crate::error::check;
use crate::{Errno, Operation, Program, SysError};

/// What a program is run on.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunInput<'a> {
    /// The frame, from the first byte of its Ethernet header: at least 14 bytes.
    pub data: &'a [u8],
    /// Room for the frame afterwards. 0: it is not wanted (and costs no copy).
    pub data_out_max: usize,
    /// A context (`struct xdp_md`, `struct __sk_buff`), where the defaults do not do. Kernel 5.15 for XDP.
    pub ctx: &'a [u8],
    /// How often to run; 0 and 1 both mean once. The data is not reset in between.
    pub repeat: u32,
    /// `BPF_F_TEST_*` flags.
    pub flags: u32,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RunOutput {
    /// The program's return value, of the last run.
    pub retval: u32,
    /// The frame afterwards, up to [`RunInput::data_out_max`] bytes.
    pub data: Vec<u8>,
    /// The context afterwards; empty if none was given.
    pub ctx: Vec<u8>,
    /// Mean time of one run.
    pub duration: Duration,
}

impl Program {
    /// Runs the program on `input`. Kernel 4.12. A signal ends a long repetition with EINTR.
    pub fn test_run(&self, input: &RunInput<'_>) -> Result<RunOutput, SysError> {
        let mut output =
            RunOutput { data: vec![0; input.data_out_max], ctx: vec![0; input.ctx.len()], ..Default::default() };
        let mut opts = bpf::bpf_test_run_opts {
            sz: size_of::<bpf::bpf_test_run_opts>() as _,
            data_in: pointer(input.data),
            data_size_in: input.data.len() as u32,
            data_out: pointer_mut(&mut output.data),
            data_size_out: output.data.len() as u32,
            ctx_in: pointer(input.ctx),
            ctx_size_in: input.ctx.len() as u32,
            ctx_out: pointer_mut(&mut output.ctx),
            ctx_size_out: output.ctx.len() as u32,
            repeat: input.repeat as i32,
            flags: input.flags,
            ..Default::default()
        };
        // SAFETY: every buffer that `opts` points to outlives the call and is as long as stated;
        // `opts` is fully initialised, with its size.
        let returned = unsafe { bpf::bpf_prog_test_run_opts(self.as_fd().as_raw_fd(), &mut opts) };
        check(returned).map_err(|errno| {
            let error =
                SysError::new(Operation::TestRun, format!("program on descriptor {}", self.as_fd().as_raw_fd()), errno);
            match errno {
                Errno::NOSPC => error.with_hint(format!(
                    "the frame grew to {} bytes, with room for {}",
                    opts.data_size_out, input.data_out_max
                )),
                Errno::INVAL if input.data.len() < 14 => error.with_hint("a frame has at least 14 bytes"),
                _ => error,
            }
        })?;
        output.retval = opts.retval;
        output.duration = Duration::from_nanos(opts.duration.into());
        // The kernel reports the frame's whole length even where nothing was copied.
        output.data.truncate(opts.data_size_out as usize);
        output.ctx.truncate(opts.ctx_size_out as usize);
        Ok(output)
    }
}

fn pointer<T>(bytes: &[u8]) -> *const T {
    if bytes.is_empty() { std::ptr::null() } else { bytes.as_ptr().cast() }
}

fn pointer_mut<T>(bytes: &mut [u8]) -> *mut T {
    if bytes.is_empty() { std::ptr::null_mut() } else { bytes.as_mut_ptr().cast() }
}
