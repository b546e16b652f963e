//! A region as an RDMA memory region: a peer reads, past XDP on the same card, what handlers write.
//!
//! ```text
//!   client                                         host
//!   naam call counter ──┐                    ┌── XDP: counter adds to the region
//!   naam-vm-rdma read ──┴─ eth0 ── wire ── eth0 ── soft-RoCE reads the region (naam-vm-rdma offer)
//! ```

use std::time::Duration;

use naam_vm::{Lab, Machine};
use serde_json::Value;

const CALL_TIME: Duration = Duration::from_secs(90);
const OFFER: &str = "naam-vm-rdma offer /sys/fs/bpf/naam/host demo numbers 0.0.0.0:7700";

/// Two machines with a device each, the region `numbers` of app `demo` offered.
fn boot() -> Lab {
    let lab = naam_vm::boot("rdma");
    let host = lab.machine("host").unwrap();
    host.serve("naam -v serve --interface eth0 --hook xdp", "naam status").unwrap().leave();
    for machine in lab.machines() {
        machine.sh("rdma link add rxe0 type rxe netdev eth0").unwrap();
    }
    host.serve(OFFER, "netstat -lnt | grep -q :7700").unwrap().leave();
    lab
}

fn client(lab: &Lab) -> &Machine {
    lab.machine("client").unwrap()
}

fn add(lab: &Lab, offset: u64, addend: u64) {
    let call = format!(
        "NAAM_CONTROL=10.77.0.2:7626 naam --json call --transport udp --app demo counter --u64 {offset} {addend}"
    );
    let reply: Value = serde_json::from_str(&client(lab).sh_within(&call, CALL_TIME).unwrap()).unwrap();
    assert_eq!((&reply["status"], &reply["site"]), (&"ok".into(), &"host".into()), "{reply}");
}

fn words(lab: &Lab, offset: u64, count: usize) -> Vec<u64> {
    let read = format!("naam-vm-rdma read 10.77.0.2:7700 {offset} {count}");
    serde_json::from_str(&client(lab).sh_within(&read, CALL_TIME).unwrap()).unwrap()
}

#[test]
fn a_peer_reads_what_handlers_write() {
    let lab = boot();
    assert_eq!(words(&lab, 4096, 4), [0; 4]);
    add(&lab, 4096, 7);
    add(&lab, 4112, 1 << 40);
    assert_eq!(words(&lab, 4096, 4), [7, 0, 1 << 40, 0]);
    add(&lab, 4096, 35);
    assert_eq!(words(&lab, 4096, 1), [42]);
    // More than one packet.
    assert_eq!(words(&lab, 0, 1024).iter().sum::<u64>(), 42 + (1 << 40));
    lab.finish().unwrap();
}

#[test]
fn forged_keys_and_rights_that_were_not_given_end_the_connection_only() {
    let lab = boot();
    add(&lab, 4096, 7);
    // A key that nobody gave, and a right that the host's queue pair does not have.
    for (wrong, status) in [("--forge", "remote access error"), ("--write", "remote invalid request error")] {
        let script = format!("naam-vm-rdma read 10.77.0.2:7700 4096 1 {wrong}");
        let output = client(&lab).run("sh", &["-c", &script], CALL_TIME).unwrap();
        let text = output.text();
        assert!(!output.success() && text.contains(status) && text.contains("rxe0"), "{text}");
        // Others are not disturbed, and nothing was changed.
        assert_eq!(words(&lab, 4096, 1), [7], "after {wrong}");
    }
    // Behind the end is refused on this side already.
    let behind = format!("naam-vm-rdma read 10.77.0.2:7700 {} 2", (2 << 20) - 8);
    let output = client(&lab).run("sh", &["-c", &behind], CALL_TIME).unwrap();
    assert!(!output.success() && output.text().contains("the peer's memory"), "{}", output.text());
    lab.finish().unwrap();
}

#[test]
fn without_a_device_the_error_tells_how_to_get_one() {
    let lab = naam_vm::boot("rdma");
    let host = lab.machine("host").unwrap();
    let output = host.run("sh", &["-c", OFFER], CALL_TIME).unwrap();
    assert!(!output.success() && output.text().contains("rdma link add rxe0 type rxe"), "{}", output.text());
    lab.finish().unwrap();
}
