//! Carried messages in the core: given back by home, they go home again as they are, until they have an end.

#[path = "model/pieces.rs"]
mod pieces;

use naam_abi::handler::Step;
use naam_abi::limits::{HOPS_MAX, STEPS_MAX};
use naam_abi::tables::{RIGHT_ALL, RIGHT_READ};
use naam_abi::wire::{
    CARRIED_BYTES_MAX, Carried, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, MESSAGE_CARRIED, Message, Status,
};
use naam_client::{CallError, Function, Serving, SubmitError};
use naam_handler::native;
use pieces::*;

/// Out of steps, a call goes on by Continues under its own slot and sequence, and its user sees one answer.
#[test]
fn calls_out_of_steps_go_on_at_home() {
    for function in [READ, WRITE] {
        let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
        core.submit(&call(function, &[3; ARGS]), NOW).unwrap();
        let (header, first, bytes) = sent(&mut core, NOW).unwrap();
        assert_eq!(header.kind, Kind::Request);
        assert_eq!(arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS), []);
        let identity = |message: &Message| (message.request, message.slot, message.sequence);
        let (header, fresh, bytes) = sent(&mut core, NOW + MS).unwrap();
        assert_eq!((header.kind, fresh.flags, identity(&fresh)), (Kind::Continue, 0, identity(&first)));
        assert!(usize::from(fresh.room) >= Carried::bytes(ARGS, 16, 48), "room for what it will carry");
        assert_eq!((first.reply_max, fresh.reply_max), (0, 6), "and no longer reply for that");
        let mut last = bytes;
        for visit in 1..4 {
            let now = NOW + (1 + u64::from(visit)) * MS;
            let back = pushback(&last, visit * STEPS_MAX);
            assert_eq!(arrive(&mut core, &back, now), []);
            let (header, message, bytes) = sent(&mut core, now).unwrap();
            assert_eq!((header.kind, message.flags), (Kind::Continue, MESSAGE_CARRIED));
            assert_eq!((identity(&message), message.hops), (identity(&first), visit as u8));
            let room = &bytes[HEADER_BYTES + MESSAGE_BYTES..];
            let carried = Carried::decode(&message, room).unwrap();
            assert_eq!((u32::from(carried.steps()), carried.args()), (visit * STEPS_MAX, &[3; ARGS][..]));
            assert_eq!(carried.state(), u64::from(visit * STEPS_MAX).to_le_bytes());
            // A copy of the same changes nothing.
            assert_eq!((arrive(&mut core, &back, now), sent(&mut core, now).is_none()), (vec![], true));
            last = bytes;
        }
        assert_eq!(arrive(&mut core, &done(&last), NOW + 9 * MS), [Ok(vec![9; 8])]);
        let stats = core.stats();
        assert_eq!((stats.continued, stats.pushbacks, stats.late, stats.in_flight), (1, 3, 3, 0));
    }
}

/// The host's time was up, and not the message's steps: as a Continue it keeps what it has done. Once it is one, it waits
/// before it asks again.
#[test]
fn calls_out_of_time_go_on_as_continues() {
    for function in [READ, WRITE] {
        let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
        core.submit(&call(function, &[3; ARGS]), NOW).unwrap();
        let (_, first, bytes) = sent(&mut core, NOW).unwrap();
        assert_eq!(arrive(&mut core, &over_budget(&bytes, 5), NOW + MS), []);
        let (header, fresh, bytes) = sent(&mut core, NOW + MS).unwrap();
        assert_eq!((header.kind, fresh.flags, fresh.room > first.room), (Kind::Continue, 0, true));
        assert_eq!((fresh.request, fresh.slot, fresh.sequence), (first.request, first.slot, first.sequence));
        assert_eq!(arrive(&mut core, &over_budget(&bytes, 0), NOW + 2 * MS), []);
        assert_eq!((sent(&mut core, NOW + 2 * MS), core.stats().out_of_time, core.stats().continued), (None, 1, 1));
        core.tick(NOW + 500 * MS, &mut |_| panic!("it has time left"));
        let (_, _, bytes) = sent(&mut core, NOW + 500 * MS).unwrap();
        arrive(&mut core, &pushback(&bytes, 3), NOW + 501 * MS);
        let (_, carried, bytes) = sent(&mut core, NOW + 501 * MS).unwrap();
        assert_eq!((carried.flags, carried.steps), (MESSAGE_CARRIED, 3));
        assert_eq!(arrive(&mut core, &done(&bytes), NOW + 502 * MS), [Ok(vec![9; 8])]);
    }
}

/// Given back as often as its hops allow, and out of time once more: it begins anew, under its slot and sequence.
#[test]
fn calls_without_a_hop_left_begin_anew() {
    for function in [READ, WRITE] {
        let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
        core.submit(&call(function, &[3; ARGS]), NOW).unwrap();
        let (_, first, bytes) = sent(&mut core, NOW).unwrap();
        arrive(&mut core, &over_budget(&bytes, 1), NOW);
        let (_, _, mut bytes) = sent(&mut core, NOW).unwrap();
        for visit in 1..HOPS_MAX {
            arrive(&mut core, &pushback(&bytes, visit.into()), NOW);
            bytes = sent(&mut core, NOW).unwrap().2;
        }
        assert_eq!(arrive(&mut core, &over_budget(&bytes, 8), NOW + MS), []);
        assert_eq!(sent(&mut core, NOW + MS), None, "not at once");
        core.tick(NOW + 500 * MS, &mut |_| panic!("it has time left"));
        let (header, anew, bytes) = sent(&mut core, NOW + 500 * MS).unwrap();
        assert_eq!((header.kind, Message { sent: 0, ..anew }), (Kind::Request, Message { sent: 0, ..first }));
        assert_eq!(arrive(&mut core, &done(&bytes), NOW + 501 * MS), [Ok(vec![9; 8])]);
    }
}

/// A call that named no version learns it from the answer that it is over its budget: its Continue names it, and its end
/// says so.
#[test]
fn continues_name_what_the_request_was_told() {
    let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
    core.ask_version(Function { number: READ });
    core.submit(&call(READ, &[3; ARGS]), NOW).unwrap();
    let (header, _, mut bytes) = sent(&mut core, NOW).unwrap();
    assert_eq!(header.handler, 0);
    Header { handler: 7, epoch: 3, ..header }.encode(&mut bytes);
    arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS);
    let (header, _, bytes) = sent(&mut core, NOW + MS).unwrap();
    assert_eq!((header.kind, header.handler), (Kind::Continue, 7));
    let mut told = None;
    core.receive(NOW + 2 * MS, &done(&bytes), &mut |end| told = end.serving);
    assert_eq!(told, Some(Serving { version: 7, epoch: 3 }));
}

/// Two copies of a Request were out of steps: the second answer does not end what the first has set going.
#[test]
fn a_late_end_of_the_steps_is_no_end() {
    let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
    core.submit(&call(READ, &[3; ARGS]), NOW).unwrap();
    let (_, _, bytes) = sent(&mut core, NOW).unwrap();
    arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS);
    let (_, _, continued) = sent(&mut core, NOW + MS).unwrap();
    assert_eq!(arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS), []);
    assert_eq!((core.stats().late, core.in_flight()), (1, 1));
    assert_eq!(arrive(&mut core, &done(&continued), NOW + 2 * MS), [Ok(vec![9; 8])]);
}

/// Nobody answers: the same message goes again, with what it carries.
#[test]
fn lost_continues_are_repeated_as_they_are() {
    let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
    core.submit(&call(WRITE, &[3; ARGS]), NOW).unwrap();
    let (_, _, bytes) = sent(&mut core, NOW).unwrap();
    arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS);
    let (_, _, bytes) = sent(&mut core, NOW + MS).unwrap();
    arrive(&mut core, &pushback(&bytes, 40), NOW + 2 * MS);
    let (_, first, one) = sent(&mut core, NOW + 2 * MS).unwrap();
    core.tick(NOW + 500 * MS, &mut |_| panic!("it has time left"));
    let (_, second, two) = sent(&mut core, NOW + 500 * MS).unwrap();
    assert_eq!(Message { sent: 0, ..first }, Message { sent: 0, ..second });
    let room = HEADER_BYTES + MESSAGE_BYTES;
    assert_eq!(one[room..], two[room..]);
    // The answer to the first attempt ends it all the same.
    assert_eq!(arrive(&mut core, &done(&one), NOW + 501 * MS), [Ok(vec![9; 8])]);
}

/// Without the rights that carried messages take, the budget is the end; so it is for a Continue.
#[test]
fn sessions_without_raw_rights_see_no_difference() {
    let over = Err(CallError::Refused { status: Status::Budget, code: 0, may_have_run: true });
    for (function, handler, raw) in [(READ, RIGHT_ALL, 0), (WRITE, RIGHT_ALL, RIGHT_READ), (READ, RIGHT_READ, 6)] {
        let mut core = core(session(handler, raw));
        core.submit(&call(function, &[3; ARGS]), NOW).unwrap();
        let (_, _, bytes) = sent(&mut core, NOW).unwrap();
        assert_eq!(arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS), std::slice::from_ref(&over));
    }
    let mut core = core(session(RIGHT_ALL, RIGHT_READ));
    core.submit(&call(READ, &[3; ARGS]), NOW).unwrap();
    let (_, _, bytes) = sent(&mut core, NOW).unwrap();
    arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS);
    let (_, _, bytes) = sent(&mut core, NOW + MS).unwrap();
    assert_eq!(arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + 2 * MS), [over]);
}

/// A message that an engine has cut goes home under a slot of its own.
#[test]
fn messages_cut_elsewhere_go_home() {
    let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
    let mut buffer = [0; CARRIED_BYTES_MAX];
    let carried = cut(7, &mut buffer);
    let none = [0; ARGS];
    core.submit_carried(&call(WRITE, &none), &carried, 1, NOW).unwrap();
    let (header, message, bytes) = sent(&mut core, NOW).unwrap();
    assert_eq!((header.kind, message.sequence, message.steps), (Kind::Continue, 1, 7));
    assert_eq!(Carried::decode(&message, &bytes[HEADER_BYTES + MESSAGE_BYTES..]), Ok(carried));
    assert_eq!(arrive(&mut core, &done(&bytes), NOW + MS), [Ok(vec![9; 8])]);
    let mut large = native::request(&[0; 1088]);
    large.reply_len = 1024;
    let mut buffer = [0; CARRIED_BYTES_MAX];
    let carried = Carried::cut(&large, Step::Read, 1, 16, &mut buffer).expect("carried");
    let refused = core.submit_carried(&call(READ, &none), &carried, 1, NOW);
    assert_eq!(refused, Err(SubmitError::RoomTooLong { room: CARRIED_BYTES_MAX, max: 1472 }));
}

/// A Pushback that contradicts itself, or carries nothing, is no answer.
#[test]
fn malformed_pushbacks_are_counted() {
    let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
    core.submit(&call(READ, &[3; ARGS]).reply_room(240), NOW).unwrap();
    let (_, _, bytes) = sent(&mut core, NOW).unwrap();
    let lie = |edit: fn(&mut Message)| answer(&pushback(&bytes, 40), Kind::Pushback, |message, _| edit(message));
    let lies: [fn(&mut Message); 5] = [
        |message| message.step = 0,
        |message| message.step = 5,
        |message| message.state_len = 17,
        |message| message.reply_max = 129,
        |message| message.reply_len = 49,
    ];
    for (i, edit) in (1..).zip(lies) {
        assert_eq!(arrive(&mut core, &lie(edit), NOW + i), []);
        assert_eq!((core.stats().malformed, core.stats().pushbacks), (i, 0));
    }
    // In a Reply the flag means nothing that could be gone on with.
    let reply = answer(&done(&bytes), Kind::Pushback, |_, _| ());
    assert_eq!(arrive(&mut core, &reply, NOW + 9), [Ok(vec![9; 8])], "served messages of a Pushback are answers");
}

/// What home says once version `serving` has taken the place of the one that `sent` names.
fn replaced(sent: &[u8], serving: u16) -> Vec<u8> {
    let mut bytes = sent.to_vec();
    let header = Header::decode(&bytes).unwrap();
    Header { kind: Kind::Error, handler: serving, status: Status::Version as u16, ..header }.encode(&mut bytes);
    tagged(bytes)
}

/// The handler is replaced between Pushback and Continue: the new version never sees the old one's state.
#[test]
fn a_state_is_for_the_version_that_left_it() {
    for function in [READ, WRITE] {
        let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
        core.submit(&call(function, &[3; ARGS]), NOW).unwrap();
        let (_, first, bytes) = sent(&mut core, NOW).unwrap();
        arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS);
        let (_, _, bytes) = sent(&mut core, NOW + MS).unwrap();
        let back = pushback(&bytes, STEPS_MAX);
        // Another call learns of version 2 first.
        core.submit(&call(function, &[4; ARGS]), NOW + MS).unwrap();
        let (_, _, other) = sent(&mut core, NOW + MS).unwrap();
        assert_eq!(arrive(&mut core, &replaced(&other, 2), NOW + MS), []);
        let (header, _, other) = sent(&mut core, NOW + MS).unwrap();
        assert_eq!(header.handler, 2);
        arrive(&mut core, &done(&other), NOW + MS);

        assert_eq!(arrive(&mut core, &back, NOW + 2 * MS), []);
        // One that begins goes apart: it may name whatever serves.
        core.submit(&call(function, &[5; ARGS]), NOW + 2 * MS).unwrap();
        let (header, message, bytes) = sent(&mut core, NOW + 2 * MS).unwrap();
        assert_eq!((header.kind, header.count, header.handler), (Kind::Continue, 1, 1));
        assert_eq!((message.flags, message.request), (MESSAGE_CARRIED, first.request));
        let (header, message, apart) = sent(&mut core, NOW + 2 * MS).unwrap();
        assert_eq!((header.kind, header.count, message.flags), (Kind::Request, 1, 0));
        assert_ne!(message.request, first.request);
        arrive(&mut core, &done(&apart), NOW + 2 * MS);

        assert_eq!(arrive(&mut core, &replaced(&bytes, 2), NOW + 3 * MS), []);
        let (header, anew, bytes) = sent(&mut core, NOW + 3 * MS).unwrap();
        assert_eq!((header.kind, header.handler), (Kind::Request, 2));
        assert_eq!(Message { sent: 0, ..anew }, Message { sent: 0, ..first }, "as at first, slot and sequence too");
        assert_eq!(bytes[HEADER_BYTES + MESSAGE_BYTES..][..ARGS], [3; ARGS]);
        assert_eq!(arrive(&mut core, &done(&bytes), NOW + 4 * MS), [Ok(vec![9; 8])]);
    }
}

/// So it is for a message that was cut elsewhere: it begins anew with the arguments that its call began with.
#[test]
fn messages_cut_elsewhere_begin_anew_with_another_version() {
    let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
    let mut buffer = [0; CARRIED_BYTES_MAX];
    core.submit_carried(&call(WRITE, &[8; ARGS]), &cut(7, &mut buffer), 6, NOW).unwrap();
    let (header, carried, bytes) = sent(&mut core, NOW).unwrap();
    assert_eq!((header.kind, header.handler), (Kind::Continue, 6));
    assert_eq!(arrive(&mut core, &replaced(&bytes, 7), NOW + MS), []);
    let (header, anew, bytes) = sent(&mut core, NOW + MS).unwrap();
    assert_eq!((header.kind, header.handler, anew.flags, anew.steps, anew.room), (Kind::Request, 7, 0, 0, 48));
    assert_eq!((anew.slot, anew.sequence), (carried.slot, carried.sequence));
    assert_eq!(bytes[HEADER_BYTES + MESSAGE_BYTES..][..ARGS], [8; ARGS]);
}

/// A Pushback that brings more than its call has room for, allows a longer reply than its call does, or names
/// another version or none, is not taken over.
#[test]
fn pushbacks_cannot_enlarge_a_call() {
    let mut core = core(session(RIGHT_ALL, RIGHT_ALL));
    core.submit(&call(READ, &[3; ARGS]), NOW).unwrap();
    let (_, message, bytes) = sent(&mut core, NOW).unwrap();
    // Up to the longest that a path has, far beyond the room of the call.
    for room in [64, 240, 1392] {
        let mut longer = bytes.clone();
        longer.resize(HEADER_BYTES + MESSAGE_BYTES + room, 0);
        Message { room: room as u16, ..message }.encode(&mut longer[HEADER_BYTES..]);
        let header = Header::decode(&bytes).unwrap();
        Header { length: longer.len() as u16, ..header }.encode(&mut longer);
        assert_eq!(arrive(&mut core, &pushback(&longer, 40), NOW), []);
    }
    assert_eq!((core.stats().malformed, core.stats().pushbacks), (3, 0));
    assert_eq!(sent(&mut core, NOW), None);

    arrive(&mut core, &over_budget(&bytes, STEPS_MAX), NOW + MS);
    let (_, _, bytes) = sent(&mut core, NOW + MS).unwrap();
    let back = pushback(&bytes, 40);
    let longer = answer(&back, Kind::Pushback, |message, _| message.reply_max = 7);
    let mut nobody = back.clone();
    Header { handler: 0, ..Header::decode(&back).unwrap() }.encode(&mut nobody);
    let mut another = back.clone();
    Header { handler: 2, ..Header::decode(&back).unwrap() }.encode(&mut another);
    for lie in [longer, tagged(nobody), tagged(another)] {
        assert_eq!((arrive(&mut core, &lie, NOW + MS), sent(&mut core, NOW + MS)), (vec![], None));
    }
    assert_eq!((core.stats().malformed, core.stats().pushbacks), (6, 0));
    arrive(&mut core, &back, NOW + MS);
    assert_eq!((core.stats().malformed, core.stats().pushbacks), (6, 1), "the true one is taken over");
}
