//! Machines that the tests of a program use one after another: booting takes longer than most of them.

use std::{
    ops::Deref,
    sync::{
        Mutex, MutexGuard, PoisonError,
        mpsc::{self, Sender},
    },
    thread,
};

use crate::{
    Error,
    describe::Role,
    lab::{Lab, try_boot},
};

/// A topology that is booted when it is first asked for, and again behind a test that failed.
///
/// A test leaves the machines as it found them, but for programs that run, which are killed, and for what `reset` of the
/// machines' roles puts back.
#[derive(Debug)]
pub struct Shared {
    topology: &'static str,
    held: Mutex<Option<Held>>,
}

#[derive(Debug)]
struct Held {
    lab: Lab,
    /// What the tests since the last reset have them as.
    state: Option<&'static str>,
    /// Lets the thread go that booted the machines: they die with it.
    _keeper: Sender<()>,
}

/// Shared machines, for one test. Without [`finish`](Self::finish) nobody uses them again.
#[derive(Debug)]
pub struct Lease<'a> {
    held: MutexGuard<'a, Option<Held>>,
    is_clean: bool,
}

impl Shared {
    /// Machines of a topology.
    pub const fn new(topology: &'static str) -> Self {
        Self { topology, held: Mutex::new(None) }
    }

    /// The machines, as they were behind their start. Another test that has them is waited for.
    ///
    /// # Panics
    /// When they do not come up, or cannot be put back: with all that is known about it.
    pub fn take(&self) -> Lease<'_> {
        let mut held = self.lock();
        match held.take() {
            Some(kept) => {
                // Should this panic, the machines go.
                put_back(&kept.lab).unwrap_or_else(|error| panic!("between two tests: {error}"));
                *held = Some(Held { state: None, ..kept });
            }
            None => *held = Some(boot(self.topology).unwrap_or_else(|error| panic!("{error}"))),
        }
        Lease { held, is_clean: false }
    }

    /// The machines as `set_up` makes them of [those of their start](Self::take). Tests behind each other that name the same
    /// state get them as the one before has left them: for what takes long to make, and is used alike.
    ///
    /// # Panics
    /// As there, and when `set_up` does.
    pub fn take_as(&self, state: &'static str, set_up: impl FnOnce(&Lab)) -> Lease<'_> {
        let held = self.lock();
        if held.as_ref().is_some_and(|held| held.state == Some(state)) {
            return Lease { held, is_clean: false };
        }
        drop(held);
        let mut lease = self.take();
        set_up(&lease);
        if let Some(held) = lease.held.as_mut() {
            held.state = Some(state);
        }
        lease
    }

    fn lock(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn put_back(lab: &Lab) -> Result<(), Error> {
    for (machine, vm) in lab.machines().iter().zip(lab.topology().vms()) {
        // All processes but this shell and the agent, which is process 1.
        machine.sh("kill -9 -1")?;
        machine.sh(&Role::load(lab.topology().places(), &vm.role)?.reset)?;
    }
    Ok(())
}

/// Boots in a thread that lives as long as the machines shall: a test's own thread ends with the test.
fn boot(topology: &'static str) -> Result<Held, Error> {
    let (keeper, end) = mpsc::channel();
    let (sender, booted) = mpsc::channel();
    thread::spawn(move || {
        if sender.send(try_boot(topology)).is_ok() {
            // Ends when the other side is dropped.
            _ = end.recv();
        }
    });
    let lab = booted.recv().expect("the thread sends before it ends")?;
    Ok(Held { lab, state: None, _keeper: keeper })
}

impl Lease<'_> {
    /// Gives the machines back for another test.
    ///
    /// # Errors
    /// When one of their kernels has complained meanwhile.
    pub fn finish(mut self) -> Result<(), Error> {
        for machine in self.machines() {
            machine.check_kernel_log()?;
        }
        self.is_clean = true;
        Ok(())
    }
}

impl Deref for Lease<'_> {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.held.as_ref().expect("a lease has machines until it is dropped").lab
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if !self.is_clean {
            *self.held = None;
        }
    }
}
