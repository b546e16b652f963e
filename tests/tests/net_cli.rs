//! The program `naam`, as people and scripts use it: daemon, administration, calls, a store, a bench.
//!
//! ```text
//!   client namespace                       host namespace
//!   naam call, trace, store, bench         naam serve
//!   naam0 ───────────────────── veth ───── naam0 ─ entry, shell, handlers
//! ```
//! Both ends share files, so that the client's commands reach the daemon's socket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use naam_loader::datapath::remove_pins;
use naam_testbed::{DEVICE, HOST_V4, HOST_V6, Topology, program};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// One app with a store, one with echo, all handlers from inside the program.
const CONFIG: &str = r#"
[[app]]
name = "kv"
id = 0
[[app.region]]
name = "store"
size = "8 MiB"
[[app.function]]
name = "mica_get"
id = 16
object = "builtin:mica_get"
[[app.function]]
name = "mica_set"
id = 17
object = "builtin:mica_set"
"#;

/// A daemon in the host's namespace; it and its pins go with this value.
struct Naam {
    topology: Topology,
    daemon: Child,
    instance: String,
    dir: tempfile::TempDir,
}

impl Naam {
    /// One that serves Cell's functions to app `sorted`, in a region without a tree.
    fn sorted() -> Self {
        let naam = Self::start();
        naam.ok(&format!("attach {DEVICE} --hook xdp"));
        naam.ok("app add sorted");
        naam.ok("region create sorted tree 16MiB");
        for name in ["cell_get", "cell_scan"] {
            naam.ok(&format!("handler load --app sorted --builtin {name}"));
        }
        naam
    }

    fn start() -> Self {
        let topology = Topology::builder().build().expect("two namespaces and a veth pair");
        let dir = tempfile::tempdir().unwrap();
        let instance = naam_testbed::instance();
        let config =
            format!("instance = \"{instance}\"\n[control]\nsocket = {:?}\n{CONFIG}", dir.path().join("socket"));
        fs::write(dir.path().join("naam.toml"), config).unwrap();
        let daemon = Self::serve(&topology, &dir);
        let mut naam = Self { topology, daemon, instance, dir };
        naam.wait_until_served();
        naam
    }

    fn serve(topology: &Topology, dir: &tempfile::TempDir) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log")).unwrap();
        let mut command = topology.host().command(program().expect("cargo xtask build makes it"));
        command.arg("serve").arg("--config").arg(dir.path().join("naam.toml"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn wait_until_served(&mut self) {
        let end = Instant::now() + Duration::from_secs(60);
        while !self.run("status").status.success() {
            let ended = self.daemon.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "no daemon: {}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `naam LINE` in the client's namespace.
    fn run(&self, line: &str) -> Output {
        let mut command = self.topology.client().command(program().unwrap());
        command.args(line.split_whitespace()).env("NAAM_SOCKET", self.path("socket"));
        command.env("NAAM_INSTANCE", &self.instance).env("NAAM_HOST", HOST_V4.to_string());
        command.output().unwrap()
    }

    /// What `naam LINE` prints; it must succeed.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "naam {line}: {}\n{text}{errors}\n{}", output.status, self.log());
        text
    }

    /// The same as JSON.
    fn json(&self, line: &str) -> Value {
        let text = self.ok(&format!("{line} --json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("naam {line}: {error}: {text}"))
    }

    fn code(&self, line: &str) -> (Option<i32>, String) {
        let output = self.run(line);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

impl Drop for Naam {
    fn drop(&mut self) {
        // nsenter has become the daemon, so the child's number is the daemon's. It may have ended.
        if let Some(pid) = Pid::from_raw(self.daemon.id() as i32) {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = self.daemon.wait();
        let pins = PathBuf::from("/sys/fs/bpf/naam").join(&self.instance);
        if let Err(error) = remove_pins(&pins) {
            eprintln!("warning: {error}");
        }
    }
}

/// From a daemon without interfaces to a measured store, at one hook.
fn everything_at(hook: &str) {
    let naam = Naam::start();
    let attached = naam.json(&format!("attach {DEVICE} --hook {hook}"));
    assert!(attached["hook"].as_str().unwrap().starts_with(hook), "{attached}");

    naam.ok("app add demo");
    let loaded = naam.json("handler load --app demo --builtin echo");
    assert_eq!((&loaded["name"], &loaded["version"]), (&"echo".into(), &1.into()));
    let af_xdp = naam.json("call echo --app demo --text hello --transport af-xdp");
    assert_eq!((&af_xdp["reply_text"], &af_xdp["transport"]), (&"hello".into(), &"af_xdp".into()));
    let v6 = naam.json(&format!("call echo --app demo --u64 7 8 --host {HOST_V6} --key k"));
    assert_eq!((&v6["reply_u64"], &v6["status"]), (&serde_json::json!([7, 8]), &"ok".into()));
    // On veth, replies by XDP_TX reach a UDP socket only past an XDP program.
    let pins = format!("/sys/fs/bpf/naam-xsk/{}", naam.instance);
    naam.ok(&format!("xsk attach {DEVICE} --pins {pins}"));
    let udp = naam.json("trace echo --app demo --args 00ff --transport udp");
    assert_eq!((&udp["reply_hex"], &udp["transport"], &udp["site"]), (&"00ff".into(), &"udp".into(), &"host".into()));
    assert!(udp["steps"] == 1 && udp["rtt_us"].as_f64().unwrap() > 0.0, "{udp}");
    naam.ok(&format!("xsk detach {DEVICE} --pins {pins}"));
    // Pins of an interface that is gone are in nobody's way.
    let client = naam.topology.client();
    for _ in 0..2 {
        client.ip("link add again0 type veth peer name again1").unwrap();
        naam.ok(&format!("xsk attach again0 --pins {pins}"));
        client.ip("link del again0").unwrap();
    }
    naam.ok(&format!("xsk detach again0 --pins {pins}"));
    let all = fs::read_dir("/sys/fs/bpf/naam-xsk");
    assert!(all.map_or(true, |mut pins| pins.next().is_some()), "an empty folder goes");
    assert_eq!(naam.json("handler replace --app demo --builtin echo")["version"], 2);
    assert_eq!(naam.json("call echo --app demo --text again")["reply_text"], "again");

    naam.ok("store format --app kv");
    naam.ok("store set --app kv colour blue");
    assert_eq!(naam.ok("store get --app kv colour"), "blue\n");
    assert_eq!(naam.code("store get --app kv shape").0, Some(4));

    let hgrm = naam.path("latency.hgrm");
    let bench = naam.json(&format!(
        "bench ycsb --app kv --workload A --records 3000 --seconds 0.5 --warmup 0 --verify --hgrm {}",
        hgrm.display()
    ));
    assert!(bench["ops_total"].as_u64().unwrap() > 0 && bench["sites"]["host"].as_u64().unwrap() > 0, "{bench}");
    for phase in ["read_back", "read_back_after"] {
        assert_eq!((&bench[phase]["ok"], &bench[phase]["mismatches"]), (&3000.into(), &0.into()), "{bench}");
    }
    assert_eq!((&bench["errors"], &bench["transport"]), (&0.into(), &"af_xdp".into()), "{bench}");

    naam.ok("handler onesided --app kv");
    let bench = naam.json(
        "bench ycsb --app kv --workload B --records 3000 --skip-load --seconds 0.5 --warmup 0 --verify --site client",
    );
    let (site, sites) = (&bench["client_site"], &bench["sites"]);
    assert!(sites["client"].as_u64().unwrap() > sites["host"].as_u64().unwrap(), "reads run here: {bench}");
    assert!(sites["host"].as_u64().unwrap() > 0 && bench["errors"] == 0, "writes run there: {bench}");
    assert_eq!((&site["ended_here"], &site["sent_home"]), (&sites["client"], &0.into()), "{bench}");
    assert_eq!(&bench["read_back_after"]["mismatches"], 0, "{bench}");
    assert!(fs::read_to_string(hgrm).unwrap().contains("#[Max"));

    let (data, json) = (naam.path("data.tsv"), naam.path("bench.json"));
    let lines: String = (0..500).map(|i| format!("key {i}\tvalue {}\n", i * i)).collect();
    fs::write(&data, format!("{lines}key 1\tanother\n")).unwrap();
    naam.ok(&format!("bench ycsb --app kv --data {} --seconds 0 --json {}", data.display(), json.display()));
    let bench: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!((&bench["data"]["keys"], &bench["data"]["repeated"]), (&500.into(), &1.into()));
    assert_eq!((&bench["read_back"]["ok"], &bench["read_back"]["mismatches"]), (&500.into(), &0.into()));
    let one = naam.run("store get --app kv --json key"); // "key" alone is no key of the file
    assert_eq!(one.status.code(), Some(4));

    let stats = naam.json("stats --app demo");
    assert!(stats[0]["messages"].as_u64().unwrap() >= 4 && stats[0]["drops"]["tag"] == 0, "{stats}");
    assert_eq!(naam.json("steer show kv").as_array().unwrap().len(), 64);
    let inspection = naam.json("inspect");
    for kind in ["programs", "maps"] {
        for object in inspection[kind].as_array().unwrap() {
            let command: Vec<_> = object["bpftool"].as_str().unwrap().split_whitespace().collect();
            let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
            assert!(output.status.success(), "{command:?}");
        }
    }
    naam.ok(&format!("detach {DEVICE}"));
}

#[test]
fn everything_works_at_xdp() {
    everything_at("xdp");
}

#[test]
fn everything_works_at_tc() {
    everything_at("tc");
}

#[test]
fn a_daemon_takes_over_what_its_predecessor_left() {
    let mut naam = Naam::start();
    naam.ok(&format!("attach {DEVICE} --hook xdp"));
    naam.ok("store format --app kv");
    naam.ok("store set --app kv colour blue");
    naam.ok("shutdown");
    naam.daemon.wait().unwrap();
    naam.daemon = Naam::serve(&naam.topology, &naam.dir);
    naam.wait_until_served();
    let status = naam.json("status");
    assert_eq!((&status["adopted"], &status["attachments"][0]["interface"]), (&true.into(), &DEVICE.into()));
    assert_eq!(naam.ok("store get --app kv colour"), "blue\n");
}

#[test]
fn regions_are_reached_by_one_sided_operations() {
    let naam = Naam::start();
    naam.ok(&format!("attach {DEVICE} --hook xdp"));
    let (code, text) = naam.code("call read --app kv --region store");
    assert!(code == Some(1) && text.contains("naam handler onesided"), "{text}");
    let served = naam.json("handler onesided --app kv");
    assert_eq!((served.as_array().unwrap().len(), &served[4]["name"]), (5, &"naam_chain".into()));
    naam.ok("call write --app kv --region store --offset 4096 --text abcdefgh");
    let read = naam.json("call read --app kv --region store --offset 4088 --len 24");
    assert_eq!(read["reply_hex"], "000000000000000061626364656667680000000000000000");
    let word = "call read --app kv --region store --offset 64";
    naam.ok("call faa --app kv --region store --offset 64 --addend 40");
    let found = naam.json("call faa --app kv --region store --offset 64 --addend 2");
    assert_eq!((&found["reply_u64"][0], &naam.json(word)["reply_u64"][0]), (&40.into(), &42.into()));
    let cas =
        |expect: u64| naam.json(&format!("call cas --app kv --region store --offset 64 --expect {expect} --new 7"));
    assert_eq!((cas(41)["code"].clone(), cas(42)["code"].clone()), (1.into(), 0.into()));
    assert_eq!(naam.json(word)["reply_u64"][0], 7);
    let (code, _) = naam.code("call read --app kv --region store --offset 8388608");
    assert_eq!(code, Some(5), "outside of the region");
    let (code, text) = naam.code("call read --app kv --region nowhere");
    assert!(code == Some(1) && text.contains("no region `nowhere`"), "{text}");
}

/// The same function, run by the host's kernel and by the client's engine.
#[test]
fn calls_run_where_they_are_told() {
    let naam = Naam::start();
    naam.ok(&format!("attach {DEVICE} --hook tc"));
    naam.ok("app add demo");
    naam.ok("region create demo links 2MiB");
    naam.ok("handler load --app demo --builtin chain");
    let at = |site: &str| naam.json(&format!("call chain --app demo --u64 0 5 --site {site}"));
    // Without one-sided functions there is nothing that the engine could read by.
    assert_eq!((&at("client")["site"], &at("client")["status"]), (&"host".into(), &"ok".into()));
    naam.ok("handler onesided --app demo");
    let (host, client) = (at("host"), at("client"));
    assert_eq!((&host["site"], &client["site"]), (&"host".into(), &"client".into()));
    for same in ["status", "code", "reply_hex", "steps"] {
        assert_eq!(host[same], client[same], "{same}");
    }
    assert_eq!(at("auto")["site"], "host");
    naam.ok("steer set demo client --shards 0 --lease-ms 5000");
    let moved = at("auto");
    let expected: [Value; 3] = ["client".into(), "client".into(), 5000.into()];
    assert_eq!([&moved["site"], &moved["placement"], &moved["lease_ms"]], expected.each_ref(), "{moved}");
    naam.ok("steer set demo host");
    assert_eq!(at("auto")["site"], "host");
}

#[test]
fn failures_have_exit_codes_and_reasons() {
    let naam = Naam::start();
    let (code, text) = naam.code("status --socket /nowhere/socket");
    assert!(code == Some(3) && text.contains("naam serve"), "{text}");
    let (code, text) = naam.code("call mica_get --text x --timeout-ms 100 --transport udp");
    assert_eq!((code, text.as_str()), (Some(5), ""), "nothing is attached, so nobody answers");
    let (code, text) = naam.code("call missing");
    assert!(code == Some(1) && text.contains("`missing`") && text.contains("mica_get"), "{text}");
    let (code, text) = naam.code("store get --app kv colour");
    assert!(code == Some(1) && text.contains("naam store format"), "{text}");
    let (code, text) = naam.code("attach no-such-device");
    assert!(code == Some(1) && text.contains("no-such-device"), "{text}");
    let not_elf = naam.path("naam.toml");
    let (code, text) = naam.code(&format!("handler load --app kv {} --json", not_elf.display()));
    let error: Value = serde_json::from_str(&text).unwrap();
    assert!(code == Some(1) && error["error"]["cause"].as_str().unwrap().contains("not-elf"), "{text}");
    assert_eq!(naam.run(&format!("check {}", not_elf.display())).status.code(), Some(4));
    // What a killed check left goes with the next one.
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let pins = Path::new("/sys/fs/bpf/naam").join(format!("check-{}", dead.id()));
    fs::create_dir_all(pins.join("maps")).unwrap();
    assert_eq!(naam.run("check --builtin mica_set --kernel").status.code(), Some(0));
    assert!(!pins.exists());
    assert_eq!(naam.code("bench ycsb --workload Q").0, Some(2));
}

#[test]
fn a_tree_is_loaded_by_its_owner_and_read_over_the_network() {
    let naam = Naam::sorted();
    let reads = naam.json("bench cell --app sorted --records 20000 --seconds 0.5 --warmup 0 --verify");
    assert!(reads["ops_total"].as_u64().unwrap() > 0 && reads["height"].as_u64().unwrap() >= 3, "{reads}");
    assert_eq!((&reads["errors"], &reads["records"]), (&0.into(), &20_000.into()), "{reads}");
    naam.ok("handler onesided --app sorted");
    for workload in ["C", "E"] {
        let bench = naam.json(&format!(
            "bench cell --app sorted --workload {workload} --records 5000 --seconds 0.5 --warmup 0 --verify --site client"
        ));
        let (sites, site) = (&bench["sites"], &bench["client_site"]);
        assert!(sites["client"].as_u64().unwrap() > 0 && bench["errors"] == 0, "{bench}");
        assert_eq!((&sites["host"], &site["ended_here"]), (&0.into(), &sites["client"]), "{bench}");
    }
    let scans = naam.json("bench cell --app sorted --workload E --records 20000 --seconds 0.5 --warmup 0");
    assert!(scans["scanned"].as_u64().unwrap() > scans["ops_total"].as_u64().unwrap(), "{scans}");
    assert!(scans["errors"] == 0 && scans["nodes"].as_u64() > reads["nodes"].as_u64(), "{scans}");
    // Another's region is not overwritten.
    naam.ok("store format --app kv");
    let (code, text) = naam.code("bench cell --app kv");
    assert!(code == Some(1) && text.contains("--force"), "{code:?} {text}");
}

/// A tree in the hands of the owner's commands, read at every site.
#[test]
fn a_tree_is_changed_by_hand_and_read_at_every_site() {
    let naam = Naam::sorted();
    naam.ok("handler onesided --app sorted");
    for command in ["get a", "get a --local", "scan", "put a b", "delete a", "stats"] {
        let (code, text) = naam.code(&format!("cell {command} --app sorted"));
        assert!(code == Some(1) && text.contains("naam cell format --app sorted"), "{command}: {text}");
    }
    naam.ok("cell format --app sorted");
    let (code, text) = naam.code("cell format --app sorted");
    assert!(code == Some(1) && text.contains("--force"), "{text}");

    let (data, more) = (naam.path("data.tsv"), naam.path("more.csv"));
    let value = |i: u32| if i == 20 { "long ".repeat(80) } else { format!("value {}", i * i) };
    let lines: String = (0..3000).rev().map(|i| format!("key{i:05}\t{}\n", value(i))).collect();
    fs::write(&data, format!("key00017\tfirst\n{lines}")).unwrap();
    let loaded = naam.json(&format!("cell load {} --app sorted", data.display()));
    let expected: [Value; 4] = [3000.into(), 1.into(), 3000.into(), true.into()];
    assert_eq!(
        [&loaded["keys"], &loaded["repeated"], &loaded["new"], &loaded["bulk"]],
        expected.each_ref(),
        "{loaded}"
    );
    fs::write(&more, "key00003,another\nno separator\nzebra,\"stripes, many\"\n").unwrap();
    let (code, text) = naam.code(&format!("cell load {} --app sorted", more.display()));
    assert!(code == Some(1) && text.contains("line 2"), "{text}");
    let loaded = naam.json(&format!("cell load {} --app sorted --skip-faulty", more.display()));
    let expected: [Value; 4] = [2.into(), 1.into(), 1.into(), false.into()];
    assert_eq!([&loaded["keys"], &loaded["faulty"], &loaded["new"], &loaded["bulk"]], expected.each_ref(), "{loaded}");

    assert_eq!(naam.ok("cell put key00004 replaced --app sorted"), "replaced\n");
    assert_eq!(naam.ok("cell put --hex 00ff 0102 --app sorted"), "inserted\n");
    assert_eq!(naam.ok("cell delete key00005 --app sorted"), "deleted\n");
    assert_eq!(naam.run("cell delete key00005 --app sorted").status.code(), Some(4));
    let stats = naam.json("cell stats --app sorted");
    assert_eq!((&stats["keys"], &stats["blocks"]), (&3001.into(), &1.into()), "{stats}");
    assert!(stats["height"].as_u64().unwrap() >= 2 && stats["levels"][0].as_u64() > stats["levels"][1].as_u64());

    for (way, site) in
        [("--site host", "host"), ("--site client", "client"), ("--site auto", "host"), ("--local", "local")]
    {
        let get = |key: &str| naam.json(&format!("cell get {key} --app sorted {way}"));
        let found = get("key00017");
        assert_eq!((&found["value"], &found["site"]), (&value(17).into(), &site.into()), "{found}");
        assert_eq!(get("key00004")["value"], "replaced");
        assert_eq!(get("zebra")["value"], "stripes, many");
        assert_eq!(get("--hex 00ff")["value_hex"], "0102");
        assert_eq!(naam.run(&format!("cell get key00005 --app sorted {way}")).status.code(), Some(4));
        let scan = naam.json(&format!("cell scan key00000 --after --limit 40 --app sorted {way}"));
        let pairs: Vec<(String, String)> = scan["pairs"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pair| (pair["key"].as_str().unwrap().to_owned(), pair["value"].as_str().unwrap().to_owned()))
            .collect();
        let changed = |i| match i {
            3 => "another".to_owned(),
            4 => "replaced".to_owned(),
            i => value(i),
        };
        let expected: Vec<_> = (1..=41).filter(|i| *i != 5).map(|i| (format!("key{i:05}"), changed(i))).collect();
        assert_eq!(pairs, expected);
        assert_eq!((&scan["more"], &scan["site"]), (&true.into(), &site.into()));
        assert!(scan["messages"].as_u64().unwrap() >= 2, "32 keys are the most of a message");
    }
    assert_eq!(naam.ok("cell scan zebra --app sorted"), "zebra\tstripes, many\n");
    assert_eq!(naam.ok("cell scan --limit 2 --keys-only --app sorted"), "0x00ff\nkey00000\n");
    assert_eq!(naam.ok("cell scan zebra --after --app sorted"), "");

    // One owner at a time; readers do not ask.
    let pins = PathBuf::from("/sys/fs/bpf/naam").join(&naam.instance);
    let owner = naam_region::Regions::new(pins).open("sorted", "tree").unwrap().own().unwrap();
    for command in ["put a b", "delete a", "stats", "format --force"] {
        let (code, text) = naam.code(&format!("cell {command} --app sorted"));
        assert!(code == Some(1) && text.contains("has an owner"), "{command}: {text}");
    }
    let (code, text) = naam.code("bench cell --app sorted --records 10 --seconds 0");
    assert!(code == Some(1) && text.contains("has an owner"), "{text}");
    assert_eq!(naam.ok("cell get key00017 --app sorted"), format!("{}\n", value(17)));
    drop(owner);
    naam.ok("cell put a b --app sorted");
    let (code, text) = naam.code(&format!("cell put {} v --app sorted", "k".repeat(65)));
    assert!(code == Some(1) && text.contains("65 bytes"), "{text}");
}
