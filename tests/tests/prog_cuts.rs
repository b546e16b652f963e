//! The property of cuts: wherever a message is cut, and whatever a network does to the pieces, it ends as if it had not
//! been cut, and its effect happens once. See [`naam_tests::pieces`] for the pieces; Cell is in `prog_cell_cuts`.

use std::sync::atomic::Ordering;

use naam_abi::limits::ARGS_BYTES;
use naam_handlers::mica::{GET_REPLY_MAX, args, layout::Geometry};
use naam_handlers::{chain, counter, mica};
use naam_loader::Hook;
use naam_tests::pieces::{Call, Home, Numbers, Part, perform};

const REGION_BYTES: u32 = 2 << 20;
/// Messages at each hook.
const ROUNDS: u32 = 200;
/// Steps of a visit of messages that are cut.
const STEPS: &[u32] = &[1, 2, 3, 7];
const PARTS: &[Part] = &[
    Part { name: "mica_get", writes: false, step: |memory, m| perform(mica::get, memory, m) },
    Part { name: "mica_set", writes: true, step: |memory, m| perform(mica::set, memory, m) },
    Part { name: "mica_cas", writes: true, step: |memory, m| perform(mica::cas, memory, m) },
    Part { name: "mica_delete", writes: true, step: |memory, m| perform(mica::delete, memory, m) },
    Part { name: "chain", writes: false, step: |memory, m| perform(chain::step, memory, m) },
    Part { name: "counter", writes: true, step: |memory, m| perform(counter::step, memory, m) },
];

/// A random call on a store of few keys, a ring of nodes, and some counters.
fn call(home: &Home, numbers: &mut Numbers, geometry: Geometry, ring: u64, sequence: u32, at: u16) -> Call {
    let handler = numbers.below(PARTS.len() as u64) as usize;
    let number = numbers.below(40);
    let key = number.to_le_bytes().repeat(1 + number as usize % 8);
    let value = vec![numbers.below(256) as u8; numbers.below(600) as usize];
    let mut buffer = [0; ARGS_BYTES];
    let get = Call::new(0, args::get(&mut buffer, geometry, &key).to_vec(), GET_REPLY_MAX, sequence, at);
    // Half of the versions are the right ones.
    let version = match args::found(&home.whole(&get).2) {
        Some((version, _)) if numbers.below(2) == 0 => version,
        _ => numbers.below(4),
    };
    let (args, reply) = match PARTS[handler].name {
        "mica_get" => (args::get(&mut buffer, geometry, &key).to_vec(), GET_REPLY_MAX),
        "mica_set" => (args::set(&mut buffer, &key, &value).to_vec(), 8),
        "mica_cas" => (args::cas(&mut buffer, &key, version, &value).to_vec(), 8),
        "mica_delete" => (args::delete(&mut buffer, &key).to_vec(), 8),
        "chain" => (chain::arguments(ring + number * 64, numbers.below(chain::HOPS_MAX + 1)).to_vec(), 72),
        _ => (counter::arguments(ring + 64 * 64 + number * 8, version).to_vec(), 8),
    };
    Call::new(handler, args, reply, sequence, at)
}

#[test]
fn cut_anywhere_a_message_ends_as_if_it_had_not_been() {
    let seed = Numbers::from_environment();
    for hook in [Hook::Xdp, Hook::Tc] {
        let home = Home::new(hook, PARTS, STEPS, REGION_BYTES);
        let mut numbers = seed;
        // The store's heap ends before the last pages, where the ring and the counters are.
        let store = u64::from(REGION_BYTES) - (64 << 10);
        let geometry = Geometry::plan(store, 16, 100).expect("geometry");
        geometry.format(|at, word| home.memory.store(at, word, Ordering::SeqCst).expect("inside"));
        for node in 0..64 {
            home.memory.store(store + node * 64, store + node * 37 % 64 * 64, Ordering::SeqCst).expect("inside");
        }
        let (mut cuts, mut ends) = (0, std::collections::BTreeMap::new());
        for round in 0..ROUNDS {
            let at = home.any_steps(&mut numbers);
            let call = call(&home, &mut numbers, geometry, store, 1 + round, at);
            let before = home.bytes();
            let whole = home.whole(&call);
            let after = home.bytes();
            home.restore(&before);
            let pushed = home.pushbacks();
            let pieces = home.in_pieces(&call, &mut numbers, &mut |_| {});
            cuts += home.pushbacks() - pushed;
            let name = home.part(&call).name;
            let what = format!("{hook}, round {round}, {name}, {} steps a visit", home.steps(&call));
            assert_eq!(pieces, whole, "{what}");
            assert!(home.bytes() == after, "{what}: the region differs");
            *ends.entry((name, whole.0, whole.1)).or_insert(0) += 1;
        }
        println!("{hook}: {cuts} cuts, ends {ends:?}");
        assert!(cuts > u64::from(ROUNDS) && ends.len() > 8, "too little was tried");
    }
}
