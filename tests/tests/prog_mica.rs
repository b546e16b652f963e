//! The MICA handlers in the kernel, through the shell, against a map.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use naam_abi::wire::Status;
use naam_admission::admit;
use naam_handlers::mica::{Code, GET_REPLY_MAX, args, layout::Geometry};
use naam_loader::Hook;
use naam_sys::Map;
use naam_tests::bench::{Bench, SESSION, region};
use naam_tests::frame::{Answer, Message, Request};
use naam_tests::objects;

const APP: u16 = 3;
const GET: u16 = 16;
const SET: u16 = 17;
const CAS: u16 = 18;
const DELETE: u16 = 19;
const GET_C: u16 = 20;
const REGION_BYTES: u32 = 2 << 20;

struct Store {
    bench: Bench,
    geometry: Geometry,
    sequence: u32,
    _region: Map,
}

impl Store {
    fn new(hook: Hook, may_goto: bool) -> Self {
        let bench = Bench::new(hook, may_goto);
        bench.app(APP);
        let region = region(REGION_BYTES, 1);
        let names =
            [(GET, "mica_get"), (SET, "mica_set"), (CAS, "mica_cas"), (DELETE, "mica_delete"), (GET_C, "mica_get_c")];
        for (function, name) in names {
            let code = admit(&objects::read(name)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
            let loaded =
                bench.load((APP, function, 1), &code, &[&region]).unwrap_or_else(|error| panic!("{name}: {error}"));
            println!("{hook} {name:12} {:?} insns verified, {:?}", loaded.verified_insns, loaded.load_time);
        }
        let geometry = Geometry::plan(REGION_BYTES.into(), 16, 100).expect("geometry");
        let words = region.mmap().expect("mmap");
        geometry.format(|at, word| words.store(at, word, Ordering::SeqCst).expect("inside"));
        Self { bench, geometry, sequence: 0, _region: region }
    }

    /// One datagram of one function.
    fn call(&mut self, function: u16, arguments: &[Vec<u8>]) -> Vec<Answer> {
        self.sequence += 1;
        let room = if matches!(function, GET | GET_C) { GET_REPLY_MAX } else { 8 };
        let message = |(slot, args): (u16, &Vec<u8>)| Message {
            slot,
            sequence: self.sequence,
            ..Message::new(slot.into(), args, room)
        };
        let messages = (0..).zip(arguments).map(message).collect();
        let request = Request { app: APP, function, handler: 0, shard: 5, session: SESSION, messages };
        let answers = self.bench.call(&request).answers;
        assert!(answers.iter().all(|answer| answer.status == Status::Ok as u16), "function {function}: {answers:?}");
        answers
    }

    fn get(&mut self, key: &[u8]) -> Option<(u64, Vec<u8>)> {
        let arguments = args::get(&mut [0; args::GET_ARGS_MAX], self.geometry, key).to_vec();
        let answer = self.call(GET, std::slice::from_ref(&arguments)).remove(0);
        let in_c = self.call(GET_C, &[arguments]).remove(0);
        assert_eq!((answer.code, &answer.reply, answer.steps), (in_c.code, &in_c.reply, in_c.steps));
        match Code::from_code(answer.code) {
            Some(Code::Ok) => args::found(&answer.reply).map(|(version, value)| (version, value.to_vec())),
            Some(Code::NotFound) => None,
            code => panic!("{code:?}"),
        }
    }
}

fn set(key: &[u8], value: &[u8]) -> Vec<u8> {
    args::set(&mut [0; args::WRITE_ARGS_MAX], key, value).to_vec()
}

fn key(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + number as usize % 8)
}

fn value(number: u64, round: u64) -> Vec<u8> {
    vec![(number ^ round) as u8; (number * 37 + round * 101) as usize % 1001]
}

#[test]
fn a_store_in_the_kernel_is_a_map() {
    for (hook, may_goto) in [(Hook::Xdp, true), (Hook::Xdp, false), (Hook::Tc, true), (Hook::Tc, false)] {
        let mut store = Store::new(hook, may_goto);
        let mut model: HashMap<Vec<u8>, (u64, Vec<u8>)> = HashMap::new();
        for round in 0..6 {
            for number in 0..60 {
                let (key, value) = (key(number), value(number, round));
                match (number + round) % 5 {
                    0 => {
                        let gone = store.call(DELETE, &[args::delete(&mut [0; 200], &key).to_vec()]).remove(0);
                        let expected = if model.remove(&key).is_some() { Code::Ok } else { Code::NotFound };
                        assert_eq!(gone.code, expected as u32);
                    }
                    1 => {
                        let version = model.get(&key).map_or(1, |(version, _)| *version);
                        let arguments = args::cas(&mut [0; args::WRITE_ARGS_MAX], &key, version, &value).to_vec();
                        let answer = store.call(CAS, &[arguments]).remove(0);
                        let expected = if model.contains_key(&key) { Code::Ok } else { Code::NotFound };
                        assert_eq!(answer.code, expected as u32);
                        if let Some(version) = args::version(&answer.reply) {
                            model.insert(key, (version, value));
                        }
                    }
                    _ => {
                        let answer = store.call(SET, &[set(&key, &value)]).remove(0);
                        assert_eq!(answer.code, Code::Ok as u32);
                        model.insert(key, (args::version(&answer.reply).expect("version"), value));
                    }
                }
            }
            for number in 0..61 {
                assert_eq!(
                    store.get(&key(number)),
                    model.get(&key(number)).cloned(),
                    "{hook}, round {round}, {number}"
                );
            }
        }
    }
}

#[test]
fn a_full_datagram_of_sets_stores_them_all() {
    let mut store = Store::new(Hook::Xdp, true);
    for round in 0..20u64 {
        let arguments: Vec<_> = (0..32u64).map(|i| set(&(round / 2 * 32 + i).to_le_bytes(), &[i as u8; 40])).collect();
        let answers = store.call(SET, &arguments);
        assert!(answers.iter().all(|answer| answer.code == Code::Ok as u32), "round {round}: {answers:?}");
        println!("round {round}: up to {:?} steps", answers.iter().map(|answer| answer.steps).max());
    }
    for number in 0..320u64 {
        assert!(
            store.get(&number.to_le_bytes()).is_some_and(|(_, value)| value == [(number % 32) as u8; 40]),
            "{number}"
        );
    }
}
