//! Clients and a host over a network that loses, repeats, delays, reorders and corrupts, in
//! simulated time. What must hold whatever the network does:
//!
//! - every call that was taken ends exactly once, with the reply to its own arguments;
//! - a write takes effect at most once; once, if its call succeeded; never, if the client was
//!   told that it has not run;
//! - the counters add up.

mod model;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use model::{ARGS, Host, READ, WRITE};
use naam_client::{Call, CallError, Completion, Core, Function, Options, Shard, SubmitError};
use proptest::prelude::*;

/// How bad the network is. Chances are per mille.
#[derive(Clone, Debug)]
struct World {
    seed: u64,
    loss: u64,
    repeat: u64,
    corrupt: u64,
    elsewhere: u64,
    /// Chance that the handlers are replaced between two requests.
    replace: u64,
    delay_us: u64,
    /// Chance of being under way for very long.
    straggle: u64,
    run_us: u64,
    window: usize,
    slots: u16,
    linger_us: u64,
    timeout_ms: u64,
    max_payload: usize,
    /// Chance that a call writes.
    writes: u64,
}

fn worlds() -> impl Strategy<Value = World> {
    let network = (any::<u64>(), 0..450u64, 0..300u64, 0..100u64, 0..50u64, 0..30u64, 1..4_000u64, 1..8_000u64);
    let client = (0..40u64, 0..8u32, 1..65u16, 0..200u64, 5..200u64, 176..3425usize, 0..1001u64);
    (network, client).prop_map(
        |(
            (seed, loss, repeat, corrupt, elsewhere, replace, delay_us, run_us),
            (straggle, bits, slots, linger_us, timeout_ms, max_payload, writes),
        )| World {
            seed,
            loss,
            repeat,
            corrupt,
            elsewhere,
            replace,
            delay_us,
            straggle,
            run_us,
            window: 1 << bits,
            slots,
            linger_us,
            timeout_ms,
            max_payload,
            writes,
        },
    )
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Host,
}

/// What a call asked for, and how it ended.
struct Record {
    effect: Option<u64>,
    args: [u8; ARGS],
    ticket: u32,
    outcome: Option<Result<Vec<u8>, CallError>>,
}

const CALLS: usize = 300;

/// Arrival time, number, destination, bytes.
type Flight = (u64, u64, Side, Vec<u8>);

struct Simulation {
    world: World,
    random: Random,
    now: u64,
    core: Core,
    host: Host,
    /// Datagrams under way, by arrival; the number keeps the order total.
    wire: BinaryHeap<Reverse<Flight>>,
    launched: u64,
    records: Vec<Record>,
    /// Record of each request id in flight.
    open: BTreeMap<u32, usize>,
}

impl Simulation {
    fn new(world: World) -> Self {
        let now = 5_000_000_000;
        let mut session = model::session();
        session.slots = world.slots;
        let options = Options {
            window: world.window,
            args_max: ARGS,
            linger: Duration::from_micros(world.linger_us),
            seed: world.seed,
            ..Options::default()
        };
        Self {
            random: Random(world.seed),
            now,
            core: Core::new(session, &options, world.max_payload, now),
            host: Host::new(),
            wire: BinaryHeap::new(),
            launched: 0,
            records: Vec::new(),
            open: BTreeMap::new(),
            world,
        }
    }

    fn launch(&mut self, to: Side, bytes: &[u8]) {
        if self.random.chance(self.world.loss) {
            return;
        }
        let copies = 1 + u64::from(self.random.chance(self.world.repeat));
        for _ in 0..copies {
            let mut bytes = bytes.to_vec();
            if self.random.chance(self.world.corrupt) {
                let at = self.random.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.random.below(8);
            }
            let long = if self.random.chance(self.world.straggle) { 200 } else { 1 };
            let delay = (1 + self.random.below(self.world.delay_us)) * 1_000 * long;
            self.launched += 1;
            self.wire.push(Reverse((self.now + delay, self.launched, to, bytes)));
        }
    }

    fn submit(&mut self) {
        while self.records.len() < CALLS {
            let number = self.records.len() as u64;
            let mut args = [0; ARGS];
            args[..8].copy_from_slice(&number.to_le_bytes());
            args[8..].copy_from_slice(&self.random.next().to_le_bytes());
            let writes = self.random.chance(self.world.writes);
            let function = Function { number: if writes { WRITE } else { READ } };
            let call = Call::new(function, &args)
                .shard(Shard::Hash(self.random.below(3) << 62))
                .timeout(Duration::from_millis(1 + self.random.below(self.world.timeout_ms)));
            match self.core.submit(&call, self.now) {
                Ok(ticket) => {
                    assert!(ticket.index() < self.core.window());
                    let previous = self.open.insert(ticket.request(), self.records.len());
                    assert_eq!(previous, None, "a request id is in use twice");
                    let effect = writes.then_some(number);
                    self.records.push(Record { effect, args, ticket: ticket.request(), outcome: None });
                }
                Err(SubmitError::Busy { .. } | SubmitError::NoSlot { .. }) => return,
                Err(error) => panic!("{error}"),
            }
            if self.random.chance(300) {
                return;
            }
        }
    }

    fn step(&mut self) {
        self.submit();
        let mut buffer = vec![0xee; self.world.max_payload];
        while let Some(out) = self.core.transmit(self.now, &mut buffer) {
            assert!(out.len <= self.world.max_payload);
            self.launch(Side::Host, &buffer[..out.len]);
        }
        let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
        let event = self.core.next_event();
        // Drivers may be late; time never stands still.
        let late = self.random.below(50_000);
        let next = arrival.into_iter().chain(event).min().unwrap_or(self.now + 1_000_000);
        self.now = next.max(self.now + 1) + late;
        while self.wire.peek().is_some_and(|Reverse((at, ..))| *at <= self.now) {
            let Reverse((at, _, side, mut bytes)) = self.wire.pop().expect("peeked");
            match side {
                Side::Client => self.arrive(&bytes),
                Side::Host => {
                    if self.random.chance(self.world.replace) {
                        self.host.version += 1;
                    }
                    let elsewhere = self.random.chance(self.world.elsewhere);
                    let run_ns = (1 + self.random.below(self.world.run_us)) * 1_000;
                    if self.host.serve(&mut bytes, at, run_ns, elsewhere).is_some() {
                        self.launch(Side::Client, &bytes);
                    }
                }
            }
        }
        let (now, records, open) = (self.now, &mut self.records, &mut self.open);
        self.core.tick(now, &mut |completion| record(records, open, completion));
    }

    fn arrive(&mut self, bytes: &[u8]) {
        let (now, records, open) = (self.now, &mut self.records, &mut self.open);
        self.core.receive(now, bytes, &mut |completion| record(records, open, completion));
    }

    fn run(mut self) {
        while self.records.len() < CALLS || self.core.in_flight() > 0 {
            self.step();
        }
        // Whatever is still under way arrives now, and may do harm no more.
        while !self.wire.is_empty() {
            self.step();
        }
        self.check();
    }

    fn check(&self) {
        let stats = self.core.stats();
        let mut timeouts_not_run = 0;
        for (number, record) in self.records.iter().enumerate() {
            let outcome = record.outcome.as_ref().expect("every call ends");
            if let Ok(reply) = outcome {
                assert_eq!(reply, &model::expected_reply(&record.args), "call {number} got another's reply");
            }
            let not_run = matches!(outcome, Err(error) if !error.may_have_run());
            timeouts_not_run += u64::from(not_run);
            let Some(effect) = record.effect else { continue };
            let effects = self.host.effects.get(&effect).copied().unwrap_or(0);
            assert!(effects <= 1, "call {number} took effect {effects} times");
            match outcome {
                Ok(_) => assert_eq!(effects, 1, "call {number} succeeded without effect"),
                Err(error) if !error.may_have_run() => {
                    assert_eq!(effects, 0, "call {number} was said not to have run: {error}")
                }
                Err(_) => {}
            }
        }
        assert_eq!(stats.submitted, self.records.len() as u64);
        let ended = stats.succeeded + stats.failed + stats.refused + stats.timeouts + stats.closed;
        assert_eq!((stats.submitted, stats.in_flight), (ended, 0), "{stats:?}");
        assert_eq!(stats.timeouts_not_run, timeouts_not_run, "{stats:?}");
        assert!(stats.messages >= stats.answers && stats.retries < stats.messages, "{stats:?}");
        assert!(stats.from_slot <= stats.succeeded, "{stats:?}");
    }
}

fn record(records: &mut [Record], open: &mut BTreeMap<u32, usize>, completion: Completion<'_>) {
    let index = open.remove(&completion.ticket.request()).expect("a completion for a call in flight");
    let record = &mut records[index];
    assert_eq!(record.ticket, completion.ticket.request());
    let outcome = completion.outcome.map(|reply| reply.bytes.to_vec());
    assert!(record.outcome.replace(outcome).is_none(), "call {index} ended twice");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// A failure prints the world, whose seed makes it happen again.
    #[test]
    fn any_network_leaves_every_promise_kept(world in worlds()) {
        Simulation::new(world).run();
    }
}

/// Where nothing goes wrong, nothing is repeated and everything succeeds.
#[test]
fn a_good_network_needs_no_retries() {
    let world = World {
        seed: 1,
        loss: 0,
        repeat: 0,
        corrupt: 0,
        elsewhere: 0,
        replace: 0,
        delay_us: 10,
        straggle: 0,
        run_us: 1,
        window: 64,
        slots: 64,
        linger_us: 0,
        timeout_ms: 20_000,
        max_payload: 1472,
        writes: 500,
    };
    let mut simulation = Simulation::new(world);
    while simulation.records.len() < CALLS || simulation.core.in_flight() > 0 {
        simulation.step();
    }
    let stats = simulation.core.stats();
    assert_eq!((stats.succeeded, stats.retries, stats.late, stats.duplicates), (CALLS as u64, 0, 0, 0), "{stats:?}");
    assert!(stats.datagrams < stats.messages, "messages share datagrams: {stats:?}");
}
