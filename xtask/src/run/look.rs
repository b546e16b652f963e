//! How to look at what runs with ordinary tools, and how to use it.

use std::process::{Command, Stdio};

use anyhow::Result;
use serde_json::Value;

use super::{
    client::Client,
    config::FUNCTIONS,
    daemon::{self, Attachment, Daemon},
    instance::Instance,
};
use crate::process;

/// Lines shown of a command's output.
const SHOWN_LINES: usize = 9;

/// Shows what the kernel holds, by commands that anybody may use while it runs.
///
/// # Errors
/// When the daemon does not answer.
pub fn show_kernel(daemon: &Daemon, attachment: &Attachment) -> Result<()> {
    println!("\n  As the kernel sees it:\n");
    for command in commands(&daemon.ask(&["inspect"])?, attachment) {
        show(&command);
    }
    Ok(())
}

/// For a program, the link, and some maps of the instance: `bpftool` and its arguments.
fn commands(inspection: &Value, attachment: &Attachment) -> Vec<String> {
    let pins = |kind: &str| {
        let entries = inspection[kind].as_array().into_iter().flatten();
        entries.filter_map(|entry| Some((entry["role"].as_str()?.to_owned(), entry["pin"].as_str()?.to_owned())))
    };
    let hook = if attachment.hook == "tc" { "tc" } else { "xdp" };
    let is_get = |role: &str| role.contains(FUNCTIONS[0]) && role.contains(hook);
    let program = pins("programs").find(|(role, _)| is_get(role)).map(|(_, pin)| format!("prog show pinned {pin}"));
    let link = pins("links").next().map(|(_, pin)| format!("link show pinned {pin}"));
    let map = |name: &str, verb: &str, key: &str| {
        let (_, pin) = pins("maps").find(|(_, pin)| pin.rsplit('/').next() == Some(name))?;
        Some(format!("map {verb} pinned {pin}{key}"))
    };
    let maps = [map("APPS", "show", ""), map("APPS", "lookup", " key 0 0 0 0"), map("APP_STATS", "dump", "")];
    [program, link].into_iter().chain(maps).flatten().collect()
}

/// A command and the beginning of what it prints.
fn show(arguments: &str) {
    println!("    $ bpftool {arguments}");
    let mut command = Command::new(process::find_program("bpftool").unwrap_or_else(|| "bpftool".into()));
    command.args(arguments.split(' ')).stdin(Stdio::null());
    // Looking is not worth a failure.
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for line in lines.iter().take(SHOWN_LINES) {
        println!("      {line}");
    }
    if lines.len() > SHOWN_LINES {
        println!("      … {} lines more", lines.len() - SHOWN_LINES);
    }
}

/// How to use what `--keep` leaves.
pub fn print_ways_to_use(client: &Client<'_>, instance: &Instance) {
    println!(
        "\n  Everything goes on running. To read a key, to measure again, to end it:\n\n    {}\n    {}\n    \
         cargo xtask run --stop",
        client.shown("store get KEY"),
        client.shown("bench ycsb --skip-load --seconds 5"),
    );
    println!("\n  The daemon's log: {}", daemon::log(instance).display());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn commands_name_pins() {
        let inspection = json!({
            "programs": [
                { "role": "entry (xdp)" },
                { "role": "kv/mica_get v1 (xdp)", "pin": "/p/get_xdp" },
                { "role": "kv/mica_get v1 (tc)", "pin": "/p/get_tc" },
            ],
            "maps": [
                { "role": "apps", "pin": "/p/maps/APPS" },
                { "role": "counters", "pin": "/p/maps/APP_STATS" },
            ],
            "links": [{ "role": "xdp on naam0", "pin": "/p/links/xdp-native:naam0" }],
        });
        let attachment = |hook: &str| Attachment { hook: hook.to_owned(), reason: String::new() };
        assert_eq!(
            commands(&inspection, &attachment("xdp-native")),
            [
                "prog show pinned /p/get_xdp",
                "link show pinned /p/links/xdp-native:naam0",
                "map show pinned /p/maps/APPS",
                "map lookup pinned /p/maps/APPS key 0 0 0 0",
                "map dump pinned /p/maps/APP_STATS",
            ]
        );
        assert_eq!(commands(&inspection, &attachment("tc"))[0], "prog show pinned /p/get_tc");
        assert_eq!(commands(&json!({}), &attachment("tc")), [""; 0]);
    }
}
