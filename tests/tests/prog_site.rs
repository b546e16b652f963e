//! The client site over a wire made of function calls: home is the kernel, by test runs, and every datagram's fate is
//! this file's to decide.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use naam_abi::limits::{DATAGRAM_BYTES, PORT_BASE, SHARDS_MAX};
use naam_abi::tables::{RIGHT_ALL, Site};
use naam_abi::wire::{self, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, Message, Status};
use naam_admission::admit;
use naam_client::site::{Placement, SiteAnswer, SiteClient};
use naam_client::{Call, CallError, Client, FunctionInfo, Options, RegionInfo, SessionInfo, Shard};
use naam_loader::Hook;
use naam_tests::bench::SESSION;
use naam_tests::frame::{Network, sign};
use naam_tests::handlers::{compile, folder};
use naam_tests::objects;
use naam_tests::stage::{APP, FUNCTION, SHARD, SINGLE, Stage, VALUE, VALUES, pattern};
use naam_transport::{Incoming, Outgoing, Sent, Transport, TransportError, TransportStats, Waker};
use sha2::{Digest, Sha256};

/// May write.
const WALK: u16 = FUNCTION + 1;
/// Only reads.
const PERUSE: u16 = FUNCTION + 2;
const READ: u16 = 0;

/// What becomes of a datagram on its way home.
type Fate = Box<dyn FnMut(&[u8]) -> bool + Send>;
/// What a wire does to an answer.
type Bend = Box<dyn FnMut(&mut Vec<u8>) + Send>;

/// Home, and the wire to it.
struct Home {
    stage: Stage,
    wire: Mutex<Wire>,
}

#[derive(Default)]
struct Wire {
    /// Answers on their way.
    back: VecDeque<Vec<u8>>,
    /// All datagrams that were sent home, with their functions.
    sent: Vec<(u16, Vec<u8>)>,
    /// Whether one arrives there.
    arrives: Option<Fate>,
    /// Changes an answer.
    bend: Option<Bend>,
    /// Waits of the client.
    waits: u64,
}

impl Home {
    /// Visits have `steps` steps.
    fn new(hook: Hook, steps: u32) -> Arc<Self> {
        let mut stage = Stage::new(hook, true, &admit(&object("walk")).expect("admitted"));
        stage.bench.steps_max = steps;
        for (function, name) in [(WALK, "walk"), (PERUSE, "peruse")] {
            stage.load(function, 1, &admit(&object(name)).expect("admitted"));
        }
        stage.bench.steps_max = 32;
        stage.load(READ, 1, &admit(&objects::read("naam_read")).expect("admitted"));
        stage.bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], [RIGHT_ALL; 8]);
        Arc::new(Self { stage, wire: Mutex::default() })
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// What home says to a datagram.
    fn serve(&self, datagram: &[u8]) -> Option<Vec<u8>> {
        let header = Header::decode(datagram).expect("the client's own");
        let network = Network::v4(PORT_BASE + header.app * 64 + header.shard);
        let output = self.stage.bench.send(&network.frame(datagram));
        (output.retval == self.stage.bench.transmitted()).then(|| output.data[network.header_len()..].to_vec())
    }

    fn session(&self) -> SessionInfo {
        let mut session = SessionInfo::new([127, 0, 0, 1].into(), APP, SESSION);
        session.epochs = vec![0; SHARDS_MAX];
        for (name, number, writes) in [("walk", WALK, true), ("peruse", PERUSE, false)] {
            session.functions.insert(name.into(), FunctionInfo { number, version: 1, writes, reply_max: 16 });
        }
        let read = FunctionInfo { number: READ, version: 1, writes: false, reply_max: 1024 };
        session.functions.insert("naam_read".into(), read);
        let info = |index, bytes| RegionInfo {
            index,
            bytes,
            value_len: bytes,
            handler_rights: RIGHT_ALL,
            raw_rights: RIGHT_ALL,
        };
        session.regions.insert("single".into(), info(0, SINGLE));
        session.regions.insert("values".into(), RegionInfo { value_len: VALUE, ..info(1, VALUE * VALUES) });
        session
    }

    fn client(self: &Arc<Self>, session: SessionInfo, options: &Options) -> Client {
        Client::new(session, options, Box::new(Line { home: Arc::clone(self), waker: Waker::new().unwrap() }))
    }

    /// A client that knows both handlers.
    fn site(self: &Arc<Self>, placement: Placement) -> SiteClient {
        let mut site = SiteClient::new(self.client(self.session(), &Options::default()), placement);
        learn(&mut site);
        site
    }

    /// The word that walks add to.
    fn added(&self, offset: u64) -> u64 {
        self.stage.memory[1].load(offset, Ordering::SeqCst).expect("inside").wrapping_sub(pattern(1, offset))
    }

    /// Sends everything home again; what is written there by that.
    fn replay(&self) -> Vec<(u32, u64, u64)> {
        let before = self.stage.changes();
        let sent = std::mem::take(&mut self.wire().sent);
        for (_, datagram) in sent {
            self.serve(&datagram);
        }
        self.stage.changes().into_iter().filter(|change| !before.contains(change)).collect()
    }
}

fn object(name: &str) -> Vec<u8> {
    compile(&folder().join(format!("{name}.c")), &[])
}

fn learn(site: &mut SiteClient) {
    for name in ["walk", "peruse"] {
        let bytes = object(name);
        let sha256: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        site.learn(name, &sha256, &bytes).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The client's end of the wire.
struct Line {
    home: Arc<Home>,
    waker: Waker,
}

impl Transport for Line {
    fn name(&self) -> &'static str {
        "line"
    }

    fn max_payload(&self) -> usize {
        DATAGRAM_BYTES
    }

    fn send(&mut self, write: &mut dyn FnMut(&mut [u8]) -> Option<Outgoing>) -> Result<Sent, TransportError> {
        let mut buffer = [0; DATAGRAM_BYTES];
        let Some(Outgoing { len, .. }) = write(&mut buffer) else { return Ok(Sent::Idle) };
        let header = Header::decode(&buffer[..len]).expect("the client's own");
        let mut wire = self.home.wire();
        wire.sent.push((header.function, buffer[..len].to_vec()));
        if wire.arrives.as_mut().is_none_or(|arrives| arrives(&buffer[..len]))
            && let Some(mut answer) = self.home.serve(&buffer[..len])
        {
            if let Some(bend) = &mut wire.bend {
                bend(&mut answer);
            }
            wire.back.push_back(answer);
        }
        Ok(Sent::Queued)
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        Ok(())
    }

    fn poll(&mut self, receive: &mut dyn FnMut(Incoming<'_>)) -> Result<usize, TransportError> {
        let back = std::mem::take(&mut self.home.wire().back);
        for bytes in &back {
            receive(Incoming { port: PORT_BASE, bytes });
        }
        Ok(back.len())
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), TransportError> {
        let mut wire = self.home.wire();
        wire.waits += 1;
        if wire.back.is_empty() {
            drop(wire);
            std::thread::sleep(timeout);
        }
        Ok(())
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn stats(&self) -> TransportStats {
        TransportStats::default()
    }
}

/// Arguments of both handlers: `count` words from `from` on; adds one to the word at `to`.
fn args(from: u64, count: u64, to: u64) -> Vec<u8> {
    [from, count, to, 1].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn sum(from: u64, count: u64) -> u64 {
    (0..count).fold(0, |sum: u64, at| sum.wrapping_add(pattern(0, from + at * 8)))
}

fn call(site: &mut SiteClient, number: u16, args: &[u8]) -> SiteAnswer {
    let function = naam_client::Function { number };
    let call = Call::new(function, args).shard(Shard::Number(SHARD)).timeout(Duration::from_secs(30));
    site.call(&call).expect("it is taken")
}

/// The first word of a reply.
fn first(answer: SiteAnswer) -> u64 {
    let reply = answer.outcome.unwrap_or_else(|error| panic!("{error}"));
    u64::from_le_bytes(reply.bytes[..8].try_into().expect("16 bytes"))
}

/// A message whose budget is used up at home comes to its end here, if that is a reader's; a writer goes home again to
/// write, and to end.
#[test]
fn what_home_gives_back_goes_on_here() {
    for hook in [Hook::Xdp, Hook::Tc] {
        let home = Home::new(hook, 3);
        let mut site = home.site(Placement::Hint);
        // Odd and even sums: those of an odd one write.
        for (count, rounds) in [(2, 0), (20, 1), (50, 2)] {
            for from in [0, 8] {
                let before = site.stats();
                let answer = call(&mut site, PERUSE, &args(from, count, 64));
                // A visit here has 32 steps, one at home 3.
                let ended = if rounds == 0 { Site::Host } else { Site::Client };
                assert_eq!((answer.site, first(answer)), (ended, sum(from, count)), "{count} READs");
                let stats = site.stats();
                assert_eq!(stats.taken_back - before.taken_back, rounds, "{count} READs: {stats:?}");
                assert_eq!(stats.returned - before.returned, rounds.saturating_sub(1), "{count} READs: {stats:?}");
            }
        }
        assert_eq!((site.stats().begun_here, home.stage.changes()), (0, vec![]));
        let mut added = 0;
        for count in [2, 20, 50] {
            for from in [0, 8] {
                // All words are multiples of 8: the last of them is made odd.
                let at = from + (count - 1) * 8;
                home.stage.memory[0].store(at, pattern(0, at) + 1, Ordering::SeqCst).expect("inside");
                let before = site.stats();
                let answer = call(&mut site, WALK, &args(from, count, 64));
                assert_eq!((answer.site, first(answer)), (Site::Host, sum(from, count) + 1), "{count} READs");
                added += 1;
                assert_eq!(home.added(64), added);
                let (taken, returned) =
                    (site.stats().taken_back - before.taken_back, site.stats().returned - before.returned);
                assert_eq!((taken, returned), if count == 50 { (2, 2) } else { (1, 1) }, "{count} READs");
                assert_eq!(site.stats().ended_here, before.ended_here);
                home.stage.restore(0, at);
            }
        }
        assert_eq!((home.replay(), site.client().stats().malformed), (vec![], 0));
        home.stage.restore(1, 64);
    }
}

/// Nothing goes on here that may not: where the shard is placed at the host, where no handler was learned, or another
/// version than the one that was cut.
#[test]
fn what_cannot_go_on_here_goes_home_again() {
    let home = Home::new(Hook::Xdp, 3);
    let reads = args(0, 20, 64);
    let at_home = |site: &mut SiteClient| {
        let answer = call(site, PERUSE, &reads);
        assert_eq!((answer.site, first(answer)), (Site::Host, sum(0, 20)));
        assert_eq!((site.stats().taken_back, site.stats().ended_here), (0, 0), "{:?}", site.stats());
        assert_eq!(site.client().stats().pushbacks, 6);
    };
    at_home(&mut home.site(Placement::Host));
    at_home(&mut SiteClient::new(home.client(home.session(), &Options::default()), Placement::Hint));
    // What was learned is the version that follows the one that serves.
    let mut session = home.session();
    let listed = session.functions["peruse"];
    session.functions.insert("peruse".into(), FunctionInfo { version: 2, ..listed });
    let mut site = SiteClient::new(home.client(session, &Options::default()), Placement::Hint);
    learn(&mut site);
    site.list("peruse", listed).unwrap();
    at_home(&mut site);
    // A plain client knows nothing of all this.
    let mut client = home.client(home.session(), &Options::default());
    let function = client.function("peruse").unwrap();
    let reply = client.call(&Call::new(function, &reads).shard(Shard::Number(SHARD))).unwrap();
    assert_eq!((&reply.bytes[..8], client.stats().pushbacks), (&sum(0, 20).to_le_bytes()[..], 6));
}

/// A call that home has given back comes to its one end, and its effect happens once, whatever the wire does to its
/// pieces; copies that come later find it there.
#[test]
fn pieces_lost_and_repeated_have_one_effect() {
    let seed = std::env::var("NAAM_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_251_122);
    println!("NAAM_SEED={seed}");
    let mut numbers = Numbers(seed);
    for (hook, steps) in [(Hook::Xdp, 1), (Hook::Tc, 3), (Hook::Xdp, 7)] {
        let home = Home::new(hook, steps);
        let mut site = home.site(Placement::Hint);
        let mut fates = Numbers(seed + u64::from(steps));
        let again = Arc::downgrade(&home);
        let mut before = Vec::<Vec<u8>>::new();
        home.wire().arrives = Some(Box::new(move |datagram| {
            if let Some(home) = again.upgrade()
                && fates.below(4) == 0
            {
                // A copy, of this one or of one before, whose answer nobody gets.
                before.push(datagram.to_vec());
                home.serve(&before[fates.below(before.len() as u64) as usize]);
            }
            before.push(datagram.to_vec());
            fates.below(6) > 0
        }));
        let mut added = HashMap::new();
        for round in 0..20 {
            let (mut expected, mut lasts) = (HashMap::new(), vec![]);
            for at in 0..8 {
                let (from, count, to) = (at * 512, 1 + numbers.below(45), 64 * (1 + numbers.below(4)));
                // Half of the walks write.
                let odd = numbers.below(2);
                let last = from + (count - 1) * 8;
                home.stage.memory[0].store(last, pattern(0, last) + odd, Ordering::SeqCst).expect("inside");
                lasts.push(last);
                let number = if numbers.below(3) == 0 { PERUSE } else { WALK };
                let arguments = args(from, count, to);
                let function = naam_client::Function { number };
                let call = Call::new(function, &arguments).shard(Shard::Number(SHARD)).timeout(Duration::from_secs(30));
                let ticket = site.submit(&call).expect("it is taken");
                expected.insert(ticket, sum(from, count) + odd);
                if number == WALK && odd == 1 {
                    *added.entry(to).or_insert(0) += 1;
                }
            }
            while !expected.is_empty() {
                site.poll(|end| {
                    let sum = expected.remove(&end.ticket).expect("one end for each");
                    let reply = end.outcome.unwrap_or_else(|error| panic!("round {round}: {error}"));
                    assert_eq!(reply.bytes[..8], sum.to_le_bytes(), "{hook}, round {round}");
                })
                .unwrap();
                site.wait(Duration::from_millis(1)).unwrap();
            }
            lasts.iter().for_each(|offset| home.stage.restore(0, *offset));
        }
        for to in [64, 128, 192, 256] {
            assert_eq!(home.added(to), added.get(&to).copied().unwrap_or(0), "{hook}, {steps} steps");
        }
        let stats = site.stats();
        println!("{hook}, {steps} steps a visit: {stats:?}");
        assert!(stats.taken_back > 80 && stats.ended_here > 20 && stats.returned > 60, "too little was tried");
        assert_eq!((stats.strange_pushbacks, stats.strange_reads, stats.never_sent), (0, 0, 0));
        assert_eq!(home.replay(), [], "late copies had an effect");
    }
}

/// A writer that found nothing to write ends at home all the same: a copy of it that comes late, and would find
/// something by then, gets that end.
#[test]
fn what_did_not_write_never_will() {
    let home = Home::new(Hook::Xdp, 3);
    let mut site = home.site(Placement::Hint);
    for count in [2, 5, 20, 40] {
        let answer = call(&mut site, WALK, &args(0, count, 64));
        assert_eq!((answer.site, first(answer)), (Site::Host, sum(0, count)));
    }
    assert!(site.stats().taken_back >= 4, "{:?}", site.stats());
    assert_eq!(home.stage.changes(), []);
    for at in 0..40 {
        home.stage.memory[0].store(at * 8, 1, Ordering::SeqCst).expect("inside");
    }
    // The last call's, whose sequence is its slot's newest.
    assert_eq!(home.replay(), [], "a late copy has written");
}

/// Offset of the first message's header in an answer, and of its room.
const MESSAGE: usize = HEADER_BYTES;
const ROOM: usize = HEADER_BYTES + MESSAGE_BYTES;
/// Offsets in the room of a walk that was cut: its op and its state lie behind four words of arguments.
const OP: usize = ROOM + 32;
const STATE: usize = OP + 40;

/// What the engine cannot take in is counted and not believed: the call asks again, and the true answer is its end.
#[test]
fn strange_pushbacks_are_counted_and_not_believed() {
    let home = Home::new(Hook::Xdp, 3);
    let lies: [(usize, u8); 6] =
        [(MESSAGE + 16, 2), (MESSAGE + 16, 4), (OP, 4), (OP + 28, 0), (OP + 28, 72), (OP + 28, 12)];
    for (at, byte) in lies {
        let mut site = home.site(Placement::Hint);
        let mut first_one = true;
        home.wire().bend = Some(Box::new(move |answer| {
            if answer[5] == Kind::Pushback as u8 && std::mem::take(&mut first_one) {
                answer[at] = byte;
                sign(answer);
            }
        }));
        let answer = call(&mut site, PERUSE, &args(0, 20, 64));
        assert_eq!((answer.site, first(answer)), (Site::Client, sum(0, 20)), "{byte} at {at}");
        let stats = (site.stats().strange_pushbacks, site.client().stats().malformed, site.client().stats().pushbacks);
        assert_eq!(stats, (1, 1, 2), "{byte} at {at}");
    }
    assert_eq!(home.stage.changes(), []);
}

/// Whatever stands in a Pushback, its call ends with a status or in time, and no word changes that the session could not
/// have changed by itself.
#[test]
fn made_up_states_change_nothing_and_end() {
    let home = Home::new(Hook::Xdp, 3);
    let reads = [naam_abi::tables::RIGHT_READ; 8];
    home.stage.bench.datapath.tables().set_rights(SESSION, [RIGHT_ALL; 8], reads);
    let mut numbers = Numbers(5);
    let mut ends = HashMap::<String, u32>::new();
    let mut site = home.site(Placement::Hint);
    for round in 0..150 {
        let mut bytes = Numbers(round);
        home.wire().bend = Some(Box::new(move |answer| {
            // The client, which believes to have all rights, is given back what home has ended for want of them.
            let over = Message::decode(&answer[MESSAGE..]).expect("a message").status == Status::Budget as u16;
            let given_back = over || answer[5] == Kind::Pushback as u8;
            if answer.len() < STATE + 24 || !given_back || bytes.below(4) == 0 {
                return;
            }
            let message = Message::decode(&answer[MESSAGE..]).expect("a message");
            let op = 1 + bytes.below(4) as u8;
            let lie =
                Message { step: op, steps: 1 + bytes.below(60) as u8, arg_len: 32, reply_len: 0, status: 0, ..message };
            Message { flags: wire::MESSAGE_CARRIED, state_len: 3, reply_max: 2, ..lie }.encode(&mut answer[MESSAGE..]);
            answer[5] = Kind::Pushback as u8;
            let mut word = |at: usize, word: u64| answer[at..at + 8].copy_from_slice(&word.to_le_bytes());
            for at in (ROOM..STATE + 24).step_by(8) {
                word(at, if bytes.below(2) == 0 { bytes.below(40) } else { bytes.below(u64::MAX) });
            }
            if bytes.below(4) > 0 {
                word(OP, bytes.below(VALUE / 8) * 8);
                word(OP + 24, bytes.below(3) | (1 + bytes.below(8)) << 35);
            }
            sign(answer);
        }));
        let number = if numbers.below(2) == 0 { WALK } else { PERUSE };
        let arguments = args(0, 20, 64);
        let call = Call::new(naam_client::Function { number }, &arguments).reply_room(240);
        let call = call.shard(Shard::Number(SHARD)).timeout(Duration::from_millis(50));
        let answer = site.call(&call).expect("it is taken");
        let end = match answer.outcome {
            Ok(_) => "ok".into(),
            Err(CallError::Refused { status, .. }) => format!("{status:?}"),
            Err(CallError::Timeout { .. }) => "timeout".into(),
            Err(CallError::Failed { .. }) => "failed".into(),
            Err(error) => panic!("{error}"),
        };
        *ends.entry(format!("{end} at {:?}", answer.site)).or_default() += 1;
        assert_eq!(home.stage.changes(), [], "round {round}");
    }
    let stats = site.stats();
    println!("{ends:?}, {stats:?}, {:?}", site.client().stats());
    assert!(stats.strange_pushbacks > 50 && stats.taken_back > 50 && ends.len() > 4, "too little was tried");
    assert_eq!(site.in_flight(), 0);
}

/// READs of visits that are ready together share datagrams, by shard.
#[test]
fn reads_of_many_visits_share_datagrams() {
    let home = Home::new(Hook::Xdp, 32);
    let mut site = home.site(Placement::Client);
    let arguments = args(0, 5, 64);
    for (shards, datagrams) in [(1, 5), (2, 10)] {
        for at in 0..16 {
            let function = naam_client::Function { number: PERUSE };
            site.submit(&Call::new(function, &arguments).shard(Shard::Number(at % shards))).expect("it is taken");
        }
        let mut ended = 0;
        while ended < 16 {
            ended += site
                .poll(|end| assert_eq!(end.outcome.expect("an answer").bytes[..8], sum(0, 5).to_le_bytes()))
                .unwrap();
            site.wait(Duration::from_millis(100)).unwrap();
        }
        let sent = std::mem::take(&mut home.wire().sent);
        let counts: Vec<_> = sent.iter().map(|(function, bytes)| (*function, bytes[7])).collect();
        assert_eq!(counts, vec![(READ, 16 / shards as u8); datagrams], "{shards} shards");
    }
}

/// One slot, and a home that answers nothing but READs: who waits for the slot sleeps, and ends at its deadline, not sent.
#[test]
fn visits_without_a_slot_sleep_and_end_in_time() {
    let home = Home::new(Hook::Xdp, 32);
    home.stage.memory[0].store(0, 1, Ordering::SeqCst).expect("inside");
    let session = SessionInfo { slots: 1, ..home.session() };
    let mut site = SiteClient::new(home.client(session, &Options::default()), Placement::Client);
    learn(&mut site);
    home.wire().arrives = Some(Box::new(|datagram| Header::decode(datagram).expect("ours").function == READ));
    let arguments = args(0, 1, 64);
    let walk = Call::new(naam_client::Function { number: WALK }, &arguments).shard(Shard::Number(SHARD));
    // The first has the slot for longer than the others wait.
    for timeout in [400, 100, 150, 200, 250] {
        site.submit(&walk.timeout(Duration::from_millis(timeout))).expect("it is taken");
    }
    let (mut ends, mut turns, began) = (vec![], 0, Instant::now());
    while site.in_flight() > 0 {
        site.poll(|end| ends.push((end.ticket.index(), end.outcome.map(|_| ())))).unwrap();
        site.wait(Duration::from_secs(10)).unwrap();
        turns += 1;
        assert!(turns < 1_000, "it spins: {:?}, {ends:?}", site.stats());
    }
    assert!(began.elapsed() >= Duration::from_millis(400));
    let not_sent = |index| (index, Err(CallError::Timeout { attempts: 0, may_have_run: false }));
    assert_eq!(ends[..4], [not_sent(1), not_sent(2), not_sent(3), not_sent(4)]);
    let (0, Err(CallError::Timeout { attempts: 1.., may_have_run: true })) = ends[4] else { panic!("{ends:?}") };
    assert_eq!((site.stats().never_sent, site.stats().ended_here, site.stats().ended_at_host), (4, 4, 1));

    // Once home answers, each gets its turn.
    home.wire().arrives = None;
    learn(&mut site);
    for _ in 0..20 {
        site.submit(&walk.timeout(Duration::from_secs(30))).expect("it is taken");
    }
    let mut ended = 0;
    while ended < 20 {
        ended += site.poll(|end| assert!(end.outcome.is_ok(), "{:?}", end.outcome)).unwrap();
        site.wait(Duration::from_millis(100)).unwrap();
    }
    assert_eq!(home.added(64), 20);
}

/// A call that was given back has its place in the window still; where there is none for its READs it goes home.
#[test]
fn a_full_window_sends_what_was_given_back_home() {
    let home = Home::new(Hook::Xdp, 3);
    for window in [1, 2] {
        let options = Options { window, ..Options::default() };
        let mut site = SiteClient::new(home.client(home.session(), &options), Placement::Hint);
        learn(&mut site);
        let arguments = args(0, 20, 64);
        for _ in 0..window {
            let function = naam_client::Function { number: PERUSE };
            let call = Call::new(function, &arguments).shard(Shard::Number(SHARD)).timeout(Duration::from_secs(30));
            site.submit(&call).expect("it is taken");
        }
        let mut ended = 0;
        while ended < window {
            ended += site
                .poll(|end| assert_eq!(end.outcome.expect("an answer").bytes[..8], sum(0, 20).to_le_bytes()))
                .unwrap();
            site.wait(Duration::from_millis(100)).unwrap();
        }
        assert!(site.stats().returned > 0, "{:?}", site.stats());
    }
}

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
