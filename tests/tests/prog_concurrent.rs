//! Two CPUs at once: atomics, handlers replaced under load, sessions and functions that end while
//! their messages run.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use naam_abi::tables::{RIGHT_ALL, SessionEntry};
use naam_abi::wire::Status;
use naam_loader::Hook;
use naam_tests::bench::{Bench, SESSION, port};
use naam_tests::cpus;
use naam_tests::effort;
use naam_tests::frame::{Message, Network, Reply, Request};
use naam_tests::handlers::{Order, handler, handler_with, strings};
use naam_tests::stage::{APP, FUNCTION, SHARD, Stage, pattern};

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at * 8..at * 8 + 8].try_into().expect("eight bytes"))
}

fn send(stage: &Stage, request: &Request) -> Option<Reply> {
    let network = Network::v4(port(APP, SHARD));
    let output = stage.bench.send(&network.frame(&request.datagram()));
    (output.retval == stage.bench.transmitted()).then(|| Reply::read(&output.data[network.header_len()..]))
}

#[test]
fn sums_from_two_cpus_are_exact() {
    let puppet = handler("puppet");
    for hook in Hook::ALL {
        let stage = Stage::new(hook, Bench::may_goto(), &puppet);
        let datagrams = effort::rounds(2_000, 100_000);
        std::thread::scope(|scope| {
            for (thread, cpu) in cpus::two().into_iter().enumerate() {
                let stage = &stage;
                scope.spawn(move || {
                    cpus::pin(cpu);
                    for sequence in 1..=datagrams {
                        // Four messages of five additions each, all to the same word.
                        let args = strings(&[Order::faa(0, 0, 3); 5], 0);
                        let slot = |i| 8 * thread as u16 + i;
                        let message = |i| Message { slot: slot(i), sequence, ..Message::new(1, &args, 0) };
                        let reply = send(stage, &Stage::request((0..4).map(message).collect())).expect("an answer");
                        assert!(reply.answers.iter().all(|answer| (answer.status, answer.steps) == (0, 6)));
                    }
                });
            }
        });
        let sum = stage.memory[0].load(0, Ordering::SeqCst).expect("inside").wrapping_sub(pattern(0, 0));
        assert_eq!(sum, 2 * u64::from(datagrams) * 4 * 5 * 3, "{hook}");
    }
}

/// Each exchange that reports success took the word from exactly its expectation: the word's values
/// form one chain without forks.
#[test]
fn exchanges_from_two_cpus_form_one_chain() {
    let puppet = handler("puppet");
    for hook in Hook::ALL {
        let stage = Stage::new(hook, Bench::may_goto(), &puppet);
        stage.memory[0].store(0, 0, Ordering::SeqCst).expect("inside");
        let rounds = effort::rounds(4_000, 100_000);
        let exchanged = AtomicU64::new(0);
        let failed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for (thread, cpu) in cpus::two().into_iter().enumerate() {
                let (stage, exchanged, failed) = (&stage, &exchanged, &failed);
                scope.spawn(move || {
                    cpus::pin(cpu);
                    for sequence in 1..=rounds {
                        let now = stage.memory[0].load(0, Ordering::SeqCst).expect("inside");
                        let orders = [Order::cas(0, 0, now, now + 1), Order::cas(0, 0, now + 1, now + 2)];
                        let message =
                            Message { slot: thread as u16, sequence, ..Message::new(1, &strings(&orders, 24), 24) };
                        let reply = send(stage, &Stage::request(vec![message])).expect("an answer");
                        let bytes = &reply.answers[0].reply;
                        for (i, order) in orders.iter().enumerate() {
                            let done = word(bytes, 0) >> i & 1 == 1;
                            // The word found is the expectation exactly if the exchange happened.
                            assert_eq!(done, word(bytes, 1 + i) == order.expect, "{hook}: {reply:?}");
                            if done { exchanged } else { failed }.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let (exchanged, failed) = (exchanged.into_inner(), failed.into_inner());
        println!("{hook}: {exchanged} exchanged, {failed} not");
        assert_eq!(stage.memory[0].load(0, Ordering::SeqCst).expect("inside"), exchanged, "{hook}");
    }
}

/// Handlers are replaced while another CPU calls them: no datagram is lost, none is run by two
/// versions, each reply names the version that ran, and a drained one is a typed error.
#[test]
fn replaced_under_load_nothing_is_lost_or_mixed() {
    let builds = [handler_with("answer", &["-DANSWER=2"]), handler_with("answer", &["-DANSWER=1"])];
    // At least three are to be seen at work.
    let replacements = effort::rounds(15, 500).max(5) as u16;
    for hook in Hook::ALL {
        for any_version in [true, false] {
            let stage = Stage::new(hook, Bench::may_goto(), &builds[1]);
            let stop = AtomicBool::new(false);
            let [caller, loader] = cpus::two();
            let (ran, versions, refused) = std::thread::scope(|scope| {
                let (stage, stop) = (&stage, &stop);
                let calls = scope.spawn(move || {
                    cpus::pin(caller);
                    let (mut ran, mut refused, mut versions) = (0u64, 0u64, HashSet::new());
                    let (mut sequence, mut named) = (0, 1);
                    while !stop.load(Ordering::Acquire) {
                        sequence += 1;
                        let message = |slot| Message { slot, sequence, ..Message::new(1, &[0; 8], 16) };
                        let messages = (0..8).map(message).collect();
                        let handler = if any_version { 0 } else { named };
                        let request = Request { handler, ..Stage::request(messages) };
                        let reply = send(stage, &request).expect("no datagram is lost");
                        if reply.kind == 5 {
                            assert!(!any_version, "whichever version serves: there is always one");
                            assert_eq!(reply.status, Status::Version as u16, "{reply:?}");
                            assert!(reply.handler > named, "the error names the version that serves");
                            named = reply.handler;
                            refused += 1;
                            continue;
                        }
                        assert!(any_version || reply.handler == named, "{named} was asked for: {reply:?}");
                        let number = if reply.handler % 2 == 1 { 1 } else { 2 };
                        for answer in &reply.answers {
                            assert_eq!((answer.status, answer.flags), (0, 1), "{reply:?}");
                            assert_eq!((answer.code, word(&answer.reply, 0)), (number, number.into()), "{reply:?}");
                        }
                        versions.insert(reply.handler);
                        ran += reply.answers.len() as u64;
                    }
                    (ran, versions, refused)
                });
                cpus::pin(loader);
                for version in 2..=replacements {
                    stage.load(FUNCTION, version, &builds[usize::from(version) % 2]);
                    std::thread::sleep(Duration::from_millis(2));
                    assert_eq!(stage.bench.datapath.drained(APP, FUNCTION).expect("drained"), Some(version - 1));
                    std::thread::sleep(Duration::from_millis(2));
                }
                stop.store(true, Ordering::Release);
                calls.join().expect("the caller")
            });
            let sum = stage.memory[0].load(0, Ordering::SeqCst).expect("inside") - pattern(0, 0);
            assert_eq!(sum, ran, "{hook}: each message that was answered has run once");
            println!("{hook}: {ran} messages by {} versions, {refused} datagrams refused", versions.len());
            assert!(versions.len() > 2, "{hook}: the test saw no replacement");
            let late = Request { handler: 1, ..Stage::request(vec![Message::new(1, &[0; 8], 16)]) };
            let reply = send(&stage, &late).expect("an answer");
            assert_eq!((reply.kind, reply.status, reply.handler), (5, Status::Version as u16, replacements));
            stage.bench.app(APP);
            let stats = stage.bench.datapath.tables().stats(APP.into()).expect("counters");
            assert_eq!(stats.drops, [0; 16], "{hook}");
        }
    }
}

/// A session's place is given to another while the old session's messages still run. The new one's
/// slots are its own: what ran in them ran once, and its cached replies stay what they were.
#[test]
fn messages_of_an_ended_session_leave_the_next_one_alone() {
    const OLD: u64 = 0x01d0_01d0_01d0_01d0;
    const NEW: u64 = 0x0e20_0e20_0e20_0e20;
    const NEXT: u32 = SESSION + 1024;
    let slow = handler("slow");
    let rounds = effort::rounds(12, 300);
    for hook in Hook::ALL {
        let stage = Stage::new(hook, Bench::may_goto(), &slow);
        stage.load(FUNCTION + 1, 1, &handler("answer"));
        let [old, new] = cpus::two();
        let mut overlapped = 0;
        for round in 0..rounds {
            stage.reset();
            stage.fresh_session();
            let args = |mark: u64| [64u64.to_le_bytes(), mark.to_le_bytes()].concat();
            let message = |slot, mark| Message { slot, sequence: 1, ..Message::new(1, &args(mark), 16) };
            let running = Stage::request((0..32).map(|slot| message(slot, OLD)).collect());
            let finished = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let (stage, finished) = (&stage, &finished);
                scope.spawn(move || {
                    cpus::pin(old);
                    send(stage, &running);
                    finished.store(true, Ordering::Release);
                });
                cpus::pin(new);
                // The counter moves: the old session's messages are at work.
                let begun = Instant::now();
                while stage.memory_is(0, 64) && begun.elapsed() < Duration::from_secs(5) {
                    std::hint::spin_loop();
                }
                let entry = SessionEntry {
                    session: NEXT,
                    app: APP.into(),
                    handler_rights: [RIGHT_ALL; 8],
                    ..SessionEntry::default()
                };
                stage.bench.datapath.tables().open_session(&entry);
                let request = |flags: u8| {
                    let messages =
                        (0..32).map(|slot| Message { slot, sequence: 1, ..Message::new(1, &args_of(128, NEW), 16) });
                    let request =
                        Request { session: NEXT, function: FUNCTION + 1, ..Stage::request(messages.collect()) };
                    let reply = send(stage, &request).expect("an answer");
                    for (found, answer) in (0..).zip(&reply.answers) {
                        let what = format!("{hook}, round {round}, slot {found}: {answer:?}");
                        assert_eq!((answer.status, answer.flags, answer.code), (0, flags, 1), "{what}");
                        assert_eq!(word(&answer.reply, 0), 1, "{what}");
                        assert_eq!(word(&answer.reply, 1), pattern(0, 128) + found, "{what}");
                    }
                };
                request(1);
                overlapped += u32::from(!finished.load(Ordering::Acquire));
                request(5);
                while !finished.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                request(5);
            });
        }
        println!("{hook}: the old session was still at work in {overlapped} of {rounds} rounds");
    }
}

fn args_of(offset: u64, mark: u64) -> Vec<u8> {
    [offset.to_le_bytes(), mark.to_le_bytes()].concat()
}
