//! Emulation, or the processor's own virtualization where it works.

use std::{fs, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    Places,
    describe::Architecture,
    image::Image,
    machine::{GRACE, Machine},
};

/// How long a machine may take to come up under KVM. Where KVM works it takes less than a second; where it only
/// pretends to, a machine hangs or fails at once.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// Changes whenever the machine that we run on is started.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Who executes a machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// QEMU, a thread for each of the machine's processors.
    Tcg,
    /// The processor.
    Kvm,
}

/// A choice, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What was chosen.
    pub accelerator: Accelerator,
    /// For people.
    pub reason: String,
}

impl Accelerator {
    pub(crate) fn argument(self) -> &'static str {
        match self {
            Self::Tcg => "tcg,thread=multi",
            Self::Kvm => "kvm",
        }
    }

    /// What suits an image here. KVM is chosen only after a machine came up under it: that a device of its name exists
    /// says little. The answer is kept until this machine is started again.
    pub fn choose(places: &Places, image: &Image) -> Choice {
        let tcg = |reason: &str| Choice { accelerator: Self::Tcg, reason: reason.to_owned() };
        let architecture = image.manifest().architecture;
        if Architecture::native() != Some(architecture) {
            return tcg("another architecture than this machine's");
        }
        if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
            return tcg("/dev/kvm is not there, or not for this user");
        }
        let kept = kept(places);
        let known = fs::read(&kept).ok().and_then(|text| serde_json::from_slice(&text).ok());
        known.unwrap_or_else(|| {
            let choice = match probe(places, image) {
                Ok(()) => Choice { accelerator: Self::Kvm, reason: "a machine came up under it".to_owned() },
                Err(problem) => tcg(&format!("KVM does not work here: {problem}")),
            };
            // It is asked again next time if it cannot be kept.
            if let Ok(text) = serde_json::to_vec(&choice) {
                _ = fs::write(&kept, text);
            }
            choice
        })
    }
}

fn kept(places: &Places) -> PathBuf {
    let boot = fs::read_to_string(BOOT_ID).unwrap_or_default();
    places.target().join(format!("accelerator-{}.json", boot.trim()))
}

fn probe(places: &Places, image: &Image) -> Result<(), String> {
    let logs = places.logs("probe");
    let machine = Machine::start("kvm", image, Accelerator::Kvm, Vec::new(), &logs, false, GRACE);
    let first_line = |error: crate::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
    machine.and_then(|mut machine| machine.wait_until_ready(PROBE_TIME)).map_err(first_line)
}
