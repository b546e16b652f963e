//! Held calls in the core: what home gives back waits for its owner, who goes on with it, sends it home, or ends it.

#[path = "model/pieces.rs"]
mod pieces;

use naam_abi::limits::{HOPS_MAX, STEPS_MAX};
use naam_abi::tables::RIGHT_ALL;
use naam_abi::wire::{CARRIED_BYTES_MAX, Carried, HEADER_BYTES, Kind, MESSAGE_BYTES, MESSAGE_CARRIED, Message};
use naam_client::{CallError, Core, Reply, SubmitError, Ticket};
use pieces::*;

/// A core that holds, and a call of `function` that home has given back after `steps` steps; the ticket, the first
/// message, the Continue that home answered, and the answer.
fn held(function: u16, steps: u32) -> (Core, Ticket, Message, Vec<u8>, Vec<u8>) {
    let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
    core.hold(true);
    let ticket = core.submit(&call(function, &[3; ARGS]), NOW).unwrap();
    let (_, first, bytes) = sent(&mut core, NOW).unwrap();
    arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS);
    let (_, _, bytes) = sent(&mut core, NOW + MS).unwrap();
    let back = pushback(&bytes, steps);
    assert_eq!((core.next_held(), arrive(&mut core, &back, NOW + 2 * MS)), (None, vec![]));
    assert_eq!(sent(&mut core, NOW + 2 * MS), None, "nothing of it goes out by itself");
    (core, ticket, first, bytes, back)
}

fn identity(message: &Message) -> (u32, u16, u32) {
    (message.request, message.slot, message.sequence)
}

fn reply(bytes: &[u8]) -> Reply<'_> {
    Reply { code: 5, bytes, from_slot: false, steps: 44, hops: 0 }
}

/// As it came or some steps further, it goes home under its own slot and sequence.
#[test]
fn what_was_held_goes_home_under_its_slot() {
    for function in [READ, WRITE] {
        for further in [None, Some(44)] {
            let (mut core, ticket, first, _, _) = held(function, 40);
            assert_eq!((core.next_held(), core.next_held()), (Some(ticket), None));
            let mut buffer = [0; CARRIED_BYTES_MAX];
            let waits = core.held(ticket).unwrap();
            assert_eq!((waits.function.number, waits.version, waits.writes), (function, 1, function == WRITE));
            assert_eq!(waits.carried, cut(40, &mut buffer));
            if let Some(steps) = further {
                core.advance(ticket, &cut(steps - 1, &mut buffer)).unwrap();
                core.advance(ticket, &cut(steps, &mut buffer)).unwrap();
                assert_eq!(core.held(ticket).unwrap().carried, cut(steps, &mut buffer));
            }
            assert!(core.resume(ticket, NOW + 3 * MS));
            assert!(!core.resume(ticket, NOW + 3 * MS) && core.held(ticket).is_none(), "once");
            let (header, message, bytes) = sent(&mut core, NOW + 3 * MS).unwrap();
            assert_eq!((header.kind, header.handler, message.flags), (Kind::Continue, 1, MESSAGE_CARRIED));
            assert_eq!(identity(&message), identity(&first));
            assert_eq!(message.hops, if further.is_some() { 2 } else { 1 }, "one more site, if it was run there");
            let carried = Carried::decode(&message, &bytes[HEADER_BYTES + MESSAGE_BYTES..]).unwrap();
            assert_eq!(u32::from(carried.steps()), further.unwrap_or(40));
            assert_eq!(arrive(&mut core, &done(&bytes), NOW + 4 * MS), [Ok(vec![9; 8])]);
            let stats = core.stats();
            assert_eq!((stats.pushbacks, stats.succeeded, stats.in_flight), (1, 1, 0));
        }
    }
}

/// What only reads may end here, once; what writes may not, because another copy of it may still write.
#[test]
fn only_what_reads_ends_here() {
    let (mut core, ticket, ..) = held(READ, 40);
    let mut ends = vec![];
    let outcome = Ok(reply(&[1, 2]));
    assert!(core.conclude(ticket, outcome, &mut |end| ends.push((end.ticket, end.outcome.unwrap().bytes.to_vec()))));
    assert_eq!(ends, [(ticket, vec![1, 2])]);
    assert!(!core.conclude(ticket, outcome, &mut |_| panic!("once")));
    assert_eq!((core.stats().succeeded, core.in_flight(), core.next_held()), (1, 0, None));

    let (mut core, ticket, first, _, _) = held(WRITE, 40);
    assert!(!core.conclude(ticket, outcome, &mut |_| panic!("it may write")));
    assert!(core.resume(ticket, NOW + 3 * MS));
    assert_eq!(identity(&sent(&mut core, NOW + 3 * MS).unwrap().1), identity(&first));
    assert!(!core.conclude(ticket, outcome, &mut |_| panic!("it is not held")));
}

/// A copy of it has ended at home while this one waits: that is the end.
#[test]
fn an_answer_to_another_copy_ends_what_is_held() {
    for function in [READ, WRITE] {
        let (mut core, ticket, _, bytes, _) = held(function, 40);
        assert_eq!(arrive(&mut core, &done(&bytes), NOW + 3 * MS), [Ok(vec![9; 8])]);
        assert_eq!((core.next_held(), core.held(ticket).is_none()), (None, true));
        assert!(!core.resume(ticket, NOW + 4 * MS));
        // The next call at its place is another.
        let next = core.submit(&call(function, &[4; ARGS]), NOW + 4 * MS).unwrap();
        assert_eq!((next.index(), core.resume(ticket, NOW + 4 * MS)), (ticket.index(), false));
    }
}

/// Its deadline holds while nobody goes on with it; then it may have run.
#[test]
fn what_is_held_times_out() {
    for function in [READ, WRITE] {
        let (mut core, ticket, _, _, back) = held(function, 40);
        let mut ends = vec![];
        core.tick(NOW + 999 * MS, &mut |_| panic!("it has time left"));
        core.tick(NOW + 1_010 * MS, &mut |end| ends.push(end.outcome.map(|_| ())));
        assert_eq!(ends, [Err(CallError::Timeout { attempts: 2, may_have_run: true })]);
        assert_eq!((core.next_held(), core.resume(ticket, NOW + 1_011 * MS)), (None, false));
        // A Pushback after that is late.
        assert_eq!(arrive(&mut core, &back, NOW + 1_012 * MS), []);
        assert_eq!((core.stats().late, core.stats().pushbacks, core.next_held()), (1, 1, None));
    }
}

/// A Pushback repeated changes nothing: not while its message is held, not once it went home, not after its end.
#[test]
fn replayed_pushbacks_are_late() {
    for function in [READ, WRITE] {
        let (mut core, ticket, _, _, back) = held(function, 40);
        assert_eq!(core.next_held(), Some(ticket));
        arrive(&mut core, &back, NOW + 3 * MS);
        assert_eq!((core.stats().late, core.next_held()), (1, None));
        core.resume(ticket, NOW + 4 * MS);
        arrive(&mut core, &back, NOW + 4 * MS);
        let (_, _, bytes) = sent(&mut core, NOW + 4 * MS).unwrap();
        arrive(&mut core, &back, NOW + 5 * MS);
        // Of the newest attempt, and no further than what went home.
        arrive(&mut core, &pushback(&bytes, 40), NOW + 5 * MS);
        assert_eq!((core.stats().late, core.stats().pushbacks, core.next_held()), (4, 1, None));
        arrive(&mut core, &done(&bytes), NOW + 6 * MS);
        arrive(&mut core, &back, NOW + 7 * MS);
        assert_eq!((core.stats().duplicates, core.next_held(), core.in_flight()), (1, None, 0));
    }
}

/// What its owner takes for a lie leaves the call as it was: it asks again with what it had.
#[test]
fn disowned_messages_leave_the_call_as_it_was() {
    let (mut core, ticket, _, bytes, back) = held(WRITE, 40);
    assert_eq!((core.stats().malformed, core.disown(ticket, NOW + 3 * MS)), (0, true));
    assert_eq!((core.stats().malformed, core.disown(ticket, NOW + 3 * MS), core.next_held()), (1, false, None));
    assert_eq!(sent(&mut core, NOW + 3 * MS), None);
    core.tick(NOW + 500 * MS, &mut |_| panic!("it has time left"));
    let (header, message, again) = sent(&mut core, NOW + 500 * MS).unwrap();
    assert_eq!((header.kind, message.flags), (Kind::Continue, 0), "fresh, as it was");
    assert_eq!(again[HEADER_BYTES + MESSAGE_BYTES..], bytes[HEADER_BYTES + MESSAGE_BYTES..]);
    arrive(&mut core, &back, NOW + 501 * MS);
    assert_eq!(core.stats().late, 1, "of an earlier attempt");
    arrive(&mut core, &pushback(&again, 40), NOW + 501 * MS);
    assert_eq!(core.next_held(), Some(ticket));
}

/// Held calls have their place and their slot, and close with the core.
#[test]
fn held_calls_close() {
    let (mut core, ticket, ..) = held(WRITE, 40);
    assert_eq!((core.in_flight(), core.free_slots()), (1, usize::from(core.session().slots) - 1));
    let mut ends = vec![];
    core.close(&mut |end| ends.push(end.outcome.map(|_| ())));
    assert_eq!(ends, [Err(CallError::Closed { may_have_run: true })]);
    assert_eq!((core.held(ticket).is_none(), core.free_slots()), (true, core.session().slots.into()));
}

/// A message that has grown out of its path stays as it was; many visits do not use its last hop up here.
#[test]
fn what_is_held_stays_within_bounds() {
    let (mut core, ticket, ..) = held(READ, 40);
    let mut large = naam_handler::native::request(&[0; 1088]);
    large.reply_len = 1024;
    let mut buffer = [0; CARRIED_BYTES_MAX];
    let carried = Carried::cut(&large, naam_abi::handler::Step::Read, 41, 16, &mut buffer).unwrap();
    let refused = core.advance(ticket, &carried);
    assert_eq!(refused, Err(SubmitError::RoomTooLong { room: CARRIED_BYTES_MAX, max: 1472 }));
    let mut buffer = [0; CARRIED_BYTES_MAX];
    assert_eq!(core.held(ticket).unwrap().carried, cut(40, &mut buffer));
    let mut passed = vec![];
    for round in 0..4 {
        let mut buffer = [0; CARRIED_BYTES_MAX];
        core.advance(ticket, &cut(41 + 2 * round, &mut buffer)).unwrap();
        core.resume(ticket, NOW + 3 * MS);
        let (_, message, bytes) = sent(&mut core, NOW + 3 * MS).unwrap();
        passed.push(message.hops);
        arrive(&mut core, &pushback(&bytes, 42 + 2 * round), NOW + 3 * MS);
        assert_eq!(core.next_held(), Some(ticket));
    }
    assert_eq!(passed, [2, 4, 6, HOPS_MAX - 1], "the last visit is home's");
}
