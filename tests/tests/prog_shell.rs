//! The shell through BPF_PROG_TEST_RUN, at both hooks and with both kinds of loops.

use naam_abi::wire::Status;
use naam_loader::Hook;
use naam_tests::bench::{Bench, SESSION, region};
use naam_tests::frame::{Message, Request};

/// Every program variant.
fn variants() -> impl Iterator<Item = Bench> {
    [(Hook::Xdp, true), (Hook::Xdp, false), (Hook::Tc, true), (Hook::Tc, false)]
        .into_iter()
        .map(|(hook, may_goto)| Bench::new(hook, may_goto))
}

fn request(function: u16, messages: Vec<Message>) -> Request {
    Request { app: 3, function, handler: 0, shard: 5, session: SESSION, messages }
}

#[test]
fn echo_answers_every_message_of_a_datagram() {
    for bench in variants() {
        bench.app(3);
        let loaded = bench.load_built(3, "echo", &[]);
        println!("{}: {:?} insns verified, {:?}", bench.hook, loaded.verified_insns, loaded.load_time);
        for count in [1, 2, 7, 16, 32] {
            let messages: Vec<_> = (0..count).map(|i| Message::new(i, &[i as u8; 13], 13)).collect();
            let reply = bench.call(&request(16, messages));
            assert_eq!((reply.kind, reply.status, reply.handler, reply.signed), (2, 0, 1, true));
            for (i, answer) in (0..count).zip(&reply.answers) {
                assert_eq!((answer.request, answer.status, answer.steps), (i, Status::Ok as u16, 1));
                assert_eq!(answer.reply, [i as u8; 13]);
            }
        }
    }
}

#[test]
fn counter_adds_at_home_and_exactly_once() {
    for bench in variants() {
        bench.app(3);
        let memory = region(2 << 20, 1);
        bench.load_built(3, "counter", &[&memory]);
        let words = memory.mmap().expect("mmap");
        let args = |addend: u64| [64u64.to_le_bytes(), addend.to_le_bytes()].concat();
        let add = |slot, sequence, addend| Message { slot, sequence, ..Message::new(1, &args(addend), 8) };
        let first = bench.call(&request(16, vec![add(0, 1, 5), add(1, 1, 7)]));
        assert!(first.answers.iter().all(|answer| answer.status == Status::Ok as u16), "{first:?}");
        let load = || words.load(64, std::sync::atomic::Ordering::SeqCst).expect("inside");
        assert_eq!(load(), 12);
        // A retry is answered from the slot and adds nothing.
        let again = bench.call(&request(16, vec![add(0, 1, 5), add(1, 1, 7)]));
        assert_eq!(load(), 12);
        assert_eq!(again.answers[0].reply, first.answers[0].reply);
        assert_eq!(again.answers[0].flags & 4, 4, "duplicate");
        // The next one runs; then the first is stale.
        bench.call(&request(16, vec![add(0, 2, 100)]));
        let stale = bench.call(&request(16, vec![add(0, 1, 5)]));
        assert_eq!((stale.answers[0].status, load()), (Status::Stale as u16, 112));
    }
}
