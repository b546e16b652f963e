//! Carried messages: what home takes in, with which rights, and what it gives back.

use naam_abi::stats::Drop;
use naam_abi::tables::{RIGHT_ALL, RIGHT_ATOMIC, RIGHT_READ, RIGHT_WRITE};
use naam_abi::wire::{MESSAGE_CARRIED, MESSAGE_DUPLICATE, MESSAGE_SERVED, Status};
use naam_admission::Admitted;
use naam_loader::Hook;
use naam_tests::bench::{SESSION, port};
use naam_tests::frame::{Answer, Carried, Message, Network, Reply, Request};
use naam_tests::handlers::{Order, handler, step, strings, strings_for_ever};
use naam_tests::stage::{APP, SHARD, SINGLE, Stage, pattern};
use naam_tests::verdict::Outcome;

const ALL: [u8; 8] = [RIGHT_ALL; 8];
/// The version that serves.
const VERSION: u16 = 2;

/// Both hooks, `steps_max` steps a visit; every right by both doors.
fn stages(steps_max: u32) -> impl Iterator<Item = Stage> {
    let puppet = handler("puppet");
    [Hook::Xdp, Hook::Tc].into_iter().map(move |hook| stage(hook, steps_max, &puppet))
}

fn stage(hook: Hook, steps_max: u32, puppet: &Admitted) -> Stage {
    let mut stage = Stage::new(hook, true, puppet);
    stage.bench.steps_max = steps_max;
    stage.load(16, VERSION, puppet);
    rights(&stage, ALL, ALL);
    stage
}

fn rights(stage: &Stage, handler: [u8; 8], raw: [u8; 8]) {
    stage.bench.datapath.tables().set_rights(SESSION, handler, raw);
}

/// To the version that [`stage`] has loaded last.
fn to_home(messages: Vec<Message>) -> Request {
    Request { handler: VERSION, ..Stage::request(messages) }
}

fn send(stage: &Stage, messages: Vec<Message>) -> (Outcome, Reply) {
    send_as(stage, &to_home(messages))
}

fn send_as(stage: &Stage, request: &Request) -> (Outcome, Reply) {
    let network = Network::v4(port(APP, SHARD));
    let frame = network.frame(&request.continued());
    let outcome = stage.bench.judge(APP.into(), &frame);
    let reply = outcome.assert_answered(&network, &frame, "a Continue");
    assert!(reply.signed);
    (outcome, reply)
}

fn one(stage: &Stage, message: Message) -> Answer {
    send(stage, vec![message]).1.answers.remove(0)
}

/// A puppet's message that waits for `order`, with that as the first of its one orders.
fn pending(order: Order) -> Message {
    let carried = Carried {
        step: order.step as u8,
        steps: 1,
        op: [
            order.offset,
            order.value,
            order.expect,
            u64::from(order.region) | u64::from(order.len) << 32,
            order.source.into(),
        ],
        state: vec![1, order.step.into()],
        reply_max: 30,
        ..Carried::default()
    };
    Message { sequence: 1, carried: Some(carried), ..Message::new(1, &strings(&[order], 16), 240) }
}

/// A message of a Pushback as the client sends it home.
fn again(answer: &Answer, message: &Message) -> Message {
    assert_eq!((answer.flags, answer.status), (MESSAGE_CARRIED, 0));
    let (args, carried) = Carried::read(&answer.raw);
    Message { args, carried: Some(carried), hops: answer.raw[19], ..message.clone() }
}

/// A long message is cut where its steps end and goes on where it was, with its steps counted through.
#[test]
fn what_runs_out_of_steps_goes_on_in_another_visit() {
    for stage in stages(4) {
        let orders: Vec<_> = (0..10).map(|i| Order::read(0, i * 8, 8)).collect();
        let message = Message { sequence: 9, slot: 3, ..Message::new(7, &strings(&orders, 8), 640) };
        let request = stage.judge(&Stage::request(vec![message.clone()]), "a Request is never cut").1;
        assert_eq!((request.kind, request.answers[0].status), (2, Status::Budget as u16));
        let (outcome, reply) = send(&stage, vec![message.clone()]);
        assert_eq!((reply.kind, outcome.stats.pushbacks, outcome.statuses().len()), (4, 1, 0));
        let first = &reply.answers[0];
        let (args, carried) = Carried::read(&first.raw);
        assert_eq!(args, message.args);
        let expected = Carried {
            step: step::READ as u8,
            steps: 4,
            op: [24, 0, 0, 8 << 32, 1 << 32],
            state: vec![4, step::READ.into()],
            reply_max: 30,
            ..Carried::default()
        };
        assert_eq!((carried, first.request), (expected, 7));
        let second = one(&stage, again(first, &message));
        assert_eq!((second.steps, second.raw[19]), (8, 2));
        let third = send(&stage, vec![again(&second, &message)]).1;
        let end = &third.answers[0];
        assert_eq!((third.kind, end.status, end.flags, end.steps, end.code), (2, 0, MESSAGE_SERVED, 11, 10));
        // Its slot holds the end, for whichever copy comes late.
        let late = one(&stage, again(first, &message));
        assert_eq!((late.flags & MESSAGE_DUPLICATE, late.code), (MESSAGE_DUPLICATE, 10));
        let late = one(&stage, message);
        assert_eq!((late.flags & MESSAGE_DUPLICATE, late.code), (MESSAGE_DUPLICATE, 10));
    }
}

/// A message that has had an effect ends at home, and one too large to carry, or of a session without raw rights.
#[test]
fn what_may_not_leave_ends_with_budget() {
    const BUDGET: u16 = Status::Budget as u16;
    for stage in stages(3) {
        let reads = [Order::read(0, 0, 8); 5];
        let with = |orders: &[Order], room| Message::new(1, &strings(orders, 8), room);
        let end = |message| {
            let answer = one(&stage, message);
            (answer.status, answer.flags & MESSAGE_CARRIED)
        };
        let orders = [reads[0], Order::faa(0, 64, 1), reads[0], reads[0], reads[0]];
        assert_eq!(end(Message { sequence: 1, ..with(&orders, 800) }), (0, 0), "it runs to its end");
        assert_eq!(end(Message { sequence: 1, ..with(&orders, 800) }), (0, 0), "and once only");
        assert_eq!(stage.changes(), [(0, 64, pattern(0, 64) + 1)]);
        let endless = strings_for_ever(Order::faa(0, 72, 1));
        assert_eq!(end(Message { sequence: 1, slot: 1, ..Message::new(1, &endless, 800) }), (BUDGET, 0));
        assert!(stage.changes()[1].2 - pattern(0, 72) <= 32, "its steps are bounded all the same");
        let fits = 8 * 27 + 40 + 16;
        assert_eq!(end(Message { sequence: 2, ..with(&reads, fits) }), (0, MESSAGE_CARRIED));
        assert_eq!(end(Message { sequence: 3, ..with(&reads, fits - 8) }), (BUDGET, 0));
        assert_eq!(end(Message { sequence: 4, hops: 6, ..with(&reads, 800) }), (0, MESSAGE_CARRIED));
        assert_eq!(end(Message { sequence: 5, hops: 7, ..with(&reads, 800) }), (BUDGET, 0));
        for raw in [[0; 8], [RIGHT_READ; 8], [RIGHT_ALL, RIGHT_ALL, 0, 0, 0, 0, 0, 0]] {
            rights(&stage, ALL, raw);
            assert_eq!(end(Message { sequence: 6, ..with(&reads, 800) }), (BUDGET, 0), "{raw:?}");
        }
        rights(&stage, [RIGHT_ALL, RIGHT_READ, 0, 0, 0, 0, 0, 0], [RIGHT_ALL; 8]);
        assert_eq!(end(Message { sequence: 7, ..with(&reads, 800) }), (0, MESSAGE_CARRIED));
    }
}

/// A client may claim to wait for anything: what it then may do, it could do by itself.
#[test]
fn carried_ops_need_the_rights_of_both_doors() {
    let orders = [Order::read(0, 0, 8), Order::write(0, 8, 8, 16), Order::cas(0, 0, 1, 2), Order::faa(0, 16, 1)];
    let needed = [RIGHT_READ, RIGHT_WRITE, RIGHT_ATOMIC, RIGHT_ATOMIC];
    for stage in stages(32) {
        for handler in 0..=RIGHT_ALL {
            for raw in 0..=RIGHT_ALL {
                rights(&stage, [handler, 0, 0, 0, 0, 0, 0, 0], [raw, 0, 0, 0, 0, 0, 0, 0]);
                for ((sequence, order), needed) in (0..).zip(orders).zip(needed) {
                    let sequence = 1 + sequence + 4 * u32::from(handler << 3 | raw);
                    let answer = one(&stage, Message { sequence, ..pending(order) });
                    let allowed = handler & raw & needed != 0;
                    let expected = if allowed { Status::Ok } else { Status::Denied };
                    assert_eq!(answer.status, expected as u16, "{order:?} {handler} {raw}");
                    if !allowed {
                        assert_eq!(stage.changes(), [], "{order:?} {handler} {raw}");
                    }
                    stage.restore(0, 8);
                    stage.restore(0, 16);
                }
            }
        }
        // A fresh message beside them has its handler's rights.
        rights(&stage, ALL, [0; 8]);
        let fresh = Message { sequence: 900, ..Message::new(2, &strings(&[orders[0]], 16), 240) };
        let reply = send(&stage, vec![Message { sequence: 901, slot: 1, ..pending(orders[0]) }, fresh]).1;
        assert_eq!(reply.answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [Status::Denied as u16, 0]);
    }
}

/// Lengths that lie: the whole datagram is dropped, counted, and nothing of it has run.
#[test]
fn lies_about_lengths_are_dropped() {
    let message = || pending(Order::faa(0, 64, 1));
    let needs = strings(&[Order::default()], 16).len() + 40 + 16;
    // Byte of the message header, value.
    let lies: [(usize, &[u8]); 12] = [
        (17, &[1]),
        (17, &[4]),
        (17, &[6]),
        (17, &[0x82]),
        (20, &[0x41, 4]),
        (20, &[0xff, 0xff]),
        (22, &[241, 0]),
        (22, &[0xff, 0xff]),
        (24, &[needs as u8 - 8, 0]),
        (26, &[17]),
        (26, &[0xff]),
        (27, &[129]),
    ];
    for stage in stages(32) {
        let network = Network::v4(port(APP, SHARD));
        for (at, bytes) in lies {
            let first = Message { sequence: 1, slot: 1, ..message() };
            let mut datagram = to_home(vec![first.clone(), message()]).continued();
            let second = 48 + 32 + first.room;
            datagram[second + at..second + at + bytes.len()].copy_from_slice(bytes);
            if at == 24 {
                datagram.truncate(second + 32 + usize::from(bytes[0]));
                let length = datagram.len() as u16;
                datagram[20..22].copy_from_slice(&length.to_le_bytes());
            }
            naam_tests::frame::sign(&mut datagram);
            let outcome = stage.bench.judge(APP.into(), &network.frame(&datagram));
            outcome.assert_dropped(Drop::Message, &format!("{bytes:?} at {at}"));
            assert_eq!(outcome.stats.steps, 0);
        }
        // A Request carries nothing.
        let datagram = Stage::request(vec![message()]).datagram();
        let outcome = stage.bench.judge(APP.into(), &network.frame(&datagram));
        outcome.assert_dropped(Drop::Message, "carried in a Request");
        assert_eq!(stage.changes(), []);
    }
}

/// What is well-formed and still not possible ends with a status, without a step.
#[test]
fn what_cannot_go_on_is_refused() {
    let message = |change: &dyn Fn(&mut Carried)| {
        let mut message = pending(Order::faa(0, 64, 1));
        change(message.carried.as_mut().expect("carried"));
        Message { room: 640, ..message }
    };
    for stage in stages(32) {
        let mut sequence = 0;
        let mut refused = |message: Message, status: Status, what: &str| {
            sequence += 1;
            let (outcome, reply) = send(&stage, vec![Message { sequence, ..message }]);
            assert_eq!((reply.kind, reply.answers[0].status), (2, status as u16), "{what}");
            assert_eq!((outcome.stats.steps, reply.answers[0].reply.len()), (0, 0), "{what}");
        };
        for step in [0, 5, 6, 100, 101, 102, 255] {
            refused(message(&|carried| carried.step = step), Status::BadStep, "no op");
        }
        refused(message(&|carried| carried.state = vec![1; 3]), Status::TooLong, "more state than the handler has");
        refused(message(&|carried| carried.reply_max = 31), Status::TooLong, "more reply than the handler has");
        refused(Message { hops: 8, ..message(&|_| ()) }, Status::Hops, "too many sites");
        refused(Message { hops: 255, ..message(&|_| ()) }, Status::Hops, "too many sites");
        refused(Message { slot: 64, ..message(&|_| ()) }, Status::NoSlot, "no slot");
        refused(message(&|carried| carried.op[0] = SINGLE), Status::Bounds, "outside");
        refused(message(&|carried| carried.op[3] = 7), Status::NoRegion, "no region");
        refused(message(&|carried| carried.op[0] = 4), Status::BadStep, "not aligned");
        assert_eq!(stage.changes(), []);
    }
}

/// A made-up WRITE or READ shows nothing that other messages have left in the scratch.
#[test]
fn leftovers_of_others_are_not_to_be_had() {
    for stage in stages(32) {
        let secret = vec![0x5e; 1088];
        let others: Vec<_> = (0..3).map(|i| Message::new(i, &secret, 240)).collect();
        // Slot 9 is not reached: the puppet fails at once. Its arguments have been taken in all the same.
        let others = others.into_iter().map(|message| Message { slot: 9, ..message }).take(2).collect();
        send(&stage, others);
        let write = Order { source: 1088 - 512, len: 512, ..Order::write(0, 0, 512, 0) };
        assert_eq!(one(&stage, Message { sequence: 1, ..pending(write) }).status, 0);
        for (_, offset, word) in stage.changes() {
            assert_eq!((offset < 512, word), (true, 0));
        }
        let write = Order { source: 1088 + 240, len: 512, ..Order::write(0, 0, 512, 0) };
        assert_eq!(one(&stage, Message { sequence: 2, ..pending(write) }).status, 0);
        assert!(stage.changes().iter().all(|(_, _, word)| *word == 0));
        stage.reset();
    }
}

/// A state is one version's: a Continue that names none, or another, is refused before anything of it runs.
#[test]
fn continues_name_the_version_of_their_states() {
    for mut stage in stages(32) {
        let message = |sequence| Message { sequence, ..pending(Order::faa(0, 64, 1)) };
        let fresh = Message::new(2, &strings(&[Order::faa(0, 64, 1)], 8), 240);
        for handler in [0, VERSION + 1, u16::MAX] {
            for message in [message(1), Message { sequence: 1, ..fresh.clone() }] {
                let (outcome, reply) = send_as(&stage, &Request { handler, ..Stage::request(vec![message]) });
                let refused = (reply.kind, reply.status, reply.handler, outcome.stats.steps);
                assert_eq!(refused, (5, Status::Version as u16, VERSION, 0), "{handler}");
            }
        }
        assert_eq!(stage.changes(), []);
        assert_eq!(one(&stage, message(1)).status, 0);
        stage.restore(0, 64);
        // The version before takes its own while it serves, and no longer.
        stage.bench.steps_max = 32;
        stage.load(16, VERSION + 1, &handler("puppet"));
        assert_eq!(send(&stage, vec![message(2)]).1.handler, VERSION);
        stage.load(16, VERSION + 2, &handler("puppet"));
        let reply = send(&stage, vec![message(3)]).1;
        assert_eq!((reply.kind, reply.status, reply.handler), (5, Status::Version as u16, VERSION + 2));
    }
}

/// The room of a Continue is for what it will carry: a reply is no longer than the caller allows all the same.
#[test]
fn more_room_is_no_longer_reply() {
    for stage in stages(4) {
        let orders: Vec<_> = (0..10).map(|i| Order::read(0, i * 8, 8)).collect();
        let mut sequence = 0;
        let mut limited = |orders: &[Order], reply_len, room, words: u8| {
            sequence += 1;
            let message = Message { sequence, ..Message::new(1, &strings(orders, reply_len), room) };
            let mut datagram = to_home(vec![message]).continued();
            datagram[48 + 27] = words;
            naam_tests::frame::sign(&mut datagram);
            let network = Network::v4(port(APP, SHARD));
            let frame = network.frame(&datagram);
            stage.bench.judge(APP.into(), &frame).assert_answered(&network, &frame, "a Continue").answers.remove(0)
        };
        for (words, end) in [(0, Status::Ok), (30, Status::Ok), (9, Status::Ok), (8, Status::Room), (1, Status::Room)] {
            assert_eq!(limited(&[], 72, 240, words).status, end as u16, "{words} words");
        }
        // What is cut says so for the visits to come; more than the handler has is not to be had.
        for (words, said) in [(0, 30), (2, 2), (29, 29), (31, 30), (128, 30), (255, 30)] {
            let answer = limited(&orders, 8, 640, words);
            assert_eq!((answer.flags, answer.raw[27]), (MESSAGE_CARRIED, said), "{words} words");
        }
    }
}

/// What pads the arguments of a message that is given back is its own, not what another session's left there.
#[test]
fn arguments_are_padded_with_nothing_of_others() {
    for stage in stages(4) {
        let orders: Vec<_> = (0..10).map(|i| Order::read(0, i * 8, 8)).collect();
        for (sequence, more) in (1..).zip([1, 2, 7]) {
            stage.judge(&Stage::request(vec![Message { slot: 9, ..Message::new(1, &[0x5e; 1088], 240) }]), "another's");
            let args = [strings(&orders, 8), vec![0xa5; more]].concat();
            let answer = one(&stage, Message { sequence, ..Message::new(2, &args, 800) });
            assert_eq!(
                (answer.flags, usize::from(answer.raw[20]) | usize::from(answer.raw[21]) << 8),
                (MESSAGE_CARRIED, args.len())
            );
            let padded = &answer.raw[32..32 + args.len().next_multiple_of(8)];
            assert_eq!(padded, [args, vec![0; 8 - more]].concat());
        }
    }
}
