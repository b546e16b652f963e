//! The built-in one-sided functions: every op, its edges, its rights by door, and exactly once.

use naam_abi::limits::ARGS_BYTES;
use naam_abi::onesided::{self, BAD_ARGUMENTS, CHAIN, OTHER_WORD, Op};
use naam_abi::tables::{RIGHT_ALL, RIGHT_ATOMIC, RIGHT_READ, RIGHT_WRITE, Site, SteerEntry};
use naam_abi::wire::{MESSAGE_DUPLICATE, Status};
use naam_admission::admit;
use naam_tests::bench::SESSION;
use naam_tests::frame::{Answer, Message, Request};
use naam_tests::handlers::{Order, handler};
use naam_tests::objects;
use naam_tests::stage::{APP, FUNCTION, SHARD, SINGLE, Stage, VALUE, pattern};
use naam_tests::verdict::VARIANTS;

const READ: u16 = onesided::READ;
const WRITE: u16 = onesided::WRITE;
const CAS: u16 = onesided::CAS;
const FAA: u16 = onesided::FAA;

/// Each hook and each kind of loop once, with all built-in functions and every raw right.
fn stages() -> impl Iterator<Item = Stage> {
    let puppet = handler("puppet");
    let builtins: Vec<_> = onesided::NAMES
        .iter()
        .map(|name| admit(&objects::read(name)).unwrap_or_else(|refusal| panic!("{name}: {refusal}")))
        .collect();
    [VARIANTS[0], VARIANTS[3]].into_iter().map(move |(hook, may_goto)| {
        let stage = Stage::new(hook, may_goto, &puppet);
        (0..).zip(&builtins).for_each(|(number, code)| stage.load(number, 1, code));
        raw(&stage, [RIGHT_ALL; 8]);
        stage
    })
}

/// Grants raw rights; none through handlers.
fn raw(stage: &Stage, rights: [u8; 8]) {
    stage.bench.datapath.tables().set_rights(SESSION, [0; 8], rights);
}

fn send(stage: &Stage, function: u16, message: Message) -> Answer {
    let request = Request { function, ..Stage::request(vec![message]) };
    let (_, reply) = stage.judge(&request, "one-sided");
    assert_eq!((reply.kind, reply.handler), (2, 1));
    reply.answers.into_iter().next().expect("one answer")
}

/// Calls a function with a sequence that grows, in slot 1: slot 0 is the puppet's.
struct Caller<'a>(&'a Stage, u32);

impl Caller<'_> {
    fn call(&mut self, function: u16, args: &[u8]) -> Answer {
        self.1 += 1;
        send(self.0, function, Message { slot: 1, sequence: self.1, ..Message::new(1, args, 1024) })
    }

    fn chain(&mut self, ops: &[Op<'_>]) -> Answer {
        let mut args = [0; ARGS_BYTES];
        let len = onesided::chain_args(ops, &mut args).expect("a chain");
        self.call(CHAIN, &args[..len])
    }

    fn write(&mut self, region: u32, offset: u64, bytes: &[u8]) -> Answer {
        let mut args = [0; ARGS_BYTES];
        let len = onesided::write_args(region, offset, bytes, &mut args).expect("a write");
        self.call(WRITE, &args[..len])
    }

    fn status(&mut self, function: u16, args: &[u8]) -> u16 {
        self.call(function, args).status
    }
}

fn words(answer: &Answer) -> Vec<u64> {
    answer.reply.chunks(8).map(|word| u64::from_le_bytes(word.try_into().expect("whole words"))).collect()
}

#[test]
fn every_op_does_what_it_says() {
    for stage in stages() {
        let mut caller = Caller(&stage, 0);
        for (region, offset, len) in [(0, 0, 8), (0, 8, 64), (0, SINGLE - 1024, 1024), (1, VALUE, 1000), (1, 16, 72)] {
            let answer = caller.call(READ, &onesided::read_args(region, offset, len));
            let expected: Vec<_> = (0..u64::from(len) / 8).map(|word| pattern(region, offset + word * 8)).collect();
            assert_eq!((answer.status, words(&answer)), (0, expected), "{region} {offset} {len}");
        }
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let answer = caller.write(1, 2 * VALUE - 1000, &bytes);
        assert_eq!((answer.status, answer.reply.len()), (0, 0));
        let read = caller.call(READ, &onesided::read_args(1, 2 * VALUE - 1000, 1000));
        assert_eq!(read.reply, bytes);
        assert_eq!(stage.changes().len(), 125);
        stage.reset();

        let old = pattern(0, 64);
        let answer = caller.call(CAS, &onesided::cas_args(0, 64, old, 5));
        assert_eq!((answer.status, answer.code, words(&answer)), (0, 0, vec![old]));
        let answer = caller.call(CAS, &onesided::cas_args(0, 64, old, 6));
        assert_eq!((answer.status, answer.code, words(&answer)), (0, OTHER_WORD, vec![5]));
        assert_eq!(words(&caller.call(FAA, &onesided::faa_args(0, 64, u64::MAX))), [5]);
        assert_eq!(stage.changes(), [(0, 64, 4)]);
        stage.reset();

        let ops = [
            Op::Cas { region: 0, offset: 8, expect: pattern(0, 8), new: 1 },
            Op::Write { region: 1, offset: 0, bytes: &[7; 24] },
            Op::Read { region: 1, offset: 8, len: 24 },
            Op::Faa { region: 0, offset: 0, addend: 2 },
        ];
        let sevens = u64::from_le_bytes([7; 8]);
        let answer = caller.chain(&ops);
        let all = vec![4, pattern(0, 8), sevens, sevens, pattern(1, 24), pattern(0, 0)];
        assert_eq!((answer.status, answer.code, words(&answer)), (0, 0, all));
        // The first op fails now: the others are left alone.
        let before = stage.changes();
        let answer = caller.chain(&ops);
        assert_eq!((answer.status, answer.code, words(&answer)), (0, OTHER_WORD, vec![0, 1]));
        assert_eq!(stage.changes(), before);
        let longest = caller.chain(&[Op::Read { region: 0, offset: 16, len: 232 }]);
        assert_eq!((longest.reply.len(), words(&longest)[29]), (240, pattern(0, 16 + 28 * 8)));
    }
}

#[test]
fn edges_are_refused_and_change_nothing() {
    for stage in stages() {
        let mut caller = Caller(&stage, 0);
        for (region, offset, len, status) in [
            (0, SINGLE - 1016, 1024, Status::Bounds),
            (0, SINGLE, 8, Status::Bounds),
            (1, VALUE - 8, 16, Status::Bounds),
            (1, 4 * VALUE, 8, Status::Bounds),
            (0, u64::MAX - 7, 8, Status::Bounds),
            (2, 0, 8, Status::NoRegion),
            (u32::MAX, 0, 8, Status::NoRegion),
            (0, 4, 8, Status::BadStep),
            (0, 0, 0, Status::BadStep),
            (0, 0, 12, Status::BadStep),
            (0, 0, 1032, Status::Failed),
            (0, 0, u32::MAX, Status::Failed),
        ] {
            let what = format!("{region} {offset} {len}");
            let answer = caller.call(READ, &onesided::read_args(region, offset, len));
            assert_eq!((answer.status, answer.reply.len()), (status as u16, 0), "read {what}");
            let mut args = onesided::read_args(region, offset, len).to_vec();
            args.resize(16 + if len <= 1000 { len as usize } else { 1000 }, 0xee);
            let status = if len > 1000 { Status::Failed } else { status };
            assert_eq!(caller.status(WRITE, &args), status as u16, "write {what}");
            if len == 8 {
                let status = status as u16;
                assert_eq!(caller.status(CAS, &onesided::cas_args(region, offset, 0, 1)), status, "cas {what}");
                assert_eq!(caller.status(FAA, &onesided::faa_args(region, offset, 1)), status, "faa {what}");
                assert_eq!(caller.chain(&[Op::Faa { region, offset, addend: 1 }]).status, status, "chain {what}");
            }
        }
        for function in 0..onesided::COUNT as u16 {
            for len in [0, 8, 15] {
                let answer = caller.call(function, &[1; 16][..len]);
                assert_eq!((answer.status, answer.code), (Status::Failed as u16, BAD_ARGUMENTS), "{function} {len}");
            }
        }
        let short = send(&stage, READ, Message::new(1, &onesided::read_args(0, 0, 64), 56));
        assert_eq!((short.status, short.code), (Status::Failed as u16, BAD_ARGUMENTS), "too little room");
        assert_eq!(stage.changes(), []);
    }
}

/// Raw rights count for built-in functions and handler rights for the others, each by region and op.
#[test]
fn each_door_has_its_own_rights() {
    let ops = |caller: &mut Caller<'_>, region| {
        [
            caller.status(READ, &onesided::read_args(region, 0, 8)),
            caller.write(region, 8, &pattern(region, 8).to_le_bytes()).status,
            caller.status(CAS, &onesided::cas_args(region, 0, 1, 2)),
            caller.status(FAA, &onesided::faa_args(region, 0, 0)),
            caller.chain(&[Op::Read { region, offset: 0, len: 8 }]).status,
            caller.chain(&[Op::Faa { region, offset: 0, addend: 0 }]).status,
        ]
    };
    const DENIED: u16 = Status::Denied as u16;
    for stage in stages() {
        let mut caller = Caller(&stage, 0);
        stage.fresh_session();
        assert_eq!(ops(&mut caller, 0), [DENIED; 6], "raw rights are zero unless granted");
        let order = [Order::read(0, 0, 8), Order::faa(0, 0, 0)];
        assert_eq!(stage.perform(&order, "handler").status, 0);
        raw(&stage, [RIGHT_ALL; 8]);
        assert_eq!(ops(&mut caller, 0), [0; 6]);
        assert_eq!(stage.perform(&order, "handler without rights").status, DENIED);
        raw(&stage, [RIGHT_READ, RIGHT_ALL, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ops(&mut caller, 0), [0, DENIED, DENIED, DENIED, 0, DENIED]);
        assert_eq!(ops(&mut caller, 1), [0; 6]);
        raw(&stage, [RIGHT_WRITE, RIGHT_ATOMIC, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ops(&mut caller, 0), [DENIED, 0, DENIED, DENIED, DENIED, DENIED]);
        assert_eq!(ops(&mut caller, 1), [DENIED, DENIED, 0, 0, DENIED, 0]);

        // A chain that is refused midway says how much of it was done.
        let add = |region| Op::Faa { region, offset: 0, addend: 1 };
        let answer = caller.chain(&[add(1), add(1), add(0), add(1)]);
        assert_eq!((answer.status, answer.code, answer.reply.len()), (DENIED, 2, 0));
        assert_eq!(stage.changes(), [(1, 0, pattern(1, 0) + 2)]);
    }
}

/// Reads may run more than once; what writes runs once, and a copy gets the first answer.
#[test]
fn writing_ops_run_exactly_once() {
    for stage in stages() {
        let message = |sequence, args: &[u8]| Message { sequence, slot: 3, ..Message::new(1, args, 240) };
        let faa = message(1, &onesided::faa_args(0, 0, 1));
        let first = send(&stage, FAA, faa.clone());
        for _ in 0..3 {
            let copy = send(&stage, FAA, faa.clone());
            assert_eq!((copy.flags & MESSAGE_DUPLICATE, &copy.reply), (MESSAGE_DUPLICATE, &first.reply));
        }
        let mut args = [0; ARGS_BYTES];
        let ops = [Op::Faa { region: 0, offset: 0, addend: 1 }, Op::Read { region: 0, offset: 0, len: 216 }];
        let len = onesided::chain_args(&ops, &mut args).expect("a chain");
        let chain = message(2, &args[..len]);
        let first = send(&stage, CHAIN, chain.clone());
        assert_eq!(first.reply.len(), 232);
        assert_eq!(send(&stage, CHAIN, chain).reply, first.reply);
        assert_eq!(send(&stage, FAA, faa).status, Status::Stale as u16);
        // The slot is the session's, not the function's.
        let other = send(&stage, WRITE, message(2, &[0; 24]));
        assert_eq!((other.flags & MESSAGE_DUPLICATE, other.reply), (MESSAGE_DUPLICATE, first.reply));
        assert_eq!(send(&stage, READ, message(1, &onesided::read_args(0, 0, 8))).status, 0, "reads need no slot");
        assert_eq!(stage.changes(), [(0, 0, pattern(0, 0) + 2)]);
    }
}

/// A shard that is placed at the client is served at home all the same, and the reply says where it is.
#[test]
fn shards_at_the_client_are_served_at_home() {
    for stage in stages() {
        let placement = SteerEntry { epoch: 78, site: Site::Client as u8, lease_ms: 9 };
        stage.bench.datapath.tables().set_placement(APP, SHARD, placement);
        assert_eq!(send(&stage, READ, Message::new(1, &onesided::read_args(0, 0, 8), 8)).status, 0);
        stage.fresh_session();
        let request = Stage::request(vec![Message { sequence: 1, ..Message::new(1, &[0; 16], 240) }]);
        assert_eq!(request.function, FUNCTION);
        let (outcome, reply) = stage.judge(&request, "at the client");
        assert_eq!((reply.kind, reply.answers[0].status), (2, 0));
        let at = outcome.frame.len() - request.datagram().len();
        assert_eq!(&outcome.frame[at + 24..at + 32], [78, 0, 0, 0, 0, 2, 9, 0]);
    }
}
