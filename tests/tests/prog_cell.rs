//! The Cell handlers in the kernel, through the shell, against a sorted map, while the tree's owner
//! changes it through its mapping.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use naam_abi::limits::REGION_VALUE_MAX;
use naam_abi::wire::Status;
use naam_admission::admit;
use naam_cell::{Options, Quarantine, Tree};
use naam_engine::{Engine, Machine, Memory, Program, Request as Call, Run};
use naam_handlers::cell::{Code, GET_REPLY_MAX, SCAN_REPLY_MAX, args};
use naam_loader::Hook;
use naam_sys::{Map, Mapping};
use naam_tests::bench::{Bench, SESSION, region};
use naam_tests::frame::{Answer, Message, Request};
use naam_tests::objects;
use naam_tests::verdict::VARIANTS;

const APP: u16 = 3;
const GET: u16 = 16;
const SCAN: u16 = 17;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

struct Served {
    bench: Bench,
    region: Map,
}

impl Served {
    fn new(hook: Hook, may_goto: bool, bytes: u32) -> Self {
        let bench = Bench::new(hook, may_goto);
        bench.app(APP);
        let value_len = bytes.min(REGION_VALUE_MAX as u32);
        let region = region(value_len, bytes / value_len);
        for (function, name) in [(GET, "cell_get"), (SCAN, "cell_scan")] {
            let code = admit(&objects::read(name)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
            let loaded =
                bench.load((APP, function, 1), &code, &[&region]).unwrap_or_else(|error| panic!("{name}: {error}"));
            println!("{} {name:12} {:?} insns verified, {:?}", bench.name(), loaded.verified_insns, loaded.load_time);
        }
        Self { bench, region }
    }

    fn map(&self) -> Mapping {
        self.region.mmap().expect("mmap")
    }

    /// One datagram of one function.
    fn call(&self, function: u16, arguments: &[Vec<u8>], room: usize) -> Vec<Answer> {
        let messages = (0u32..).zip(arguments).map(|(id, args)| Message::new(id, args, room)).collect();
        let request = Request { app: APP, function, handler: 0, shard: 5, session: SESSION, messages };
        self.bench.call(&request).answers
    }

    fn get(&self, key: &[u8]) -> (Code, Vec<u8>) {
        let answer = self.call(GET, &[get(key)], GET_REPLY_MAX).remove(0);
        assert_eq!(answer.status, Status::Ok as u16, "{answer:?}");
        (Code::from_code(answer.code).expect("a code"), answer.reply)
    }

    /// All from `from` on.
    fn scan(&self, from: &[u8], keys: u64) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        let (mut all, mut next, mut flags) = (Vec::new(), from.to_vec(), 0);
        loop {
            let arguments = args::scan(&mut [0; args::ARGS_MAX], &next, flags, keys).to_vec();
            let answer = self.call(SCAN, &[arguments], SCAN_REPLY_MAX).remove(0);
            assert_eq!((answer.status, answer.code), (Status::Ok as u16, Code::Ok as u32), "{answer:?}");
            let scanned = args::Scanned::new(&answer.reply).expect("a reply");
            let has_more = scanned.has_more;
            all.extend(scanned.map(|entry| (entry.key.to_vec(), entry.value.map(<[u8]>::to_vec))));
            if !has_more {
                return all;
            }
            (next, flags) = (all.last().expect("an entry").0.clone(), args::EXCLUSIVE);
        }
    }
}

fn get(key: &[u8]) -> Vec<u8> {
    args::get(&mut [0; args::ARGS_MAX], key).to_vec()
}

fn key(number: u64) -> Vec<u8> {
    let mut key = format!("user{}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).into_bytes();
    key.resize(1 + number as usize % 64, b'.');
    key
}

fn value(number: u64, round: u64) -> Vec<u8> {
    vec![
        (number ^ round) as u8;
        (number * 37 + round * 101) as usize % if number.is_multiple_of(5) { 1001 } else { 90 }
    ]
}

#[test]
fn a_tree_in_the_kernel_is_a_sorted_map() {
    for (hook, may_goto) in VARIANTS {
        let served = Served::new(hook, may_goto, 4 << 20);
        let mut model = Model::new();
        let mut tree = Tree::format(served.map(), Options::default()).expect("format");
        for round in 0..3 {
            let mut batch = tree.batch();
            for number in 0..1_500 {
                let key = key(number);
                if (number + round) % 7 == 0 {
                    assert_eq!(batch.delete(&key).expect("delete"), model.remove(&key).is_some());
                } else {
                    batch.insert(&key, &value(number, round)).expect("insert");
                    model.insert(key, value(number, round));
                }
            }
            batch.commit().expect("commit");
            for number in (0..1_500).step_by(11) {
                let expected = model.get(&key(number)).map_or((Code::NotFound, &[][..]), |value| (Code::Ok, value));
                let (code, value) = served.get(&key(number));
                assert_eq!((code, &value[..]), expected, "{number}");
            }
            for keys in [1, 5, 32] {
                let from = key(round * 7 + keys);
                let expected = model
                    .range(from.clone()..)
                    .map(|(key, value)| (key.clone(), (value.len() <= 128).then(|| value.clone())));
                assert!(served.scan(&from, keys).into_iter().eq(expected), "{keys} keys from {from:?}");
            }
        }
        let numbers: Vec<_> = (0..32).map(|number| number * 3 + 1).collect();
        let arguments: Vec<_> = numbers.iter().map(|&number| get(&key(number))).collect();
        let answers = served.call(GET, &arguments, 72);
        for (answer, number) in answers.iter().zip(&numbers) {
            let fits = model.get(&key(*number)).filter(|value| value.len() <= 72);
            assert!(answer.status != Status::Ok as u16 || fits.is_none_or(|value| answer.reply == *value), "{number}");
        }
        let steps: Vec<_> = answers.iter().map(|answer| answer.steps).collect();
        println!("{}: height {}, steps {steps:?}", served.bench.name(), tree.height());
    }
}

#[test]
fn arguments_and_regions_that_are_none_are_refused() {
    let served = Served::new(Hook::Xdp, true, 2 << 20);
    let refused = |function, arguments: Vec<u8>| {
        let answer = served.call(function, &[arguments], 64).remove(0);
        assert_eq!(answer.status, Status::Failed as u16);
        Code::from_code(answer.code)
    };
    assert_eq!(refused(GET, get(b"key")), Some(Code::NoTree));
    let tree = Tree::format(served.map(), Options::default()).expect("format");
    assert_eq!(served.get(b"key").0, Code::NotFound);
    assert_eq!(served.scan(b"", 32), []);
    let (padded, longer) = ([3, 0, 0, 0, 0, 0, 0, 0, b'k', b'e', b'y', 1, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
    for arguments in [&padded[..], &longer[..], &[0; 8], &[65, 0, 0, 0, 0, 0, 0, 0], &[]] {
        assert_eq!(refused(GET, arguments.to_vec()), Some(Code::BadArguments), "{arguments:?}");
    }
    assert_eq!(refused(SCAN, padded.to_vec()), Some(Code::BadArguments));
    drop(tree);
}

/// Ends the other thread, also when this one panics.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn keys_that_stay_are_always_found_while_the_owner_changes_the_rest() {
    let served = Served::new(Hook::Xdp, true, 16 << 20);
    let quarantine = Quarantine { blocks: 8, time: Duration::ZERO };
    let mut tree = Tree::format(served.map(), Options { quarantine, ..Options::default() }).expect("format");
    // Even keys stay, and hold their own number eight times.
    let even: Vec<u64> = (0..20_000).step_by(2).collect();
    tree.load(even.iter().map(|number| (number.to_be_bytes(), number.to_be_bytes().repeat(8)))).expect("load");
    let done = AtomicBool::new(false);
    let (mut found, mut retries, mut changes) = (0u64, 0u64, 0u64);
    thread::scope(|scope| {
        let (done, changes) = (&done, &mut changes);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let number = (*changes).wrapping_mul(7919) % 10_000 * 2 + 1;
                if changes.is_multiple_of(3) {
                    tree.delete(&number.to_be_bytes()).expect("delete");
                } else {
                    tree.insert(&number.to_be_bytes(), &[1; 60]).expect("insert");
                }
                *changes += 1;
            }
            tree.verify().expect("a sound tree");
        });
        let _done = Done(done);
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            let numbers: Vec<u64> = (0..16).map(|i| even[(found * 31 + i * 677) as usize % even.len()]).collect();
            let arguments: Vec<_> = numbers.iter().map(|number| get(&number.to_be_bytes())).collect();
            for (answer, number) in served.call(GET, &arguments, 72).iter().zip(&numbers) {
                assert_eq!(answer.status, Status::Ok as u16, "{answer:?}");
                match Code::from_code(answer.code) {
                    Some(Code::Ok) => assert_eq!(answer.reply, number.to_be_bytes().repeat(8)),
                    Some(Code::Retry) => retries += 1,
                    code => panic!("{number}: {code:?}"),
                }
                found += 1;
            }
        }
    });
    println!("{found} look-ups, {retries} gave up, {changes} changes");
    assert!(changes > 1_000 && found > 1_000);
    assert!(retries * 100 < found, "{retries} of {found} look-ups gave up");
}

/// The pages of the region, as the engine of a client on the same machine has them. Nothing is written.
struct Pages(Mapping);

impl Memory for Pages {
    fn read(&self, _: u32, offset: u64, view: &mut [u8]) -> Result<(), Status> {
        self.0.copy_out(offset, view).map_err(|_| Status::Bounds)
    }

    fn write(&self, _: u32, _: u64, _: &[u8]) -> Result<(), Status> {
        Err(Status::ReadOnly)
    }

    fn compare_exchange(&self, _: u32, _: u64, _: u64, _: u64) -> Result<u64, Status> {
        Err(Status::ReadOnly)
    }

    fn fetch_add(&self, _: u32, _: u64, _: u64) -> Result<u64, Status> {
        Err(Status::ReadOnly)
    }
}

fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20
}

/// A value that tells its key in every word, and that all its words are of one write.
fn tagged(key: u64, version: u64) -> Vec<u8> {
    let version = version & 0xff_ffff;
    (key << 24 | version).to_le_bytes().repeat(1 + version as usize % 3)
}

fn is_tagged(key: u64, value: &[u8]) -> bool {
    let first = value.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    value == tagged(key, first) && first >> 24 == key
}

/// What a look-up of a key that stays may answer: its value, or that it is to be asked again.
fn assert_found(number: u64, status: u16, code: u32, reply: &[u8], retries: &AtomicU64) {
    match (status, Code::from_code(code)) {
        (0, Some(Code::Ok)) => assert!(is_tagged(number, reply), "{number}: {reply:x?}"),
        (0, Some(Code::Retry)) => _ = retries.fetch_add(1, Ordering::Relaxed),
        _ => panic!("{number}: status {status}, code {code}"),
    }
}

/// Looks keys up through the kernel's handler, 32 a datagram.
fn by_kernel(served: &Served, keys: u64, look_ups: u64, retries: &AtomicU64) {
    let mut random = 99;
    for _ in 0..look_ups / 32 {
        let numbers: Vec<u64> = (0..32).map(|_| next(&mut random) % (keys / 2) * 2).collect();
        let arguments: Vec<_> = numbers.iter().map(|number| get(&number.to_be_bytes())).collect();
        for (answer, number) in served.call(GET, &arguments, 72).iter().zip(&numbers) {
            assert_found(*number, answer.status, answer.code, &answer.reply, retries);
        }
    }
}

/// The same in the engine, on the same pages.
fn by_engine(program: &Arc<Program>, pages: &Pages, keys: u64, look_ups: u64, retries: &AtomicU64) {
    let mut random = 98;
    let first = get(&0u64.to_be_bytes());
    let mut run = Run::start(program, &Call { args: &first, reply_room: 72, shard: 5 }).expect("it starts");
    for _ in 0..look_ups {
        let number = next(&mut random) % (keys / 2) * 2;
        let args = get(&number.to_be_bytes());
        run.restart(program, &Call { args: &args, reply_room: 72, shard: 5 }).expect("it starts");
        let end = run.finish(pages).expect("no fault");
        assert_found(number, end.status as u16, end.code, end.reply, retries);
    }
}

#[test]
fn look_ups_in_a_large_tree_are_right_at_both_sites_while_the_owner_splits() {
    let soak = std::env::var_os("NAAM_SOAK").is_some();
    // Half of the keys, the even ones, stay; look-ups at each site.
    let (keys, bytes, look_ups) = if soak { (20_000_000u64, 1 << 30, 10_000_000) } else { (200_000, 32 << 20, 20_000) };
    let served = Served::new(Hook::Xdp, true, bytes);
    let program =
        Engine::new(Machine::Best).load(&admit(&objects::read("cell_get")).expect("admitted")).expect("loads");
    let quarantine = Quarantine { blocks: 16, time: Duration::ZERO };
    let mut tree = Tree::format(served.map(), Options { quarantine, ..Options::default() }).expect("format");
    let begin = Instant::now();
    tree.load((0..keys).step_by(2).map(|number| (number.to_be_bytes(), tagged(number, 0)))).expect("load");
    println!("{} keys in {} levels loaded in {:.1?}", tree.keys(), tree.height(), begin.elapsed());
    let (done, kernel, engine) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let begin = Instant::now();
    thread::scope(|scope| {
        let (done, engine, pages) = (&done, &engine, Pages(served.map()));
        let owner = scope.spawn(move || {
            let (mut random, mut changes, nodes) = (1, 0u64, tree.nodes());
            while !done.load(Ordering::Relaxed) {
                let mut batch = tree.batch();
                for _ in 0..8 {
                    let number = next(&mut random) % keys;
                    let key = number.to_be_bytes();
                    match next(&mut random) % 4 {
                        0 if number % 2 == 1 => _ = batch.delete(&key).expect("delete"),
                        _ => _ = batch.insert(&key, &tagged(number, next(&mut random))).expect("insert"),
                    }
                }
                batch.commit().expect("commit");
                changes += 8;
            }
            println!("{changes} changes, {nodes} nodes became {}", tree.nodes());
            assert!(tree.nodes() > nodes, "no node was split");
            tree.verify().expect("a sound tree");
        });
        let _done = Done(done);
        let reader = scope.spawn(move || by_engine(&program, &pages, keys, look_ups, engine));
        by_kernel(&served, keys, look_ups, &kernel);
        println!("kernel: {look_ups} look-ups in {:.1?}, {kernel:?} gave up", begin.elapsed());
        reader.join().expect("the engine's look-ups are right");
        println!("engine: {look_ups} look-ups in {:.1?}, {engine:?} gave up", begin.elapsed());
        assert!(!owner.is_finished(), "the owner worked to the end");
    });
    let retries = kernel.into_inner() + engine.into_inner();
    assert!(retries < look_ups / 50, "{retries} of {} look-ups gave up", look_ups * 2);
}
