//! The property of cuts: wherever a message is cut, and whatever a network does to the pieces, it ends as if it had not
//! been cut, and its effect happens once.
//!
//! The client here takes messages over as an engine would: it performs some READs itself, on the region's pages, runs
//! the handler's own steps natively, and sends the message home again. Datagrams are lost, repeated, and come late.

use std::sync::atomic::Ordering;

use naam_abi::handler::{NaamMsg, Step};
use naam_abi::limits::{ARGS_BYTES, REPLY_BYTES, STATE_BYTES, STEPS_MAX};
use naam_abi::tables::RIGHT_ALL;
use naam_abi::wire::{self, CARRIED_BYTES_MAX, Carried, MESSAGE_CARRIED, Status};
use naam_admission::{Admitted, admit};
use naam_handler::{Msg, View, View1k, View64};
use naam_handlers::mica::{GET_REPLY_MAX, args, layout::Geometry};
use naam_handlers::{chain, counter, mica};
use naam_loader::Hook;
use naam_sys::{Map, Mapping};
use naam_tests::bench::{Bench, SESSION, port, region};
use naam_tests::frame::{Message, Network, Reply, Request, sign};
use naam_tests::objects;

const APP: u16 = 3;
const REGION_BYTES: u32 = 2 << 20;
/// Messages at each hook.
const ROUNDS: u32 = 200;
/// Functions by handler and steps of a visit: the first never cuts.
const STEPS: [u32; 5] = [STEPS_MAX, 1, 2, 3, 7];
const HANDLERS: [&str; 6] = ["mica_get", "mica_set", "mica_cas", "mica_delete", "chain", "counter"];

/// A seeded sequence of numbers.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) % bound
    }
}

/// How a message ended: status, code, reply.
type End = (u16, u32, Vec<u8>);

struct Home {
    bench: Bench,
    codes: Vec<Admitted>,
    memory: Mapping,
    _region: Map,
}

impl Home {
    fn new(hook: Hook) -> Self {
        let mut bench = Bench::new(hook, false);
        bench.app(APP);
        bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], [RIGHT_ALL; 8]);
        let region = region(REGION_BYTES, 1);
        let codes: Vec<_> = HANDLERS.map(|name| admit(&objects::read(name)).expect("admitted")).into();
        for (at, steps) in (0..).zip(STEPS) {
            bench.steps_max = steps;
            for (handler, code) in (0..).zip(&codes) {
                bench.load((APP, function(handler, at), 1), code, &[&region]).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        let memory = region.mmap().expect("mmap");
        Self { bench, codes, memory, _region: region }
    }

    fn words(&self) -> Vec<u64> {
        let offsets = (0..u64::from(REGION_BYTES)).step_by(8);
        offsets.map(|offset| self.memory.load(offset, Ordering::SeqCst).expect("inside")).collect()
    }

    fn restore(&self, words: &[u64]) {
        for (offset, word) in (0..).step_by(8).zip(words) {
            self.memory.store(offset, *word, Ordering::SeqCst).expect("inside");
        }
    }

    /// Delivers a datagram; the answer's header and room.
    fn deliver(&self, datagram: &[u8]) -> Reply {
        let network = Network::v4(port(APP, 5));
        let output = self.bench.send(&network.frame(datagram));
        assert_eq!(output.retval, self.bench.transmitted(), "the datagram was not answered");
        let reply = Reply::read(&output.data[network.header_len()..]);
        assert!(reply.signed && matches!(reply.kind, 2 | 4));
        reply
    }

    /// Runs a message without any cut.
    fn whole(&self, call: &Call) -> End {
        let reply = self.deliver(&call.request(0, 0).datagram());
        let answer = &reply.answers[0];
        (answer.status, answer.code, answer.reply.clone())
    }

    /// Runs a message in pieces, here and there.
    fn in_pieces(&self, call: &Call, at: u16, numbers: &mut Numbers) -> End {
        let mut sent = vec![call.request(at, 1).continued()];
        let end = loop {
            let datagram = sent.last().expect("one at least").clone();
            if numbers.below(4) == 0 {
                // A copy from before is still on its way, whatever it does there.
                let late = numbers.below(sent.len() as u64) as usize;
                self.deliver(&sent[late]);
            }
            if numbers.below(4) == 0 {
                // Its answer is lost.
                self.deliver(&datagram);
            }
            let answer = self.deliver(&datagram).answers.remove(0);
            if answer.flags & MESSAGE_CARRIED == 0 {
                break (answer.status, answer.code, answer.reply);
            }
            assert_eq!(answer.status, 0);
            let header = wire::Message::decode(&answer.raw).expect("a message");
            let carried = Carried::decode(&header, &answer.raw[32..]).expect("carried");
            match self.at_client(call, &carried, numbers) {
                Ok(piece) => sent.push(piece),
                Err(end) => break end,
            }
        };
        let after = self.words();
        for datagram in &sent {
            let answer = self.deliver(datagram).answers.remove(0);
            if call.writes() && answer.flags & MESSAGE_CARRIED == 0 && end.0 == 0 {
                assert_eq!((answer.status, answer.code), (end.0, end.1), "a late copy gets another end");
            }
        }
        assert!(self.words() == after, "a late copy had an effect");
        end
    }

    /// Goes on with a message at the client, for some steps; the datagram that takes it home, or its end.
    fn at_client(&self, call: &Call, carried: &Carried<'_>, numbers: &mut Numbers) -> Result<Vec<u8>, End> {
        let mut m = Msg::from(empty());
        carried.restore(5, &mut m);
        let (mut step, mut steps) = (carried.step(), u32::from(carried.steps()));
        for _ in 0..numbers.below(4) {
            if step != Step::Read {
                break;
            }
            step = match HANDLERS[call.handler as usize] {
                "mica_get" => self.step(mica::get, &mut m),
                "mica_set" => self.step(mica::set, &mut m),
                "mica_cas" => self.step(mica::cas, &mut m),
                "mica_delete" => self.step(mica::delete, &mut m),
                "chain" => self.step::<View64>(chain::step, &mut m),
                _ => self.step::<View64>(counter::step, &mut m),
            };
            steps += 1;
            m.step = steps;
            match step {
                Step::Done => return Err((0, m.code, naam_handler::native::reply(&m))),
                Step::Fail => return Err((Status::Failed as u16, m.code, vec![])),
                _ => {}
            }
        }
        let state_len = self.codes[call.handler as usize].meta.state_len as usize / 8;
        let mut buffer = [0; CARRIED_BYTES_MAX];
        let cut = Carried::cut(&m, step, steps, state_len, &mut buffer).expect("it can be carried");
        Ok(call.carried(&cut))
    }

    /// Performs the READ that the message waits for, and runs one step.
    fn step<V: View>(&self, step: fn(&mut Msg, &V) -> Step, m: &mut Msg) -> Step {
        let mut view = V::zero();
        view.words_mut().fill(naam_handler::native::UNSPECIFIED);
        let offsets = (m.op_offset..).step_by(8).take(m.op_len as usize / 8);
        for (word, offset) in view.words_mut().iter_mut().zip(offsets) {
            *word = self.memory.load(offset, Ordering::SeqCst).expect("inside");
        }
        step(m, &view)
    }
}

fn function(handler: u16, at: u16) -> u16 {
    16 + at * HANDLERS.len() as u16 + handler
}

fn empty() -> NaamMsg {
    let m = naam_handler::native::request(&[]);
    NaamMsg { args: [0; ARGS_BYTES / 8], state: [0; STATE_BYTES / 8], reply: [0; REPLY_BYTES / 8], ..(*m).clone() }
}

/// A call of a handler.
struct Call {
    handler: u16,
    args: Vec<u8>,
    room: usize,
    sequence: u32,
    /// The function at which the pieces run.
    at: u16,
}

impl Call {
    fn writes(&self) -> bool {
        !matches!(HANDLERS[self.handler as usize], "mica_get" | "chain")
    }

    /// The fresh message, to the function whose visits have `STEPS[at]` steps, under slot `slot`.
    fn request(&self, at: u16, slot: u16) -> Request {
        let message = Message { slot, sequence: self.sequence, ..Message::new(7, &self.args, self.room) };
        let function = function(self.handler, at);
        Request { app: APP, function, handler: 1, shard: 5, session: SESSION, messages: vec![message] }
    }

    /// A Continue of the cut message.
    fn carried(&self, cut: &Carried<'_>) -> Vec<u8> {
        let mut datagram = self.request(self.at, 1).continued();
        let mut header = wire::Message::decode(&datagram[48..]).expect("our own");
        cut.fill(&mut header);
        header.encode(&mut datagram[48..]);
        datagram.truncate(48 + 32);
        datagram.extend(cut.body());
        datagram.resize(48 + 32 + usize::from(header.room), 0);
        let length = datagram.len() as u16;
        datagram[20..22].copy_from_slice(&length.to_le_bytes());
        sign(&mut datagram);
        datagram
    }
}

/// A random call on a store of few keys, a ring of nodes, and some counters.
fn call(home: &Home, numbers: &mut Numbers, geometry: Geometry, ring: u64, sequence: u32, at: u16) -> Call {
    let handler = numbers.below(6) as u16;
    let number = numbers.below(40);
    let key = number.to_le_bytes().repeat(1 + number as usize % 8);
    let value = vec![numbers.below(256) as u8; numbers.below(600) as usize];
    let mut buffer = [0; ARGS_BYTES];
    let get =
        Call { handler: 0, args: args::get(&mut buffer, geometry, &key).to_vec(), room: GET_REPLY_MAX, sequence, at };
    // Half of the versions are the right ones.
    let version = match args::found(&home.whole(&get).2) {
        Some((version, _)) if numbers.below(2) == 0 => version,
        _ => numbers.below(4),
    };
    let (args, reply) = match HANDLERS[handler as usize] {
        "mica_get" => (args::get(&mut buffer, geometry, &key).to_vec(), GET_REPLY_MAX),
        "mica_set" => (args::set(&mut buffer, &key, &value).to_vec(), 8),
        "mica_cas" => (args::cas(&mut buffer, &key, version, &value).to_vec(), 8),
        "mica_delete" => (args::delete(&mut buffer, &key).to_vec(), 8),
        "chain" => (chain::arguments(ring + number * 64, numbers.below(chain::HOPS_MAX + 1)).to_vec(), 72),
        _ => (counter::arguments(ring + 64 * 64 + number * 8, version).to_vec(), 8),
    };
    // Room for all that it may carry.
    let room = Carried::bytes(args.len(), STATE_BYTES / 8, reply).max(reply);
    Call { handler, args, room, sequence, at }
}

#[test]
fn cut_anywhere_a_message_ends_as_if_it_had_not_been() {
    const { assert!(size_of::<View1k>() > size_of::<View64>()) };
    let seed = std::env::var("NAAM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_251_122);
    println!("NAAM_SEED={seed}");
    for hook in [Hook::Xdp, Hook::Tc] {
        let home = Home::new(hook);
        let mut numbers = Numbers(seed);
        // The store's heap ends before the last pages, where the ring and the counters are.
        let store = u64::from(REGION_BYTES) - (64 << 10);
        let geometry = Geometry::plan(store, 16, 100).expect("geometry");
        geometry.format(|at, word| home.memory.store(at, word, Ordering::SeqCst).expect("inside"));
        for node in 0..64 {
            home.memory.store(store + node * 64, store + node * 37 % 64 * 64, Ordering::SeqCst).expect("inside");
        }
        let (mut cuts, mut ends) = (0, std::collections::BTreeMap::new());
        for round in 0..ROUNDS {
            let at = 1 + numbers.below(STEPS.len() as u64 - 1) as u16;
            let call = call(&home, &mut numbers, geometry, store, 1 + round, at);
            let before = home.words();
            let whole = home.whole(&call);
            let after = home.words();
            home.restore(&before);
            let pushed = home.bench.datapath.tables().stats(APP.into()).expect("counters").pushbacks;
            let pieces = home.in_pieces(&call, at, &mut numbers);
            cuts += home.bench.datapath.tables().stats(APP.into()).expect("counters").pushbacks - pushed;
            let name = HANDLERS[call.handler as usize];
            let what = format!("{hook}, round {round}, {name}, {} steps a visit", STEPS[at as usize]);
            assert_eq!(pieces, whole, "{what}");
            assert!(home.words() == after, "{what}: the region differs");
            *ends.entry((name, whole.0, whole.1)).or_insert(0) += 1;
        }
        println!("{hook}: {cuts} cuts, ends {ends:?}");
        assert!(cuts > u64::from(ROUNDS) && ends.len() > 8, "too little was tried");
    }
}
