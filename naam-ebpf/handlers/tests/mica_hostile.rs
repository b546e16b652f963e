//! Whatever a client sends, as arguments or as carried state: no panic, and nothing written where no
//! store may write.

mod store;

use naam_abi::handler::Step;
use naam_abi::limits::STEPS_MAX;
use naam_abi::wire::Status;
use naam_handler::native::{Progress, Visit, request};
use naam_handler::{Msg, View1k};
use naam_handlers::mica::layout::{BUCKETS, CLASS_MAX, LINE_BYTES, LINES, MARK};
use naam_handlers::mica::{self, Code};
use proptest::prelude::*;
use store::{Call, Handler, Outcome, Store};

const HANDLERS: [(&str, Handler); 4] =
    [("get", mica::get), ("set", mica::set), ("cas", mica::cas), ("delete", mica::delete)];

fn store() -> Store {
    let store = Store::new(16 << 10, 2);
    for i in 0..24u8 {
        store.call(&[i; 9], &Call::Set(vec![i; 40 + usize::from(i)]));
    }
    for i in 0..8u8 {
        store.call(&[i; 9], &Call::Delete);
    }
    store
}

/// Words as an attacker would choose them: small, at the edges, of the store's own making, any.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..24u64,
        any::<u64>(),
        (0..1_100u64, 0..70u64).prop_map(|(value_len, key_len)| value_len << 16 | key_len),
        (0..1024u64).prop_map(|line| line * LINE_BYTES + 8),
        (0..1024u64, 0..32u64, 0..4u64).prop_map(|(block, class, rest)| block | class << 26 | rest << 31),
        Just(0x4d43 << 48 | 2 << 32 | 1024),
        Just(u64::MAX),
    ]
}

/// Runs `m` and checks every op that writes.
fn run(store: &Store, handler: Handler, m: &mut Msg) -> Status {
    let mut visit = Visit::<View1k>::new();
    loop {
        match visit.advance(handler, m, &store.memory) {
            Progress::Pending(op) if op.writes() => {
                let at = m.op_offset;
                let is_mark = op == Step::Faa && at == MARK && m.op_value <= CLASS_MAX * LINE_BYTES;
                let is_head = op == Step::Cas && at >= LINES * LINE_BYTES && !at.is_multiple_of(LINE_BYTES);
                assert!(at >= BUCKETS || is_mark || is_head, "{op:?} at {at}, step {}", m.step);
            }
            Progress::Pending(_) => {}
            Progress::Finished(status) => return status,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        // The shrunk input is in the message.
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_arguments_leave_a_sound_store(args in prop::collection::vec(word(), 0..137), cut in 0..8usize, which in 0..4usize) {
        let store = store();
        let before = store.audit().items.len();
        let bytes: Vec<u8> = args.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut m = request(&bytes[..bytes.len().saturating_sub(cut)]);
        let status = run(&store, HANDLERS[which].1, &mut m);
        let name = HANDLERS[which].0;
        prop_assert!(matches!(status, Status::Ok | Status::Failed | Status::Bounds), "{name}: {status:?}");
        let audit = store.audit();
        prop_assert!(audit.items.len().abs_diff(before) <= 1 && audit.leaked() == 0, "{name}: {audit:?}");
    }

    #[test]
    fn any_state_is_survived(
        state in prop::collection::vec(word(), 16),
        phase in 0..32u64,
        args in prop::collection::vec(word(), 8),
        op in (word(), 0..2u32, 0..STEPS_MAX),
        which in 0..4usize,
    ) {
        let store = store();
        let mut m = request(&args.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>());
        m.state.copy_from_slice(&state);
        m.state[0] = phase;
        (m.op_value, m.op_done, m.step) = op;
        run(&store, HANDLERS[which].1, &mut m);
    }
}

#[test]
fn a_region_without_a_store_is_refused() {
    let store = Store { memory: naam_handler::native::Memory::new(&[64 << 10]), ..store() };
    for call in [Call::Set(vec![1]), Call::Cas(1, vec![1]), Call::Delete] {
        let mut m = call.message(store.geometry, b"key");
        assert_eq!((run(&store, call.handler(), &mut m), m.code), (Status::Failed, Code::NoStore as u32));
    }
    assert_eq!(store.call(b"key", &Call::Get), Outcome::Not(Code::NotFound));
}

#[test]
fn a_get_with_a_false_geometry_misses() {
    let store = store();
    let mut wrong = 0;
    for log2_buckets in 3..64 {
        let mut m = Call::Get.message(store.geometry, &[9; 9]);
        m.args[1] = 9 | log2_buckets << 8;
        match run(&store, mica::get, &mut m) {
            Status::Ok => wrong += u64::from(m.code != Code::NotFound as u32),
            status => assert_eq!(status, Status::Bounds),
        }
    }
    assert_eq!(wrong, 0);
}
