//! Two CPUs at the same words: no message sees ops in an order that its handlers did not ask for.
//!
//! ```text
//!   CPU 0: WRITE x; READ y          the litmus "store buffering": if memory has an order at all,
//!   CPU 1: WRITE y; READ x          one of the two READs comes after both WRITEs
//! ```
//! Names are those of the literature (Alglave, Maranget, Tautschnig: Herding Cats). `kernel-notes/memory-ordering.md`
//! says what is promised, and what these tests would see where.

use naam_loader::Hook;
use naam_tests::litmus::Op::{Cas, Faa, Fetch, Read, ReadLong, Write, WriteLong};
use naam_tests::litmus::Seen::{Last, New};
use naam_tests::litmus::Side::{self, Handler, Owner};
use naam_tests::litmus::Word::{X, Y};
use naam_tests::litmus::{Litmus, Op, Seen, Theatre};
use naam_tests::{cpus, effort};

/// Rounds in which the sides may fail to take turns.
const PATIENCE: u32 = 50_000;

const fn litmus(name: &'static str, sides: [Side; 2], seen: [Seen; 2], forbidden: [bool; 2]) -> Litmus {
    Litmus { name, sides, seen, forbidden }
}

type Ops = &'static [Op];

/// Both write and then read what the other writes: not both READs come before the WRITEs.
const fn store_buffering(name: &'static str, one: Ops, other: Ops) -> Litmus {
    litmus(name, [Handler(one), Handler(other)], [New(0, 1), New(1, 1)], [false, false])
}

/// One writes x, then y; the other reads y, then x: who sees the new y sees the new x.
const fn message_passing(name: &'static str, from: Side, to: Side) -> Litmus {
    litmus(name, [from, to], [New(1, 0), New(1, 1)], [true, false])
}

/// Both read and then write what the other reads: not both READs see the other's WRITE.
const fn load_buffering(name: &'static str, one: Ops, other: Ops) -> Litmus {
    litmus(name, [Handler(one), Handler(other)], [New(0, 0), New(1, 0)], [true, true])
}

const STORE_BUFFERING: [Litmus; 6] = [
    store_buffering("SB", &[Write(X), Read(Y)], &[Write(Y), Read(X)]),
    store_buffering("SB, long WRITEs", &[WriteLong(X), Read(Y)], &[WriteLong(Y), Read(X)]),
    store_buffering("SB, long WRITEs and READs", &[WriteLong(X), ReadLong(Y)], &[WriteLong(Y), ReadLong(X)]),
    store_buffering("SB, FAA", &[Faa(X), Read(Y)], &[Faa(Y), Read(X)]),
    store_buffering("SB, CAS", &[Cas(X), Read(Y)], &[Cas(Y), Read(X)]),
    store_buffering("SB, long WRITE and FAA", &[WriteLong(X), Read(Y)], &[Faa(Y), Read(X)]),
];

const MESSAGE_PASSING: [Litmus; 5] = [
    message_passing("MP", Handler(&[Write(X), Write(Y)]), Handler(&[Read(Y), Read(X)])),
    message_passing("MP, long", Handler(&[WriteLong(X), Write(Y)]), Handler(&[Read(Y), ReadLong(X)])),
    message_passing("MP, FAA", Handler(&[WriteLong(X), Faa(Y)]), Handler(&[Read(Y), Read(X)])),
    message_passing("MP, CAS", Handler(&[WriteLong(X), Cas(Y)]), Handler(&[Fetch(Y), Read(X)])),
    // One word: what was seen once is not unseen.
    litmus("CoRR", [Handler(&[Write(X)]), Handler(&[Read(X), Read(X)])], [New(1, 0), New(1, 1)], [true, false]),
];

const WITH_THE_OWNER: [Litmus; 4] = [
    message_passing("MP, from the owner", Owner(&[Write(X), Write(Y)]), Handler(&[Read(Y), Read(X)])),
    message_passing("MP, from the owner, long", Owner(&[Write(X), Write(Y)]), Handler(&[ReadLong(Y), ReadLong(X)])),
    message_passing("MP, to the owner", Handler(&[WriteLong(X), Write(Y)]), Owner(&[Read(Y), Read(X)])),
    message_passing("MP, to the owner, FAA", Handler(&[WriteLong(X), Faa(Y)]), Owner(&[Read(Y), Read(X)])),
];

const READ_AND_WRITE: [Litmus; 6] = [
    load_buffering("LB", &[Read(X), Write(Y)], &[Read(Y), Write(X)]),
    load_buffering("LB, FAA and CAS", &[Read(X), Faa(Y)], &[Read(Y), Cas(X)]),
    litmus(
        "S",
        [Handler(&[WriteLong(X), Write(Y)]), Handler(&[Read(Y), Write(X)])],
        [New(1, 0), Last(X, 0)],
        [true, true],
    ),
    litmus(
        "R",
        [Handler(&[Write(X), Write(Y)]), Handler(&[WriteLong(Y), Read(X)])],
        [Last(Y, 1), New(1, 1)],
        [true, false],
    ),
    litmus(
        "2+2W",
        [Handler(&[Write(X), Write(Y)]), Handler(&[Write(Y), Write(X)])],
        [Last(X, 0), Last(Y, 1)],
        [true, true],
    ),
    litmus(
        "2+2W, long",
        [Handler(&[WriteLong(X), Write(Y)]), Handler(&[WriteLong(Y), Write(X)])],
        [Last(X, 0), Last(Y, 1)],
        [true, true],
    ),
];

/// No round has the outcome that is forbidden, and in some the sides took turns.
fn hold(test: &str, litmus: &[Litmus]) {
    if cpus::available().len() < 2 {
        println!("SKIPPED {test}: this machine has one processor");
        return;
    }
    let mut broken = Vec::new();
    for hook in Hook::ALL {
        let mut theatre = Theatre::new(hook);
        for litmus in litmus {
            let outcomes = theatre.perform(litmus, effort::rounds(256, 500_000), PATIENCE);
            println!("{hook}: {}: {outcomes:?}", litmus.name);
            if outcomes.forbidden > 0 || outcomes.raced == 0 {
                broken.push(format!("{hook}: {}: {outcomes:?}", litmus.name));
            }
        }
    }
    assert!(broken.is_empty(), "seen what may not be, or never two sides that took turns:\n{}", broken.join("\n"));
}

#[test]
fn a_read_after_an_op_that_writes_is_not_too_early() {
    hold("a_read_after_an_op_that_writes_is_not_too_early", &STORE_BUFFERING);
}

#[test]
fn who_sees_the_later_write_sees_the_earlier() {
    hold("who_sees_the_later_write_sees_the_earlier", &MESSAGE_PASSING);
}

#[test]
fn handlers_and_the_owner_see_each_others_stores_in_order() {
    hold("handlers_and_the_owner_see_each_others_stores_in_order", &WITH_THE_OWNER);
}

#[test]
fn no_op_overtakes_another() {
    hold("no_op_overtakes_another", &READ_AND_WRITE);
}
