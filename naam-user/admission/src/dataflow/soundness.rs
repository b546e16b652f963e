//! The audit against a processor: what it says of random handlers is true of every run.

use super::arbitrary::number;
use super::concrete::{Places, Processor};
use super::explore::{Explorer, Search};
use super::generate::{Random, program};
use super::state::State;
use super::step::{Machine, Next};
use crate::structure::{self, Shape};

const VIEW_BYTES: usize = 64;
const PLACES: [Places; 2] = [
    Places {
        message: 0xffff_8881_2345_6780,
        view: 0xffff_c900_0765_4320,
        stack: 0xffff_c900_7fff_f000,
        garbage: 0x5a5a_1234_dead_beef,
    },
    Places { message: 0x0000_7f12_3450_0008, view: 0x0000_5566_7788_9910, stack: 0x7ffe_ffff_0000, garbage: 7 },
];

/// Random handlers of sound structure.
fn shapes(seed: u64, count: u64) -> impl Iterator<Item = (u64, Shape)> {
    (seed..seed + count).filter_map(|seed| Some((seed, structure::audit(&program(&mut Random(seed))).ok()?)))
}

/// Numbers near edges, so that branches go both ways and bounds are met.
fn memory(random: &mut Random, bytes: usize) -> Vec<u8> {
    (0..bytes / 8).flat_map(|_| number(random.next()).to_le_bytes()).collect()
}

fn listing(shape: &Shape) -> String {
    shape.ops.iter().enumerate().map(|(at, op)| format!("{at:3} {op:?}\n")).collect()
}

/// Follows one real path with the abstract machine: it never loses the real numbers, and never
/// believes a side dead that is taken.
fn follow(shape: &Shape, mut processor: Processor) -> Result<u64, String> {
    let mut machine = Machine::new(shape, VIEW_BYTES);
    let mut state = State::start();
    let mut at = 0;
    while processor.executed < 2000 {
        let Ok(next) = machine.step(&mut state, at) else { break };
        let Some(to) = processor.step(&shape.ops, at).map_err(|error| format!("{at}: {error}"))? else { break };
        match next {
            Next::At(target) | Next::Call(target) | Next::Return(target) if target == to => {}
            // A branch to the next instruction: either side is right if it holds the numbers.
            Next::Split(here, other, there) if here == there => {
                if processor.check(&state).is_err() {
                    state = *other;
                }
            }
            Next::Split(here, ..) if here == to => {}
            Next::Split(_, other, there) if there == to => state = *other,
            _ => return Err(format!("{at}: goes to {to}, which the audit believes dead")),
        }
        processor.check(&state).map_err(|error| format!("{at}: {error}"))?;
        at = to;
    }
    Ok(processor.executed)
}

#[test]
fn no_real_path_leaves_its_abstract_states() {
    let (mut followed, mut instructions) = (0, 0);
    for (seed, shape) in shapes(1, scale(6_000)) {
        let mut random = Random(!seed);
        for places in PLACES.iter().cycle().take(6) {
            let processor = Processor::new(*places, memory(&mut random, 2304), memory(&mut random, VIEW_BYTES));
            match follow(&shape, processor) {
                Ok(executed) => instructions += executed,
                Err(error) => panic!("seed {seed}: {error}\n{}", listing(&shape)),
            }
            followed += 1;
        }
    }
    assert!(followed > scale(6_000) && instructions > 10 * followed, "{followed} {instructions}");
}

/// What is admitted stays in bounds, costs what was said, and answers the same wherever message,
/// view and stack lie and whatever unwritten memory holds: no pointer and no garbage gets out.
#[test]
fn admitted_handlers_depend_on_numbers_alone() {
    let mut admitted = 0;
    for (seed, shape) in shapes(1_000_000, scale(8_000)) {
        let search = Search { join_after: [None, Some(1), Some(4)][(seed % 3) as usize], visits_max: 5_000 };
        let Ok((cost, _)) = Explorer::new(&shape, VIEW_BYTES, search).explore() else { continue };
        admitted += 1;
        let mut random = Random(!seed);
        for _ in 0..8 {
            let (message, view) = (memory(&mut random, 2304), memory(&mut random, VIEW_BYTES));
            let [first, second] = PLACES.map(|places| {
                let mut processor = Processor::new(places, message.clone(), view.clone());
                let code = processor.run(&shape.ops, cost).unwrap_or_else(|error| {
                    panic!("seed {seed}, cost {cost}: {error}\n{}", listing(&shape));
                });
                assert_eq!(processor.view, view, "seed {seed}");
                (code, processor.executed, processor.message)
            });
            assert!(first == second, "seed {seed}: the answer depends on places\n{}", listing(&shape));
        }
    }
    assert!(admitted > scale(8_000) / 12, "only {admitted} handlers were admitted");
}

/// Handlers per test; `NAAM_SOUNDNESS_SCALE=100` makes a long run of it.
fn scale(count: u64) -> u64 {
    count * std::env::var("NAAM_SOUNDNESS_SCALE").ok().and_then(|scale| scale.parse().ok()).unwrap_or(1)
}
