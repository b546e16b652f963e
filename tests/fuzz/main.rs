//! Fuzzing, seeded: bent frames through entry and shell, bent datagrams through the client's parser.
//!
//! Whatever comes in, there are three fates: left to the stack untouched and uncounted; dropped and
//! counted once; answered with a reply that is signed, turned around and readable. Memory without a
//! right to it stays as it is, and another app's bytes stay where they are. A frame that breaks this
//! is written next to the build's temporary files; put it into `fixtures/` under the name of its fault.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use naam_abi::limits::{APPS_MAX, PORT_BASE};
use naam_abi::tables::{RIGHT_ALL, RIGHT_READ};
use naam_abi::wire::{self, Carried, MESSAGE_CARRIED, Status};
use naam_admission::Admitted;
use naam_loader::Hook;
use naam_sys::{Map, Mapping};
use naam_tests::bench::{SESSION, region};
use naam_tests::frame::{Message, Network, Request, sign};
use naam_tests::handlers::handler;
use naam_tests::stage::{APP, FUNCTION, Stage};
use naam_tests::verdict::{Outcome, VARIANTS, Verdict};

mod mutate;

use mutate::Random;

/// Another app with secrets.
const NEIGHBOUR: u16 = 4;
const THEIRS: u32 = 1 << 10 | 9;
/// Their secret, word by word.
const SECRET: u64 = 0x5ec2_e75e_c2e7_5ec3;

/// `NAAM_SEED`, or a fixed one.
fn seed() -> u64 {
    std::env::var("NAAM_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// How long one variant is fuzzed.
fn span() -> Duration {
    if std::env::var_os("NAAM_SOAK").is_some() { Duration::from_secs(120) } else { Duration::from_millis(1250) }
}

struct Target {
    stage: Stage,
    _secrets: (Map, Mapping),
    /// Sequence of the neighbour's next message.
    sequence: u32,
    /// Drops by the verdicts seen.
    dropped: u64,
    /// Messages given back.
    given_back: u64,
}

impl Target {
    fn new(hook: Hook, may_goto: bool, handlers: &[Admitted; 3]) -> Self {
        let [puppet, reader, stain] = handlers;
        let stage = Stage::new(hook, may_goto, puppet);
        stage.load(FUNCTION + 1, 1, reader);
        stage.bench.app(NEIGHBOUR);
        stage.bench.app(APP);
        stage.bench.session(THEIRS, NEIGHBOUR, RIGHT_ALL);
        // Region 1 may be written by neither door alone.
        let (handler, raw) = ([RIGHT_ALL, RIGHT_READ, 0, 0, 0, 0, 0, 0], [RIGHT_ALL, RIGHT_ALL, 0, 0, 0, 0, 0, 0]);
        stage.bench.datapath.tables().set_rights(SESSION, handler, raw);
        let map = region(2 << 20, 1);
        let memory = map.mmap().expect("mmap");
        for offset in (0..4096).step_by(8) {
            memory.store(offset, SECRET, std::sync::atomic::Ordering::Relaxed).expect("inside");
        }
        stage.bench.load((NEIGHBOUR, FUNCTION, 1), stain, &[&map]).unwrap_or_else(|error| panic!("{error}"));
        Self { stage, _secrets: (map, memory), sequence: 0, dropped: 0, given_back: 0 }
    }

    /// Lets the neighbour's handler leave its secret wherever it can.
    fn stain(&mut self) {
        self.sequence += 1;
        let args: Vec<u8> = [0, SECRET, SECRET].iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
        let message = |slot| Message { slot, sequence: self.sequence, ..Message::new(1, &args, 0) };
        let messages = (0..32).map(message).collect();
        let request = Request { app: NEIGHBOUR, function: FUNCTION, handler: 0, shard: 0, session: THEIRS, messages };
        let reply = self.stage.bench.call(&request);
        assert!(reply.answers.iter().all(|answer| answer.status == Status::Ok as u16), "{reply:?}");
    }

    /// Sends one frame in and checks its fate.
    fn send(&mut self, frame: &[u8]) -> Option<&'static str> {
        let network = envelope(frame);
        let app = network.as_ref().map_or(u32::from(APP), watched_app);
        let outcome = self.stage.bench.judge(app, frame);
        match &outcome.verdict {
            Verdict::Pass => {
                outcome.assert_passed(frame, "the stack's");
                None
            }
            Verdict::Drop => {
                self.dropped += 1;
                // A bent envelope may be another app's; the sum at the end has it all the same.
                let drops = outcome.drops();
                assert!(drops.iter().map(|(_, count)| count).sum::<u64>() <= 1, "{drops:?}");
                assert_eq!((outcome.stats.steps, outcome.stats.replies), (0, 0), "a dropped datagram has run");
                drops.first().map(|(name, _)| *name)
            }
            Verdict::Answered(reply) => {
                let network = network.expect("what is answered has an envelope");
                self.answered(&outcome, &network, frame, reply);
                None
            }
        }
    }

    fn answered(&mut self, outcome: &Outcome, network: &Network, sent: &[u8], reply: &[u8]) {
        assert_eq!(outcome.drops(), [], "answered and dropped");
        // TC takes a field that happens to hold the pseudo-header's sum for one to be filled in.
        let at = network.header_len();
        let partial = self.stage.bench.hook == Hook::Tc && sent[at - 2..at] == network.pseudo_sum(sent).to_be_bytes();
        if !partial {
            network.assert_turned_around(sent, reply, "answered");
        }
        let length = usize::from(u16::from_be_bytes([sent[at - 4], sent[at - 3]])) - 8;
        assert_eq!(sent[at + length..], reply[at + length..], "bytes behind the datagram");
        let datagram = &reply[at..at + length];
        let mut signed = datagram.to_vec();
        sign(&mut signed);
        assert_eq!(signed, datagram, "the tag of a reply");
        // An error's messages are as they came, lies and all: nobody has looked at them.
        assert!(matches!(datagram[5], 2 | 4 | 5), "kind {}", datagram[5]);
        if datagram[5] != 5 {
            let (header, messages) = wire::parse(datagram).unwrap_or_else(|error| panic!("{error:?}"));
            let mut given_back = 0;
            for message in messages {
                let (message, room) = message.unwrap_or_else(|error| panic!("{error:?} after {header:?}"));
                if message.flags & MESSAGE_CARRIED != 0 {
                    given_back += 1;
                    assert_eq!(message.status, 0, "{message:?}");
                    Carried::decode(&message, room).unwrap_or_else(|error| panic!("{error:?}: {message:?}"));
                    continue;
                }
                assert!(Status::from_code(message.status).is_some(), "{message:?}");
                assert!(message.status == 0 || message.reply_len == 0, "bytes without success: {message:?}");
            }
            assert_eq!(given_back > 0, datagram[5] == 4, "a Pushback carries something");
            assert_eq!(given_back, outcome.stats.pushbacks, "what is given back is counted");
            self.given_back += given_back;
        }
        let secret = SECRET.to_le_bytes();
        let leaks = |bytes: &[u8]| bytes.windows(8).any(|window| window == secret);
        assert!(!leaks(reply) || leaks(sent), "another app's bytes in a reply");
    }

    fn drops_of_all_apps(&self) -> u64 {
        let tables = self.stage.bench.datapath.tables();
        let of = |app| tables.stats(app).expect("counters").drops.iter().sum::<u64>();
        (0..=APPS_MAX as u32).map(of).sum()
    }

    /// Region 1 may only be read.
    fn check_memory(&self) {
        let changed = self.stage.changes().into_iter().find(|(region, ..)| *region == 1);
        assert_eq!(changed, None, "memory without the right to write it");
    }
}

/// The envelope of a frame as its own words have it.
fn envelope(frame: &[u8]) -> Option<Network> {
    let ethertype = |at: usize| frame.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let tagged = matches!(ethertype(12)?, 0x8100 | 0x88a8);
    let v6 = ethertype(if tagged { 16 } else { 12 })? == 0x86dd;
    let network = Network { v6, vlan: tagged.then_some(0), ..Network::v4(0) };
    let port = ethertype(network.header_len() - 6)?;
    Some(Network { port, ..network })
}

/// The app that counts a frame to this port.
fn watched_app(network: &Network) -> u32 {
    u32::from(network.port.wrapping_sub(PORT_BASE)) / 64 % APPS_MAX as u32
}

fn hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// Runs one check; a frame that fails it is kept.
fn guarded(what: &str, frame: &[u8], check: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(check)) {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("violation.hex");
        let text = format!("# {what}\n{}", hex(frame));
        match std::fs::write(&path, &text) {
            Ok(()) => eprintln!("{what}: the frame is in {}", path.display()),
            Err(error) => eprintln!("{what}: {error}\n{text}"),
        }
        resume_unwind(panic);
    }
}

#[test]
fn every_bent_frame_meets_one_of_three_fates() {
    let handlers = [handler("puppet"), handler("puppet_reader"), handler("stain")];
    let seed = seed();
    for (hook, may_goto) in VARIANTS {
        let mut target = Target::new(hook, may_goto, &handlers);
        let mut random = Random::new(seed);
        let (started, mut frames, mut answered) = (Instant::now(), 0u64, 0u64);
        let mut reasons = std::collections::BTreeMap::<&str, u64>::new();
        while started.elapsed() < span() {
            if frames.is_multiple_of(64) {
                target.stain();
            }
            let frame = random.frame();
            // TC's test run itself refuses frames whose IP header is not whole.
            if hook == Hook::Tc && frame.len() < 62 {
                continue;
            }
            frames += 1;
            let before = target.dropped;
            guarded(&format!("{hook}, NAAM_SEED={seed}, frame {frames}"), &frame, || {
                if let Some(reason) = target.send(&frame) {
                    *reasons.entry(reason).or_default() += 1;
                }
            });
            answered += u64::from(target.dropped == before);
        }
        target.check_memory();
        assert_eq!(target.drops_of_all_apps(), target.dropped, "{hook}: every drop is counted, once");
        println!(
            "{}: NAAM_SEED={seed}, {frames} frames, {answered} not dropped, {} messages given back, {reasons:?}",
            target.stage.bench.name(),
            target.given_back
        );
        for reason in ["short", "version", "kind", "length", "count", "port", "tag", "message"] {
            assert!(reasons.contains_key(reason) || frames < 3000, "{hook}: the mutator never reached {reason}");
        }
        assert!(target.given_back > 0 || frames < 3000, "{hook}: nothing was given back");
    }
}

/// Frames that once broke something.
#[test]
fn fixtures_meet_one_of_three_fates() {
    let handlers = [handler("puppet"), handler("puppet_reader"), handler("stain")];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut fixtures: Vec<_> = std::fs::read_dir(&folder)
        .expect("the fixtures are part of the source tree")
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    fixtures.sort();
    assert!(!fixtures.is_empty());
    for (hook, may_goto) in VARIANTS {
        let mut target = Target::new(hook, may_goto, &handlers);
        for path in &fixtures {
            let text = std::fs::read_to_string(path).expect("a readable fixture");
            let bytes = text.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace);
            let frame: Vec<u8> =
                bytes.map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits")).collect();
            guarded(&path.display().to_string(), &frame, || {
                target.send(&frame);
            });
        }
        target.check_memory();
        assert_eq!(target.drops_of_all_apps(), target.dropped, "{hook}");
    }
}

/// The client's parser on the same stream: never a panic, and what it reads it can write.
#[test]
fn the_parser_survives_the_same_stream() {
    let mut random = Random::new(seed());
    let (started, mut read, mut refused, mut cut) = (Instant::now(), 0u64, 0u64, 0u64);
    while started.elapsed() < span() {
        let frame = random.frame();
        let Some(network) = envelope(&frame) else { continue };
        let Some(bytes) = frame.get(network.header_len()..) else { continue };
        guarded("parser", &frame, || {
            let Ok((header, messages)) = wire::parse(bytes) else {
                refused += 1;
                return;
            };
            let Ok(messages) = messages.collect::<Result<Vec<_>, _>>() else {
                refused += 1;
                return;
            };
            read += 1;
            for (message, room) in &messages {
                if let Ok(carried) = Carried::decode(message, room) {
                    assert_cut_again(&carried, message, room);
                    cut += 1;
                }
            }
            let mut written = vec![0; usize::from(header.length)];
            header.encode(&mut written);
            let mut at = wire::HEADER_BYTES;
            for (message, room) in messages {
                message.encode(&mut written[at..]);
                at += wire::MESSAGE_BYTES;
                written[at..at + room.len()].copy_from_slice(room);
                at += room.len();
            }
            assert_eq!(written, bytes[..usize::from(header.length)]);
        });
    }
    println!("NAAM_SEED={}: {read} read, {refused} refused, {cut} messages cut again", seed());
    assert!(read > 0 && refused > 0 && cut > 0, "the stream has all kinds");
}

/// What a carried message brings is restored and cut as it came; its padding is zero then.
fn assert_cut_again(carried: &Carried<'_>, header: &wire::Message, room: &[u8]) {
    let mut message = naam_handler::native::request(&[]);
    carried.restore(5, &mut message);
    let mut buffer = [0; wire::CARRIED_BYTES_MAX];
    let (steps, words) = (u32::from(carried.steps()), carried.state().len() / 8);
    let again = Carried::cut(&message, carried.step(), steps, words, &mut buffer).expect("its lengths are sound");
    assert_eq!((again.args(), again.state(), again.reply()), (carried.args(), carried.state(), carried.reply()));
    let op = wire::Op { done: 1, ..carried.op() };
    assert_eq!((again.op(), again.code(), again.reply_max()), (op, carried.code(), carried.reply_max()));
    assert!(again.body().len() <= room.len());
    let mut filled = wire::Message { step: 0, steps: 0, code: 0, arg_len: 0, reply_len: 0, state_len: 0, ..*header };
    again.fill(&mut filled);
    assert_eq!(filled, wire::Message { room: filled.room, ..*header });
}
