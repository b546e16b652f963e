//! How a kernel program is timed.
//!
//! By `BPF_PROG_TEST_RUN`, which repeats a program on one frame and reports the mean time of a run.
//! Handlers are loaded so that an answered datagram stays a request (`PROGRAM_REPEATABLE`), and the
//! frames' two ports are equal: what comes out is what went in.
//!
//! Benches of memory that is not in the cache cannot repeat a frame. They run many frames once each,
//! with so many messages in each that the clock's own cost (measured with a program that does
//! nothing, and subtracted) does not matter.

use anyhow::{Result, ensure};
use aya::{Ebpf, programs::Xdp};
use naam_sys::{Program, RunInput};
use naam_tests::objects;
use std::os::fd::AsFd;

/// Programs of the baseline object.
#[derive(Debug)]
pub struct Baseline {
    /// Answers every UDP frame.
    pub echo: Program,
    /// Does nothing.
    nothing: Program,
    /// Keeps the object's programs loaded.
    _object: Ebpf,
}

impl Baseline {
    /// Loads them.
    pub fn load() -> Result<Self> {
        let mut object = Ebpf::load(&objects::read("baseline"))?;
        let mut program = |name: &str| -> Result<Program> {
            let program: &mut Xdp = object.program_mut(name).expect("the build's own object").try_into()?;
            program.load()?;
            Ok(Program::from_fd(program.fd()?.as_fd().try_clone_to_owned()?)?)
        };
        let (echo, nothing) = (program("bare_echo")?, program("nothing")?);
        Ok(Self { echo, nothing, _object: object })
    }

    /// Nanoseconds of one run of `program` on one frame, repeated.
    pub fn repeated(program: &Program, frame: &[u8]) -> Result<f64> {
        let output = program.test_run(&RunInput { data: frame, repeat: REPEAT, ..RunInput::default() })?;
        ensure!(output.retval == XDP_TX, "the frame got verdict {}, not {XDP_TX}", output.retval);
        Ok(output.duration.as_nanos() as f64)
    }

    /// Median nanoseconds of `program` over `frames`, each run once.
    pub fn once_each(&self, program: &Program, frames: &[Vec<u8>]) -> Result<f64> {
        let clock = median(run_all(&self.nothing, frames, XDP_PASS)?);
        Ok((median(run_all(program, frames, XDP_TX)?) - clock).max(0.1))
    }
}

const XDP_PASS: u32 = 2;
const XDP_TX: u32 = 3;
const REPEAT: u32 = 200_000;

fn run_all(program: &Program, frames: &[Vec<u8>], expected: u32) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(frames.len());
    for frame in frames {
        let output = program.test_run(&RunInput { data: frame, ..RunInput::default() })?;
        ensure!(output.retval == expected, "a frame got verdict {}, not {expected}", output.retval);
        times.push(output.duration.as_nanos() as f64);
    }
    Ok(times)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
