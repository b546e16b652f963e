//! What a reply must not hold: bytes of other apps or other messages; and what it must: checksums.

use naam_abi::tables::{APP_SERVING, RIGHT_ALL};
use naam_abi::wire::Status;
use naam_loader::Hook;
use naam_sys::{Map, Mapping};
use naam_tests::bench::{Bench, SESSION, port, region};
use naam_tests::frame::{Message, Network, Reply, Request};
use naam_tests::handlers::handler;
use naam_tests::verdict::Verdict;

const MARK: u64 = 0xa55a_c33c_0ff0_9669;
const STAINER: u16 = 3;
const PEEKER: u16 = 4;
const STAIN: u16 = 16;
const PEEK: u16 = 17;
const THEIRS: u32 = 1 << 10 | 9;

/// A bench with `stain` for app 3 and `peek` for apps 3 and 4; app 3's region is full of marks.
struct Stained {
    bench: Bench,
    _maps: [Map; 2],
    _marks: Mapping,
}

fn stained() -> impl Iterator<Item = Stained> {
    let (stain, peek) = (handler("stain"), handler("peek"));
    Bench::variants().map(move |bench| {
        let maps = [region(2 << 20, 1), region(2 << 20, 1)];
        bench.app(PEEKER);
        bench.app(STAINER);
        bench.session(THEIRS, PEEKER, RIGHT_ALL);
        for (app, function, code, map) in
            [(STAINER, STAIN, &stain, &maps[0]), (STAINER, PEEK, &peek, &maps[0]), (PEEKER, PEEK, &peek, &maps[1])]
        {
            bench.load((app, function, 1), code, &[map]).unwrap_or_else(|error| panic!("{error}"));
        }
        let marks = maps[0].mmap().expect("mmap");
        for offset in (0..4096).step_by(8) {
            marks.store(offset, MARK, std::sync::atomic::Ordering::Relaxed).expect("inside");
        }
        Stained { bench, _maps: maps, _marks: marks }
    })
}

fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

impl Stained {
    /// Marks every byte of app 3's scratch that a handler can reach, in all 32 lanes.
    fn stain(&self, sequence: u32) {
        let message = |slot| Message { slot, sequence, ..Message::new(1, &words(&[0, MARK, MARK, MARK]), 0) };
        let reply = self.bench.call(&Request {
            app: STAINER,
            function: STAIN,
            handler: 0,
            shard: 0,
            session: SESSION,
            messages: (0..32).map(message).collect(),
        });
        assert!(
            reply.answers.iter().all(|answer| (answer.status, answer.steps) == (Status::Ok as u16, 2)),
            "{reply:?}"
        );
        assert_eq!(reply.answers[0].code, MARK as u32, "the code is the handler's own");
    }

    fn peek(&self, app: u16, mode: u64, len: usize, count: u32) -> Reply {
        let session = if app == PEEKER { THEIRS } else { SESSION };
        let messages = (0..count).map(|request| Message::new(request, &words(&[mode, len as u64]), len)).collect();
        self.bench.call(&Request { app, function: PEEK, handler: 0, shard: 0, session, messages })
    }
}

#[test]
fn unwritten_bytes_are_zero_whoever_ran_before() {
    for stained in stained() {
        for (round, app) in [(1, PEEKER), (2, STAINER)] {
            let name = format!("{}, app {app}", stained.bench.name());
            for (what, mode, len, count) in [
                ("a KiB of reply", 0, 1024, 3),
                ("64 bytes of reply", 0, 64, 32),
                ("state and op fields", 1, 184, 15),
                ("the view before any READ", 2, 1024, 3),
            ] {
                stained.stain(round * 10 + mode as u32 * 2 + u32::from(len == 64));
                let reply = stained.peek(app, mode, len, count);
                for answer in &reply.answers {
                    assert_eq!((answer.status, answer.code), (Status::Ok as u16, 0), "{name}, {what}");
                    assert_eq!(answer.reply, vec![0; len], "{name}, {what}: bytes of an earlier message");
                }
            }
        }
    }
}

/// Side by side in one datagram, after others have READ.
#[test]
fn neighbours_in_a_datagram_see_nothing_of_each_other() {
    for stained in stained() {
        let message = |slot: u16, mode| Message { slot, sequence: 1, ..Message::new(1, &words(&[mode, MARK]), 24) };
        let messages = (0..32).map(|slot| message(slot, u64::from(slot % 2))).collect();
        let request = Request { app: STAINER, function: STAIN, handler: 0, shard: 0, session: SESSION, messages };
        let reply = stained.bench.call(&request);
        for answer in reply.answers.iter().skip(1).step_by(2) {
            assert_eq!(answer.reply, [0; 24], "{}: view, state, reply", stained.bench.name());
        }
    }
}

/// Of a message's room, what is behind its reply is the request's own, zero, or the handler's.
#[test]
fn rooms_hold_nothing_behind_the_reply_but_the_request() {
    for stained in stained() {
        for (sequence, len) in (1u32..).zip([0usize, 1, 13, 63, 64, 65, 100, 1000, 1023]) {
            stained.stain(sequence);
            let args = [words(&[0, len as u64]), vec![0x77; 1024]].concat();
            let request = Request {
                app: PEEKER,
                function: PEEK,
                handler: 0,
                shard: 0,
                session: THEIRS,
                messages: vec![Message::new(1, &args, 0)],
            };
            let network = Network::v4(port(PEEKER, 0));
            let frame = network.frame(&request.datagram());
            let output = stained.bench.send(&frame);
            let at = network.header_len() + 48 + 32;
            assert_eq!(output.data[at..at + len], vec![0; len], "{} of {len}", stained.bench.name());
            for (place, (byte, sent)) in output.data.iter().zip(&frame).enumerate().skip(at + len) {
                assert!(*byte == 0 || byte == sent, "{}: byte {place} of {len}", stained.bench.name());
            }
        }
    }
}

fn echo() -> impl Iterator<Item = Bench> {
    Bench::variants().inspect(|bench| {
        bench.app_with(STAINER, APP_SERVING);
        bench.load_built(STAINER, "echo", &[]);
    })
}

fn echo_request(args: &[u8]) -> Vec<u8> {
    let messages = vec![Message::new(1, args, 0)];
    let request = Request { app: STAINER, function: 16, handler: 0, shard: 0, session: SESSION, messages };
    let mut datagram = request.datagram();
    datagram[40..48].fill(0);
    datagram
}

/// A sum that comes to zero goes out as 0xffff: over IPv6, zero means "none" and is refused.
#[test]
fn a_checksum_of_zero_is_written_as_ones() {
    let network = Network::v6(port(STAINER, 0));
    let checksum_at = network.header_len() - 2;
    for bench in echo() {
        // Without tags an echo's checksum is in the hands of its argument.
        let probe = bench.send(&network.frame(&echo_request(&[0; 8])));
        let checksum = [probe.data[checksum_at], probe.data[checksum_at + 1]];
        let frame = network.frame(&echo_request(&[checksum[0], checksum[1], 0, 0, 0, 0, 0, 0]));
        let outcome = bench.judge(STAINER.into(), &frame);
        outcome.assert_answered(&network, &frame, &bench.name());
        let Verdict::Answered(reply) = outcome.verdict else { unreachable!("it was answered") };
        assert_eq!(reply[checksum_at..][..2], [0xff, 0xff], "{}", bench.name());
    }
}

/// A frame from a socket of the same machine carries the pseudo-header's sum where its checksum
/// will be. TC leaves it: whoever sends the frame adds the rest. XDP must not.
#[test]
fn a_checksum_to_be_filled_in_stays_so_at_tc_only() {
    for bench in echo() {
        for v6 in [false, true] {
            let network = Network { v6, ..Network::v4(port(STAINER, 0)) };
            let mut frame = network.frame(&echo_request(b"partial!"));
            let udp = network.header_len() - 8;
            let partial = network.pseudo_sum(&frame).to_be_bytes();
            frame[udp + 6..udp + 8].copy_from_slice(&partial);
            let outcome = bench.judge(STAINER.into(), &frame);
            if bench.hook == Hook::Xdp {
                outcome.assert_answered(&network, &frame, &bench.name());
            } else {
                let Verdict::Answered(reply) = outcome.verdict else { panic!("{}", bench.name()) };
                assert_eq!(reply[udp + 6..udp + 8], partial, "{}, v6 {v6}", bench.name());
            }
        }
    }
}
