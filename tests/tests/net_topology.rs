//! The network that all other `net_*` tests stand on.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use naam_testbed::{CLIENT_V4, CLIENT_V6, DEVICE, HOST_V4, HOST_V6, Topology};

fn socket(address: impl Into<std::net::IpAddr>) -> UdpSocket {
    let socket = UdpSocket::bind(SocketAddr::new(address.into(), 7000)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket
}

/// Sends a datagram from client to host and back; sockets stay in the namespace where they were made.
fn round_trip(
    topology: &Topology,
    client: impl Into<std::net::IpAddr> + Send,
    host: impl Into<std::net::IpAddr> + Send,
) {
    let client = topology.client().run(|| socket(client)).unwrap();
    let host = topology.host().run(|| socket(host)).unwrap();
    let mut buffer = [0; 64];
    client.send_to(b"ping", host.local_addr().unwrap()).unwrap();
    let (length, from) = host.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"ping"[..], client.local_addr().unwrap()));
    host.send_to(b"pong", from).unwrap();
    let (length, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], from), (&b"pong"[..], host.local_addr().unwrap()));
}

fn received_packets(topology: &Topology) -> u64 {
    let text = topology.host().ip(&format!("-s link show dev {DEVICE}")).unwrap();
    let line = text.lines().skip_while(|line| !line.trim_start().starts_with("RX:")).nth(1).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn both_families_pass_and_nothing_else_is_on_the_wire() {
    let topology = Topology::builder().build().unwrap();
    assert_eq!(received_packets(&topology), 0, "before any packet of ours");
    round_trip(&topology, CLIENT_V4, HOST_V4);
    round_trip(&topology, CLIENT_V6, HOST_V6);
    // Long enough for the kernel's own announcements, which come within a second.
    std::thread::sleep(Duration::from_millis(1200));
    assert_eq!(received_packets(&topology), 2, "one request of each family, no ARP, no ND, no MLD");
}

#[test]
fn queues_mtu_and_offloads_are_as_asked() {
    let topology = Topology::builder().queues(3).mtu(3000).offloads(false).build().unwrap();
    for end in [topology.client(), topology.host()] {
        let link = end.ip(&format!("-d link show dev {DEVICE}")).unwrap();
        for word in ["mtu 3000", "numtxqueues 3", "numrxqueues 3"] {
            assert!(link.contains(word), "{word} not in {link}");
        }
        let features = end.command("ethtool").args(["-k", DEVICE]).output().unwrap();
        let features = String::from_utf8(features.stdout).unwrap();
        assert!(features.contains("tx-checksumming: off"), "{features}");
    }
    round_trip(&topology, CLIENT_V4, HOST_V4);
}

#[test]
fn commands_inside_see_bpffs() {
    let topology = Topology::builder().build().unwrap();
    let mounts = topology.host().command("cat").arg("/proc/self/mounts").output().unwrap();
    let mounts = String::from_utf8(mounts.stdout).unwrap();
    let kind = mounts.lines().rfind(|line| line.contains(" /sys/fs/bpf ")).unwrap();
    assert!(kind.starts_with("bpf "), "{kind}");
}

#[test]
fn dropping_it_ends_what_runs_inside() {
    let topology = Topology::builder().build().unwrap();
    let path = topology.host().path();
    let mut sleeper = topology.host().command("sleep").arg("60").spawn().unwrap();
    assert!(path.exists());
    drop(topology);
    assert!(!path.exists());
    assert!(!sleeper.wait().unwrap().success(), "it was killed, not waited for");
}

#[test]
fn a_named_one_replaces_its_predecessor_and_can_be_kept() {
    let name = format!("t{}", std::process::id());
    let build = || Topology::builder().name(&name).build().unwrap();
    let first = build();
    let path = first.host().path();
    first.keep();
    assert!(path.exists(), "kept");
    assert!(naam_testbed::remove_leftovers().is_ok() && path.exists(), "and not a left-over");
    let second = build();
    round_trip(&second, CLIENT_V4, HOST_V4);
    drop(second);
    assert!(!path.exists());
}

#[test]
fn a_failed_command_says_what_and_why() {
    let topology = Topology::builder().build().unwrap();
    let error = topology.client().ip("link set nonesuch up").unwrap_err().to_string();
    assert!(error.contains("link set nonesuch up") && error.contains("nonesuch"), "{error}");
}

/// Set in the process that the tests below start and end: this test program again, running `a_signal_cleans_up`.
const VICTIM: &str = "NAAM_TESTBED_VICTIM";

/// Builds a topology, tells its path and waits for its end.
fn be_victim() {
    let topology = Topology::builder().build().unwrap();
    eprintln!("built {}", topology.host().path().display());
    std::thread::sleep(Duration::from_secs(30));
}

/// Starts the victim, sends `signal` once its topology stands, and returns the path of its host's namespace.
fn end_victim(signal: rustix::process::Signal) -> std::path::PathBuf {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_signal_cleans_up", "--nocapture"])
        .env(VICTIM, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(victim.stderr.take().unwrap()).lines();
    let path = lines.map(Result::unwrap).find_map(|line| Some(line.split_once("built ")?.1.to_owned())).unwrap();
    assert!(Path::new(&path).exists());
    rustix::process::kill_process(rustix::process::Pid::from_child(&victim), signal).unwrap();
    assert!(!victim.wait().unwrap().success());
    path.into()
}

#[test]
fn a_signal_cleans_up() {
    if std::env::var_os(VICTIM).is_some() {
        return be_victim();
    }
    assert!(!end_victim(rustix::process::Signal::INT).exists());
    assert!(!end_victim(rustix::process::Signal::TERM).exists());
}

#[test]
fn what_a_killed_process_left_is_removed_by_the_next() {
    let path = end_victim(rustix::process::Signal::KILL);
    assert!(path.exists(), "nobody could clean up");
    let topology = Topology::builder().build().unwrap();
    assert!(!path.exists());
    drop(topology);
}
