//! Sweep: what a process left half done when it was killed.
//!
//! The tables decide: they are written last when something is set up and first when it is taken
//! down, so whatever they do not name serves nobody.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use naam_abi::limits::{APPS_MAX, CONTINUE_OFFSET, FUNCTIONS_MAX, HANDLERS_MAX};

use crate::datapath::Datapath;
use crate::error::LoaderError;
use crate::hook::Hook;

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Pins of programs that no table entry names.
    pub programs: usize,
    /// Places of the program arrays that no table entry names.
    pub places: usize,
    /// Scratch maps of apps that are not served.
    pub scratch: usize,
}

impl Datapath {
    /// Removes program pins and program array places that the function table does not name, and the
    /// scratch of apps that are not served.
    pub fn sweep(&self) -> Result<Swept, LoaderError> {
        let mut wanted = HashSet::new();
        for app in 0..APPS_MAX as u16 {
            for function in 0..FUNCTIONS_MAX as u16 {
                let (current, draining) = self.tables.function(app, function);
                // Killed after the old version was noted as draining, before the new one served.
                if draining.is_some() && draining == current {
                    self.tables.set_draining(app, function, None);
                }
                for reference in [current, draining].into_iter().flatten() {
                    let version = reference.version;
                    wanted.extend(Hook::ALL.map(|hook| self.function_pin(app, function, version, hook)));
                    wanted.extend(Hook::ALL.map(|hook| self.continue_pin(app, function, version, hook)));
                }
            }
        }
        let mut swept = Swept { places: self.sweep_places()?, ..Swept::default() };
        for pin in pins(&self.pins.join("functions")) {
            if !wanted.contains(&pin) {
                naam_sys::pin::unpin(&pin)?;
                swept.programs += 1;
            }
        }
        let served = (0..APPS_MAX as u16).filter(|&app| self.tables.app_flags(app) != 0);
        let wanted: HashSet<PathBuf> = served.map(|app| self.scratch_pin(app)).collect();
        for pin in pins(&self.pins.join("scratch")) {
            if !wanted.contains(&pin) {
                naam_sys::pin::unpin(&pin)?;
                swept.scratch += 1;
            }
        }
        Ok(swept)
    }

    fn sweep_places(&self) -> Result<usize, LoaderError> {
        let taken: HashSet<u32> = self.tables.programs().iter().map(|reference| reference.program).collect();
        let mut removed = 0;
        for place in (0..HANDLERS_MAX as u32).filter(|place| !taken.contains(place)) {
            for hook in Hook::ALL {
                removed += usize::from(self.array(hook).delete(&place.to_ne_bytes())?);
                self.array(hook).delete(&(place + CONTINUE_OFFSET).to_ne_bytes())?;
            }
        }
        Ok(removed)
    }
}

/// What stands in a directory; nothing if there is none.
fn pins(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
