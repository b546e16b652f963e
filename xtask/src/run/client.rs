//! `naam bench` in the client's namespace: fills the store, reads it back, runs the workload.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use naam_testbed::{DEVICE, HOST_V4, Namespace};
use serde_json::Value;

use super::{
    child::{Interrupt, Process},
    config::APP,
    instance::Instance,
    options::{self, Options},
};
use crate::process;

/// The exit code of a bench that met errors, and told them in its summary.
const MET_ERRORS: i32 = 4;

/// The client's end of the veth pair, ready for every transport.
pub struct Client<'a> {
    naam: &'a Path,
    namespace: &'a Namespace,
    instance: &'a Instance,
}

impl<'a> Client<'a> {
    /// Attaches the XDP program of AF_XDP clients and pins it with the instance. UDP clients need it as well: veth
    /// delivers what the other end sends from XDP only to an end with a program of its own.
    ///
    /// # Errors
    /// When it cannot be attached.
    pub fn prepare(naam: &'a Path, namespace: &'a Namespace, instance: &'a Instance) -> Result<Self> {
        let client = Self { naam, namespace, instance };
        let mut command = client.command();
        command.args(["xsk", "attach", DEVICE, "--pins"]).arg(client.pins());
        process::output(&mut command)?;
        Ok(client)
    }

    fn pins(&self) -> PathBuf {
        self.instance.pins().join("xsk")
    }

    /// `naam` in the namespace, talking to the instance.
    fn command(&self) -> Command {
        let mut command = self.namespace.command(self.naam);
        command.args(["--instance", self.instance.name()]);
        command
    }

    /// The arguments that lead to the host, for every command that calls.
    pub fn connection(&self) -> String {
        format!("--app {APP} --host {HOST_V4} --interface {DEVICE} --pins {}", self.pins().display())
    }

    /// The command as a user would type it to do the same again.
    pub fn shown(&self, command: &str) -> String {
        format!("{} {command} {}", process::shown(&self.command()), self.connection())
    }

    /// Fills the store, reads it back, runs the workload; progress goes to standard error. Returns the summary, also
    /// when there were errors.
    ///
    /// # Errors
    /// When there is no summary.
    pub fn bench(&self, options: &Options, interrupt: &Interrupt) -> Result<Value> {
        let path = self.instance.dir().join("bench.json");
        let file = File::create(&path).with_context(|| format!("cannot create {}", path.display()))?;
        let mut command = self.command();
        if !io::stderr().is_terminal() {
            // Where no line can change, progress is logged.
            command.arg("-v");
        }
        command.args(["--json", "bench", "ycsb"]).args(self.connection().split(' '));
        command.args(["--transport", &options::name(options.transport)]);
        command.args(["--workload", &options::name(options.workload)]);
        command.args(["--seconds", &options.seconds.to_string(), "--verify"]);
        match &options.data {
            Some(data) => command.arg("--data").arg(data),
            None => command.args(["--records", &options.records.to_string()]),
        };
        if options.skip_faulty {
            command.arg("--skip-faulty");
        }
        command.stdin(Stdio::null()).stdout(file);
        let status = Process::start(&mut command)?.wait(interrupt)?;
        if !status.success() && status.code() != Some(MET_ERRORS) {
            bail!("the client failed ({status}) for the reason above; it was `{}`", process::shown(&command));
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("`{}` printed no summary", process::shown(&command)))
    }
}
