//! Client and host as two machines with virtio network cards.
//!
//! ```text
//!   client                                        host
//!   naam call, store, bench ─ eth0 ── wire ── eth0 ─ XDP or TC: entry, shell, handlers    naam serve
//! ```
//! Machines share nothing: sessions are opened over the wire too.

use std::time::Duration;

use naam_handlers::mica::{args, layout::Geometry};
use naam_vm::{Lab, Machine};
use serde_json::Value;

const BENCH_TIME: Duration = Duration::from_secs(300);
/// Buckets of the store, as a power of two.
const BUCKETS: u32 = 10;

/// What the host serves of it.
const STORE: [&str; 4] = ["mica_get", "mica_set", "mica_cas", "mica_delete"];

/// Two machines, the host serving at `hook`.
struct Pair {
    lab: Lab,
}

impl Pair {
    /// Nothing if the kernel does not take the store's handlers.
    fn boot(test: &str, hook: &str) -> Option<Self> {
        let (name, kernel) = naam_vm::host_kernel("pair");
        let refused = STORE.iter().find(|handler| kernel.refuses.iter().any(|refused| refused == *handler));
        if let Some(refused) = refused {
            println!("SKIPPED {test}: the verifier of {name} refuses {refused}, as vm-images/kernels says");
            return None;
        }
        let pair = Self { lab: naam_vm::boot("pair") };
        let serve = format!("naam -v serve --interface eth0 --hook {hook}");
        pair.host().serve(&serve, "naam status").unwrap().leave();
        pair.host().sh(&format!("naam store format --app kv --log2-buckets {BUCKETS}")).unwrap();
        Some(pair)
    }

    fn host(&self) -> &Machine {
        self.lab.machine("host").unwrap()
    }

    /// `naam LINE` on the client, talking to the host at `address`.
    fn naam(&self, address: &str, line: &str) -> String {
        let client = self.lab.machine("client").unwrap();
        let control = if address.contains(':') { format!("[{address}]:7626") } else { format!("{address}:7626") };
        client.sh_within(&format!("NAAM_CONTROL={control} naam --json {line}"), BENCH_TIME).unwrap()
    }

    /// Echo, and a value that comes back from the store, changed and deleted.
    fn round_trips(&self, address: &str, options: &str) {
        let json = |line: &str| -> Value { serde_json::from_str(&self.naam(address, line)).unwrap() };
        let echo = json(&format!("call {options} --app demo echo --text hello"));
        assert_eq!((&echo["status"], &echo["reply_text"]), (&"ok".into(), &"hello".into()), "{echo}");
        assert_eq!(echo["site"], "host", "{echo}");
        let store = format!("{options} --app kv");
        // A daemon tells how large the store is only on its own machine.
        let get = format!("store get {store} --log2-buckets {BUCKETS} key");
        for value in ["first", "second"] {
            self.naam(address, &format!("store set {store} key {value}"));
            let got = self.naam(address, &get);
            assert!(got.contains(value), "{got}");
        }
        self.naam(address, &format!("store del {store} key"));
        let client = self.lab.machine("client").unwrap();
        let gone = format!("NAAM_CONTROL=10.77.0.2:7626 naam {get}");
        let gone = client.run("sh", &["-c", &gone], BENCH_TIME).unwrap();
        assert!(!gone.success(), "{}", gone.text());
    }

    fn attachment(&self) -> String {
        let status: Value = serde_json::from_str(&self.host().sh("naam --json status").unwrap()).unwrap();
        status["attachments"][0]["hook"].as_str().unwrap_or_default().replace('_', "-")
    }
}

#[test]
fn round_trips_at_xdp() {
    let Some(pair) = Pair::boot("round_trips_at_xdp", "xdp") else { return };
    assert_eq!(pair.attachment(), "xdp-native");
    pair.round_trips("10.77.0.2", "--transport udp");
    pair.round_trips("fd77::2", "--transport udp");
    // A workload with every value read back, by the other transport.
    pair.lab.machine("client").unwrap().sh("naam xsk attach eth0 --pins /sys/fs/bpf/xsk").unwrap();
    let options = "--transport af-xdp --interface eth0 --pins /sys/fs/bpf/xsk";
    pair.round_trips("10.77.0.2", options);
    let bench = format!("bench ycsb {options} --app kv --log2-buckets {BUCKETS} --records 500 --seconds 2 --verify");
    let summary: Value = serde_json::from_str(&pair.naam("10.77.0.2", &bench)).unwrap();
    let read_back = &summary["read_back"];
    assert_eq!((&read_back["ok"], &read_back["mismatches"]), (&500.into(), &0.into()), "{summary}");
    pair.lab.finish().unwrap();
}

/// Both sites: what home wrote is found by the handler in the client, through one-sided READs.
#[test]
fn the_client_site_reads_what_home_wrote() {
    let Some(pair) = Pair::boot("the_client_site_reads_what_home_wrote", "xdp") else { return };
    pair.host().sh_within("naam handler onesided --app kv", BENCH_TIME).unwrap();
    let geometry = Geometry::new(8 << 20, BUCKETS).unwrap();
    let mut buffer = [0; args::GET_ARGS_MAX];
    let words = args::get(&mut buffer, geometry, b"key").chunks_exact(8);
    let words: Vec<_> = words.map(|word| u64::from_le_bytes(word.try_into().unwrap()).to_string()).collect();
    for value in ["first", "second"] {
        pair.naam("10.77.0.2", &format!("store set --transport udp --app kv key {value}"));
        for site in ["client", "host"] {
            let call = format!("call --transport udp --app kv --site {site} mica_get --u64 {}", words.join(" "));
            let got: Value = serde_json::from_str(&pair.naam("10.77.0.2", &call)).unwrap();
            assert_eq!((&got["status"], &got["site"]), (&"ok".into(), &site.into()), "{got}");
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(got["reply_hex"].as_str().is_some_and(|reply| reply[16..].starts_with(&hex)), "{got}");
        }
    }
    pair.lab.finish().unwrap();
}

#[test]
fn round_trips_at_tc() {
    let Some(pair) = Pair::boot("round_trips_at_tc", "tc") else { return };
    assert_eq!(pair.attachment(), "tc");
    pair.round_trips("10.77.0.2", "--transport udp");
    pair.round_trips("fd77::2", "--transport udp");
    pair.lab.finish().unwrap();
}

/// Both machines have a VLAN device above their cards; the frames on the wire carry the tag.
#[test]
fn frames_with_a_vlan_tag() {
    let Some(pair) = Pair::boot("frames_with_a_vlan_tag", "xdp") else { return };
    for (machine, address) in [("host", "10.78.0.2/24"), ("client", "10.78.0.1/24")] {
        let script = format!(
            "set -e; ip link add link eth0 name vlan5 type vlan id 5; ip link set vlan5 up; ip addr add {address} dev vlan5"
        );
        pair.lab.machine(machine).unwrap().sh(&script).unwrap();
    }
    let call = pair.naam("10.78.0.2", "call --transport udp --app demo echo --text tagged");
    let call: Value = serde_json::from_str(&call).unwrap();
    assert_eq!((&call["status"], &call["reply_text"]), (&"ok".into(), &"tagged".into()), "{call}");
    pair.lab.finish().unwrap();
}
