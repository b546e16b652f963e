//! `naam handler check`: may this object run?
//!
//! Offline by NAAM's own audit; with `--kernel` the verifier is asked as well, by loading the
//! spliced handler under pins of its own that go away again.

use std::path::{Path, PathBuf};

use clap::Args;
use naam_abi::limits::{BUILTIN_FUNCTIONS, STEPS_MAX, TIME_BUDGET_NS};
use naam_admission::{Report, admit, explain};
use naam_loader::datapath::remove_pins;
use naam_loader::{Datapath, Handler, Hook, LoaderError, Options};
use naam_sys::program::Log;
use rustix::io::Errno;
use rustix::process::{Pid, getpid, test_kill_process};
use serde::Serialize;

use super::handler::Source;
use crate::failure::Verdict;
use crate::objects;
use crate::output::Output;

/// Begins the names of checks' instances, before a process id; no other instance's name has a hyphen.
const INSTANCE: &str = "check-";

#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    source: Source,
    /// Ask this machine's kernel too (needs root)
    #[arg(long)]
    kernel: bool,
    /// Show what the kernel's verifier said
    #[arg(long, requires = "kernel")]
    log: bool,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Checked {
    object: String,
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<KernelReport>,
}

/// What the kernel said.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum KernelReport {
    Loaded(Vec<LoadedProgram>),
    Refused { cause: String, log: String },
}

#[derive(Debug, Serialize)]
struct LoadedProgram {
    hook: String,
    verified_insns: u32,
    load_us: u64,
    log: String,
}

impl Check {
    pub fn run(self, output: Output) -> anyhow::Result<()> {
        let bytes = self.source.read()?;
        let report = explain(&bytes);
        let kernel = match &report {
            Report::Admitted(_) if self.kernel => Some(ask_kernel(&bytes, self.log)?),
            _ => None,
        };
        let checked = Checked { object: self.source.name(), report, kernel };
        output.show(&checked, |checked| text(checked, self.log))?;
        match checked {
            Checked { report: Report::Refused(_), .. } | Checked { kernel: Some(KernelReport::Refused { .. }), .. } => {
                Err(Verdict::Bad.into())
            }
            _ => Ok(()),
        }
    }
}

fn text(checked: &Checked, log: bool) -> String {
    let mut text = match &checked.report {
        Report::Admitted(_) => format!("admitted     {}\n{}\n", checked.object, checked.report),
        Report::Refused(_) => format!("{}: {}\n", checked.object, checked.report),
    };
    match &checked.kernel {
        None => {}
        Some(KernelReport::Loaded(programs)) => {
            for LoadedProgram { hook, verified_insns, load_us, log: said } in programs {
                text += &format!("kernel {hook:<5} loads it: {verified_insns} instructions walked in {load_us} us\n");
                if log {
                    text += said;
                }
            }
        }
        Some(KernelReport::Refused { cause, log: said }) => {
            text += &format!("kernel       {cause}\n");
            if log {
                text += said;
            }
        }
    }
    text
}

/// Pins that go away, whatever happens.
struct Pins(PathBuf);

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = remove_pins(&self.0) {
            tracing::warn!(%error, "pins of the check remain");
        }
    }
}

/// Removes the pins of checks that were killed, one with our process id among them.
fn remove_of_killed(instances: &Path) -> anyhow::Result<()> {
    // Without the folder there are none.
    for entry in std::fs::read_dir(instances).into_iter().flatten().flatten() {
        if entry.file_name().to_str().and_then(checker).is_some_and(|pid| pid == getpid() || !is_alive(pid)) {
            remove_pins(&entry.path())?;
        }
    }
    Ok(())
}

/// The process whose check an instance is.
fn checker(instance: &str) -> Option<Pid> {
    Pid::from_raw(instance.strip_prefix(INSTANCE)?.parse().ok().filter(|pid| *pid > 0)?)
}

fn is_alive(pid: Pid) -> bool {
    // Anything but "no such process" means that there is one.
    test_kill_process(pid) != Err(Errno::SRCH)
}

fn ask_kernel(bytes: &[u8], log: bool) -> anyhow::Result<KernelReport> {
    let admitted = admit(bytes)?;
    let options = Options::instance(&format!("{INSTANCE}{}", std::process::id()));
    if let Some(instances) = options.pins.parent() {
        remove_of_killed(instances)?;
    }
    let _pins = Pins(options.pins.clone());
    let datapath = Datapath::open(&options, objects::datapath())?;
    let handler = Handler {
        app: 0,
        function: BUILTIN_FUNCTIONS,
        version: 1,
        code: &admitted,
        regions: &[],
        hooks: &Hook::ALL,
        log: if log { Log::Trace } else { Log::Stats },
        steps_max: STEPS_MAX,
        time_budget_ns: TIME_BUDGET_NS,
        repeatable: false,
    };
    let loaded = match datapath.load(&handler) {
        Ok(loaded) => loaded,
        Err(error @ LoaderError::Verifier { .. }) => {
            let cause = error.to_string();
            let LoaderError::Verifier { log, .. } = error else { unreachable!("matched above") };
            return Ok(KernelReport::Refused { cause, log });
        }
        Err(error) => return Err(error.into()),
    };
    let programs = loaded.verified_insns.iter().zip(&loaded.load_time).zip(loaded.logs).map(
        |(((hook, verified_insns), (_, took)), (_, said))| LoadedProgram {
            hook: hook.to_string(),
            verified_insns: *verified_insns,
            load_us: took.as_micros() as u64,
            log: if log { said } else { String::new() },
        },
    );
    Ok(KernelReport::Loaded(programs.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(bytes: &[u8]) -> Checked {
        Checked { object: "x.o".into(), report: explain(bytes), kernel: None }
    }

    #[test]
    fn an_honest_object_is_described() {
        let checked = checked(objects::builtin("counter").unwrap());
        let json = serde_json::to_value(&checked).unwrap();
        assert_eq!((&json["object"], &json["admitted"]["name"]), (&"x.o".into(), &"counter".into()));
        assert_eq!(json["admitted"]["writes"], true);
        assert!(text(&checked, false).starts_with("admitted     x.o\nhandler      counter\n"));
    }

    #[test]
    fn only_checks_are_checkers() {
        assert_eq!(checker("check-4711"), Pid::from_raw(4711));
        for name in ["check", "check-", "check-0", "check--1", "check-1x", "host"] {
            assert_eq!(checker(name), None, "{name}");
        }
        assert!(is_alive(getpid()));
    }

    #[test]
    fn a_refusal_names_its_rule() {
        for (bytes, rule) in [(&b"no ELF"[..], "not-elf"), (objects::datapath().entry, "meta-missing")] {
            let checked = checked(bytes);
            assert_eq!(serde_json::to_value(&checked).unwrap()["refused"]["rule"], rule);
            let text = text(&checked, false);
            assert!(text.starts_with(&format!("x.o: refused by rule {rule}: ")), "{text}");
        }
    }
}
