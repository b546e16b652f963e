//! The host on arm64, the client on x86-64.
//!
//! ```text
//!   client, x86-64                                   host, arm64: two processors
//!   naam bench, 4 threads ─ eth0 ── wire ── eth0 ─ receive steering ─┬─ processor 0: TC, handlers ─┐
//!                                                                    └─ processor 1: TC, handlers ─┴─ one store
//! ```

use std::{collections::BTreeMap, time::Duration};

use naam_vm::{Lab, Machine};
use serde_json::Value;

const TIME: Duration = Duration::from_secs(300);
/// Few keys: both processors are at the same items all the time.
const RECORDS: u64 = 40;
const BUCKETS: u32 = 8;

fn json(machine: &Machine, line: &str) -> Value {
    let text = machine.sh_within(&format!("naam --json {line}"), TIME).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
}

/// What identifies the programs of a host that serves: hashes of the objects, and the kernel's tags of what was made of them.
fn identity(topology: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    let lab = naam_vm::boot(topology);
    let host = lab.machine("host").unwrap();
    host.serve("naam serve --interface lo", "naam status").unwrap().leave();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let inspection = json(host, "inspect");
    let programs = inspection["programs"].as_array().unwrap();
    // Two hooks, and two programs a function: the role tells them apart.
    let tags = programs.iter().map(|program| (text(&program["role"]), text(&program["tag"]))).collect();
    let hash = |name: &str| {
        let report = json(host, &format!("check --builtin {name}"));
        (name.to_owned(), text(&report["admitted"]["hash"]))
    };
    let hashes =
        ["echo", "counter", "mica_get", "mica_set", "mica_cas", "mica_delete", "cell_get", "cell_scan"].map(hash);
    lab.finish().unwrap();
    (hashes.into(), tags)
}

#[test]
fn arm64_runs_the_very_programs_of_x86_64() {
    let (ours, theirs) = (identity("single"), identity("arm64"));
    assert!(ours.0.values().all(|hash| hash.len() == 64), "{:?}", ours.0);
    assert_eq!(ours.0, theirs.0);
    assert!(ours.1.len() > 8 && ours.1.values().all(|tag| tag.len() == 16), "{:?}", ours.1);
    assert_eq!(ours.1, theirs.1);
}

/// Frames of different clients go to different processors.
fn boot_spread() -> Lab {
    let lab = naam_vm::boot("arm64");
    let host = lab.machine("host").unwrap();
    assert_eq!(host.sh("uname -m").unwrap().trim(), "aarch64");
    host.sh("echo 3 > /sys/class/net/eth0/queues/rx-0/rps_cpus").unwrap();
    host.serve("naam -v serve --interface eth0 --hook tc", "naam status").unwrap().leave();
    lab
}

/// Every value is whole and of its key, also behind the workload. An emulator orders memory as its own processor does, so on an
/// x86-64 machine this shows less than on arm64 itself.
#[test]
fn two_weakly_ordered_processors_leave_items_whole() {
    let lab = boot_spread();
    let (host, client) = (lab.machine("host").unwrap(), lab.machine("client").unwrap());
    host.sh(&format!("naam store format --app kv --log2-buckets {BUCKETS}")).unwrap();
    let bench = format!(
        "NAAM_CONTROL=10.77.0.2:7626 naam --json bench ycsb --transport udp --app kv --log2-buckets {BUCKETS} \
         --workload A --records {RECORDS} --threads 4 --window 16 --seconds 10 --timeout-ms 60000 --verify"
    );
    let summary = client.sh_within(&bench, TIME).unwrap();
    let summary: Value = serde_json::from_str(&summary).unwrap();
    for phase in ["read_back", "read_back_after"] {
        let found = &summary[phase];
        assert_eq!((&found["ok"], &found["mismatches"]), (&RECORDS.into(), &0.into()), "{phase}: {summary}");
    }
    assert_eq!((&summary["wrong"], &summary["lost"]), (&0.into(), &0.into()), "{summary}");
    assert!(steered(host) > 0, "all frames went to one processor: {summary}");
    lab.finish().unwrap();
}

/// Times that one processor handed frames to the other: column 10 of a processor's line.
fn steered(host: &Machine) -> u32 {
    let lines = host.sh("cat /proc/net/softnet_stat").unwrap();
    lines.lines().map(|line| u32::from_str_radix(line.split_whitespace().nth(9).unwrap(), 16).unwrap()).sum()
}
