//! What the loader finds of processes that were killed, or of other builds.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use naam_abi::tables::ProgramRef;
use naam_admission::admit;
use naam_loader::{Datapath, Hook, Objects, Options};
use naam_sys::{Map, MapSpec, MapType};
use naam_tests::bench::{Bench, SESSION};
use naam_tests::frame::{Message, Request};
use naam_tests::objects;

const APP: u16 = 3;

fn status(bench: &Bench, handler: u16) -> u16 {
    let messages = vec![Message::new(1, b"hello", 8)];
    let reply = bench.call(&Request { app: APP, function: 16, handler, shard: 5, session: SESSION, messages });
    reply.answers[0].status
}

/// Killed between the two words of the function table: the version that serves is also noted as the
/// one that drains.
#[test]
fn a_load_killed_between_its_words_loses_nothing() {
    let bench = Bench::new(Hook::Xdp, true);
    bench.app(APP);
    bench.load_built(APP, "echo", &[]);
    let tables = bench.datapath.tables();
    let half = || {
        let (current, draining) = tables.function(APP, 16);
        assert_eq!(draining, None);
        tables.set_draining(APP, 16, current);
    };
    half();
    assert_eq!(bench.datapath.drained(APP, 16).unwrap(), None);
    assert_eq!((status(&bench, 1), tables.function(APP, 16).1), (0, None));
    half();
    let echo = admit(&objects::read("echo")).expect("our own handler");
    bench.load((APP, 16, 2), &echo, &[]).unwrap();
    assert_eq!((status(&bench, 1), status(&bench, 2)), (0, 0));
}

/// Two programs of one version would share a pin, and messages would not know whom they get.
#[test]
fn a_version_is_loaded_once() {
    let bench = Bench::new(Hook::Xdp, true);
    bench.app(APP);
    bench.load_built(APP, "echo", &[]);
    let echo = admit(&objects::read("echo")).expect("our own handler");
    let load = |version| bench.load((APP, 16, version), &echo, &[]);
    assert!(load(1).unwrap_err().to_string().contains("version 1 of the function serves or drains"));
    load(2).unwrap();
    for version in [1, 2] {
        assert!(load(version).unwrap_err().to_string().contains("choose another version"), "{version}");
        assert_eq!(status(&bench, version), 0);
    }
    bench.datapath.drained(APP, 16).unwrap();
    let served = ProgramRef { version: 2, ..bench.datapath.tables().function(APP, 16).0.unwrap() };
    assert_eq!(bench.datapath.tables().programs(), [served]);
    load(1).unwrap();
}

/// aya takes a pinned map as it is: another build's must not pass for ours.
#[test]
fn maps_of_another_shape_are_refused() {
    for (name, map_type, value_size, max_entries) in [
        ("VISIT", MapType::PerCpuArray, 64, 1),
        ("APP_STATS", MapType::PerCpuArray, 448, 64),
        ("SLOTS", MapType::Array, 128, 65_536),
        ("INTERFACES", MapType::Array, 8, 16),
    ] {
        let options = Options::instance(&naam_testbed::instance());
        let pin = options.pins.join("maps").join(name);
        naam_sys::pin::ensure_bpffs(naam_sys::pin::BPFFS.as_ref()).unwrap();
        std::fs::create_dir_all(pin.parent().unwrap()).unwrap();
        let flags = if map_type == MapType::Array { naam_sys::map::MMAPABLE } else { 0 };
        let map =
            Map::create(&MapSpec { name, map_type, key_size: 4, value_size, max_entries, flags, btf: None }).unwrap();
        map.pin(&pin).unwrap();
        let (entry, shell) = (objects::read("entry"), objects::read("shell"));
        let opened = Datapath::open(&options, Objects { entry: &entry, shell: &shell }).map(drop);
        naam_loader::datapath::remove_pins(&options.pins).unwrap();
        let error = opened.unwrap_err().to_string();
        let words = [name, &format!("{max_entries} entries of {value_size} bytes"), "choose another instance name"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

/// Set in the processes that the test below starts.
const INSIDE: &str = "NAAM_TEST_KILLED";

/// Of the tests, not of the loader: instances have names that say whose they are.
#[test]
fn pins_of_a_killed_process_go_with_the_next() {
    match std::env::var(INSIDE).as_deref() {
        Ok("killed") => {
            let _bench = Bench::new(Hook::Xdp, true);
            println!("ready");
            // Until it is killed, or the one that would do it has ended.
            std::io::stdin().read_line(&mut String::new()).unwrap();
        }
        Ok(_) => drop(naam_testbed::instance()),
        Err(_) => {
            let own = Bench::new(Hook::Xdp, true);
            let again = |role| {
                let mut command = Command::new(std::env::current_exe().unwrap());
                command.args(["--exact", "pins_of_a_killed_process_go_with_the_next", "--nocapture"]);
                command.env(INSIDE, role).stdin(Stdio::piped()).stdout(Stdio::piped());
                command.spawn().unwrap()
            };
            let mut killed = again("killed");
            let mut lines = BufReader::new(killed.stdout.take().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().ends_with("ready")), "it has a bench");
            let pins = Path::new("/sys/fs/bpf/naam").join(format!("zt{}_0", killed.id()));
            killed.kill().unwrap();
            // Nobody else takes it for dead before it is waited for.
            assert!(pins.join("maps").exists(), "a killed process leaves its pins");
            killed.wait().unwrap();
            assert!(again("next").wait_with_output().unwrap().status.success());
            assert!(!pins.exists(), "{}", pins.display());
            assert!(own.pins().exists(), "what a live process has stays");
        }
    }
}
