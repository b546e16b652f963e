//! Litmus tests: two sides perform a few ops each on two words, at once, many times; which of the four outcomes did they see?
//!
//! A side is a handler's message on a CPU of its own, or the owner of the region in its mapping. The two meet at a gate, a
//! word to which each adds one; who comes first looks at it until the other has come. Then they go through as many pairs of
//! words as a message has steps for. Words grow from round to round and so need not be put back: a mark says by whom a word
//! was written, and in which round.

use std::ops::Range;
use std::sync::atomic::Ordering;

use naam_abi::limits::STEPS_MAX;
use naam_loader::Hook;

use crate::bench::{Bench, port};
use crate::cpus::{self, StartLine};
use crate::frame::{Message, Network, Reply};
use crate::handlers::{Order, handler};
use crate::stage::{APP, SHARD, Stage};

/// One of a litmus's two words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The first.
    X,
    /// The second.
    Y,
}

/// What a side does to a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// WRITE; the owner: a store with release.
    Write(Word),
    /// WRITE of as many bytes as fill eight cache lines and end with the word: it stays longer in a processor's store buffer.
    WriteLong(Word),
    /// FAA of what makes the word this round's.
    Faa(Word),
    /// CAS from the round before to this one.
    Cas(Word),
    /// READ of 8 bytes; the owner: a load with acquire.
    Read(Word),
    /// READ of a KiB that begins with the word: another way through the shell.
    ReadLong(Word),
    /// FAA of nothing.
    Fetch(Word),
}

use Op::{Cas, Faa, Fetch, Read, ReadLong, Write, WriteLong};

/// Who performs a side's ops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A handler.
    Handler(&'static [Op]),
    /// The owner, in its mapping.
    Owner(&'static [Op]),
}

/// Something that is true of a pair of words after a round, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// What this side (0, 1) found by its op of this number is of this round.
    New(usize, usize),
    /// The word is in the end what this side has made of it.
    Last(Word, usize),
}

/// Two sides, and the outcome that no order of their ops has.
#[derive(Clone, Copy, Debug)]
pub struct Litmus {
    /// Its name in the literature, with what is special here.
    pub name: &'static str,
    /// Who does what.
    pub sides: [Side; 2],
    /// What is looked at.
    pub seen: [Seen; 2],
    /// What these may not be. The opposite of both takes an order in which the sides take turns; the two other outcomes
    /// come of one side before the other, too.
    pub forbidden: [bool; 2],
}

/// How often which outcome was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Rounds.
    pub rounds: u32,
    /// Pairs as they are after one side before the other.
    pub apart: u64,
    /// Pairs that take sides which took turns.
    pub raced: u64,
    /// Pairs as they may not be.
    pub forbidden: u64,
}

/// Rounds whose frames are made in advance.
const BATCH: u32 = 256;
const LINE: u64 = 64;
/// Bytes of a long WRITE.
const LONG_WRITE: u64 = 8 * LINE;
/// Bytes of a long READ.
const LONG_READ: u64 = 1024;
/// From a word to the next: a long READ and a line, so that words lie in different sets of a cache, too.
const STRIDE: u64 = LONG_READ + LINE;
/// Where the gate is.
const GATE: u64 = 1 << 20;
/// How often a handler that comes first looks at the gate, at most.
const LOOKS: u32 = 12;
/// Turns of the handler's loop between two looks: together they last as long as two system calls may be apart.
const INTERVAL: u32 = 100;
/// By so many turns the handler that comes second waits longer than in the round before,
const LATE_TURNS: u32 = 40;
/// in so many rounds: the other side learns only later that it has come.
const LATE_ROUNDS: u32 = 8;
/// How often the owner looks at the gate. That a handler did not run is told by its own thread.
const OWNERS_LOOKS: u32 = 1 << 24;
/// Steps of a message that are left for ops: one comes to the gate, one ends.
const STEPS: usize = (STEPS_MAX - LOOKS - 2) as usize;

impl Side {
    fn ops(self) -> &'static [Op] {
        match self {
            Self::Handler(ops) | Self::Owner(ops) => ops,
        }
    }
}

impl Op {
    fn word(self) -> Word {
        match self {
            Write(word) | WriteLong(word) | Faa(word) | Cas(word) | Read(word) | ReadLong(word) | Fetch(word) => word,
        }
    }

    fn changes(self) -> bool {
        matches!(self, Write(_) | WriteLong(_) | Faa(_) | Cas(_))
    }

    /// The order for the first pair; the bytes of WRITEs end at `source_end` in the arguments.
    fn order(self, before: u64, now: u64, source_end: u32) -> Order {
        let offset = place(0, self.word());
        match self {
            Write(_) => Order::write(0, offset, 8, source_end - 8),
            WriteLong(_) => Order::write(0, offset + 8 - LONG_WRITE, LONG_WRITE as u32, source_end - LONG_WRITE as u32),
            Faa(_) => Order::faa(0, offset, now - before),
            Cas(_) => Order::cas(0, offset, before, now),
            Read(_) => Order::read(0, offset, 8),
            ReadLong(_) => Order::read(0, offset, LONG_READ as u32),
            Fetch(_) => Order::faa(0, offset, 0),
        }
    }
}

impl Litmus {
    /// How many pairs a message has steps for.
    fn pairs(&self) -> usize {
        STEPS / self.sides.iter().map(|side| side.ops().len()).max().expect("two sides")
    }
}

/// What a word is that `side` has written in `round`.
fn mark(round: u32, side: usize) -> u64 {
    u64::from(round) << 1 | side as u64
}

/// A word of a pair. Before the first there is room for a long WRITE.
fn place(pair: usize, word: Word) -> u64 {
    STRIDE + (pair as u64 * 2 + u64::from(word == Word::Y)) * STRIDE
}

/// What the gate is when both sides have come in `round`.
fn gate(round: u32) -> u64 {
    2 * u64::from(round)
}

/// What a side found in a round, by pair and op; and the words in the end.
#[derive(Debug)]
struct Sight {
    found: Vec<u64>,
    ends: Vec<[u64; 2]>,
}

/// The handler `litmus` on a bench, for one litmus after another.
#[derive(Debug)]
pub struct Theatre {
    stage: Stage,
    round: u32,
}

impl Theatre {
    /// With the loops that suit this kernel.
    ///
    /// # Panics
    /// If the kernel refuses the handler.
    pub fn new(hook: Hook) -> Self {
        let stage = Stage::new(hook, Bench::may_goto(), &handler("litmus"));
        stage.memory[0].store(GATE, gate(0), Ordering::SeqCst).expect("inside");
        Self { stage, round: 0 }
    }

    /// Performs at least `rounds`, and goes on until the sides took turns once, or `patience` rounds are over.
    ///
    /// # Panics
    /// If a message is not answered, or finds what nobody has written.
    pub fn perform(&mut self, litmus: &Litmus, rounds: u32, patience: u32) -> Outcomes {
        let mut outcomes = Outcomes::default();
        self.prepare(litmus);
        while outcomes.rounds < rounds || outcomes.raced == 0 && outcomes.rounds < patience {
            let batch = self.round + 1..self.round + 1 + BATCH.min(rounds);
            self.round = batch.end - 1;
            let sights = self.batch(litmus, &batch);
            for (at, round) in batch.enumerate() {
                count(litmus, round, sights.each_ref().map(|sights| &sights[at]), &mut outcomes);
            }
        }
        outcomes
    }

    /// Leaves every word as if the last round had been.
    fn prepare(&self, litmus: &Litmus) {
        for (side, ops) in litmus.sides.map(Side::ops).into_iter().enumerate() {
            for op in ops.iter().filter(|op| op.changes()) {
                for pair in 0..litmus.pairs() {
                    let place = place(pair, op.word());
                    self.stage.memory[0].store(place, mark(self.round, side), Ordering::SeqCst).expect("inside");
                }
            }
        }
    }

    fn batch(&self, litmus: &Litmus, rounds: &Range<u32>) -> [Vec<Sight>; 2] {
        let line = StartLine::default();
        let cpus = cpus::two();
        std::thread::scope(|scope| {
            let threads = [0, 1].map(|side| {
                let (line, rounds) = (&line, rounds.clone());
                scope.spawn(move || {
                    cpus::pin(cpus[side]);
                    match litmus.sides[side] {
                        Side::Handler(ops) => self.handler(litmus, side, ops, rounds, line),
                        Side::Owner(ops) => self.owner(litmus, side, ops, rounds, line),
                    }
                })
            });
            threads.map(|thread| thread.join().expect("a side"))
        })
    }

    /// Nothing is judged before all rounds are over: the other side would wait for ever.
    fn handler(&self, litmus: &Litmus, side: usize, ops: &[Op], rounds: Range<u32>, line: &StartLine) -> Vec<Sight> {
        let network = Network::v4(port(APP, SHARD));
        let frames: Vec<_> = rounds.clone().map(|round| network.frame(&datagram(litmus, side, round))).collect();
        let mut ends = Vec::with_capacity(frames.len());
        for (at, frame) in frames.iter().enumerate() {
            line.wait(2, 2 * at);
            let output = self.stage.bench.send(frame);
            line.wait(2, 2 * at + 1);
            ends.push((output, self.ends(litmus)));
        }
        let sight = |(round, (output, ends)): (u32, (naam_sys::RunOutput, _))| {
            assert_eq!(output.retval, self.stage.bench.transmitted(), "{}", litmus.name);
            let reply = Reply::read(&output.data[network.header_len()..]);
            let answer = &reply.answers[0];
            assert_eq!((answer.status, answer.flags), (0, 1), "{}: {answer:?}", litmus.name);
            let words = answer.reply.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")));
            let found: Vec<_> = words.collect();
            assert_eq!(found.len(), ops.len() * litmus.pairs(), "{}: {answer:?}", litmus.name);
            let mut exchanges = ops.iter().cycle().zip(&found).filter(|(op, _)| matches!(op, Cas(_)));
            let exchanged = exchanges.all(|(_, found)| *found == mark(round - 1, side));
            assert!(exchanged, "{}: nobody else writes what CAS exchanges: {found:?}", litmus.name);
            Sight { found, ends }
        };
        rounds.zip(ends).map(sight).collect()
    }

    fn owner(&self, litmus: &Litmus, side: usize, ops: &[Op], rounds: Range<u32>, line: &StartLine) -> Vec<Sight> {
        let memory = &self.stage.memory[0];
        let mut sights = Vec::new();
        for (at, round) in rounds.enumerate() {
            let mut found = vec![Ok(0); ops.len() * litmus.pairs()];
            line.wait(2, 2 * at);
            memory.fetch_add(GATE, 1).expect("inside");
            for _ in 0..OWNERS_LOOKS {
                if memory.load(GATE, Ordering::Acquire) == Ok(gate(round)) {
                    break;
                }
                std::hint::spin_loop();
            }
            // From the other end, so that the two meet on the way, whoever is quicker.
            for pair in (0..litmus.pairs()).rev() {
                for (op, found) in ops.iter().zip(&mut found[pair * ops.len()..]) {
                    let place = place(pair, op.word());
                    *found = match op {
                        Write(_) => memory.store(place, mark(round, side), Ordering::Release).map(|()| 0),
                        Read(_) => memory.load(place, Ordering::Acquire),
                        op => panic!("owners do not {op:?}"),
                    };
                }
            }
            line.wait(2, 2 * at + 1);
            let found = found.into_iter().map(|word| word.expect("inside")).collect();
            sights.push(Sight { found, ends: self.ends(litmus) });
        }
        sights
    }

    /// Every word. Their cache lines come along, and those of long WRITEs: the next round's WRITEs have to wait for the other
    /// processor to give them up, its READs have not.
    fn ends(&self, litmus: &Litmus) -> Vec<[u64; 2]> {
        let load = |place| self.stage.memory[0].load(place, Ordering::Relaxed).expect("inside");
        let end = |pair, word| {
            let lines = (1..LONG_WRITE / LINE).map(|line| load(place(pair, word) - line * LINE));
            lines.for_each(|word| _ = std::hint::black_box(word));
            load(place(pair, word))
        };
        (0..litmus.pairs()).map(|pair| [end(pair, Word::X), end(pair, Word::Y)]).collect()
    }
}

/// A side's message.
fn datagram(litmus: &Litmus, side: usize, round: u32) -> Vec<u8> {
    const HEAD: usize = 8;
    const ORDER: usize = 5;
    let ops = litmus.sides[side].ops();
    let source = if ops.iter().any(|op| matches!(op, WriteLong(_))) { LONG_WRITE } else { 8 };
    let source_end = (HEAD + ops.len() * ORDER) as u64 * 8 + source;
    let (before, now) = (mark(round - 1, side), mark(round, side));
    let late = round % LATE_ROUNDS * LATE_TURNS;
    let head: [u64; HEAD] = [
        GATE,
        gate(round),
        LOOKS.into(),
        INTERVAL.into(),
        late.into(),
        litmus.pairs() as u64,
        2 * STRIDE,
        ops.len() as u64,
    ];
    let orders = ops.iter().flat_map(|op| op.order(before, now, source_end as u32).words());
    let mut words: Vec<_> = head.into_iter().chain(orders).collect();
    words.resize(source_end as usize / 8 - 1, 0);
    words.push(now);
    let args: Vec<_> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let message = Message { slot: side as u16, sequence: round, ..Message::new(1, &args, 240) };
    Stage::request(vec![message]).datagram()
}

fn count(litmus: &Litmus, round: u32, sights: [&Sight; 2], outcomes: &mut Outcomes) {
    outcomes.rounds += 1;
    assert_eq!(sights[0].ends, sights[1].ends, "{}: when all is over there is one end", litmus.name);
    for pair in 0..litmus.pairs() {
        let seen = litmus.seen.map(|seen| match seen {
            Seen::New(side, op) => {
                let found = sights[side].found[pair * litmus.sides[side].ops().len() + op] >> 1;
                assert!([round, round - 1].map(u64::from).contains(&found), "{}: round {found}", litmus.name);
                found == u64::from(round)
            }
            Seen::Last(word, side) => sights[0].ends[pair][usize::from(word == Word::Y)] == mark(round, side),
        });
        if seen == litmus.forbidden {
            outcomes.forbidden += 1;
        } else if seen == litmus.forbidden.map(|seen| !seen) {
            outcomes.raced += 1;
        } else {
            outcomes.apart += 1;
        }
    }
}
