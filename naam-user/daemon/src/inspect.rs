//! Inspect: what the kernel holds of the instance, as the kernel reports it.

use std::fs;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, PinnedLink};
use naam_control::ControlError;
use naam_control::protocol::inspect::{Inspection, LinkEntry, MapEntry, ProgramEntry};
use naam_loader::Hook;
use naam_sys::{Map, Program};

use crate::host::{App, Host};

impl Host {
    /// Programs, maps and links.
    pub fn inspect(&mut self) -> Result<Inspection, ControlError> {
        Ok(Inspection { programs: self.programs()?, maps: self.maps()?, links: self.links()? })
    }

    fn programs(&mut self) -> Result<Vec<ProgramEntry>, ControlError> {
        let mut entries = Vec::new();
        for hook in Hook::ALL {
            // The hooks in use only: asking for an entry loads it.
            let used = self.datapath.attached().iter().any(|(_, attachment)| attachment.hook() == hook);
            if used {
                let program = self.datapath.entry_program(hook).map_err(|error| failed("entry program", error))?;
                entries.push(program_entry(&program, format!("entry ({hook})"), None)?);
            }
        }
        for app in self.apps.values() {
            for served in app.functions.values() {
                let function = &served.function;
                let (_, draining) = self.tables().function(app.id, function.id);
                let draining = draining.map(|draining| draining.version);
                for version in [Some(function.version), draining].into_iter().flatten() {
                    let state = if Some(version) == draining { ", draining" } else { "" };
                    let pins = Hook::ALL.into_iter().flat_map(|hook| {
                        let (app, function) = (app.id, function.id);
                        let plain = self.datapath.function_pin(app, function, version, hook);
                        let continues = self.datapath.continue_pin(app, function, version, hook);
                        [(hook, "", plain), (hook, ", continues", continues)]
                    });
                    for (hook, kind, pin) in pins.filter(|(_, _, pin)| pin.exists()) {
                        let program = Program::open_pinned(&pin).map_err(|error| failed("program", error))?;
                        let role = format!("{}/{} v{version} ({hook}{kind}{state})", app.name, function.name);
                        entries.push(program_entry(&program, role, Some(pin))?);
                    }
                }
            }
        }
        Ok(entries)
    }

    fn maps(&self) -> Result<Vec<MapEntry>, ControlError> {
        let mut entries = Vec::new();
        for pin in pins(&self.datapath.pins().join("maps")) {
            entries.push(map_entry(pin, |name| map_role(name).to_owned())?);
        }
        for pin in pins(&self.datapath.pins().join("scratch")) {
            let app = |name: &str| self.apps.values().find(|app: &&App| format!("app{}", app.id) == name);
            entries.push(map_entry(pin, |name| {
                format!("scratch of app {}", app(name).map_or(name, |app| app.name.as_str()))
            })?);
        }
        for region in self.regions.list().map_err(|error| failed("regions", error))? {
            let role = format!("region {}/{}", region.app(), region.name());
            entries.push(map_entry(region.pin().to_owned(), |_| role)?);
        }
        Ok(entries)
    }

    fn links(&self) -> Result<Vec<LinkEntry>, ControlError> {
        let mut entries = Vec::new();
        for pin in pins(&self.datapath.pins().join("links")) {
            let name = file_name(&pin);
            let (at, interface) = name.split_once(':').unwrap_or((&name, "?"));
            let interface = interface.replace(':', ".");
            // A filter has no link: its program is pinned.
            let (id, program_id, bpftool) = if at.starts_with("tc-filter") {
                let program = Program::open_pinned(&pin).and_then(|program| program.info());
                let program = program.map_err(|error| failed("filter", error))?;
                (0, program.id, format!("bpftool net show dev {interface}"))
            } else {
                let link = PinnedLink::from_pin(&pin).map(FdLink::from);
                let info = link.and_then(|link| link.info()).map_err(|error| failed("link", error))?;
                (info.id(), info.program_id(), format!("bpftool link show pinned {}", pin.display()))
            };
            entries.push(LinkEntry { id, role: format!("{at} on {interface}"), program_id, bpftool, pin: Some(pin) });
        }
        Ok(entries)
    }
}

/// What a map of the shell is for.
fn map_role(name: &str) -> &'static str {
    match name {
        "APPS" => "apps: serving or not, options, key",
        "FUNCTIONS" => "functions: current and draining program",
        "STEER" => "placement of shards",
        "SESSIONS" => "sessions: app and rights",
        "SLOTS" => "request slots of writing messages",
        "PROGRAMS" => "handler programs for XDP",
        "PROGRAMS_TC" => "handler programs for TC",
        "APP_STATS" => "counters by app",
        "INTERFACES" => "Ethernet addresses of interfaces at XDP",
        "VISIT" => "from entry to handler program, per CPU",
        _ => "map of the shell",
    }
}

fn program_entry(program: &Program, role: String, pin: Option<PathBuf>) -> Result<ProgramEntry, ControlError> {
    let info = program.info().map_err(|error| failed("program", error))?;
    let bpftool = match &pin {
        Some(pin) => format!("bpftool prog show pinned {}", pin.display()),
        None => format!("bpftool prog show id {}", info.id),
    };
    Ok(ProgramEntry {
        id: info.id,
        tag: info.tag_text(),
        name: info.name,
        role,
        jited_bytes: info.jited_bytes,
        verified_insns: info.verified_insns,
        runs: info.runs,
        run_time_ns: info.run_time.as_nanos() as u64,
        map_ids: info.map_ids,
        pin,
        bpftool,
    })
}

fn map_entry(pin: PathBuf, role: impl FnOnce(&str) -> String) -> Result<MapEntry, ControlError> {
    let map = Map::open_pinned(&pin).map_err(|error| failed("map", error))?;
    let info = map.info();
    Ok(MapEntry {
        id: info.id,
        name: info.name.clone(),
        role: role(&file_name(&pin)),
        key_size: info.key_size,
        value_size: info.value_size,
        max_entries: info.max_entries,
        btf: info.btf_id != 0,
        bpftool: format!("bpftool map show pinned {}", pin.display()),
        pin: Some(pin),
    })
}

/// What stands in a directory, sorted.
fn pins(directory: &Path) -> Vec<PathBuf> {
    let mut pins: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    pins.sort();
    pins
}

fn file_name(pin: &Path) -> String {
    pin.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn failed(object: &str, cause: impl ToString) -> ControlError {
    ControlError::new("inspect", object, cause)
}
