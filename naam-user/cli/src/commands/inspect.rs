//! `naam inspect`.

use std::path::Path;

use clap::Args;
use naam_control::protocol::inspect::Inspection;
use naam_control::protocol::{AdminReply, AdminRequest};

use crate::control::{Daemon, expect_reply};
use crate::options::Global;
use crate::output::{Output, Table, size};

#[derive(Debug, Args)]
pub struct Inspect {
    /// Show the bpftool commands only
    #[arg(long)]
    commands: bool,
}

impl Inspect {
    pub fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        let reply = Daemon::connect(global)?.ask(AdminRequest::Inspect)?;
        let inspection = expect_reply!(reply, AdminReply::Inspection(inspection) => inspection);
        output.show(
            &*inspection,
            |inspection| {
                if self.commands { commands(inspection).join("\n") } else { text(inspection) }
            },
        )
    }
}

fn commands(inspection: &Inspection) -> Vec<String> {
    let programs = inspection.programs.iter().map(|program| program.bpftool.clone());
    let maps = inspection.maps.iter().map(|map| map.bpftool.clone());
    let links = inspection.links.iter().map(|link| link.bpftool.clone());
    programs.chain(maps).chain(links).collect()
}

fn text(inspection: &Inspection) -> String {
    let mut programs = Table::new(["program", "name", "role", "tag", "jited", "insns", "runs", "ns/run", "bpftool"]);
    for program in &inspection.programs {
        programs.row([
            program.id.to_string(),
            program.name.clone(),
            program.role.clone(),
            program.tag.clone(),
            program.jited_bytes.to_string(),
            program.verified_insns.to_string(),
            program.runs.to_string(),
            program.run_time_ns.checked_div(program.runs).map_or("-".to_owned(), |ns| ns.to_string()),
            program.bpftool.clone(),
        ]);
    }
    let mut maps = Table::new(["map", "name", "role", "key", "value", "entries", "btf", "pin", "bpftool"]);
    for map in &inspection.maps {
        maps.row([
            map.id.to_string(),
            map.name.clone(),
            map.role.clone(),
            size(map.key_size.into()),
            size(map.value_size.into()),
            map.max_entries.to_string(),
            if map.btf { "yes" } else { "no" }.to_owned(),
            pin(map.pin.as_deref()),
            map.bpftool.clone(),
        ]);
    }
    let mut links = Table::new(["link", "role", "program", "pin", "bpftool"]);
    for link in &inspection.links {
        links.row([
            link.id.to_string(),
            link.role.clone(),
            link.program_id.to_string(),
            pin(link.pin.as_deref()),
            link.bpftool.clone(),
        ]);
    }
    format!("{}\n{}\n{}", programs.or("no programs\n"), maps.or("no maps\n"), links.or("no links"))
}

fn pin(pin: Option<&Path>) -> String {
    pin.map_or("-".to_owned(), |pin| pin.display().to_string())
}

#[cfg(test)]
mod tests {
    use naam_control::protocol::inspect::{MapEntry, ProgramEntry};

    use super::*;

    #[test]
    fn every_object_comes_with_its_command() {
        let program = ProgramEntry {
            id: 41,
            name: "naam_entry".into(),
            role: "entry (xdp)".into(),
            tag: "00ff".into(),
            jited_bytes: 900,
            verified_insns: 1200,
            runs: 0,
            run_time_ns: 0,
            map_ids: vec![7],
            pin: None,
            bpftool: "bpftool prog show id 41".into(),
        };
        let map = MapEntry {
            id: 7,
            name: "APPS".into(),
            role: "apps".into(),
            key_size: 4,
            value_size: 64,
            max_entries: 64,
            btf: true,
            pin: Some("/sys/fs/bpf/naam/host/maps/APPS".into()),
            bpftool: "bpftool map dump id 7".into(),
        };
        let inspection = Inspection { programs: vec![program], maps: vec![map], links: vec![] };
        assert_eq!(commands(&inspection), ["bpftool prog show id 41", "bpftool map dump id 7"]);
        let text = text(&inspection);
        assert!(text.contains("no links") && text.contains("maps/APPS") && text.contains("entry (xdp)"), "{text}");
    }
}
