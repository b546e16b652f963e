//! The engine does with a message what the kernel's shell does: same reply, code, status, steps and memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use naam_abi::handler::META_WRITES;
use naam_abi::limits::{ARGS_BYTES, REPLY_BYTES, STEPS_MAX};
use naam_abi::tables::RIGHT_ALL;
use naam_abi::wire::{self, CARRIED_BYTES_MAX, Carried, STATUS_NAMES, Status};
use naam_admission::{Admitted, admit};
use naam_engine::{Action, Engine, Image, Limited, Machine, Memory, Program, Run};
use naam_handlers::mica::args;
use naam_handlers::mica::layout::Geometry;
use naam_loader::Hook;
use naam_tests::frame::{Answer, Message};
use naam_tests::handlers::{Order, handler, strings};
use naam_tests::stage::{FUNCTION, SHARD, SINGLE, Stage, VALUE, VALUES};
use naam_tests::{objects, stage};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// A handler on a stage, and the engine beside it with memory of its own.
struct Pair {
    stage: Stage,
    programs: [Arc<Program>; 2],
    /// One memory for each program, and one for messages that are cut.
    images: [Image; 3],
    /// Whether the handler keeps to the rules for what survives a cut.
    cuts: bool,
    rights: [u8; 8],
    reply_max: usize,
    sequence: u32,
}

impl Pair {
    fn new(handler: &Admitted) -> Self {
        let stage = Stage::new(Hook::Xdp, true, handler);
        let machine = |machine| Engine::new(machine).load(handler).unwrap_or_else(|error| panic!("{error}"));
        let reply_max = if handler.meta.flags & META_WRITES == 0 { 1024 } else { 240 };
        let mut pair = Self {
            stage,
            programs: [machine(Machine::Jit), machine(Machine::Interpreter)],
            images: [Image::new(), Image::new(), Image::new()],
            cuts: true,
            rights: [RIGHT_ALL; 8],
            reply_max,
            sequence: 0,
        };
        pair.take_over();
        pair
    }

    /// Gives the engine the memory that the kernel has.
    fn take_over(&mut self) {
        for image in &mut self.images {
            *image = Image::new();
            for (memory, value_len) in self.stage.memory.iter().zip([SINGLE, VALUE]) {
                let mut bytes = vec![0; memory.len() as usize];
                memory.copy_out(0, &mut bytes).expect("inside");
                image.push_values(&bytes, value_len).expect("whole values");
            }
        }
    }

    /// One message through all three. The answer, if all agree.
    fn call(&mut self, args: &[u8], room: usize, what: &str) -> Answer {
        self.sequence += 1;
        let message = Message { sequence: self.sequence, ..Message::new(1, args, room) };
        let room = message.room;
        let (_, reply) = self.stage.judge(&Stage::request(vec![message]), what);
        let answer = reply.answers.into_iter().next().expect("one answer");
        let request = naam_engine::Request { args, reply_room: room, shard: SHARD };
        if self.cuts {
            let image = Limited { memory: &self.images[2], rights: self.rights };
            assert_cut_alike(&self.programs, &request, &image, &answer, what);
        }
        for (program, image) in self.programs.iter().zip(&self.images) {
            let mut run = Run::start(program, &request).expect("it starts");
            let end = run.finish(&Limited { memory: image, rights: self.rights }).expect("no fault");
            let name = |status: u16| STATUS_NAMES[usize::from(status)];
            assert_eq!(
                (name(end.status as u16), end.code, end.reply, end.steps),
                (name(answer.status), answer.code, &answer.reply[..], u32::from(answer.steps)),
                "{what}, compiled: {}, arguments {args:x?}",
                program.is_compiled()
            );
        }
        answer
    }

    /// Demands that all memories are the same, word for word.
    fn compare_memory(&self, what: &str) {
        for (number, image) in self.images[..if self.cuts { 3 } else { 2 }].iter().enumerate() {
            for (region, memory) in self.stage.memory.iter().enumerate() {
                for (at, word) in image.words(region).iter().enumerate() {
                    let kernel = memory.load(at as u64 * 8, Ordering::SeqCst).expect("inside");
                    assert_eq!(
                        word.load(Ordering::SeqCst),
                        kernel,
                        "{what}: memory {number}, region {region}, offset {:#x}",
                        at * 8
                    );
                }
            }
        }
    }
}

/// Demands the kernel's answer of a message that is cut after every step up to its first effect, and goes on on the other
/// machine.
fn assert_cut_alike(
    programs: &[Arc<Program>; 2],
    request: &naam_engine::Request<'_>,
    memory: &impl Memory,
    answer: &Answer,
    what: &str,
) {
    let mut run = Run::start(&programs[0], request).expect("it starts");
    let mut buffer = [0; CARRIED_BYTES_MAX];
    for sites in 1.. {
        let effect = matches!(run.action(), Action::Effect(_));
        let Some(carried) = run.cut(&mut buffer) else { break };
        // The kernel's message stays at one site, where it has so many steps.
        let spent = u32::from(carried.steps()) >= STEPS_MAX;
        // Through its own bytes, as over the wire.
        let mut header = wire::Message::default();
        carried.fill(&mut header);
        let mut room = carried.body().to_vec();
        room.resize(header.room.into(), 0xee);
        let carried = Carried::decode(&header, &room).expect("what was cut is well-formed");
        run = Run::resume(&programs[sites % 2], &carried, SHARD);
        if spent {
            run.refuse(Status::Budget);
        } else {
            run.perform(memory).expect("no fault");
        }
        // A message that has had an effect stays where it is.
        if effect {
            run.finish(memory).expect("no fault");
        }
    }
    let Action::Ended(end) = run.action() else { panic!("{what}: {:?}", run.action()) };
    assert_eq!(
        (end.status as u16, end.code, end.reply, end.steps),
        (answer.status, answer.code, &answer.reply[..], u32::from(answer.steps)),
        "{what}, cut after every step, arguments {:x?}",
        request.args
    );
}

fn runner(test: &str) -> TestRunner {
    let seed = std::env::var("NAAM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20 | 0x4e42);
    println!("{test}: NAAM_SEED={seed}");
    TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), failure_persistence: None, ..Config::default() })
}

fn draw<S: Strategy>(strategy: &S, runner: &mut TestRunner) -> S::Value {
    strategy.new_tree(runner).expect("a value").current()
}

/// Places in and around the stage's regions.
fn offset() -> BoxedStrategy<u64> {
    let edges = vec![0, 8, VALUE - 8, VALUE, VALUE * VALUES - 64, VALUE * VALUES, SINGLE - 1024, SINGLE - 8, SINGLE];
    prop_oneof![
        4 => (0..64u64).prop_map(|word| word * 8),
        3 => prop::sample::select(edges),
        2 => (0..SINGLE / 8).prop_map(|word| word * 8),
        1 => any::<u32>().prop_map(u64::from),
        1 => any::<u64>(),
    ]
    .boxed()
}

/// Bytes of arguments and reply that a puppet of these tests can name and that are what somebody put there.
const SPECIFIED: u64 = ARGS_BYTES as u64 + 240;

fn order() -> BoxedStrategy<Order> {
    let step = prop_oneof![12 => 1..=4u32, 1 => 0..=7u32, 1 => any::<u32>()];
    let len = prop_oneof![8 => (1..=8u32).prop_map(|words| words * 8), 3 => (0..=140u32).prop_map(|words| words * 8),
        1 => 0..=1200u32, 1 => any::<u32>()];
    let source = prop_oneof![6 => (0..=264u64).prop_map(|words| words * 8), 1 => 0..=2200u64, 1 => (1u64 << 31)..=u64::from(u32::MAX)];
    let region = prop_oneof![10 => 0..=1u32, 1 => 0..=9u32];
    let word = prop_oneof![any::<u64>(), (0..4u64).prop_map(|at| stage::pattern(0, at * 8))];
    (step, region, offset(), len, source, word, any::<u64>())
        .prop_map(|(step, region, offset, len, source, expect, value)| {
            // What lies behind the longest reply is unspecified: nothing can be said of it.
            let sound = len <= ARGS_BYTES as u32 && source <= (ARGS_BYTES + REPLY_BYTES) as u64;
            let source = if sound && source + u64::from(len) > SPECIFIED { source % 240 / 8 * 8 } else { source };
            let source = source as u32;
            Order { step, region, offset, len, source, expect, value }
        })
        .boxed()
}

/// Ops that handlers may ask for and ops that they may not, under all sorts of rights.
#[test]
fn puppets_perform_alike() {
    let mut runner = runner("puppets_perform_alike");
    let mut seen = std::collections::BTreeSet::new();
    for name in ["puppet", "puppet_reader", "puppet_small"] {
        let mut pair = Pair::new(&handler(name));
        // What it has in its reply lies above `reply_len` until it ends.
        pair.cuts = false;
        let orders = prop::collection::vec(order(), 0..20);
        for round in 0..400 {
            if round % 20 == 0 {
                let rights = if round % 40 == 0 {
                    [RIGHT_ALL; 8]
                } else {
                    draw(&prop::array::uniform8(0..=RIGHT_ALL), &mut runner)
                };
                pair.rights = rights;
                pair.stage.set_rights(rights);
            }
            let orders = draw(&orders, &mut runner);
            let reply_len = draw(&prop_oneof![6 => Just(8u64), 1 => 0..=300u64, 1 => any::<u64>()], &mut runner);
            let what = format!("{name} on {orders:?}");
            let mut args = strings(&orders, reply_len);
            args.resize(ARGS_BYTES, 0);
            let answer = pair.call(&args, 240, &what);
            seen.insert(answer.status);
        }
        pair.compare_memory(name);
        // More than a visit's steps.
        let endless = naam_tests::handlers::strings_for_ever(Order::read(0, 0, 8));
        pair.rights = [RIGHT_ALL; 8];
        pair.stage.set_rights(pair.rights);
        assert_eq!(pair.call(&endless, 240, name).status, Status::Budget as u16);
    }
    let all = [Status::Ok, Status::Failed, Status::Denied, Status::Bounds, Status::NoRegion, Status::BadStep];
    for status in all.into_iter().chain([Status::ReadOnly, Status::Room]) {
        assert!(seen.contains(&(status as u16)), "no message ended with {status:?}");
    }
}

/// Every handler of this build, with arguments and memory that its author did not think of.
#[test]
fn every_handler_does_alike_on_random_memory() {
    let mut runner = runner("every_handler_does_alike_on_random_memory");
    let word = prop_oneof![
        4 => offset(),
        2 => 0..32u64,
        1 => Just(0u64),
        1 => any::<u64>(),
        // Small numbers side by side, as packed headers have them.
        2 => any::<[u8; 4]>().prop_map(|[a, b, c, d]| u64::from(a) | u64::from(b) << 16 | u64::from(c) << 32 | u64::from(d) << 48),
    ]
    .boxed();
    let (words, fill) = (prop::collection::vec(word.clone(), 0..28), prop::collection::vec(word, 512));
    let mut names: Vec<String> = std::fs::read_dir(objects::directory())
        .expect("cargo xtask build has run")
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    let mut tried = Vec::new();
    for name in names {
        let Ok(admitted) = admit(&objects::read(&name)) else { continue };
        let mut pair = Pair::new(&admitted);
        let mut ends = std::collections::BTreeMap::new();
        for round in 0..120 {
            if round % 30 == 0 {
                let fill = draw(&fill, &mut runner);
                for memory in &pair.stage.memory {
                    for at in 0..memory.len() / 8 {
                        let word = fill[(at as usize + round) % fill.len()];
                        memory.store(at * 8, word, Ordering::Relaxed).expect("inside");
                    }
                }
                pair.take_over();
            }
            let mut args: Vec<u8> = draw(&words, &mut runner).iter().flat_map(|word| word.to_le_bytes()).collect();
            args.truncate(args.len().saturating_sub(draw(&(0..=7usize), &mut runner)));
            let room = draw(&(0..=pair.reply_max / 8), &mut runner) * 8;
            let answer = pair.call(&args, room, &name);
            *ends.entry(STATUS_NAMES[usize::from(answer.status)]).or_insert(0) += 1;
        }
        pair.compare_memory(&name);
        println!("{name:16} {ends:?}");
        tried.push(name);
    }
    let mica = ["mica_get", "mica_set", "mica_cas", "mica_delete", "mica_get_c"];
    for name in mica.into_iter().chain(["echo", "counter", "chain", "echo_c", "cell_get", "cell_scan"]) {
        assert!(tried.iter().any(|tried| tried == name), "{name} was not tried: {tried:?}");
    }
}

/// MICA as it is used: the stores that the kernel and the engine build are the same, word for word.
#[test]
fn mica_builds_the_same_store() {
    let mut runner = runner("mica_builds_the_same_store");
    let load = |name: &str| admit(&objects::read(name)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
    let handlers = ["mica_set", "mica_get", "mica_cas", "mica_delete"].map(load);
    let mut pair = Pair::new(&handlers[0]);
    for (number, handler) in (FUNCTION + 1..).zip(&handlers[1..]) {
        pair.stage.load(number, 1, handler);
    }
    let geometry = Geometry::plan(SINGLE, 16, 100).expect("geometry");
    let words = &pair.stage.memory[0];
    (0..words.len() / 8).for_each(|at| words.store(at * 8, 0, Ordering::Relaxed).expect("inside"));
    geometry.format(|at, word| words.store(at, word, Ordering::SeqCst).expect("inside"));
    pair.take_over();
    let programs = handlers.each_ref().map(|handler| {
        [Machine::Jit, Machine::Interpreter].map(|machine| Engine::new(machine).load(handler).expect("it loads"))
    });
    let op = (0..10usize, 0..40u64, 0..=1000usize, any::<u8>());
    for round in 0..500u32 {
        let (kind, number, len, byte) = draw(&op, &mut runner);
        let key = number.to_le_bytes().repeat(1 + number as usize % 8);
        let (mut buffer, value) = ([0; args::WRITE_ARGS_MAX], vec![byte; len]);
        let (which, arguments) = match kind {
            0..=3 => (0, args::set(&mut buffer, &key, &value).to_vec()),
            4..=6 => (1, args::get(&mut [0; args::GET_ARGS_MAX], geometry, &key).to_vec()),
            7..=8 => (2, args::cas(&mut buffer, &key, 1, &value).to_vec()),
            _ => (3, args::delete(&mut buffer, &key).to_vec()),
        };
        let room = if which == 1 { 1024 } else { 240 };
        let message = Message { sequence: round + 1, ..Message::new(1, &arguments, room) };
        let room = message.room;
        let request = naam_tests::frame::Request { function: FUNCTION + which as u16, ..Stage::request(vec![message]) };
        let (_, reply) = pair.stage.judge(&request, "mica");
        let answer = &reply.answers[0];
        let request = naam_engine::Request { args: &arguments, reply_room: room, shard: SHARD };
        assert_cut_alike(&programs[which], &request, &pair.images[2], answer, "mica");
        for (program, image) in programs[which].iter().zip(&pair.images) {
            let mut run = Run::start(program, &request).expect("it starts");
            let end = run.finish(image).expect("no fault");
            let kernel = (answer.status, answer.code, &answer.reply[..], u32::from(answer.steps));
            assert_eq!(
                (end.status as u16, end.code, end.reply, end.steps),
                kernel,
                "op {round}: {kind} of key {number}"
            );
        }
        if round % 100 == 0 {
            pair.compare_memory("mica");
        }
    }
    pair.compare_memory("mica");
}

/// Cell as it is used, and as nobody should use it: arguments of all sorts on a tree of several levels that its owner changes,
/// and on what is left of one after words of it were overwritten.
#[test]
fn cell_reads_the_same_tree() {
    const KEYS: u64 = 2_000;
    let mut runner = runner("cell_reads_the_same_tree");
    let handlers = ["cell_get", "cell_scan"]
        .map(|name| admit(&objects::read(name)).unwrap_or_else(|refusal| panic!("{name}: {refusal}")));
    let mut pair = Pair::new(&handlers[0]);
    pair.stage.load(FUNCTION + 1, 1, &handlers[1]);
    let programs = handlers.each_ref().map(|handler| {
        [Machine::Jit, Machine::Interpreter].map(|machine| Engine::new(machine).load(handler).expect("it loads"))
    });
    let key =
        |number: u64| [&(number / 4).to_be_bytes()[..], &vec![b'k'; number as usize % 49], &[number as u8]].concat();
    let value = |number: u64, version: u64| {
        vec![version as u8; (number * 37 % if number.is_multiple_of(9) { 1001 } else { 90 }) as usize]
    };
    let mut tree = naam_cell::Tree::format(pair.stage.maps[0].mmap().expect("mmap"), naam_cell::Options::default())
        .expect("format");
    let mut sorted: Vec<_> = (0..KEYS).map(|number| (key(number), value(number, 0))).collect();
    sorted.sort();
    tree.load(sorted).expect("load");
    assert!(tree.height() >= 3, "{} levels", tree.height());
    pair.take_over();
    // What a key may be, and what is none.
    let number = prop_oneof![8 => 0..KEYS, 1 => KEYS..KEYS + 4];
    let word = prop_oneof![6 => Just(None), 1 => any::<u64>().prop_map(Some), 1 => (0..70u64, 0..9u64, 0..40u64)
        .prop_map(|(key_len, flags, keys)| Some(key_len | flags << 16 | keys << 32))];
    let question = (0..2usize, number, 0..4u64, 0..=33u64, word, 0..=7usize, 0..=128usize).boxed();
    // Places of words of the tree, and what damages them.
    let damage =
        prop::collection::vec((128..80_000u64, prop_oneof![any::<u64>(), (0..64u64).prop_map(|bit| 1 << bit)]), 1..40);
    let mut codes = std::collections::BTreeMap::new();
    for round in 0..600u64 {
        if round % 20 == 19 {
            // The owner has gone by then.
            if round < 300 {
                let mut batch = tree.batch();
                for near in 0..20 {
                    let number = round * 91 + near;
                    batch.insert(&key(number % KEYS), &value(number % KEYS, round)).expect("insert");
                    batch.delete(&key((number + 777) % KEYS)).expect("delete");
                }
                batch.commit().expect("commit");
            } else {
                for (at, mask) in draw(&damage, &mut runner) {
                    let memory = &pair.stage.memory[0];
                    let word = memory.load(at * 8, Ordering::SeqCst).expect("inside");
                    memory.store(at * 8, word ^ mask, Ordering::SeqCst).expect("inside");
                }
            }
            pair.take_over();
        }
        let (which, number, flags, keys, word, cut, room) = draw(&question, &mut runner);
        let mut buffer = [0; naam_handlers::cell::args::ARGS_MAX];
        let mut arguments = match which {
            0 => naam_handlers::cell::args::get(&mut buffer, &key(number)).to_vec(),
            _ => naam_handlers::cell::args::scan(&mut buffer, &key(number), flags, keys).to_vec(),
        };
        if let Some(word) = word {
            arguments[..8].copy_from_slice(&word.to_le_bytes());
            arguments.truncate(arguments.len() - cut);
        }
        let room = if word.is_none() && number % 4 != 0 { 1024 } else { room * 8 };
        let message = Message::new(1, &arguments, room);
        let room = message.room;
        let request = naam_tests::frame::Request { function: FUNCTION + which as u16, ..Stage::request(vec![message]) };
        let (_, reply) = pair.stage.judge(&request, "cell");
        let answer = &reply.answers[0];
        let request = naam_engine::Request { args: &arguments, reply_room: room, shard: SHARD };
        assert_cut_alike(&programs[which], &request, &pair.images[2], answer, "cell");
        for (program, image) in programs[which].iter().zip(&pair.images) {
            let mut run = Run::start(program, &request).expect("it starts");
            let end = run.finish(image).expect("no fault");
            let kernel = (answer.status, answer.code, &answer.reply[..], u32::from(answer.steps));
            assert_eq!((end.status as u16, end.code, end.reply, end.steps), kernel, "round {round}: {arguments:x?}");
        }
        *codes.entry((STATUS_NAMES[usize::from(answer.status)], answer.code)).or_insert(0) += 1;
    }
    pair.compare_memory("cell");
    println!("{codes:?}");
    for seen in [("ok", 0), ("ok", 1), ("ok", 2), ("failed", 4)] {
        assert!(codes.contains_key(&seen), "no message ended with {seen:?}: {codes:?}");
    }
}
