//! Errors: datagrams that are refused as a whole, and messages that end badly.

use naam_abi::stats::Drop;
use naam_abi::tables::{
    APP_SERVING, APP_TAG, ProgramRef, RIGHT_ALL, RIGHT_ATOMIC, RIGHT_READ, RIGHT_WRITE, Site, SteerEntry,
};
use naam_abi::wire::{STATUS_NAMES, Status};
use naam_tests::bench::{Bench, SESSION, port};
use naam_tests::frame::{Message, Network, Request};
use naam_tests::handlers::{Order, handler, step, strings, strings_for_ever};
use naam_tests::stage::{APP, FUNCTION, SHARD, SINGLE, Stage, VALUE, VALUES, pattern};
use naam_tests::verdict::{VARIANTS, Verdict};

fn stages(name: &str) -> impl Iterator<Item = Stage> {
    let handler = handler(name);
    VARIANTS.into_iter().map(move |(hook, may_goto)| Stage::new(hook, may_goto, &handler))
}

/// Each hook and each kind of loop once: for what the two do not decide together.
fn fewer_stages(name: &str) -> impl Iterator<Item = Stage> {
    let handler = handler(name);
    [VARIANTS[0], VARIANTS[3]].into_iter().map(move |(hook, may_goto)| Stage::new(hook, may_goto, &handler))
}

fn hello() -> Request {
    Stage::request(vec![Message::new(7, b"hello", 240), Message::new(8, &[0; 16], 16)])
}

/// A refused datagram comes back as it went, but for the fields that say why.
#[test]
fn refused_datagrams_come_back_unrun() {
    const OTHER: u16 = 4;
    const THEIRS: u32 = 1 << 10 | 9;
    for stage in stages("puppet") {
        let bench = &stage.bench;
        let tables = bench.datapath.tables();
        bench.app_with(OTHER, APP_SERVING | APP_TAG);
        bench.app(APP);
        bench.session(THEIRS, OTHER, RIGHT_ALL);
        tables.set_placement(APP, 6, SteerEntry { epoch: 77, site: Site::Dpu as u8, lease_ms: 500 });
        let cases: Vec<(&str, Status, u16, Request)> = vec![
            ("an app that is not there", Status::NoApp, 0, Request { app: 9, ..hello() }),
            ("a function that is not there", Status::NoFunction, 0, Request { function: 17, ..hello() }),
            ("function 0, built in, not loaded", Status::NoFunction, 0, Request { function: 0, ..hello() }),
            ("a function behind the last", Status::NoFunction, 0, Request { function: 64, ..hello() }),
            ("another app's function by overflow", Status::NoFunction, 0, Request { function: 80, ..hello() }),
            ("function 65535", Status::NoFunction, 0, Request { function: u16::MAX, ..hello() }),
            ("an app without functions", Status::NoFunction, 0, Request { app: OTHER, session: THEIRS, ..hello() }),
            ("a version before", Status::Version, 1, Request { handler: 2, ..hello() }),
            ("the last version", Status::Version, 1, Request { handler: u16::MAX, ..hello() }),
            ("a shard at the DPU", Status::Elsewhere, 0, Request { shard: 6, ..hello() }),
            ("no session", Status::Session, 0, Request { session: 0, ..hello() }),
            ("a session that is not open", Status::Session, 0, Request { session: SESSION + 1, ..hello() }),
            ("an earlier use of the place", Status::Session, 0, Request { session: SESSION - 1024, ..hello() }),
            ("a later use of the place", Status::Session, 0, Request { session: SESSION + 1024, ..hello() }),
            ("another app's session", Status::Session, 0, Request { session: THEIRS, ..hello() }),
        ];
        for (what, status, serving, request) in cases {
            let what = format!("{}, {what}", bench.name());
            assert!(status.never_ran(), "{what}: clients must know that {status:?} had no effect");
            let network = Network::v6(port(request.app, request.shard));
            let datagram = request.datagram();
            let frame = network.frame(&datagram);
            let outcome = bench.judge(request.app.into(), &frame);
            let reply = outcome.assert_answered(&network, &frame, &what);
            assert_eq!((reply.kind, reply.status, reply.signed), (5, status as u16, true), "{what}");
            assert_eq!(outcome.statuses(), [(STATUS_NAMES[status as usize], 1)], "{what}");
            assert_eq!((outcome.stats.messages, outcome.stats.steps, outcome.drops().len()), (0, 0, 0), "{what}");

            let Verdict::Answered(answered) = &outcome.verdict else { unreachable!("it was answered") };
            let mut expected = datagram.clone();
            expected[5] = 5;
            expected[12..14].copy_from_slice(&serving.to_le_bytes());
            expected[22..24].copy_from_slice(&(status as u16).to_le_bytes());
            if request.shard == 6 {
                expected[24..32].copy_from_slice(&[77, 0, 0, 0, 0, 1, 0xf4, 1]);
            }
            naam_tests::frame::sign(&mut expected);
            assert_eq!(&answered[network.header_len()..], expected, "{what}");
        }
        assert_eq!(stage.changes(), [], "{}: a refused datagram changed memory", bench.name());
    }
}

/// An app that stops being served is as if it had never been, and its own key opens nothing more.
#[test]
fn stopped_apps_and_closed_sessions_are_gone() {
    for stage in fewer_stages("puppet") {
        let tables = stage.bench.datapath.tables();
        let (_, reply) = stage.judge(&hello(), "served");
        assert_eq!(reply.kind, 2);
        tables.close_session(SESSION + 1024);
        assert_eq!(stage.judge(&hello(), "another use was closed").1.kind, 2);
        tables.close_session(SESSION);
        assert_eq!(stage.judge(&hello(), "closed").1.status, Status::Session as u16);
        stage.fresh_session();
        stage.bench.datapath.unload(APP, FUNCTION).expect("unload");
        assert_eq!(stage.judge(&hello(), "unloaded").1.status, Status::NoFunction as u16);
        tables.set_app(APP, &Default::default());
        assert_eq!(stage.judge(&hello(), "not served").1.status, Status::NoApp as u16);
    }
}

/// A function whose program is gone from the program array, and one whose place now holds the
/// program of another app: neither runs anything.
#[test]
fn a_place_without_the_functions_own_program_is_a_counted_drop() {
    for stage in fewer_stages("puppet") {
        let bench = &stage.bench;
        let tables = bench.datapath.tables();
        let frame = Network::v4(port(APP, SHARD)).frame(&hello().datagram());
        tables.set_current(APP, FUNCTION, Some(ProgramRef { version: 1, program: 4095 }));
        bench.judge(APP.into(), &frame).assert_dropped(Drop::Program, "an empty place");
        tables.set_current(APP, FUNCTION, Some(ProgramRef { version: 1, program: u32::MAX }));
        bench.judge(APP.into(), &frame).assert_dropped(Drop::Program, "a place behind the last");

        // What a datagram sees that was held up between the look-up and the tail call while its
        // function was unloaded and its place given to another app.
        bench.app(4);
        let theirs = bench.load((4, FUNCTION, 1), &handler("peek"), &[]).expect("load").program;
        bench.app(APP);
        tables.set_current(APP, FUNCTION, Some(ProgramRef { version: 1, program: theirs }));
        bench.judge(APP.into(), &frame).assert_dropped(Drop::Program, "another app's program");
    }
}

/// A puppet's order and how its message ends: status, steps run, words changed.
struct Case {
    what: &'static str,
    orders: Vec<Order>,
    status: Status,
    steps: u8,
}

fn case(what: &'static str, orders: &[Order], status: Status, steps: u8) -> Case {
    Case { what, orders: orders.to_vec(), status, steps }
}

#[test]
fn ops_at_and_over_the_edges() {
    use Status::{BadStep, Bounds, NoRegion, Ok};
    let last = VALUE * VALUES;
    let cases = vec![
        case("READ the last word", &[Order::read(0, SINGLE - 8, 8)], Ok, 2),
        case("READ the last 64 bytes", &[Order::read(0, SINGLE - 64, 64)], Ok, 2),
        case("READ the last KiB", &[Order::read(0, SINGLE - 1024, 1024)], Ok, 2),
        case("READ a KiB up to a value's end", &[Order::read(1, VALUE - 1024, 1024)], Ok, 2),
        case("READ a KiB from a value's start", &[Order::read(1, VALUE, 1024)], Ok, 2),
        case("READ the last word of the last value", &[Order::read(1, last - 8, 8)], Ok, 2),
        case("WRITE the last word", &[Order::write(0, SINGLE - 8, 8, 0)], Ok, 2),
        case("WRITE 1,088 bytes up to the end", &[Order::write(0, SINGLE - 1088, 1088, 0)], Ok, 2),
        case("WRITE 64 bytes up to a value's end", &[Order::write(1, VALUE - 64, 64, 0)], Ok, 2),
        case("CAS the last word", &[Order::cas(0, SINGLE - 8, pattern(0, SINGLE - 8), 1)], Ok, 2),
        case("FAA the last word of the last value", &[Order::faa(1, last - 8, 1)], Ok, 2),
        case("READ over the end by a word", &[Order::read(0, SINGLE - 8, 16)], Bounds, 1),
        case("READ 64 bytes over the end", &[Order::read(0, SINGLE - 56, 64)], Bounds, 1),
        case("READ a KiB over the end", &[Order::read(0, SINGLE - 1016, 1024)], Bounds, 1),
        case("READ behind the end", &[Order::read(0, SINGLE, 8)], Bounds, 1),
        case("READ at the last offset", &[Order::read(0, u64::MAX - 7, 8)], Bounds, 1),
        case("READ at an offset that wraps", &[Order::read(0, (u64::MAX - 1023) & !7, 1024)], Bounds, 1),
        case("READ at 4 GiB", &[Order::read(0, 1 << 32, 8)], Bounds, 1),
        case("READ at 2^63", &[Order::read(0, 1 << 63, 8)], Bounds, 1),
        case("READ an offset whose value number is 2^32", &[Order::read(1, VALUE << 32, 8)], Bounds, 1),
        case("READ over two values", &[Order::read(1, VALUE - 8, 16)], Bounds, 1),
        case("READ a KiB over two values", &[Order::read(1, 2 * VALUE - 512, 1024)], Bounds, 1),
        case("READ behind the last value", &[Order::read(1, last, 8)], Bounds, 1),
        case("WRITE over the end by a word", &[Order::write(0, SINGLE - 8, 16, 0)], Bounds, 1),
        case("WRITE over two values", &[Order::write(1, VALUE - 8, 16, 0)], Bounds, 1),
        case("WRITE 1,088 bytes over two values", &[Order::write(1, VALUE - 8, 1088, 0)], Bounds, 1),
        case("WRITE behind the end", &[Order::write(0, SINGLE, 8, 0)], Bounds, 1),
        case("WRITE at the last offset", &[Order::write(0, u64::MAX - 7, 8, 0)], Bounds, 1),
        case("CAS behind the end", &[Order::cas(0, SINGLE, 0, 1)], Bounds, 1),
        case("FAA behind the last value", &[Order::faa(1, last, 1)], Bounds, 1),
        case("FAA at the last offset", &[Order::faa(1, u64::MAX - 7, 1)], Bounds, 1),
        case("READ a region that is not bound", &[Order::read(2, 0, 8)], NoRegion, 1),
        case("READ the last region", &[Order::read(7, 0, 8)], NoRegion, 1),
        case("READ region 8", &[Order::read(8, 0, 8)], NoRegion, 1),
        case("READ region 2^32 - 1", &[Order::read(u32::MAX, 0, 8)], NoRegion, 1),
        case("WRITE a region that is not bound", &[Order::write(2, 0, 8, 0)], NoRegion, 1),
        case("WRITE region 256", &[Order::write(256, 0, 8, 0)], NoRegion, 1),
        case("CAS a region that is not bound", &[Order::cas(3, 0, 0, 1)], NoRegion, 1),
        case("FAA region 2^31", &[Order::faa(1 << 31, 0, 1)], NoRegion, 1),
        case("READ nothing", &[Order::read(0, 0, 0)], BadStep, 1),
        case("READ 4 bytes", &[Order::read(0, 0, 4)], BadStep, 1),
        case("READ more than the view", &[Order::read(0, 0, 1032)], BadStep, 1),
        case("READ 2^32 - 8 bytes", &[Order::read(0, 0, u32::MAX - 7)], BadStep, 1),
        case("READ at an odd offset", &[Order::read(0, 4, 8)], BadStep, 1),
        case("WRITE nothing", &[Order::write(0, 0, 0, 0)], BadStep, 1),
        case("WRITE 12 bytes", &[Order::write(0, 0, 12, 0)], BadStep, 1),
        case("WRITE more than arguments", &[Order::write(0, 0, 1096, 0)], BadStep, 1),
        case("WRITE 2^32 - 8 bytes", &[Order::write(0, 0, u32::MAX - 7, 0)], BadStep, 1),
        case("WRITE at an odd offset", &[Order::write(0, 1, 8, 0)], BadStep, 1),
        case("WRITE from an odd source", &[Order::write(0, 0, 8, 4)], BadStep, 1),
        case("WRITE from behind the reply", &[Order::write(0, 0, 8, 2112)], BadStep, 1),
        case("WRITE from over the reply's end", &[Order::write(0, 0, 16, 2104)], BadStep, 1),
        case("WRITE from 2^32 - 8", &[Order::write(0, 0, 8, u32::MAX - 7)], BadStep, 1),
        case("CAS at an odd offset", &[Order::cas(0, 4, 0, 1)], BadStep, 1),
        case("FAA at an odd offset", &[Order::faa(1, 7, 1)], BadStep, 1),
        case("FAIL", &[Order { step: step::FAIL, ..Order::default() }], Status::Failed, 1),
        case("step 6", &[Order { step: 6, ..Order::default() }], BadStep, 1),
        case("step 100", &[Order { step: 100, ..Order::default() }], BadStep, 1),
        case("step 101", &[Order { step: 101, ..Order::default() }], BadStep, 1),
        case("step 102", &[Order { step: 102, ..Order::default() }], BadStep, 1),
        case("step 2^31 + 1", &[Order { step: 1 << 31 | 1, ..Order::default() }], BadStep, 1),
        case("step 2^32 - 1", &[Order { step: u32::MAX, ..Order::default() }], BadStep, 1),
        case(
            "two good ops, then a bad one",
            &[Order::read(0, 0, 8), Order::read(0, 8, 8), Order::read(0, 9, 8)],
            BadStep,
            3,
        ),
    ];
    for stage in stages("puppet") {
        for Case { what, orders, status, steps } in &cases {
            let what = format!("{}, {what}", stage.bench.name());
            let answer = stage.perform(orders, &what);
            assert_eq!((answer.status, answer.steps), (*status as u16, *steps), "{what}: {answer:?}");
            if *status == Ok {
                assert_eq!((answer.code, answer.reply.len()), (orders.len() as u32, 240), "{what}");
                let word = u64::from_le_bytes(answer.reply[8..16].try_into().expect("eight bytes"));
                if orders[0].step == step::READ {
                    assert_eq!(word, pattern(orders[0].region, orders[0].offset), "{what}");
                }
                stage.reset();
            } else {
                assert_eq!(answer.reply, [], "{what}: bytes without success");
                assert_eq!(stage.changes(), [], "{what}: a refused op changed memory");
            }
        }
    }
}

/// What the small view does not hold, a handler of it cannot READ.
#[test]
fn the_small_view_bounds_reads() {
    for stage in fewer_stages("puppet_small") {
        for (len, status) in [(8, Status::Ok), (64, Status::Ok), (72, Status::BadStep), (1024, Status::BadStep)] {
            let answer = stage.perform(&[Order::read(0, 0, len)], &stage.bench.name());
            assert_eq!(answer.status, status as u16, "{}, {len} bytes", stage.bench.name());
        }
    }
}

/// A WRITE takes exactly the bytes it names, from arguments or reply, and puts them exactly there.
#[test]
fn writes_change_exactly_their_range() {
    for stage in fewer_stages("puppet") {
        for (region, offset, len, source) in
            [(0, 0, 8, 0), (0, 4096 - 8, 64, 16), (1, VALUE, 1088, 0), (1, VALUE * 4 - 8, 8, 1080), (0, 64, 96, 1048)]
        {
            let what = format!("{}, {len} bytes from {source} to {offset} of {region}", stage.bench.name());
            stage.reset();
            let order = Order::write(region, offset, len, source);
            let mut sources = strings(&[order], 240);
            sources.extend((sources.len()..1088).map(|at| at as u8 | 1));
            stage.fresh_session();
            let message = Message { sequence: 1, ..Message::new(1, &sources, 240) };
            let (_, reply) = stage.judge(&Stage::request(vec![message]), &what);
            assert_eq!(reply.answers[0].status, Status::Ok as u16, "{what}");
            // Behind the arguments comes the reply, which is zero.
            sources.resize(2112, 0);
            let expected: Vec<_> = (0..u64::from(len))
                .step_by(8)
                .map(|at| {
                    let from = source as usize + at as usize;
                    (region, offset + at, u64::from_le_bytes(sources[from..from + 8].try_into().expect("eight bytes")))
                })
                .collect();
            assert_eq!(stage.changes(), expected, "{what}");
        }
    }
}

#[test]
fn rights_hold_by_region_and_op() {
    let ops = [
        (RIGHT_READ, Order::read(0, 64, 8)),
        (RIGHT_WRITE, Order::write(0, 64, 8, 0)),
        (RIGHT_ATOMIC, Order::cas(0, 64, pattern(0, 64), 1)),
        (RIGHT_ATOMIC, Order::faa(0, 64, 1)),
    ];
    for stage in fewer_stages("puppet") {
        for region in 0..2u32 {
            for rights in 0..8u8 {
                // All rights in the other region, so that a mix-up shows.
                let mut by_region = [RIGHT_ALL; 8];
                by_region[region as usize] = rights;
                for (needed, order) in ops {
                    let order = Order { region, expect: pattern(region, 64), ..order };
                    let what = format!("{}, {order:?} with rights {rights:03b}", stage.bench.name());
                    stage.set_rights(by_region);
                    let answer = stage.perform(&[order], &what);
                    let allowed = rights & needed != 0;
                    let status = if allowed { Status::Ok } else { Status::Denied };
                    assert_eq!(answer.status, status as u16, "{what}");
                    let changed = allowed && needed != RIGHT_READ;
                    assert_eq!(!stage.memory_is(region, 64), changed, "{what}");
                    stage.restore(region, 64);
                }
            }
        }
        assert_eq!(stage.changes(), []);
    }
}

/// Effects before a refused op remain; the op itself has none.
#[test]
fn a_denied_op_ends_the_message_after_its_earlier_effects() {
    for stage in fewer_stages("puppet") {
        let mut rights = [RIGHT_ALL; 8];
        rights[1] = RIGHT_READ;
        stage.rights(rights);
        let orders = [Order::faa(0, 0, 1), Order::read(1, 0, 8), Order::faa(1, 0, 1), Order::faa(0, 8, 1)];
        let message = Message { sequence: 1, ..Message::new(1, &strings(&orders, 240), 240) };
        let (_, reply) = stage.judge(&Stage::request(vec![message]), "denied");
        assert_eq!((reply.answers[0].status, reply.answers[0].steps), (Status::Denied as u16, 3));
        assert_eq!(stage.changes(), [(0, 0, pattern(0, 0) + 1)]);
    }
}

#[test]
fn endless_messages_run_out_of_steps() {
    for stage in stages("puppet") {
        for (order, changes) in [(Order::read(0, 0, 8), 0), (Order::faa(0, 0, 1), 31)] {
            stage.reset();
            stage.fresh_session();
            let what = format!("{}, {order:?} for ever", stage.bench.name());
            let message = |slot| Message { slot, sequence: 1, ..Message::new(1, &strings_for_ever(order), 8) };
            let (outcome, reply) = stage.judge(&Stage::request(vec![message(0)]), &what);
            assert_eq!((reply.answers[0].status, reply.answers[0].steps), (Status::Budget as u16, 32), "{what}");
            assert_eq!((outcome.stats.steps, outcome.stats.messages), (32, 1), "{what}");
            assert_eq!(
                stage.memory[0].load(0, std::sync::atomic::Ordering::SeqCst).expect("inside"),
                pattern(0, 0) + changes,
                "{what}"
            );
            // 32 of them side by side all end, and cost no more than their own steps.
            let (outcome, reply) = stage.judge(&Stage::request((1..33).map(message).collect()), &what);
            assert!(reply.answers.iter().all(|answer| answer.status == Status::Budget as u16), "{what}");
            assert!(outcome.stats.steps <= 32 * 32, "{what}");
        }
    }
}

/// Messages whose datagram's time is over end with BUDGET before their steps do, unless they have had an effect.
#[test]
fn long_datagrams_run_out_of_time() {
    let puppet = handler("puppet");
    for mut stage in stages("puppet") {
        stage.bench.time_budget_ns = 0;
        stage.load(FUNCTION, 2, &puppet);
        let what = stage.bench.name();
        for (order, runs_on) in [(Order::read(0, 0, 8), false), (Order::faa(0, 0, 1), true)] {
            stage.fresh_session();
            let message = |slot| Message { slot, sequence: 1, ..Message::new(1, &strings_for_ever(order), 8) };
            let (_, reply) = stage.judge(&Stage::request((0..32).map(message).collect()), &what);
            assert!(reply.answers.iter().all(|answer| answer.status == Status::Budget as u16), "{what}");
            let whole = reply.answers.iter().filter(|answer| answer.steps == 32).count();
            assert_eq!(whole, if runs_on { 32 } else { 0 }, "{what}, {order:?}: {:?}", reply.answers);
        }
    }
}

#[test]
fn replies_fit_their_room_or_fail() {
    for stage in fewer_stages("puppet") {
        // The handler's own limit is 240 bytes.
        for (room, claim, status) in [
            (0, 0, Status::Ok),
            (0, 1, Status::Room),
            (16, 16, Status::Ok),
            (16, 17, Status::Room),
            (16, 13, Status::Ok),
            (240, 240, Status::Ok),
            (240, 241, Status::Room),
            (1024, 241, Status::Room),
            (1024, 1024, Status::Room),
            (1024, u64::from(u32::MAX), Status::Room),
        ] {
            let what = format!("{}, {claim} bytes into {room}", stage.bench.name());
            stage.fresh_session();
            let args = strings(&[], claim);
            // The arguments themselves take 16 bytes; a message without any has none to claim by.
            let args = if room < args.len() { Vec::new() } else { args };
            if args.is_empty() && claim != 0 {
                continue;
            }
            let message = Message { sequence: 1, room, ..Message::new(1, &args, 0) };
            let (_, reply) = stage.judge(&Stage::request(vec![message]), &what);
            assert_eq!(reply.answers[0].status, status as u16, "{what}");
            let expected = if status == Status::Ok { claim as usize } else { 0 };
            assert_eq!(reply.answers[0].reply, vec![0; expected], "{what}");
        }
    }
}

#[test]
fn a_reader_that_writes_is_stopped() {
    for stage in fewer_stages("puppet_reader") {
        for order in [Order::write(0, 0, 8, 0), Order::cas(0, 0, pattern(0, 0), 1), Order::faa(0, 0, 1)] {
            let answer = stage.perform(&[Order::read(0, 8, 8), order], &stage.bench.name());
            assert_eq!(
                (answer.status, answer.steps),
                (Status::ReadOnly as u16, 2),
                "{}, {order:?}",
                stage.bench.name()
            );
        }
        assert_eq!(stage.changes(), []);
        // It needs no slot, either.
        let message = Message { slot: u16::MAX, ..Message::new(1, &strings(&[Order::read(0, 8, 8)], 16), 16) };
        let (_, reply) = stage.judge(&Stage::request(vec![message.clone(), message]), "reader");
        assert!(reply.answers.iter().all(|answer| answer.status == Status::Ok as u16 && answer.flags == 1));
    }
}

#[test]
fn slots_refuse_what_is_late_twice_or_nowhere() {
    for stage in fewer_stages("puppet") {
        let add =
            |slot, sequence| Message { slot, sequence, ..Message::new(1, &strings(&[Order::faa(0, 0, 1)], 16), 16) };
        let send = |messages| {
            let (_, reply) = stage.judge(&Stage::request(messages), "slots");
            reply.answers.iter().map(|answer| (answer.status, answer.flags)).collect::<Vec<_>>()
        };
        let status = |status: Status| (status as u16, 1);
        let sum = || stage.memory[0].load(0, std::sync::atomic::Ordering::SeqCst).expect("inside") - pattern(0, 0);
        assert_eq!(send(vec![add(64, 1), add(65, 1), add(u16::MAX, 1)]), [status(Status::NoSlot); 3]);
        assert_eq!(sum(), 0);
        assert_eq!(send(vec![add(63, 9)]), [status(Status::Ok)]);
        // A late copy, one of a message that never came, and the very first.
        for late in [8, 1, 0, 9u32.wrapping_sub(1 << 31)] {
            assert_eq!(send(vec![add(63, late)]), [status(Status::Stale)], "{late}");
        }
        assert_eq!(sum(), 1);
        // Twice in one datagram: the second meets the first at work, whatever its sequence.
        assert_eq!(
            send(vec![add(0, 1), add(0, 1), add(0, 2)]),
            [status(Status::Ok), status(Status::Running), status(Status::Running)]
        );
        assert_eq!(sum(), 2);
        assert_eq!(send(vec![add(0, 1), add(0, 2)]), [(Status::Ok as u16, 5), status(Status::Ok)]);
        assert_eq!(sum(), 3);
        assert!(Status::NoSlot.never_ran());
    }
}

/// A retry that leaves less room than the first try is told so; it does not get a cut reply.
#[test]
fn a_retry_without_room_for_the_cached_reply_is_told() {
    for stage in fewer_stages("puppet") {
        let message = |room| Message { sequence: 1, room, ..Message::new(1, &strings(&[], 200), 0) };
        let send = |room| {
            let (_, reply) = stage.judge(&Stage::request(vec![message(room)]), "retry");
            let answer = reply.answers[0].clone();
            (answer.status, answer.flags, answer.reply.len())
        };
        assert_eq!(send(240), (Status::Ok as u16, 1, 200));
        assert_eq!(send(240), (Status::Ok as u16, 5, 200));
        assert_eq!(send(200), (Status::Ok as u16, 5, 200));
        assert_eq!(send(192), (Status::Room as u16, 5, 0));
        assert_eq!(send(16), (Status::Room as u16, 5, 0));
        // And it does not spoil the cache.
        assert_eq!(send(240), (Status::Ok as u16, 5, 200));
    }
}

/// A message given back without effect may be sent again under its sequence. Nothing else may come
/// out of the slot: not the one before, which never ran, with a reply that an earlier session left.
#[test]
fn a_message_given_back_leaves_no_way_to_older_replies() {
    for stage in fewer_stages("puppet") {
        let name = stage.bench.name();
        let send = |sequence, args: &[u8]| {
            let message = Message { sequence, ..Message::new(1, args, 240) };
            let (_, reply) = stage.judge(&Stage::request(vec![message]), &name);
            let answer = reply.answers[0].clone();
            (answer.status, answer.flags, answer.reply)
        };
        let read = strings(&[Order::read(0, 8, 8)], 240);
        let endless = strings_for_ever(Order::read(0, 0, 8));
        assert_eq!(send(4, &read).0, Status::Ok as u16);
        // The next session finds a fresh slot, with the bytes of the last still behind it.
        stage.fresh_session();
        assert_eq!(send(5, &endless), (Status::Budget as u16, 1, vec![]), "{name}");
        assert_eq!(send(4, &read), (Status::Stale as u16, 1, vec![]), "{name}: the one before never ran");
        assert_eq!(send(5, &endless), (Status::Budget as u16, 1, vec![]), "{name}: it may try again");
        let (status, flags, reply) = send(5, &read);
        assert_eq!((status, flags), (Status::Ok as u16, 1), "{name}: and succeed");
        assert_eq!(send(5, &read), (Status::Ok as u16, 5, reply), "{name}");
        // Likewise over a gap.
        assert_eq!(send(9, &endless).0, Status::Budget as u16, "{name}");
        for older in [8, 5, 1] {
            assert_eq!(send(older, &read), (Status::Stale as u16, 1, vec![]), "{name}, {older}");
        }
        assert_eq!(send(10, &read).0, Status::Ok as u16, "{name}: later ones may come");
        assert_eq!(send(9, &read).0, Status::Stale as u16, "{name}");
    }
}

/// A message that has passed too many sites is not run, and its neighbours are.
#[test]
fn hops_are_limited_and_counted() {
    for stage in fewer_stages("puppet") {
        let message = |slot| Message { slot, sequence: 1, ..Message::new(1, &strings(&[Order::faa(0, 0, 1)], 0), 0) };
        let mut datagram = Stage::request((0..5).map(message).collect()).datagram();
        let hops = [0, 7, 8, 9, 255];
        let at = |i: usize| 48 + i * (32 + 56);
        for (i, hops) in hops.into_iter().enumerate() {
            datagram[at(i) + 19] = hops;
        }
        naam_tests::frame::sign(&mut datagram);
        let network = Network::v4(port(APP, SHARD));
        let frame = network.frame(&datagram);
        let outcome = stage.bench.judge(APP.into(), &frame);
        let reply = outcome.assert_answered(&network, &frame, &stage.bench.name());
        let fates: Vec<_> = reply.answers.iter().map(|answer| (answer.status, answer.steps)).collect();
        let over = (Status::Hops as u16, 0);
        assert_eq!(fates, [(0, 2), (0, 2), over, over, over], "{}", stage.bench.name());
        let passed = |i| outcome.frame[network.header_len() + at(i) + 19];
        assert_eq!([passed(0), passed(1), passed(4)], [1, 8, 255], "{}", stage.bench.name());
        assert_eq!(stage.changes(), [(0, 0, pattern(0, 0) + 2)], "{}", stage.bench.name());
    }
}

/// Many fates in one datagram: each message gets its own.
#[test]
fn outcomes_in_one_datagram_do_not_mix() {
    for stage in stages("puppet") {
        stage.rights([RIGHT_ALL, RIGHT_READ, 0, 0, 0, 0, 0, 0]);
        let of = |slot: u16, orders: &[Order]| Message {
            slot,
            sequence: 1,
            ..Message::new(slot.into(), &strings(orders, 16), 16)
        };
        let messages = vec![
            of(0, &[]),
            of(1, &[Order::read(0, SINGLE, 8)]),
            of(2, &[Order::faa(0, 0, 2), Order::faa(0, 0, 2)]),
            of(3, &[Order::faa(1, 0, 1)]),
            of(4, &[Order::read(5, 0, 8)]),
            of(5, &[Order { step: 77, ..Order::default() }]),
            of(64, &[]),
            of(7, &[Order { step: step::FAIL, ..Order::default() }]),
            Message { slot: 8, sequence: 1, ..Message::new(8, &strings_for_ever(Order::read(0, 0, 64)), 8) },
            Message { slot: 9, sequence: 1, ..Message::new(9, &strings(&[], 240), 16) },
            of(10, &[Order::read(1, 8, 8)]),
        ];
        let (outcome, reply) = stage.judge(&Stage::request(messages), "mixed");
        let fates: Vec<_> = reply.answers.iter().map(|answer| (answer.status, answer.steps)).collect();
        let expected = [
            (Status::Ok, 1),
            (Status::Bounds, 1),
            (Status::Ok, 3),
            (Status::Denied, 1),
            (Status::Denied, 1),
            (Status::BadStep, 1),
            (Status::NoSlot, 0),
            (Status::Failed, 1),
            (Status::Budget, 32),
            (Status::Room, 1),
            (Status::Ok, 2),
        ];
        assert_eq!(fates, expected.map(|(status, steps)| (status as u16, steps)), "{}", stage.bench.name());
        assert_eq!(
            reply.answers.iter().map(|answer| answer.request).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5, 64, 7, 8, 9, 10]
        );
        assert_eq!(u64::from_le_bytes(reply.answers[10].reply[8..].try_into().expect("a word")), pattern(1, 8));
        assert_eq!(outcome.stats.messages, 11);
        assert_eq!(outcome.statuses().iter().map(|(_, count)| count).sum::<u64>(), 11);
        assert_eq!(stage.changes(), [(0, 0, pattern(0, 0) + 4)]);
    }
}

/// A version is a number from 1; 0 means "whichever serves" and cannot be loaded.
#[test]
fn version_zero_is_refused_by_the_loader() {
    let bench = Bench::new(naam_loader::Hook::Xdp, true);
    bench.app(APP);
    assert!(bench.load((APP, FUNCTION, 0), &handler("peek"), &[]).is_err());
}
