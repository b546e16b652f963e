//! Regions as RDMA memory regions of a daemon: sessions reach by themselves what their raw rights say, past XDP on the same card.
//!
//! ```text
//!   client                                         host
//!   naam call counter ──┐                    ┌── XDP: counter adds to the region
//!   naam-vm-rdma ───────┴─ eth0 ── wire ── eth0 ── soft-RoCE reads and writes it (naam serve --rdma rxe0)
//! ```

use std::time::{Duration, Instant};

use naam_vm::{Lab, Lease, Machine, Output, Running, Shared};
use serde_json::Value;

const CALL_TIME: Duration = Duration::from_secs(90);
/// Time for what takes a few seconds on a quiet machine.
const WAIT: Duration = Duration::from_secs(60);
const SERVE: &str = "naam -v serve --interface eth0 --hook xdp --rdma rxe0";
/// A device in software.
const ADD: &str = "rdma link add rxe0 type rxe netdev eth0";

static MACHINES: Shared = Shared::new("rdma");

/// Two machines with a device each, the daemon serving by that of the host.
fn boot() -> Lease<'static> {
    let lab = MACHINES.take();
    for machine in lab.machines() {
        machine.sh(ADD).unwrap();
    }
    host(&lab).serve(SERVE, "naam status").unwrap().leave();
    lab
}

fn client(lab: &Lab) -> &Machine {
    lab.machine("client").unwrap()
}

fn host(lab: &Lab) -> &Machine {
    lab.machine("host").unwrap()
}

fn add(lab: &Lab, offset: u64, addend: u64) {
    let call = format!(
        "NAAM_CONTROL=10.77.0.2:7626 naam --json call --transport udp --app demo counter --u64 {offset} {addend}"
    );
    let reply: Value = serde_json::from_str(&client(lab).sh_within(&call, CALL_TIME).unwrap()).unwrap();
    assert_eq!((&reply["status"], &reply["site"]), (&"ok".into(), &"host".into()), "{reply}");
}

/// What the client's `naam-vm-rdma` says to these words.
fn peer(lab: &Lab, words: &str) -> Output {
    client(lab).run("sh", &["-c", &format!("naam-vm-rdma {words}")], CALL_TIME).unwrap()
}

fn words(lab: &Lab, options: &str, offset: u64, count: usize) -> Vec<u64> {
    let output = peer(lab, &format!("{options} read numbers=read {offset} {count}"));
    assert!(output.success(), "{}", output.text());
    serde_json::from_slice(&output.stdout).unwrap()
}

/// It fails for this reason.
fn refused(lab: &Lab, words: &str, reason: &str) {
    let output = peer(lab, words);
    assert!(!output.success() && output.text().contains(reason), "{words}: {}", output.text());
}

fn rdma(lab: &Lab) -> Value {
    let status: Value = serde_json::from_str(&host(lab).sh("naam --json status").unwrap()).unwrap();
    status["rdma"].clone()
}

/// KiB that the daemon has pinned, and maps that it has in its memory.
fn pinned(lab: &Lab) -> String {
    let script = "cd /proc/$(pidof naam); set -- $(grep VmPin status); echo $2 $(grep -c bpf-map maps)";
    host(lab).sh(script).unwrap().trim().to_owned()
}

/// Waits until the daemon says so of its device.
fn wait_for(lab: &Lab, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + WAIT;
    loop {
        let status = rdma(lab);
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < deadline, "not within {WAIT:?}: {what}: {status}");
    }
}

/// A command that runs at the client; what it says goes to a file, and it has said something.
fn in_background<'a>(lab: &'a Lab, words: &str, file: &str) -> Running<'a> {
    let running = client(lab).serve(&format!("naam-vm-rdma {words} > {file} 2>&1"), &format!("[ -s {file} ]")).unwrap();
    let first = client(lab).sh(&format!("cat {file}")).unwrap();
    assert!(!first.contains("rror"), "{words}: {first}");
    running
}

/// Waits for a line of such a file, and returns all of it.
fn told(lab: &Lab, file: &str, part: &str) -> String {
    let script = format!("until grep -q '{part}' {file}; do sleep 0.1; done; cat {file}");
    client(lab).sh_within(&script, WAIT).unwrap_or_else(|error| panic!("{part}: {error}"))
}

#[test]
fn a_peer_reads_what_handlers_write_and_they_what_it_writes() {
    let lab = boot();
    let before = pinned(&lab);
    assert_eq!(words(&lab, "", 4096, 4), [0; 4]);
    add(&lab, 4096, 7);
    add(&lab, 4112, 1 << 40);
    assert_eq!(words(&lab, "", 4096, 4), [7, 0, 1 << 40, 0]);
    // By the other address of the same card.
    assert_eq!(words(&lab, "--control [fd77::2]:7626", 4096, 4), [7, 0, 1 << 40, 0]);
    let written = peer(&lab, "write numbers=write 4096 100");
    assert!(written.success(), "{}", written.text());
    add(&lab, 4096, 1);
    assert_eq!(words(&lab, "", 4096, 1), [101]);
    // More than one packet.
    assert_eq!(words(&lab, "", 0, 1024).iter().sum::<u64>(), 101 + (1 << 40));
    let status = wait_for(&lab, "sessions have ended, and what they had is deregistered", |status| {
        status["connections"] == 0 && status["registered_bytes"] == 0
    });
    assert_eq!(status["connected"], 6, "{status}");
    assert_eq!(pinned(&lab), before);
    // Rights were given up before, and suffice.
    let status: Value = serde_json::from_str(&host(&lab).sh("naam --json status").unwrap()).unwrap();
    assert_eq!(status["capabilities"].as_array().map(Vec::len), Some(3), "{status}");
    lab.finish().unwrap();
}

#[test]
fn a_session_reaches_what_it_may_and_nothing_else() {
    let lab = boot();
    add(&lab, 0, 7);
    // It reads all the while.
    let kept = in_background(&lab, "keep numbers=read", "/tmp/keep");
    for (wrong, status) in [
        // A key that nobody gave, an address behind the end.
        ("read numbers=read 0 1 --forge key", "remote access error"),
        ("read numbers=read 0 1 --forge address", "remote access error"),
        (
            "read numbers=read 0 1 --forge key",
            "ask the peer for its address and key again, and connect a new queue pair",
        ),
        // READ does not mean WRITE.
        ("write numbers=read 0 1", "remote invalid request error"),
        ("read numbers=write 0 1", "remote invalid request error"),
        // Nor does a raw right to WRITE, where the owner does not say so.
        ("write others=read,write 0 1", "remote invalid request error"),
        ("write others=write 0 1", "no raw right"),
        ("read shut=read,write 0 1", "no raw right"),
        // Without raw rights there is nothing, and not everybody has them.
        ("read numbers 0 1", "no raw right"),
        ("read numbers=atomic 0 1", "for administrators"),
        ("read closed=read 0 1", "for administrators"),
    ] {
        refused(&lab, wrong, status);
    }
    // A device that is not there at this end.
    refused(&lab, "--device rxe9 read numbers=read 0 1", "no RDMA device rxe9, only rxe0");
    // The key of another session, which may reach another region, is worth nothing here.
    let held = in_background(&lab, "hold others=read", "/tmp/hold");
    let theirs = told(&lab, "/tmp/hold", ":");
    refused(&lab, &format!("read numbers=read 0 1 --as-told {}", theirs.trim()), "remote access error");
    // Behind the end is refused on this side already.
    refused(&lab, &format!("read numbers=read {} 2", (2 << 20) - 8), "the peer's memory");
    // Another machine's address is no place to send to.
    client(&lab).sh("ip addr add 10.77.0.9/24 dev eth0").unwrap();
    refused(&lab, "--from 10.77.0.9 read numbers=read 0 1", "it comes from 10.77.0.1");
    client(&lab).sh("ip addr del 10.77.0.9/24 dev eth0").unwrap();
    assert_eq!(words(&lab, "", 0, 1), [7]);
    assert_eq!(client(&lab).sh("cat /tmp/keep").unwrap().trim(), "reading");
    let status = rdma(&lab);
    assert_eq!(status["connections"], 2, "{status}");
    drop((kept, held));
    lab.finish().unwrap();
}

#[test]
fn what_is_taken_from_a_session_is_taken_from_its_queue_pair() {
    let lab = boot();
    let numbers = in_background(&lab, "keep numbers=read", "/tmp/numbers");
    let others = in_background(&lab, "keep others=read", "/tmp/others");
    let held = in_background(&lab, "hold numbers=read", "/tmp/hold");
    let registered = rdma(&lab);
    // Two of the sessions share what is registered.
    assert_eq!((&registered["connections"], &registered["registered_bytes"]), (&3.into(), &(4 << 20).into()));
    // A peer that vanishes: its lease ends, and all it had.
    held.kill().unwrap();
    wait_for(&lab, "a lease has ended", |status| status["connections"] == 2);
    // A region that is removed is not reached any more; another one is.
    host(&lab).sh("naam handler unload --app demo counter").unwrap();
    host(&lab).sh("naam region rm demo others").unwrap();
    assert_eq!(rdma(&lab)["connections"], 1, "queue pairs go before the region");
    wait_for(&lab, "it is deregistered", |status| status["registered_bytes"] == 2 << 20);
    let told_others = told(&lab, "/tmp/others", "queue pair");
    for part in ["rxe0", "10.77.0.2", "transport retry counter exceeded", "does not answer", "connect a new queue pair"]
    {
        assert!(told_others.contains(part), "{part}: {told_others}");
    }
    assert_eq!(client(&lab).sh("cat /tmp/numbers").unwrap().trim(), "reading");
    host(&lab).sh("naam app rm demo").unwrap();
    assert_eq!(rdma(&lab)["connections"], 0);
    wait_for(&lab, "nothing is registered", |status| status["registered_bytes"] == 0);
    told(&lab, "/tmp/numbers", "queue pair");
    drop((numbers, others));
    lab.finish().unwrap();
}

#[test]
fn a_device_that_goes_away_takes_nothing_else_along() {
    let lab = boot();
    let before = pinned(&lab);
    let kept = in_background(&lab, "keep numbers=read", "/tmp/keep");
    assert_ne!(pinned(&lab), before);
    host(&lab).sh_within("rdma link delete rxe0", WAIT).unwrap();
    let status = wait_for(&lab, "the device is gone", |status| status["away"].is_string());
    assert_eq!((&status["connections"], &status["lost"]), (&0.into(), &1.into()), "{status}");
    told(&lab, "/tmp/keep", "queue pair");
    wait_for(&lab, "nothing is left of it", |status| status["registered_bytes"] == 0);
    assert_eq!(pinned(&lab), before);
    add(&lab, 4096, 7);
    refused(&lab, "read numbers=read 0 1", "go on without RDMA");
    let doctor = host(&lab).run("naam", &["doctor"], CALL_TIME).unwrap();
    assert!(doctor.text().contains("clients go by datagrams"), "{}", doctor.text());
    host(&lab).sh(ADD).unwrap();
    wait_for(&lab, "the device is back", |status| status["away"].is_null());
    assert_eq!(words(&lab, "", 4096, 1), [7]);
    drop(kept);
    lab.finish().unwrap();
}

#[test]
fn a_port_that_is_down_at_the_start_is_waited_for() {
    let lab = MACHINES.take();
    for machine in lab.machines() {
        machine.sh(ADD).unwrap();
    }
    host(&lab).sh("ip link set eth0 down").unwrap();
    host(&lab).serve(SERVE, "naam status").unwrap().leave();
    assert_eq!(rdma(&lab)["away"], "port 1 is down");
    let doctor = host(&lab).run("naam", &["doctor"], CALL_TIME).unwrap();
    assert!(doctor.text().contains("port 1 is down; clients go by datagrams"), "{}", doctor.text());
    // An interface that was down has lost its addresses of IPv6.
    host(&lab).sh("ip link set eth0 up; ip addr add fd77::2/64 dev eth0").unwrap();
    wait_for(&lab, "the port is up", |status| status["away"].is_null());
    add(&lab, 4096, 7);
    assert_eq!(words(&lab, "", 4096, 1), [7]);
    lab.finish().unwrap();
}

#[test]
fn memory_beyond_the_limit_is_refused_with_the_cure() {
    let lab = MACHINES.take();
    for machine in lab.machines() {
        machine.sh(ADD).unwrap();
    }
    host(&lab).serve(&format!("naam-vm-rdma limit 1024 {SERVE}"), "naam status").unwrap().leave();
    refused(&lab, "read numbers=read 0 1", "ulimit -l");
    add(&lab, 4096, 7);
    let doctor = host(&lab).run("naam", &["doctor"], CALL_TIME).unwrap();
    assert!(doctor.text().contains("at most 1024 KiB may be locked"), "{}", doctor.text());
    assert_eq!(rdma(&lab)["refused"], 1);
    lab.finish().unwrap();
}

#[test]
fn what_is_not_there_is_told_with_the_cure() {
    let lab = MACHINES.take();
    let fails = |device: &str, cure: &str| {
        let line = format!("naam serve --interface eth0 --rdma {device}");
        let output = host(&lab).run("sh", &["-c", &line], CALL_TIME).unwrap();
        assert!(!output.success() && output.text().contains(cure), "{device}: {}", output.text());
    };
    fails("rxe0", "rdma link add rxe0 type rxe");
    host(&lab).sh(ADD).unwrap();
    fails("rxe1", "no RDMA device rxe1, only rxe0");
    fails("rxe0:2", "no port 2, only 1 to 1");
    fails("rxe0:1:200", "no GID at index 200, only 0: ");
    fails("rxe0:x", "rxe0:1:1");
    host(&lab).sh("mv /usr/lib/*-linux-gnu/libibverbs.so.1 /tmp").unwrap();
    fails("rxe0", "libibverbs1");
    // Nothing was begun, and nothing but RDMA needs it.
    host(&lab).sh("ls /sys/fs/bpf/naam/host 2>/dev/null && exit 1; true").unwrap();
    host(&lab).serve("naam serve --interface eth0", "naam status").unwrap().leave();
    add(&lab, 4096, 7);
    host(&lab).sh("mv /tmp/libibverbs.so.1 /usr/lib/*-linux-gnu/").unwrap();
    lab.finish().unwrap();
}
