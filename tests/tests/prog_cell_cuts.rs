//! The property of cuts for Cell: a GET or a scan that is cut anywhere, goes on at the client and home again, over a network
//! that loses and repeats, answers what a sorted map would; also while the tree's owner splits the nodes in between.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

use naam_cell::{Options, Quarantine, Tree};
use naam_handlers::cell::{self, Code, GET_REPLY_MAX, SCAN_REPLY_MAX, args};
use naam_loader::Hook;
use naam_sys::Mapping;
use naam_tests::pieces::{Call, End, Home, Numbers, Part, perform};

const REGION_BYTES: u32 = 8 << 20;
const KEYS: u64 = 6_000;
/// Messages at each hook while nobody changes the tree, and while its owner does.
const QUIET: u32 = 150;
const CHANGING: u32 = 160;
/// Values longer than that stand in blocks.
const INLINE_MAX: usize = 128;

/// Steps of a visit of messages that are cut.
const STEPS: &[u32] = &[1, 3];
const GET: usize = 0;
const SCAN: usize = 1;
const PARTS: &[Part] = &[
    Part { name: "cell_get", writes: false, step: |memory, m| perform(cell::get, memory, m) },
    Part { name: "cell_scan", writes: false, step: |memory, m| perform(cell::scan, memory, m) },
];

type Model = BTreeMap<Vec<u8>, Rc<[u8]>>;

/// Long keys that differ late, so that nodes hold few: four levels.
fn key(number: u64) -> Vec<u8> {
    [&(number / 8).to_be_bytes()[..], &[b'k'; 50], &(number % 8).to_be_bytes()[5..]].concat()
}

/// In its leaf or, every third, in a block.
fn value(number: u64, version: u64) -> Rc<[u8]> {
    vec![(number + version) as u8; if number.is_multiple_of(3) { 700 } else { 128 - version as usize % 9 }].into()
}

/// The tree's owner, and the states that it published, by generation.
struct Owner {
    tree: Tree<Mapping>,
    states: Vec<(u32, Model)>,
    version: u64,
}

impl Owner {
    fn new(home: &Home) -> Self {
        // Frames are used again at once: what a message still looks at is overwritten.
        let quarantine = Quarantine { blocks: 0, time: Duration::ZERO };
        let options = Options { quarantine, inline_max: INLINE_MAX };
        let mut tree = Tree::format(home.region.mmap().expect("mmap"), options).expect("format");
        let model: Model = (0..KEYS).map(|number| (key(number), value(number, 0))).collect();
        tree.load(&model).expect("load");
        assert!(tree.height() >= 4, "{} levels", tree.height());
        Self { states: vec![(tree.generation(), model)], tree, version: 0 }
    }

    fn now(&self) -> &Model {
        &self.states.last().expect("one at least").1
    }

    /// Forgets all states but the last.
    fn forget(&mut self) {
        self.states.drain(..self.states.len() - 1);
    }

    /// Publishes changes around key `number`: new keys that split its leaf, deleted ones that merge it, other values.
    fn change(&mut self, number: u64, numbers: &mut Numbers) {
        self.version += 1;
        let mut model = self.now().clone();
        let mut batch = self.tree.batch();
        for _ in 0..1 + numbers.below(12) {
            let near = (number + KEYS - 6 + numbers.below(12)) % KEYS;
            let between = numbers.below(4) as u8;
            let key = if between == 0 { key(near) } else { [&key(near)[..], &[between]].concat() };
            if numbers.below(if between == 0 { 8 } else { 2 }) == 0 {
                assert_eq!(batch.delete(&key).expect("delete"), model.remove(&key).is_some());
            } else {
                let value = value(near, self.version);
                assert_eq!(batch.insert(&key, &value).expect("insert"), !model.contains_key(&key));
                model.insert(key, value);
            }
        }
        batch.commit().expect("commit");
        self.states.push((self.tree.generation(), model));
    }
}

/// What a message asks.
#[derive(Debug)]
struct Question {
    function: usize,
    key: Vec<u8>,
    flags: u64,
    keys: u64,
    /// The number of the key that it is about.
    number: u64,
}

impl Question {
    fn draw(numbers: &mut Numbers) -> Self {
        let number = numbers.below(KEYS);
        let function = numbers.below(2) as usize;
        let key = match numbers.below(12) {
            // Never there: below all, above all, between two.
            0 => vec![0],
            1 => vec![0xff; 64],
            2 => key(number)[..1 + numbers.below(60) as usize].to_vec(),
            // The end of the tree.
            3 => key(KEYS - 1 - number % 4),
            4 if function == SCAN => vec![],
            _ => key(number),
        };
        let keys = [0, 1, 2, 5, 31, 32][numbers.below(6) as usize];
        Self { function, key, flags: numbers.below(4), keys, number }
    }

    fn call(&self, sequence: u32, at: u16) -> Call {
        let mut buffer = [0; args::ARGS_MAX];
        let (args, reply) = match self.function {
            GET => (args::get(&mut buffer, &self.key), GET_REPLY_MAX),
            _ => (args::scan(&mut buffer, &self.key, self.flags, self.keys), SCAN_REPLY_MAX),
        };
        Call::new(self.function, args.to_vec(), reply, sequence, at)
    }

    /// Whether the map of some state gives this answer; `None`: the message is to be asked again.
    fn is_answered(&self, end: &End, states: &[(u32, Model)]) -> Option<bool> {
        let (status, code, reply) = end;
        assert_eq!(*status, 0, "code {code}");
        match (Code::from_code(*code).expect("a code"), self.function) {
            (Code::Retry, _) => None,
            (Code::NotFound, GET) => Some(states.iter().any(|(_, model)| !model.contains_key(&self.key))),
            (Code::Ok, GET) => {
                Some(states.iter().any(|(_, model)| model.get(&self.key).is_some_and(|value| value[..] == reply[..])))
            }
            (Code::Ok, _) => {
                let generation = args::Scanned::new(reply).expect("a reply").generation;
                let state = states.iter().find(|(published, _)| *published == generation);
                Some(state.is_some_and(|(_, model)| self.is_scanned(reply, model)))
            }
            (code, _) => panic!("{code:?}"),
        }
    }

    /// Whether a scan's reply is what the map has from the key on, whole.
    fn is_scanned(&self, reply: &[u8], model: &Model) -> bool {
        let scanned = args::Scanned::new(reply).expect("a reply");
        let has_more = scanned.has_more;
        let exclusive = self.flags & args::EXCLUSIVE != 0;
        let from = if exclusive { Bound::Excluded(&self.key) } else { Bound::Included(&self.key) };
        let mut expected = model.range::<Vec<u8>, _>((from, Bound::Unbounded));
        let mut count = 0;
        for entry in scanned {
            let Some((key, value)) = expected.next() else { return false };
            let included = self.flags & args::KEYS_ONLY == 0 && value.len() <= INLINE_MAX;
            if entry.key != key || entry.value_len != value.len() || entry.value != included.then_some(&value[..]) {
                return false;
            }
            count += 1;
        }
        // Fewer keys than wanted only if there are no more, or the reply or the steps are used up.
        let is_whole = if has_more { count > 0 || self.keys == 0 } else { expected.next().is_none() };
        is_whole && count <= self.keys
    }
}

/// While nobody changes the tree: the answer of the message that is not cut.
fn quiet(home: &Home, owner: &Owner, mut numbers: Numbers) {
    let mut ends = BTreeMap::new();
    for round in 0..QUIET {
        let question = Question::draw(&mut numbers);
        let call = question.call(round, home.any_steps(&mut numbers));
        let what = format!("round {round}, {} steps a visit, {question:?}", home.steps(&call));
        let whole = home.whole(&call);
        assert_eq!(question.is_answered(&whole, &owner.states), Some(true), "{what}: {whole:?}");
        let pieces = home.in_pieces(&call, &mut numbers, &mut |_| {});
        assert_eq!(pieces, whole, "{what}");
        *ends.entry((home.part(&call).name, whole.1)).or_insert(0) += 1;
    }
    println!("{} cuts, ends {ends:?}", home.pushbacks());
    assert!(home.pushbacks() > u64::from(QUIET) * 2 && ends.len() == 3, "too little was tried");
}

/// While the owner splits and merges nodes between the pieces: an answer of one of the states that there were meanwhile.
fn changing(home: &Home, owner: &mut Owner, mut numbers: Numbers) {
    let (mut crossed, mut retries) = (0, 0);
    let (mut fewest, mut most) = (u64::MAX, 0);
    for round in 0..CHANGING {
        let question = Question::draw(&mut numbers);
        owner.forget();
        let call = question.call(round, home.any_steps(&mut numbers));
        let end = home.in_pieces(&call, &mut numbers, &mut |numbers| {
            // By the second publication frames of the message's own state are overwritten.
            for _ in 0..[0, 0, 0, 1, 3][numbers.below(5) as usize] {
                owner.change(question.number, numbers);
            }
        });
        (fewest, most) = (fewest.min(owner.tree.nodes()), most.max(owner.tree.nodes()));
        match question.is_answered(&end, &owner.states) {
            Some(true) => crossed += u32::from(owner.states.len() > 1),
            Some(false) => panic!("round {round}, {question:?}: {end:?} in {} states", owner.states.len()),
            None => retries += 1,
        }
    }
    let report = owner.tree.verify().expect("a sound tree: readers change nothing");
    assert_eq!(report.keys, owner.now().len() as u64);
    println!("{crossed} answered over a change, {retries} gave up; {fewest} to {most} nodes");
    assert!(crossed > CHANGING / 3 && retries < CHANGING / 3 && most > fewest + 20, "too little was tried");
}

fn cut_anywhere_readers_answer_from_one_state(hook: Hook) {
    let numbers = Numbers::from_environment();
    let home = Home::new(hook, PARTS, STEPS, REGION_BYTES);
    let mut owner = Owner::new(&home);
    quiet(&home, &owner, numbers);
    changing(&home, &mut owner, numbers);
}

#[test]
fn cut_anywhere_readers_answer_from_one_state_at_xdp() {
    cut_anywhere_readers_answer_from_one_state(Hook::Xdp);
}

#[test]
fn cut_anywhere_readers_answer_from_one_state_at_tc() {
    cut_anywhere_readers_answer_from_one_state(Hook::Tc);
}
