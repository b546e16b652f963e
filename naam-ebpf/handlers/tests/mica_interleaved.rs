//! Messages that run side by side, interleaved by a seed: word by word as on several processors, or
//! step by step as within one datagram.

#[path = "store/history.rs"]
mod history;
mod store;

use history::{Event, is_linearizable};
use naam_abi::wire::Status;
use naam_handler::View1k;
use naam_handler::native::WordVisit;
use naam_handlers::mica::Code;
use store::{Audit, Call, Outcome, Store};

/// splitmix64: a test names its seed, and the seed tells everything.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

/// How an interleaving is made.
#[derive(Clone, Copy)]
struct Plan {
    clients: usize,
    calls: usize,
    keys: usize,
    /// Largest value in bytes.
    value_len: usize,
    /// One of so many messages stops somewhere and never goes on; 0: none.
    cut_one_of: usize,
    /// Heap bytes.
    region_bytes: usize,
    log2_buckets: u32,
    /// Clients take turns at random; else each makes a whole step in turn.
    by_word: bool,
    /// Keys are there at the beginning.
    filled: bool,
    /// Nothing but GET and SET.
    plain: bool,
    /// A cache.
    cache: bool,
}

const PLAN: Plan = Plan {
    clients: 4,
    calls: 6,
    keys: 2,
    value_len: 60,
    cut_one_of: 0,
    region_bytes: 16 << 10,
    log2_buckets: 0,
    by_word: true,
    filled: false,
    plain: false,
    cache: false,
};

struct Client {
    calls_left: usize,
    running: Option<Running>,
}

struct Running {
    visit: WordVisit<View1k>,
    call: Call,
    key: usize,
    begin: u64,
    /// Ticks until the message is cut.
    cut_in: Option<usize>,
}

struct Report {
    histories: Vec<Vec<Event>>,
    initial: Vec<Option<(Option<u64>, Vec<u8>)>>,
    audit: Audit,
    cut: usize,
    retries: usize,
}

fn key(number: usize) -> Vec<u8> {
    // Of several words, and not all of one length.
    vec![number as u8 + 1; 5 + number * 6]
}

/// A value that no other call writes, all of its words different.
fn value(random: &mut Random, plan: &Plan, serial: u64) -> Vec<u8> {
    let len = random.below(plan.value_len + 1).max(9);
    let words = (0..len as u64 / 8 + 1).flat_map(|i| (serial << 32 | i).to_le_bytes());
    words.take(len).collect()
}

fn interleave(seed: u64, plan: Plan) -> Report {
    let mut random = Random(seed);
    let store = if plan.cache { Store::cache } else { Store::new }(plan.region_bytes, plan.log2_buckets);
    let mut initial = vec![None; plan.keys];
    let mut versions = vec![vec![1]; plan.keys];
    if plan.filled {
        for (number, item) in initial.iter_mut().enumerate() {
            let value = value(&mut random, &plan, number as u64 + 1);
            let Outcome::Stored(version) = store.call(&key(number), &Call::Set(value.clone())) else { panic!() };
            versions[number].push(version);
            *item = Some((Some(version), value));
        }
    }
    let mut clients: Vec<_> = (0..plan.clients).map(|_| Client { calls_left: plan.calls, running: None }).collect();
    let mut report =
        Report { histories: vec![Vec::new(); plan.keys], initial, audit: Audit::default(), cut: 0, retries: 0 };
    let (mut now, mut serial, mut turn) = (0, 1_000, 0);
    while clients.iter().any(|client| client.calls_left > 0 || client.running.is_some()) {
        now += 1;
        turn = if plan.by_word { random.below(plan.clients) } else { (turn + 1) % plan.clients };
        let client = &mut clients[turn];
        let Some(running) = &mut client.running else {
            if client.calls_left > 0 {
                client.calls_left -= 1;
                serial += 1;
                client.running = Some(begin(&mut random, &plan, &store, &versions, now, serial));
            }
            continue;
        };
        let steps = running.visit.message().step;
        let status = loop {
            let status = running.visit.tick(running.call.handler(), &store.memory, |bound| random.below(bound));
            if plan.by_word || status.is_some() || running.visit.message().step != steps {
                break status;
            }
        };
        let is_cut = status.is_none()
            && running.cut_in.as_mut().is_some_and(|left| {
                *left = left.saturating_sub(1);
                *left == 0
            });
        if status.is_none() && !is_cut {
            continue;
        }
        let outcome = status.filter(|_| !is_cut).map(|status| running.call.outcome(status, running.visit.message()));
        report.cut += usize::from(is_cut);
        report.retries += usize::from(outcome == Some(Outcome::Not(Code::Retry)));
        if let Some(Outcome::Stored(version) | Outcome::Found(version, _)) = outcome {
            versions[running.key].push(version);
        }
        let end = if is_cut { u64::MAX } else { now };
        let event = Event { call: running.call.clone(), outcome, begin: running.begin, end };
        report.histories[running.key].push(event);
        client.running = None;
    }
    // Whoever comes last sees what is there.
    for number in 0..plan.keys {
        let outcome = Some(store.call(&key(number), &Call::Get));
        report.histories[number].push(Event { call: Call::Get, outcome, begin: now + 1, end: now + 2 });
    }
    if !plan.cache {
        report.audit = store.audit();
    }
    report
}

fn begin(random: &mut Random, plan: &Plan, store: &Store, versions: &[Vec<u64>], now: u64, serial: u64) -> Running {
    let number = random.below(plan.keys);
    let call = match random.below(if plan.plain { 5 } else { 8 }) {
        0 | 1 => Call::Get,
        2..=4 => Call::Set(value(random, plan, serial)),
        5 => {
            let version = versions[number][versions[number].len() - 1];
            Call::Cas(version, value(random, plan, serial))
        }
        _ => Call::Delete,
    };
    let visit = WordVisit::new(call.message(store.geometry, &key(number)));
    let is_cut = plan.cut_one_of != 0 && random.below(plan.cut_one_of) == 0;
    let cut_in = is_cut.then(|| 1 + random.below(60));
    Running { visit, call, key: number, begin: now, cut_in }
}

/// Runs seeds and checks every one; the number of messages that answered RETRY.
fn check(seeds: std::ops::Range<u64>, plan: Plan) -> usize {
    let mut retries = 0;
    for seed in seeds {
        let report = interleave(seed, plan);
        for (number, (events, initial)) in report.histories.iter().zip(&report.initial).enumerate() {
            let fits = is_linearizable(events, initial.clone(), plan.cache);
            let events: Vec<_> = events.iter().map(|event| format!("{event:?}\n")).collect();
            assert!(fits, "seed {seed}, key {number}, from {initial:?}:\n{}", events.concat());
        }
        if report.cut == 0 {
            assert_eq!((report.audit.leaked(), report.audit.tentative), (0, 0), "seed {seed}: {:?}", report.audit);
        } else {
            // A cut message holds at most a block for its item, one for a bucket, and one to be freed.
            assert!(report.audit.leaked() <= report.cut as u64 * 3 * 1088, "seed {seed}: {:?}", report.audit);
        }
        retries += report.retries;
    }
    retries
}

#[test]
fn few_keys_in_one_chain() {
    let retries = check(0..2_000, PLAN);
    assert!(retries < 2_000, "{retries} of 48,000 messages gave up");
}

#[test]
fn one_key_that_comes_and_goes() {
    check(10_000..12_000, Plan { keys: 1, ..PLAN });
}

#[test]
fn blocks_of_one_key_that_are_used_again_at_once() {
    let plan = Plan { keys: 1, clients: 3, calls: 12, value_len: 10, filled: true, plain: true, ..PLAN };
    check(15_000..18_000, plan);
}

#[test]
fn chains_grow_under_way() {
    // Eight keys do not fit the home bucket.
    check(20_000..21_000, Plan { keys: 9, clients: 5, calls: 10, value_len: 20, filled: true, ..PLAN });
}

#[test]
fn a_cache_that_goes_round() {
    // Room for some ten items: what a message reads is often overwritten before it has ended.
    let plan = Plan { cache: true, region_bytes: 9_216 + 64 + 1_280, keys: 3, clients: 4, calls: 12, ..PLAN };
    check(60_000..61_500, Plan { filled: true, plain: true, ..plan });
    check(61_500..63_000, plan);
}

#[test]
fn a_cache_with_more_keys_than_slots() {
    let plan = Plan { cache: true, region_bytes: 64 << 10, keys: 10, clients: 5, calls: 10, value_len: 20, ..PLAN };
    check(64_000..65_000, Plan { cut_one_of: 10, ..plan });
}

#[test]
fn items_longer_than_the_view() {
    check(30_000..30_300, Plan { value_len: 1_000, keys: 3, calls: 4, region_bytes: 64 << 10, filled: true, ..PLAN });
}

#[test]
fn a_store_that_is_full_most_of_the_time() {
    // Room for five blocks of 128 bytes.
    let plan = Plan { keys: 3, region_bytes: 9_216 + 64 + 5 * 128 + 1_088, value_len: 60, ..PLAN };
    check(40_000..41_000, plan);
}

#[test]
fn messages_that_stop_anywhere() {
    check(50_000..52_000, Plan { cut_one_of: 5, region_bytes: 64 << 10, ..PLAN });
}

#[test]
fn a_dead_message_does_not_keep_a_key_from_others() {
    for seed in 0..500 {
        let store = Store::new(16 << 10, 0);
        let mut random = Random(seed);
        let call = Call::Set(vec![1; 20]);
        let mut dead = WordVisit::<View1k>::new(call.message(store.geometry, b"key"));
        for _ in 0..random.below(60) {
            if dead.tick(call.handler(), &store.memory, |bound| random.below(bound)).is_some() {
                break;
            }
        }
        assert!(matches!(store.call(b"key", &Call::Set(vec![2; 30])), Outcome::Stored(_)), "seed {seed}");
        assert!(matches!(store.call(b"key", &Call::Get), Outcome::Found(_, value) if value == [2; 30]), "seed {seed}");
    }
}

#[test]
fn a_datagram_of_sets() {
    // 32 messages in step, each with its own new key.
    let store = Store::new(1 << 20, 8);
    let calls: Vec<_> = (0..32u8).map(|i| (vec![i + 1; 9], Call::Set(vec![i; 100]))).collect();
    let mut visits: Vec<_> =
        calls.iter().map(|(key, call)| WordVisit::<View1k>::new(call.message(store.geometry, key))).collect();
    for (round, name) in [(0, "insert"), (1, "update"), (2, "update from freed blocks")] {
        let outcomes = in_step(&store, &calls, &mut visits);
        let most = outcomes.iter().map(|(steps, _)| *steps).max().unwrap();
        assert!(outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Stored(_))), "{name}: {outcomes:?}");
        assert!(most <= 16, "{name}, round {round}: up to {most} steps");
        visits = calls.iter().map(|(key, call)| WordVisit::new(call.message(store.geometry, key))).collect();
    }
    assert_eq!(store.audit().leaked(), 0);
}

#[test]
fn datagrams_of_one_key() {
    // All messages want the same list of free blocks and the same entry, at the same step.
    for count in 2..=32 {
        let store = Store::new(1 << 20, 8);
        let calls: Vec<_> = (0..count).map(|i| (b"hot".to_vec(), Call::Set(vec![i; 100]))).collect();
        for round in 0..20 {
            let mut visits: Vec<_> =
                calls.iter().map(|(key, call)| WordVisit::new(call.message(store.geometry, key))).collect();
            let outcomes = in_step(&store, &calls, &mut visits);
            assert!(
                outcomes.iter().any(|(_, outcome)| matches!(outcome, Outcome::Stored(_))),
                "{count} in round {round}: {outcomes:?}"
            );
        }
        assert_eq!(store.audit().leaked(), 0, "{count} messages");
    }
}

/// Runs a datagram's messages to their ends, a step of each in turn: steps taken and outcomes.
fn in_step(store: &Store, calls: &[(Vec<u8>, Call)], visits: &mut [WordVisit<View1k>]) -> Vec<(u32, Outcome)> {
    let mut statuses: Vec<Option<Status>> = vec![None; visits.len()];
    while statuses.iter().any(Option::is_none) {
        for ((visit, status), (_, call)) in visits.iter_mut().zip(&mut statuses).zip(calls) {
            let steps = visit.message().step;
            while status.is_none() && visit.message().step == steps {
                *status = visit.tick(call.handler(), &store.memory, |_| 0);
            }
        }
    }
    let ends = visits.iter().zip(statuses).zip(calls);
    ends.map(|((visit, status), (_, call))| (visit.message().step, call.outcome(status.unwrap(), visit.message())))
        .collect()
}
