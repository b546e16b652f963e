//! Cell's handlers on regions that no owner left so and with messages that no client sends: a typed answer after a bounded
//! number of steps, the same natively, in the kernel, and in the engine.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use naam_abi::limits::STEPS_MAX;
use naam_abi::tables::RIGHT_ALL;
use naam_abi::wire::{self, MESSAGE_CARRIED, Status};
use naam_admission::admit;
use naam_cell::{CellError, Options, Tree};
use naam_engine::{Engine, Image, Machine, Program, Run};
use naam_handler::native::{self, Memory};
use naam_handler::{Msg, Step, View1k};
use naam_handlers::cell::layout::{
    Child, EXTENT_BYTES, FENCES_AT, Item, LINES, META_AT, Meta, NODE_WORDS, NodePtr, ROOT_AT, Root, VERSION,
    VERSION_AT, ValuePtr, line_check,
};
use naam_handlers::cell::{self, Code, args};
use naam_loader::Hook;
use naam_tests::bench::SESSION;
use naam_tests::frame::{Carried, Message, Network, Reply, Request};
use naam_tests::objects;
use naam_tests::pieces::Numbers;
use naam_tests::stage::{APP, FUNCTION, SHARD, SINGLE, Stage};

type Handler = fn(&mut Msg, &View1k) -> Step;

const HANDLERS: [(&str, Handler); 2] = [("cell_get", cell::get), ("cell_scan", cell::scan)];
const GET: usize = 0;
const SCAN: usize = 1;

/// Status, code, reply, steps.
type End = (u16, u32, Vec<u8>, u32);

/// The three that run handlers, on memory of their own with the same words.
struct Sites {
    stage: Stage,
    programs: [[Arc<Program>; 2]; 2],
    image: Image,
    native: Memory,
}

impl Sites {
    fn new() -> Self {
        let handlers = HANDLERS.map(|(name, _)| admit(&objects::read(name)).expect("admitted"));
        let stage = Stage::new(Hook::Xdp, false, &handlers[GET]);
        stage.load(FUNCTION + 1, 1, &handlers[SCAN]);
        stage.bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], [RIGHT_ALL; 8]);
        let load = |machine| handlers.each_ref().map(|handler| Engine::new(machine).load(handler).expect("it loads"));
        let programs = [load(Machine::Jit), load(Machine::Interpreter)];
        Self { stage, programs, image: Image::new(), native: Memory::new(&[SINGLE as usize]) }
    }

    /// Gives all of them what stands in `native`.
    fn share(&mut self) {
        let words: Vec<u64> = self.native.words(0).iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.stage.memory[0].copy_in(0, &bytes).expect("as long");
        self.image = Image::new();
        self.image.push_values(&bytes, SINGLE).expect("whole values");
    }

    /// A message at all sites; the end, if they agree.
    fn call(&self, which: usize, arguments: &[u8], what: &str) -> End {
        let message = Message::new(1, arguments, 1024);
        let room = message.room;
        let request = Request { function: FUNCTION + which as u16, ..Stage::request(vec![message]) };
        let (_, reply) = self.stage.judge(&request, what);
        let answer = &reply.answers[0];
        let kernel = (answer.status, answer.code, answer.reply.clone(), u32::from(answer.steps));
        for program in &self.programs {
            let request = naam_engine::Request { args: arguments, reply_room: room, shard: SHARD };
            let mut run = Run::start(&program[which], &request).expect("it starts");
            let end = run.finish(&self.image).expect("no fault");
            assert_eq!((end.status as u16, end.code, end.reply.to_vec(), end.steps), kernel, "engine: {what}");
        }
        let mut m = native::request(arguments);
        let status = native::run(HANDLERS[which].1, &mut m, &self.native);
        assert_eq!((status as u16, m.code), (kernel.0, kernel.1), "native: {what}");
        assert!(kernel.3 <= STEPS_MAX, "{what}: {} steps", kernel.3);
        kernel
    }

    /// Every sort of question; the ends by status and code.
    fn ask_all(&self, what: &str) -> Vec<(u16, u32)> {
        let mut ends = Vec::new();
        for key in [&b"key00000"[..], b"key00150", b"key00299", b"key", b"\0", &[0xff; 64]] {
            let what = format!("{what}, {key:?}");
            let (status, code, ..) = self.call(GET, args::get(&mut [0; args::ARGS_MAX], key), &what);
            ends.push((status, code));
            for flags in 0..4 {
                let mut buffer = [0; args::ARGS_MAX];
                let (status, code, ..) = self.call(SCAN, args::scan(&mut buffer, key, flags, 32), &what);
                ends.push((status, code));
            }
        }
        ends
    }

    /// A tree with 300 keys, of two levels, and values in blocks.
    fn plant(&mut self) {
        let mut tree = Tree::format(&self.native, Options::default()).expect("format");
        let value = |number: usize| vec![number as u8; if number.is_multiple_of(10) { 400 } else { 20 }];
        tree.load((0..300).map(|number| (format!("key{number:05}"), value(number)))).expect("load");
        assert_eq!(tree.height(), 2);
        self.share();
    }
}

const FAILED: u16 = Status::Failed as u16;

fn failed_with(code: Code) -> (u16, u32) {
    (FAILED, code as u32)
}

/// A word before the arguments' key.
fn raw(word: u64, key: &[u8]) -> Vec<u8> {
    [&word.to_le_bytes()[..], key].concat()
}

fn arguments_that_are_none_are_refused_at_every_site(sites: &mut Sites) {
    sites.plant();
    let bad = |which, word, key: &[u8]| {
        let (status, code, ..) = sites.call(which, &raw(word, key), &format!("{word:#x} {key:?}"));
        (status, code)
    };
    let refused = failed_with(Code::BadArguments);
    // Keys of no, 65 and other numbers of bytes than come; nothing at all.
    assert_eq!(bad(GET, 0, &[]), refused);
    for which in [GET, SCAN] {
        for (word, key) in [(65, &[b'k'; 72][..]), (64, &[b'k'; 56]), (8, &[]), (1, &[b'k'; 16]), (0xffff, &[b'k'; 64])]
        {
            assert_eq!(bad(which, word, key), refused, "{which} {word}");
        }
        // One key has one encoding.
        assert_eq!(bad(which, 3, b"key\0\0\0\0x"), refused);
        assert_eq!(sites.call(which, &[1, 0, 0], "three bytes").0, FAILED);
        assert_eq!(sites.call(which, &[], "no bytes").0, FAILED);
    }
    // So many keys as were asked for, 32 at the most; none if none.
    for (wanted, found) in [(0, 0), (1, 1), (32, 32), (33, 32), (255, 32), (256, 32), (0xffff_ffff, 32)] {
        let (status, code, reply, _) = sites.call(SCAN, &raw(wanted << 32 | 2 << 16, &[]), "scan");
        assert_eq!((status, code), (0, 0));
        let scanned = args::Scanned::new(&reply).expect("a reply");
        assert!(scanned.has_more);
        assert_eq!(scanned.count(), found, "{wanted} keys wanted");
    }
    // Flags that are none are as good as not there.
    let plain = sites.call(SCAN, &raw(5 << 32 | 8, b"key00007"), "plain");
    assert_eq!(sites.call(SCAN, &raw(5 << 32 | 0xfffc << 16 | 8, b"key00007"), "flags"), plain);
    // A cursor behind everything.
    let (.., reply, _) =
        sites.call(SCAN, args::scan(&mut [0; args::ARGS_MAX], &[0xff; 64], args::EXCLUSIVE, 32), "end");
    let scanned = args::Scanned::new(&reply).expect("a reply");
    assert!(!scanned.has_more && scanned.count() == 0);
}

/// Memory that an owner who was stopped has written only in part.
struct Stopped<'m> {
    memory: &'m Memory,
    writes_left: std::cell::Cell<u32>,
}

impl Stopped<'_> {
    fn may_write(&self) -> bool {
        let left = self.writes_left.get();
        self.writes_left.set(left.saturating_sub(1));
        left > 0
    }
}

impl naam_cell::Words for Stopped<'_> {
    fn bytes(&self) -> u64 {
        naam_cell::Words::bytes(self.memory)
    }
    fn load(&self, offset: u64) -> u64 {
        naam_cell::Words::load(self.memory, offset)
    }
    fn publish(&self, offset: u64, word: u64) {
        if self.may_write() {
            self.memory.publish(offset, word);
        }
    }
    fn read_frame(&self, offset: u64) -> [u64; NODE_WORDS] {
        self.memory.read_frame(offset)
    }
    fn write(&self, offset: u64, words: &[u64]) {
        if self.may_write() {
            naam_cell::Words::write(self.memory, offset, words);
        }
    }
}

fn half_formatted_regions_hold_no_tree(sites: &mut Sites) {
    for planted in [false, true] {
        let mut whole = 0;
        for writes in 0..8 {
            if planted {
                sites.plant();
            } else {
                sites.native = Memory::new(&[SINGLE as usize]);
            }
            let stopped = Stopped { memory: &sites.native, writes_left: writes.into() };
            Tree::format(&stopped, Options::default()).expect("it does not know that it was stopped");
            sites.share();
            let what = format!("{writes} writes of a format, a tree before: {planted}");
            let ends = sites.ask_all(&what);
            match Tree::open(&sites.native, Options::default()) {
                Ok(tree) => {
                    let keys = if tree.keys() == 0 { 0 } else { 300 };
                    assert_eq!((tree.keys(), keys == 0 || writes == 0), (keys, true), "{what}");
                    assert!(ends.iter().all(|(status, _)| *status == 0), "{what}: {ends:?}");
                    whole += 1;
                }
                Err(error) => {
                    assert!(matches!(error, CellError::NoTree { .. }), "{what}: {error}");
                    assert!(ends.iter().all(|end| *end == failed_with(Code::NoTree)), "{what}: {ends:?}");
                }
            }
            // It can be formatted again.
            let mut tree = Tree::format(&sites.native, Options::default()).expect("format");
            tree.insert(b"key", b"value").expect("insert");
            assert_eq!(tree.verify().expect("sound").keys, 1);
        }
        assert!((1..7).contains(&whole), "{whole} of 8 were whole");
    }
}

fn regions_of_another_layout_are_refused(sites: &mut Sites) {
    // Words of the header: another version, the header of another extent, another magic.
    for (at, word) in [(VERSION_AT, VERSION + 1), (VERSION_AT, 0), (VERSION_AT, 1 << 32 | VERSION), (0, 7)] {
        sites.plant();
        sites.native.write(0, at, word);
        sites.share();
        let what = format!("{word:#x} at {at}");
        let error = Tree::open(&sites.native, Options::default()).expect_err(&what);
        assert!(matches!(error, CellError::NoTree { .. }), "{what}: {error}");
        let ends = sites.ask_all(&what);
        assert!(ends.iter().all(|end| *end == failed_with(Code::NoTree)), "{what}: {ends:?}");
    }
    sites.plant();
    assert!(sites.ask_all("its own layout").iter().all(|(status, _)| *status == 0));
}

/// Puts a node with right checks to `ptr`, whatever it says.
fn put(memory: &Memory, ptr: NodePtr, mut words: [u64; NODE_WORDS]) {
    words[..8].fill(0);
    words[0] = ptr.generation().into();
    for line in 1..LINES {
        words[line / 2] |= u64::from(line_check(&words, line, ptr.seed())) << (line % 2 * 32);
    }
    memory.write_node(ptr, &words);
}

trait WriteNode {
    fn write_node(&self, ptr: NodePtr, words: &[u64; NODE_WORDS]);
}

impl WriteNode for Memory {
    fn write_node(&self, ptr: NodePtr, words: &[u64; NODE_WORDS]) {
        if ptr.offset() < SINGLE {
            naam_cell::Words::write(self, ptr.offset(), words);
        }
    }
}

/// A node for all keys, or for those below a fence, with slots of these heads and infos.
fn node(level: u32, high: Option<u64>, slots: &[(u64, u64)]) -> [u64; NODE_WORDS] {
    let mut words = [0; NODE_WORDS];
    let meta = Meta::new(slots.len(), 0, 0, high.map_or(0, |_| 1), level);
    words[META_AT] = meta.0;
    words[FENCES_AT] = high.unwrap_or(0);
    for (slot, (head, info)) in slots.iter().enumerate() {
        let at = meta.slots() as usize + slot * 2;
        (words[at], words[at + 1]) = (*head, *info);
    }
    words
}

/// Places and what to put there; the first is the root.
type Nodes = Vec<(NodePtr, [u64; NODE_WORDS])>;

/// Trees whose checks are right and that nonetheless lead nowhere: what an owner could make, if it wanted.
fn strange_trees() -> Vec<(&'static str, Nodes)> {
    let [root, other] = [5, 6].map(|index| NodePtr::new(index, 3));
    let outside = NodePtr::new((1 << 22) - 1, 3);
    let child = |node: NodePtr| Child::new(node, 0, 0).0;
    let key = u64::from_be_bytes(*b"key00150");
    let item = |at, key_len, value_len, is_block| Item::new(at, key_len, value_len, is_block).0;
    let mut block = node(0, None, &[(key, item(100, 8, 400, true))]);
    block[100] = ValuePtr::new(0xff_ffff, 4, 3).0;
    let mut inside = block;
    inside[100] = ValuePtr::new(5 * 4, 2, 3).0;
    let two = |to: NodePtr| node(1, None, &[(0, child(to)), (key, child(to))]);
    vec![
        ("a root that is its own child", vec![(root, two(root))]),
        ("two nodes that are each other's child", vec![(root, two(other)), (other, two(root))]),
        ("children outside of the region", vec![(root, two(outside))]),
        ("a header for a child", vec![(root, two(NodePtr::new(0, 3)))]),
        ("an inner node without slots", vec![(root, node(1, None, &[]))]),
        ("a leaf that says that it is inner", vec![(root, node(7, None, &[(key, item(20, 8, 8, false))]))]),
        // Behind this leaf its fence leads to the root again.
        (
            "a leaf whose end is its begin",
            vec![(root, node(1, None, &[(0, child(other))])), (other, node(0, Some(0), &[]))],
        ),
        (
            "a leaf that ends before the key",
            vec![
                (root, node(1, None, &[(0, child(other))])),
                (other, node(0, Some(key - 1), &[(0, item(100, 8, 8, false))])),
            ],
        ),
        (
            "siblings that go round",
            vec![
                (root, node(1, None, &[(0, child(other)), (1, child(other)), (2, child(other)), (key, child(other))])),
                (other, node(0, Some(1), &[])),
            ],
        ),
        ("a value outside of the region", vec![(root, block)]),
        ("a node for a value", vec![(root, inside)]),
        (
            "slots outside of the node",
            vec![(root, {
                let mut words = node(0, None, &[(key, item(127, 64, 1000, false))]);
                words[META_AT] = 0xff | 64 << 8 | 9 << 16 | 9 << 20 | 0xf8 << 24;
                words
            })],
        ),
        ("records outside of the node", vec![(root, node(0, None, &[(key, item(127, 64, 128, false)); 3]))]),
        ("fields of all ones", vec![(root, [u64::MAX; NODE_WORDS])]),
    ]
}

fn trees_that_lead_nowhere_end_in_bounded_steps(sites: &mut Sites) {
    let mut seen = std::collections::BTreeMap::new();
    for (what, nodes) in strange_trees() {
        for height in [1, 2, 255] {
            sites.plant();
            for (ptr, words) in &nodes {
                put(&sites.native, *ptr, *words);
            }
            sites.native.write(0, ROOT_AT, Root::new(nodes[0].0, height).0);
            sites.share();
            let what = format!("{what}, height {height}");
            for end in sites.ask_all(&what) {
                *seen.entry(end).or_insert(0) += 1;
            }
            let opened = Tree::open(&sites.native, Options::default());
            assert!(matches!(opened, Err(CellError::Damaged { .. })), "{what}: {:?}", opened.map(|tree| tree.keys()));
        }
    }
    println!("{seen:?}");
    for end in [(0, Code::Retry as u32), (Status::Bounds as u16, 0)] {
        assert!(seen.contains_key(&end), "{end:?}: {seen:?}");
    }
}

fn pages_of_anything_end_in_bounded_steps(sites: &mut Sites) {
    let mut numbers = Numbers::from_environment();
    for round in 0..6 {
        sites.plant();
        // The header stays, or what is left is no tree; the root is the tree's, or another.
        for offset in (1024..SINGLE.min(EXTENT_BYTES)).step_by(8) {
            sites.native.write(0, offset, numbers.below(u64::MAX));
        }
        if round % 2 == 0 {
            sites.native.write(0, ROOT_AT, numbers.below(u64::MAX));
        }
        sites.share();
        let what = format!("round {round}");
        let opened = Tree::open(&sites.native, Options::default());
        assert!(matches!(opened, Err(CellError::Damaged { .. })), "{what}");
        for end in sites.ask_all(&what) {
            // A place outside, or nothing to go on by.
            assert!([(0, Code::Retry as u32), (Status::Bounds as u16, 0)].contains(&end), "{what}: {end:?}");
        }
    }
}

fn made_up_states_end_alike_in_bounded_steps(sites: &mut Sites) {
    sites.plant();
    let mut numbers = Numbers::from_environment();
    let mut ends = std::collections::BTreeMap::new();
    for round in 0..400 {
        let which = numbers.below(2) as usize;
        let key = format!("key{:05}", numbers.below(320));
        let arguments =
            args::scan(&mut [0; args::ARGS_MAX], key.as_bytes(), numbers.below(4), numbers.below(33)).to_vec();
        let mut word = |kind: u64| match kind {
            0 => numbers.below(300),
            1 => numbers.below(8) << 32 | numbers.below(2100),
            2 => {
                numbers.below(6)
                    | numbers.below(256) << 8
                    | numbers.below(40) << 16
                    | numbers.below(8) << 24
                    | numbers.below(140) << 32
            }
            _ => numbers.below(u64::MAX),
        };
        // Progress, root, node, siblings; then the key's number.
        let state = (0..16)
            .map(|at| {
                word(match at {
                    0 => 2,
                    1..7 => 1,
                    _ => (round + at) % 4,
                })
            })
            .collect();
        let (offset, len) = (word(0) * 1024 % (SINGLE + 2048), 8 * (1 + word(0) % 128));
        let carried = Carried {
            step: Step::Read as u8,
            steps: (word(0) % 32) as u8,
            op: [offset, 0, 0, len << 32, 0],
            state,
            reply: vec![7; word(0) as usize / 8 * 8],
            // No more than either may grant.
            reply_max: (cell::GET_REPLY_MAX / 8) as u8,
            ..Carried::default()
        };
        let message = Message { carried: Some(carried), ..Message::new(1, &arguments, 1400) };
        let request = Request { function: FUNCTION + which as u16, handler: 1, ..Stage::request(vec![message]) };
        let datagram = request.continued();
        let network = Network::v4(naam_tests::bench::port(APP, SHARD));
        let output = sites.stage.bench.send(&network.frame(&datagram));
        assert_eq!(output.retval, sites.stage.bench.transmitted(), "round {round}: {request:?}");
        let reply = Reply::read(&output.data[network.header_len()..]);
        let answer = &reply.answers[0];
        let header = wire::Message::decode(&datagram[48..]).expect("our own");
        let carried = wire::Carried::decode(&header, &datagram[80..]).expect("well-formed");
        for program in &sites.programs {
            let mut run = Run::resume(&program[which], &carried, SHARD);
            let end = run.finish(&sites.image).expect("no fault");
            if answer.flags & MESSAGE_CARRIED != 0 {
                // The kernel has run out of steps and sends it back.
                assert_eq!(end.status, Status::Budget, "round {round}");
            } else {
                let kernel = (answer.status, answer.code, &answer.reply[..], u32::from(answer.steps));
                assert_eq!((end.status as u16, end.code, end.reply, end.steps), kernel, "round {round}");
            }
        }
        *ends.entry((answer.flags & MESSAGE_CARRIED, answer.status, answer.code)).or_insert(0) += 1;
    }
    println!("{ends:?}");
    assert!(ends.len() > 3, "{ends:?}");
}

/// One test, as the handlers take the kernel a while to load.
#[test]
fn what_is_no_tree_or_no_message_ends_alike_in_bounded_steps() {
    let mut sites = Sites::new();
    arguments_that_are_none_are_refused_at_every_site(&mut sites);
    half_formatted_regions_hold_no_tree(&mut sites);
    regions_of_another_layout_are_refused(&mut sites);
    trees_that_lead_nowhere_end_in_bounded_steps(&mut sites);
    pages_of_anything_end_in_bounded_steps(&mut sites);
    made_up_states_end_alike_in_bounded_steps(&mut sites);
}
