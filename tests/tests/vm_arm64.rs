//! The host on arm64, the client on x86-64.
//!
//! ```text
//!   client, x86-64                                   host, arm64: two processors
//!   naam bench, 4 threads ─ eth0 ── wire ── eth0 ─ receive steering ─┬─ processor 0: TC, handlers ─┐
//!                                                                    └─ processor 1: TC, handlers ─┴─ one store
//! ```

use std::{collections::BTreeMap, time::Duration};

use naam_vm::{Lease, Machine, Shared};
use serde_json::Value;

const TIME: Duration = Duration::from_secs(300);
/// Few keys: both processors are at the same items all the time.
const RECORDS: u64 = 40;
const BUCKETS: u32 = 8;
const CONFIG: &str = "/etc/naam/naam.toml";

fn json(machine: &Machine, line: &str) -> Value {
    let text = machine.sh_within(&format!("naam --json {line}"), TIME).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
}

static MACHINES: Shared = Shared::new("arm64");

/// The host serves by TC.
fn take() -> Lease<'static> {
    MACHINES.take_as("serving", |lab| {
        let host = lab.machine("host").unwrap();
        host.serve("naam -v serve --interface eth0 --hook tc", "naam status").unwrap().leave();
    })
}

/// What identifies the programs of a host that serves: the kernel's tags, by what they are.
fn tags(host: &Machine) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let inspection = json(host, "inspect");
    let programs = inspection["programs"].as_array().unwrap();
    // Two hooks, and two programs a function: the role tells them apart.
    programs.iter().map(|program| (text(&program["role"]), text(&program["tag"]))).collect()
}

/// That the objects are the same is shown by `vm_kernel`.
#[test]
fn arm64_runs_the_very_programs_of_x86_64() {
    let lab = take();
    let (host, client) = (lab.machine("host").unwrap(), lab.machine("client").unwrap());
    assert_eq!(host.sh("uname -m").unwrap().trim(), "aarch64");
    // The client has a kernel of the same version, and becomes a host of the same configuration.
    client.put(CONFIG, 0o644, &host.get(CONFIG).unwrap()).unwrap();
    let serving = client.serve("naam -v serve --interface lo --hook tc", "naam status").unwrap();
    let (ours, theirs) = (tags(client), tags(host));
    serving.kill().unwrap();
    client.sh(&format!("naam detach lo; rm -r /sys/fs/bpf/naam {CONFIG}")).unwrap();
    assert!(ours.len() > 8 && ours.values().all(|tag| tag.len() == 16), "{ours:?}");
    assert_eq!(ours, theirs);
    lab.finish().unwrap();
}

/// Every value is whole and of its key, also behind the workload. An emulator orders memory as its own processor does, so on an
/// x86-64 machine this shows less than on arm64 itself.
#[test]
fn two_weakly_ordered_processors_leave_items_whole() {
    let lab = take();
    let (host, client) = (lab.machine("host").unwrap(), lab.machine("client").unwrap());
    // Frames of different clients go to different processors.
    host.sh("echo 3 > /sys/class/net/eth0/queues/rx-0/rps_cpus").unwrap();
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
