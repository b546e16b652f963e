//! Functions that run in the client and read regions by RDMA.
//!
//! ```text
//!   client                                              host
//!   engine: mica_get, cell_get ─ READ ─ eth0 ── wire ── eth0 ── soft-RoCE: the region
//!   SETs, calls at home ─ datagrams ─────┘               └── XDP: mica_set, …; a tree's owner
//! ```

use std::{path::PathBuf, process::Command, time::Duration};

use naam_client::site::choice::FACTOR;
use naam_vm::{Lab, Lease, Machine, Output, Places, Shared};
use serde_json::Value;

const CALL_TIME: Duration = Duration::from_secs(120);
const BENCH_TIME: Duration = Duration::from_secs(300);
const ADD: &str = "rdma link add rxe0 type rxe netdev eth0";
const CONTROL: &str = "NAAM_CONTROL=10.77.0.2:7626";
/// Packets that the client's device has received.
const PACKETS: &str = "/sys/class/infiniband/rxe0/ports/1/hw_counters/rcvd_pkts";

static MACHINES: Shared = Shared::new("rdma");

/// Two machines with a device each; a daemon with a store, a tree and numbers. Nothing if the kernel does not take their functions.
fn take(test: &str) -> Option<Lease<'static>> {
    let (name, kernel) = naam_vm::host_kernel("rdma");
    if !kernel.refuses.is_empty() {
        println!(
            "SKIPPED {test}: the verifier of {name} refuses {}, as vm-images/kernels says",
            kernel.refuses.join(", ")
        );
        return None;
    }
    Some(MACHINES.take_as("serving", |lab| {
        for machine in lab.machines() {
            machine.sh(ADD).unwrap();
        }
        let serve = "naam -v serve --config /etc/naam/reads.toml --interface eth0 --hook xdp --rdma rxe0";
        host(lab).serve(serve, "naam status").unwrap().leave();
        host(lab).sh("naam store format --app kv --log2-buckets 10").unwrap();
    }))
}

fn client(lab: &Lab) -> &Machine {
    lab.machine("client").unwrap()
}

fn host(lab: &Lab) -> &Machine {
    lab.machine("host").unwrap()
}

fn run(lab: &Lab, script: &str) -> Output {
    client(lab).run("sh", &["-c", script], BENCH_TIME).unwrap()
}

/// What a command of the client prints last, as JSON.
fn json(lab: &Lab, script: &str) -> Value {
    let output = run(lab, script);
    assert!(output.success(), "{script}: {}", output.text());
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// READs of a `compare` went by RDMA, both ways saw the same, and keys changed meanwhile.
fn compared(report: &Value) {
    let count = |name: &str| report["verbs"][name].as_u64().unwrap();
    assert!(count("memory_reads") > 50 && count("reads") == 0, "{report}");
    assert_eq!((count("memory_lost"), count("strange_reads")), (0, 0), "{report}");
    // READs of soft-RoCE take longer than anybody looks without sleeping.
    assert!(count("memory_sleeps") > 0, "{report}");
    assert!(report["rounds"][1].as_u64().unwrap() > 1, "{report}");
}

/// What `--memory auto` has to come to by what it has measured: soft-RoCE is slow under emulation, but not everywhere.
fn as_measured(report: &Value) -> &'static str {
    let [choice] = &report["memory_choices"].as_array().unwrap()[..] else { panic!("one client: {report}") };
    println!("{choice}");
    let time = |name: &str| choice[name].as_f64().unwrap_or_else(|| panic!("{name} was not measured: {choice}"));
    let slower = time("tried_us") > time("onesided_us") * FACTOR;
    let expected = if slower { "onesided" } else { "verbs" };
    assert_eq!((&choice["tried"], &choice["chosen"]), (&"verbs".into(), &expected.into()), "{choice}");
    expected
}

#[test]
fn what_is_read_by_rdma_is_what_home_answers() {
    let Some(lab) = take("what_is_read_by_rdma_is_what_home_answers") else { return };
    // The key's round never goes back, whoever asks.
    compared(&json(&lab, "naam-vm-rdma compare mica 5"));
    let owner = host(&lab).serve("naam-vm-rdma own > /tmp/own 2>&1", "grep -q ready /tmp/own").unwrap();
    compared(&json(&lab, "naam-vm-rdma compare cell 5"));
    assert!(owner.kill().is_ok());
    // The command line chooses by itself, and as it is told.
    let get = |options: &str| {
        let bench = format!(
            "{CONTROL} naam --json bench ycsb --transport udp --app kv --log2-buckets 10 --site client {options} \
             --records 200 --seconds 2 --warmup 0 --workload A --window 4 --timeout-ms 30000 --verify"
        );
        json(&lab, &bench)
    };
    for options in ["--memory verbs", "--memory onesided", ""] {
        let report = get(options);
        let memory = options.strip_prefix("--memory ").unwrap_or_else(|| as_measured(&report));
        assert_eq!((&report["memory"], &report["read_back"]["mismatches"]), (&memory.into(), &0.into()), "{report}");
        let by_rdma = report["client_site"]["memory_reads"].as_u64().unwrap();
        assert_eq!(by_rdma > 0, memory == "verbs", "{report}");
    }
    let doctor = run(&lab, &format!("{CONTROL} naam doctor --app kv --transport udp")).text();
    for part in ["rxe0 (port 1, 10.77.0.1)", "memory of app kv", "READs by ", "(verbs "] {
        assert!(doctor.contains(part), "{part}: {doctor}");
    }
    lab.finish().unwrap();
}

#[test]
fn a_connection_that_is_lost_is_not_missed() {
    let Some(lab) = take("a_connection_that_is_lost_is_not_missed") else { return };
    let bench = format!(
        "{CONTROL} naam --json bench ycsb --transport udp --app kv --log2-buckets 10 --site client --memory verbs \
         --records 50 --seconds 20 --warmup 0 --workload B --window 4 --timeout-ms 30000 --verify"
    );
    let script = format!("{bench} > /tmp/bench 2>/tmp/errors");
    let running = client(&lab).start_program("sh", &["-c", &script], BENCH_TIME).unwrap();
    // Amid the workload, after all keys were read back once, the host's device goes.
    let packets = || -> u64 { client(&lab).sh(&format!("cat {PACKETS}")).unwrap().trim().parse().unwrap() };
    let wait_for = |most: u64| {
        let counted =
            format!("for n in $(seq 400); do [ $(cat {PACKETS}) -gt {most} ] && exit; sleep 0.2; done; exit 1");
        client(&lab).sh_within(&counted, CALL_TIME).unwrap();
    };
    wait_for(400);
    host(&lab).sh_within("rdma link delete rxe0", CALL_TIME).unwrap();
    // It comes back, and READs go by it again.
    host(&lab).sh_within(ADD, CALL_TIME).unwrap();
    wait_for(packets() + 100);
    let ended = running.wait().unwrap();
    assert!(ended.success(), "{}", client(&lab).sh("cat /tmp/errors").unwrap());
    let report = json(&lab, "cat /tmp/bench");
    let site = &report["client_site"];
    assert!(site["memory_reads"].as_u64().unwrap() > 0 && site["memory_lost"].as_u64().unwrap() > 0, "{report}");
    assert!(site["reads"].as_u64().unwrap() > 0 && site["memory_found"].as_u64().unwrap() > 0, "{report}");
    let phase = &report["read_back"];
    assert_eq!((&phase["mismatches"], &phase["errors"], &phase["lost"]), (&0.into(), &0.into(), &0.into()), "{report}");
    assert_eq!(report["timeouts"], 0, "{report}");
    // Asked for outright, it is an error with the cure.
    host(&lab).sh_within("rdma link delete rxe0", CALL_TIME).unwrap();
    let output = run(&lab, &bench);
    assert!(!output.success() && output.text().contains("--memory auto does without"), "{}", output.text());
    // As it was.
    let back = format!("{ADD}; while naam --json status | grep -q '\"away\"'; do sleep 0.2; done");
    host(&lab).sh_within(&back, CALL_TIME).unwrap();
    lab.finish().unwrap();
}

/// A program that knows rdma-core, compiled by this machine's C compiler against the header of Debian's package.
fn compile_peer() -> Vec<u8> {
    let packages = Places::locate().target().join("packages");
    let unpacked = |name: &str, file: &str| -> PathBuf {
        let entries = std::fs::read_dir(&packages).unwrap().flatten().map(|entry| entry.path().join(file));
        let mut found = entries.filter(|path| path.exists());
        found.next().unwrap_or_else(|| panic!("no {name} in {}; cure: cargo xtask vm build rdma", packages.display()))
    };
    let header = unpacked("libibverbs-dev", "usr/include/infiniband/verbs.h");
    let library = unpacked("libibverbs1", "usr/lib/x86_64-linux-gnu/libibverbs.so.1");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/vm-rdma/c/peer.c");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("rdma-peer");
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wl,--allow-shlib-undefined", "-o"])
        .arg(&program)
        .arg("-isystem")
        .arg(header.parent().unwrap().parent().unwrap())
        .args([source.as_ref(), library.as_os_str()])
        .output()
        .expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(program).unwrap()
}

#[test]
fn a_program_that_knows_only_rdma_core_sees_what_handlers_see() {
    const ADDS: u64 = 8;
    let program = compile_peer();
    let Some(lab) = take("a_program_that_knows_only_rdma_core_sees_what_handlers_see") else { return };
    client(&lab).put("/tmp/peer", 0o755, &program).unwrap();
    let peer = |region: &str, words: &str| run(&lab, &format!("naam-vm-rdma lend {region} /tmp/peer {words}"));
    let add = |offset: u64, addend: u64| {
        let call = format!("{CONTROL} naam --json call --transport udp --app demo counter --u64 {offset} {addend}");
        let reply = json(&lab, &call);
        assert_eq!((&reply["status"], &reply["site"]), (&"ok".into(), &"host".into()), "{reply}");
    };
    // It reads all the while that a handler adds, and sees every word that it looks at whole.
    let watch = format!("naam-vm-rdma lend numbers=read /tmp/peer watch 4096 {ADDS} > /tmp/watch 2>&1");
    let watching = client(&lab).start_program("sh", &["-c", &watch], BENCH_TIME).unwrap();
    for _ in 0..ADDS {
        add(4096, 1);
    }
    let ended = watching.wait().unwrap();
    let seen = client(&lab).sh("cat /tmp/watch").unwrap();
    assert!(ended.success(), "{seen}");
    assert!((1..=ADDS).contains(&seen.trim().parse().unwrap()), "{seen}");
    // What it writes, handlers add to.
    let written = peer("numbers=write", "write 8192 1000");
    assert!(written.success(), "{}", written.text());
    add(8192, 1);
    let read = peer("numbers=read", "read 8192 2");
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "1001 0", "{}", read.text());
    let denied = peer("others=read", "write 0 1");
    assert!(!denied.success() && denied.text().contains("remote invalid request error"), "{}", denied.text());
    lab.finish().unwrap();
}

/// Prints how long READs and GETs take by each way, beside rdma-core's own measure, between the same machines.
#[test]
fn figures() {
    let Some(lab) = take("figures") else { return };
    client(&lab).sh_within(&format!("{CONTROL} naam store set --transport udp --app kv key value"), CALL_TIME).unwrap();
    // The index of the address of IPv4.
    let index = |machine: &Machine| {
        let script = "cd /sys/class/infiniband/rxe0/ports/1/gids; grep -l ffff $(seq 0 9) 2>/dev/null | head -n 1";
        machine.sh(script).unwrap().trim().to_owned()
    };
    let serve = format!("ib_read_lat -d rxe0 -x {} -s 64 -n 500", index(host(&lab)));
    let server = host(&lab).serve(&serve, "netstat -lnt | grep -q :18515").unwrap();
    let rival = format!("ib_read_lat -d rxe0 -x {} -s 64 -n 500 10.77.0.2", index(client(&lab)));
    let rival = client(&lab).sh_within(&rival, BENCH_TIME).unwrap();
    drop(server);
    // #bytes #iterations t_min t_max t_typical …, in microseconds
    let line = rival.lines().find(|line| line.trim_start().starts_with("64 ")).unwrap_or_else(|| panic!("{rival}"));
    let typical: f64 =
        line.split_whitespace().nth(4).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{line}"));
    let ours = json(&lab, "naam-vm-rdma figures 6");
    assert!(ours["stats"]["memory_reads"].as_u64().unwrap() > 0, "{ours}");
    println!("64-byte READ, ib_read_lat: {typical:.0} us, by {:?}", lab.accelerator().accelerator);
    for name in ["verbs_read", "onesided_read", "get_verbs", "get_onesided", "get_host"] {
        let time = ours[name].as_f64().unwrap();
        println!("{name}: {time:.0} us, {:.2} of ib_read_lat", time / typical);
        assert!(time > 0.0);
    }
    lab.finish().unwrap();
}
