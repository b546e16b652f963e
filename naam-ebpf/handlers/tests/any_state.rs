//! Every handler with any state: what a client can make up, and a network can bend, never makes a handler panic, and
//! all that it then does to memory are ops that the runtime checks.

use naam_abi::handler::{NaamMsg, Step};
use naam_abi::limits::{ARGS_BYTES, REPLY_BYTES, STEPS_MAX};
use naam_abi::wire::Status;
use naam_handler::native::{Memory, Progress, Visit, request};
use naam_handler::{Msg, View};
use naam_handlers::{cell, chain, counter, echo, mica, onesided};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes of region 0; region 1 is as long.
const BYTES: u64 = 4096;

/// A word as an attacker would choose it: small, near a limit, or anything.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..200,
        2 => (0u64..BYTES / 8).prop_map(|word| word * 8),
        1 => Just(u64::MAX),
        1 => (0u64..64).prop_map(|bit| 1 << bit),
        2 => any::<u64>(),
        2 => (any::<u32>(), any::<u32>()).prop_map(|(low, high)| u64::from(low % 64) | u64::from(high % 2_000) << 32),
    ]
}

prop_compose! {
    /// A message as home takes it in: the lengths are within the limits, and nothing else is promised.
    fn message()(
        op in (word(), word(), word(), word(), word(), word()), step in 0u32..40, code in any::<u32>(),
        (arg_len, reply_max, reply_len) in (0..=ARGS_BYTES as u32, 0..=REPLY_BYTES as u32 / 8, 0..=1000u32),
        state in vec(word(), 16), args in vec(word(), 40), reply in vec(word(), 8),
    ) -> Msg {
        let mut m = request(&[]);
        m.op_offset = op.0;
        m.op_value = op.1;
        m.op_expect = op.2;
        m.op_region = op.3 as u32;
        m.op_len = op.4 as u32;
        m.op_source = op.5 as u32;
        m.step = step;
        m.code = code;
        m.arg_len = arg_len;
        m.reply_max = reply_max * 8;
        m.reply_len = m.reply_max * reply_len / 1000;
        m.state.copy_from_slice(&state);
        m.args[..40].copy_from_slice(&args);
        m.reply[..8].copy_from_slice(&reply);
        m
    }
}

fn memory(words: &[u64]) -> Memory {
    let memory = Memory::new(&[BYTES as usize; 2]);
    for (at, word) in (0..BYTES).step_by(8).zip(words.iter().cycle()) {
        memory.write(0, at, *word);
        memory.write(1, at, !*word);
    }
    memory
}

/// Runs it to an end; nothing but an op that the runtime performed may have changed memory.
fn ends<V: View>(step: fn(&mut Msg, &V) -> Step, m: &Msg, pending: Option<Step>, words: &[u64]) -> Status {
    let memory = memory(words);
    let mut visit = pending.map_or_else(Visit::new, Visit::resume);
    let mut m = m.clone();
    for _ in 0..=STEPS_MAX {
        if let Progress::Finished(status) = visit.advance(step, &mut m, &memory) {
            let NaamMsg { reply_len, reply_max, .. } = *m;
            assert!(status != Status::Ok || reply_len <= reply_max);
            return status;
        }
    }
    unreachable!("a visit has {STEPS_MAX} steps");
}

/// A handler that only reads says so, and is held to it.
fn reads_only<V: View>(step: fn(&mut Msg, &V) -> Step, m: &Msg, pending: Option<Step>, words: &[u64]) {
    let pending = pending.filter(|step| !step.writes());
    let memory = memory(words);
    let mut m = m.clone();
    let status = pending.map_or_else(Visit::new, Visit::resume).read_only().run(step, &mut m, &memory);
    assert_ne!(status, Status::ReadOnly, "a reader asked for a writing op");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn no_state_is_too_strange(
        m in message(), pending in 0usize..5, words in vec(word(), 1..24),
    ) {
        let pending = [None, Some(Step::Read), Some(Step::Write), Some(Step::Cas), Some(Step::Faa)][pending];
        ends(echo::step, &m, pending, &words);
        ends(counter::step, &m, pending, &words);
        ends(chain::step, &m, pending, &words);
        ends(cell::get, &m, pending, &words);
        ends(cell::scan, &m, pending, &words);
        ends(mica::get, &m, pending, &words);
        ends(mica::set, &m, pending, &words);
        ends(mica::cas, &m, pending, &words);
        ends(mica::delete, &m, pending, &words);
        ends(onesided::read, &m, pending, &words);
        ends(onesided::write, &m, pending, &words);
        ends(onesided::cas, &m, pending, &words);
        ends(onesided::faa, &m, pending, &words);
        ends(onesided::chain, &m, pending, &words);
        reads_only(echo::step, &m, pending, &words);
        reads_only(chain::step, &m, pending, &words);
        reads_only(cell::get, &m, pending, &words);
        reads_only(cell::scan, &m, pending, &words);
        reads_only(mica::get, &m, pending, &words);
        reads_only(onesided::read, &m, pending, &words);
    }
}
