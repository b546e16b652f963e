//! A Cell tree in the host's region, read by a client on another machine: at home by the handlers in the host's kernel, and at
//! the client site by the same handlers in the client, through one-sided READs.
//!
//! ```text
//!   here: Tree::load ── a file ──▶ host: region nodes ◀── cell_get, cell_scan at XDP ◀── wire ── client: naam call
//! ```

use naam_cell::{Options, Tree};
use naam_handler::native::Memory;
use naam_handlers::cell::{Code, args};

use crate::pair::Pair;

const REGION_BYTES: usize = 2 << 20;
const KEYS: u32 = 2000;
/// Bytes of a word on the wire.
const WORD: usize = 8;

fn key(number: u32) -> String {
    format!("key{number:05}")
}

fn value(number: u32) -> String {
    format!("value of {number}")
}

/// The bytes of a region with a tree of all keys, which has inner nodes.
fn tree() -> Vec<u8> {
    let memory = Memory::new(&[REGION_BYTES]);
    let mut tree = Tree::format(&memory, Options::default()).unwrap();
    tree.load((0..KEYS).map(|number| (key(number), value(number)))).unwrap();
    memory.words(0).iter().flat_map(|word| word.load(std::sync::atomic::Ordering::Relaxed).to_le_bytes()).collect()
}

/// A call of the client; its reply's bytes.
fn call(pair: &Pair, function: &str, site: &str, arguments: &[u8]) -> Vec<u8> {
    let words = arguments.chunks_exact(WORD).map(|word| u64::from_le_bytes(word.try_into().unwrap()).to_string());
    let words = words.collect::<Vec<_>>().join(" ");
    let line = format!("call --transport udp --app tree --site {site} {function} --u64 {words}");
    let reply = pair.json("10.77.0.2", &line);
    assert_eq!((&reply["status"], &reply["site"], &reply["code"]), (&"ok".into(), &site.into(), &0.into()), "{reply}");
    let hex = reply["reply_hex"].as_str().unwrap().as_bytes();
    let digits = hex.chunks_exact(2).map(|digits| std::str::from_utf8(digits).unwrap());
    digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect()
}

#[test]
fn a_tree_is_read_at_both_sites() {
    let test = "a_tree_is_read_at_both_sites";
    let Some(pair) = Pair::serving(test, "xdp", &["cell_get", "cell_scan"]) else { return };
    assert_eq!(Code::Ok as u32, 0);
    pair.host().put("/tmp/tree", 0o644, &tree()).unwrap();
    pair.at_host("region load tree nodes /tmp/tree");
    for function in ["load --app tree --builtin cell_get", "load --app tree --builtin cell_scan", "onesided --app tree"]
    {
        pair.at_host(&format!("handler {function}"));
    }
    for site in ["host", "client"] {
        for number in [0, KEYS / 2, KEYS - 1] {
            let mut buffer = [0; args::ARGS_MAX];
            let found = call(&pair, "cell_get", site, args::get(&mut buffer, key(number).as_bytes()));
            assert!(found.starts_with(value(number).as_bytes()), "{site}: {found:?}");
        }
        // From between two keys on, over the end of a leaf.
        let mut buffer = [0; args::ARGS_MAX];
        let reply = call(&pair, "cell_scan", site, args::scan(&mut buffer, b"key01000x", 0, 16));
        let scanned: Vec<_> = args::Scanned::new(&reply).unwrap().collect();
        assert_eq!(scanned.len(), 16, "{site}");
        for (number, entry) in (1001..).zip(scanned) {
            assert_eq!(entry.key, key(number).as_bytes(), "{site}");
            assert_eq!(entry.value, Some(value(number).as_bytes()), "{site}");
        }
    }
    pair.lab.finish().unwrap();
}
