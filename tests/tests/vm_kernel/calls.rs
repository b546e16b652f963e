//! Calls of a client: at XDP and TC, by IPv4 and IPv6, through a VLAN, by both transports and at both sites.

use naam_handlers::mica::{args, layout::Geometry};

use crate::pair::{BUCKETS, Pair};

/// What the host serves of it.
const STORE: [&str; 4] = ["mica_get", "mica_set", "mica_cas", "mica_delete"];

/// Echo, and a value that comes back from the store, changed and deleted.
fn round_trips(pair: &Pair, address: &str, options: &str) {
    let echo = pair.json(address, &format!("call {options} --app demo echo --text hello"));
    assert_eq!((&echo["status"], &echo["reply_text"]), (&"ok".into(), &"hello".into()), "{echo}");
    assert_eq!(echo["site"], "host", "{echo}");
    let store = format!("{options} --app kv");
    // A daemon tells how large the store is only on its own machine.
    let get = format!("store get {store} --log2-buckets {BUCKETS} key");
    for value in ["first", "second"] {
        pair.naam(address, &format!("store set {store} key {value}"));
        let got = pair.naam(address, &get);
        assert!(got.contains(value), "{got}");
    }
    pair.naam(address, &format!("store del {store} key"));
    let gone = pair.client().sh(&format!("NAAM_CONTROL=10.77.0.2:7626 naam {get}"));
    assert!(matches!(gone, Err(naam_vm::Error::Failed { .. })), "{gone:?}");
}

#[test]
fn round_trips_at_xdp() {
    let Some(pair) = Pair::serving("round_trips_at_xdp", "xdp", &STORE) else { return };
    round_trips(&pair, "10.77.0.2", "--transport udp");
    round_trips(&pair, "fd77::2", "--transport udp");
    // A workload with every value read back, by the other transport.
    pair.client().sh("naam xsk attach eth0 --pins /sys/fs/bpf/xsk").unwrap();
    let options = "--transport af-xdp --interface eth0 --pins /sys/fs/bpf/xsk";
    round_trips(&pair, "10.77.0.2", options);
    let bench = format!("bench ycsb {options} --app kv --log2-buckets {BUCKETS} --records 500 --seconds 2 --verify");
    let summary = pair.json("10.77.0.2", &bench);
    let read_back = &summary["read_back"];
    assert_eq!((&read_back["ok"], &read_back["mismatches"]), (&500.into(), &0.into()), "{summary}");
    pair.lab.finish().unwrap();
}

/// Both sites: what home wrote is found by the handler in the client, through one-sided READs.
#[test]
fn the_client_site_reads_what_home_wrote() {
    let Some(pair) = Pair::serving("the_client_site_reads_what_home_wrote", "xdp", &STORE) else { return };
    pair.at_host("handler onesided --app kv");
    let geometry = Geometry::new(8 << 20, BUCKETS).unwrap();
    let mut buffer = [0; args::GET_ARGS_MAX];
    let words = args::get(&mut buffer, geometry, b"key").chunks_exact(8);
    let words: Vec<_> = words.map(|word| u64::from_le_bytes(word.try_into().unwrap()).to_string()).collect();
    for value in ["first", "second"] {
        pair.naam("10.77.0.2", &format!("store set --transport udp --app kv key {value}"));
        for site in ["client", "host"] {
            let call = format!("call --transport udp --app kv --site {site} mica_get --u64 {}", words.join(" "));
            let got = pair.json("10.77.0.2", &call);
            assert_eq!((&got["status"], &got["site"]), (&"ok".into(), &site.into()), "{got}");
            let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
            assert!(got["reply_hex"].as_str().is_some_and(|reply| reply[16..].starts_with(&hex)), "{got}");
        }
    }
    pair.lab.finish().unwrap();
}

#[test]
fn round_trips_at_tc() {
    let Some(pair) = Pair::serving("round_trips_at_tc", "tc", &STORE) else { return };
    round_trips(&pair, "10.77.0.2", "--transport udp");
    round_trips(&pair, "fd77::2", "--transport udp");
    pair.lab.finish().unwrap();
}

/// Both machines have a VLAN device above their cards; the frames on the wire carry the tag.
#[test]
fn frames_with_a_vlan_tag() {
    let Some(pair) = Pair::serving("frames_with_a_vlan_tag", "xdp", &STORE) else { return };
    for (machine, address) in [("host", "10.78.0.2/24"), ("client", "10.78.0.1/24")] {
        let script = format!(
            "set -e; ip link add link eth0 name vlan5 type vlan id 5; ip link set vlan5 up; ip addr add {address} dev vlan5"
        );
        pair.lab.machine(machine).unwrap().sh(&script).unwrap();
    }
    let call = pair.json("10.78.0.2", "call --transport udp --app demo echo --text tagged");
    assert_eq!((&call["status"], &call["reply_text"]), (&"ok".into(), &"tagged".into()), "{call}");
    for machine in pair.lab.machines() {
        machine.sh("ip link delete vlan5").unwrap();
    }
    pair.lab.finish().unwrap();
}
