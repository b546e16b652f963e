//! The handlers as readers of a tree in native memory.

#![allow(dead_code, reason = "each test program uses a part")]

use naam_abi::wire::Status;
use naam_handler::native::{Memory, reply, request, run};
use naam_handler::{Msg, Step, View1k};
use naam_handlers::cell::{self, Code, args};

pub type Handler = fn(&mut Msg, &View1k) -> Step;

pub fn get_message(key: &[u8]) -> Msg {
    request(args::get(&mut [0; args::ARGS_MAX], key))
}

pub fn scan_message(key: &[u8], flags: u64, keys: u64) -> Msg {
    request(args::scan(&mut [0; args::ARGS_MAX], key, flags, keys))
}

/// The value that a message got; `Err` with the code if it must be asked again.
pub fn value(status: Status, m: &Msg) -> Result<Option<Vec<u8>>, Code> {
    assert_eq!(status, Status::Ok, "code {}", m.code);
    match Code::from_code(m.code).unwrap() {
        Code::Ok => Ok(Some(reply(m))),
        Code::NotFound => Ok(None),
        code => Err(code),
    }
}

/// A GET while nobody changes the tree.
pub fn get(memory: &Memory, key: &[u8]) -> Option<Vec<u8>> {
    let mut m = get_message(key);
    let status = run(cell::get, &mut m, memory);
    assert_eq!(cell::restarts(&m), 0);
    value(status, &m).unwrap()
}

/// A key, and its value if that was in the reply.
pub type Entry = (Vec<u8>, Option<Vec<u8>>);

/// What a scan message got: entries, whether there is more, generation.
pub fn entries(status: Status, m: &Msg) -> Result<(Vec<Entry>, bool, u32), Code> {
    assert_eq!(status, Status::Ok, "code {}", m.code);
    let code = Code::from_code(m.code).unwrap();
    if code != Code::Ok {
        return Err(code);
    }
    let reply = reply(m);
    let scanned = args::Scanned::new(&reply).unwrap();
    let (has_more, generation) = (scanned.has_more, scanned.generation);
    let entries: Vec<_> = scanned.map(|entry| (entry.key.to_vec(), entry.value.map(<[u8]>::to_vec))).collect();
    assert_eq!(entries.len() as u64, m.reply[0] & 0xffff);
    Ok((entries, has_more, generation))
}

/// All keys from `from` on, by messages of `keys` keys.
pub fn scan_all(memory: &Memory, from: &[u8], flags: u64, keys: u64) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    let mut message = scan_message(from, flags, keys);
    loop {
        let status = run(cell::scan, &mut message, memory);
        assert_eq!(cell::restarts(&message), 0);
        let (entries, has_more, _) = entries(status, &message).unwrap();
        assert!(entries.len() as u64 <= keys);
        assert!(!entries.is_empty() || !has_more, "a scan that gets nowhere");
        all.extend(entries);
        if !has_more {
            return all;
        }
        let last = all.last().unwrap().0.clone();
        message = scan_message(&last, flags | args::EXCLUSIVE, keys);
    }
}
