//! `cargo xtask run`, the main job, as a user runs it: set-up, build, namespaces, `naam serve`, a filled store, every
//! value read back, a short workload. And that nothing of it stays, however it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use naam_testbed::Topology;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Pairs of a data file.
const PAIRS: usize = 3_000;

/// A folder of this test's own.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("naam-net-run-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Keys of 1 to 64 bytes, values of 0 to 1,000; the longest of both among them.
    fn data(&self) -> PathBuf {
        let mut text = String::new();
        for i in 0..PAIRS {
            let width = 1 + i % 64;
            let key = format!("{i:0width$}");
            let value: String = format!("{i} äöü ").chars().cycle().take(i * 7 % 601).collect();
            text.push_str(&format!("{key}\t{value}\n"));
        }
        text.push_str(&format!("{}\t{}\n", "k".repeat(64), "v".repeat(1_000)));
        let path = self.0.join("data.tsv");
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A failed test may not have made it.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `cargo xtask run ARGUMENTS`; cargo becomes xtask, so its process id is the run's.
fn xtask_run(arguments: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command.args(["xtask", "run"]).args(arguments.split_whitespace());
    // It knows by itself where objects are, and to build depends on the variable.
    command.env_remove("NAAM_BPF_DIR");
    command.stdin(Stdio::null());
    command
}

fn succeed(arguments: &str) -> (u32, Output) {
    let child = xtask_run(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{arguments}: {output:#?}");
    (pid, output)
}

/// What a run left on the machine.
fn remains(pid: u32) -> Vec<String> {
    let mut found = Vec::new();
    for (folder, names) in [
        ("/run/netns", vec![format!("naam-{pid}-"), format!("naam-run{pid}-")]),
        ("/run/naam", vec![format!("run{pid}")]),
        ("/sys/fs/bpf/naam", vec![format!("run{pid}")]),
    ] {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let files = entries.filter_map(|entry| entry.file_name().into_string().ok());
        found.extend(files.filter(|file| names.iter().any(|name| file.starts_with(name.as_str()))));
    }
    let own = format!("run{pid}");
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains("naam ") && line.contains(&own) {
            found.push(line);
        }
    }
    found
}

#[test]
fn a_faulty_line_is_named_and_can_be_passed_over() {
    let folder = Folder::new("faulty");
    let (data, json) = (folder.0.join("faulty.csv"), folder.0.join("summary.json"));
    std::fs::write(&data, format!("a,1\n{},too long a key\nb,\"2, and a half\"\n", "k".repeat(65))).unwrap();
    let line = format!("--data {} --seconds 1 --json {}", data.display(), json.display());
    let output = xtask_run(&line).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("line 2") && errors.contains("--skip-faulty"), "{errors}");
    succeed(&format!("{line} --skip-faulty"));
    let summary: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!((&summary["data"]["faulty"], &summary["data"]["keys"]), (&1.into(), &2.into()), "{summary:#}");
}

fn main_job(hook: &str, attached: &str, transport: &str, carried: &str, workload: &str) {
    let folder = Folder::new(hook);
    let (data, json) = (folder.data(), folder.0.join("summary.json"));
    let (data, json) = (data.display(), json.display());
    let line =
        format!("--data {data} --seconds 1 --hook {hook} --transport {transport} --workload {workload} --json {json}");
    let (pid, output) = succeed(&line);
    let summary: Value = serde_json::from_slice(&std::fs::read(folder.0.join("summary.json")).unwrap()).unwrap();
    let count = |key: &str| summary[key].as_u64().unwrap_or_else(|| panic!("no {key} in {summary:#}"));
    assert_eq!((count("errors"), count("lost")), (0, 0), "{summary:#}");
    assert!(count("ops_total") > 1_000, "{summary:#}");
    for key in ["ops_per_s", "p50_us", "p99_us"] {
        assert!(summary[key].as_f64().is_some_and(|number| number > 0.0), "{key}: {summary:#}");
    }
    for phase in ["load", "read_back", "read_back_after"] {
        assert_eq!((&summary[phase]["ok"], &summary[phase]["mismatches"]), (&(PAIRS + 1).into(), &0.into()), "{phase}");
    }
    assert!(summary["sites"]["host"].as_u64().unwrap() >= count("ops_total"), "{summary:#}");
    assert_eq!(summary["drops"], serde_json::json!({}), "{summary:#}");
    assert_eq!((&summary["hook"], &summary["transport"]), (&attached.into(), &carried.into()), "{summary:#}");
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["operations", "p99.9", "drops      none", "bpftool prog show pinned", "map dump pinned"] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    assert_eq!(remains(pid), [""; 0], "{text}");
}

#[test]
fn at_xdp() {
    main_job("xdp", "xdp-native", "auto", "af_xdp", "B");
}

#[test]
fn at_tc() {
    main_job("tc", "tc", "udp", "udp", "A");
}

/// A run that would go on for minutes.
struct Serving {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Serving {
    /// Starts it and reads on until a line begins with `words`.
    fn start(mut command: Command, words: &str) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut run = Self { child, lines };
        let mut line = String::new();
        while !line.starts_with(words) {
            line.clear();
            assert!(run.lines.read_line(&mut line).unwrap() > 0, "it ended before it served: {:?}", run.child.wait());
        }
        assert!(!remains(run.pid()).is_empty());
        run
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it ended well, and what it said besides.
    fn end(mut self, signal: Signal) -> (bool, String) {
        kill_process(Pid::from_raw(self.pid() as i32).unwrap(), signal).unwrap();
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().success(), rest)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Of a failed test; it cleans up behind itself.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_raw(self.pid() as i32).unwrap(), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

#[test]
fn nothing_stays_behind_ctrl_c() {
    let run = Serving::start(xtask_run("--records 1000 --seconds 300"), "ready");
    let pid = run.pid();
    let (well, rest) = run.end(Signal::INT);
    assert!(!well, "{rest}");
    assert_eq!(remains(pid), [""; 0], "{rest}");
}

#[test]
fn the_next_run_removes_what_a_killed_one_left() {
    let mut run = Serving::start(xtask_run("--records 1000 --seconds 300"), "ready");
    let pid = run.pid();
    run.child.kill().unwrap();
    run.child.wait().unwrap();
    assert!(!remains(pid).is_empty());
    // It begins like any other; with a name, because others may be kept on purpose.
    let (_, output) = succeed(&format!("--stop run{pid}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!("stopped run{pid}")), "{text}");
    assert_eq!(remains(pid), [""; 0], "{text}");
}

#[test]
fn a_kept_run_serves_until_it_is_stopped() {
    let (pid, output) = succeed("--records 1000 --seconds 1 --transport udp --keep");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("xdp-native: native XDP is the fastest way") && text.contains("transport  udp"), "{text}");
    let command = text.lines().find(|line| line.contains(" store get ")).unwrap_or_else(|| panic!("no way in\n{text}"));
    // YCSB's first key.
    let command = command.replace(" KEY ", " user6284781860667377211 ");
    let words: Vec<_> = command.split_whitespace().collect();
    let read = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(read.status.success() && !read.stdout.is_empty(), "{words:?}: {read:?}");
    let (_, stopped) = succeed(&format!("--stop run{pid}"));
    let stopped = String::from_utf8_lossy(&stopped.stdout);
    assert!(stopped.contains(&format!("stopped run{pid}")), "{stopped}");
    assert_eq!(remains(pid), [""; 0]);
}

#[test]
fn an_interface_is_served_as_it_can_be_and_left_as_it_was() {
    let topology = Topology::builder().build().unwrap();
    let run = xtask_run("--iface lo --role host");
    // The loopback device of the namespace: its driver has no native XDP.
    let mut command = topology.host().command(run.get_program());
    command.args(run.get_args()).current_dir(run.get_current_dir().unwrap()).env_remove("NAAM_BPF_DIR");
    let run = Serving::start(command, "served     lo at tc: the driver has no native XDP");
    let pid = run.pid();
    let (well, rest) = run.end(Signal::TERM);
    assert!(well && rest.contains("lo is as before"), "{rest}");
    assert_eq!(remains(pid), [""; 0], "{rest}");
}
