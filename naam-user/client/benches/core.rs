//! What a message costs in the core: submit, pack, match, complete. Datagrams of 16 messages with
//! 16 B of arguments and 48 B of reply; the host's part (turning the request into its reply) is
//! done beforehand and not measured.

use std::hint::black_box;
use std::time::Instant;

use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::wire::{self, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, MESSAGE_SERVED, Message};
use naam_client::{Call, Core, Function, FunctionInfo, Integrity, Options, SessionInfo};

const BATCH: usize = 16;
const ROUNDS: usize = 100_000;
const RUNS: usize = 5;

fn main() {
    for (name, integrity) in
        [("tagged", Integrity::Tagged { id: 0, key: PUBLIC_KEY }), ("integrity off", Integrity::Off)]
    {
        for writes in [false, true] {
            let mut costs: Vec<_> = (0..RUNS).map(|_| run(integrity, writes)).collect();
            costs.sort_by(|a, b| a.total().total_cmp(&b.total()));
            let Cost { submit, pack, receive } = costs[RUNS / 2];
            let kind = if writes { "writes" } else { "reads" };
            let total = submit + pack + receive;
            println!(
                "{name:13} {kind:6} {total:6.1} ns a message: submit {submit:.1}, pack {pack:.1}, receive {receive:.1}"
            );
        }
    }
}

/// Nanoseconds a message.
struct Cost {
    submit: f64,
    pack: f64,
    receive: f64,
}

impl Cost {
    fn total(&self) -> f64 {
        self.submit + self.pack + self.receive
    }
}

fn run(integrity: Integrity, writes: bool) -> Cost {
    let mut session = SessionInfo::new([127, 0, 0, 1].into(), 0, 1);
    session.integrity = integrity;
    session.functions.insert("f".to_owned(), FunctionInfo { number: 16, version: 1, writes, reply_max: 48 });
    let mut now = 1_000_000_000;
    let mut core = Core::new(session, &Options::default(), 1472, now);
    let mut buffer = [0; 1472];
    let (mut submit, mut pack, mut receive) = (0, 0, 0);
    let mut ended = 0;
    for round in 0..ROUNDS {
        now += 10_000;
        let start = Instant::now();
        for i in 0..BATCH {
            let args = [(round + i) as u8; 16];
            core.submit(&Call::new(Function { number: 16 }, black_box(&args)), now).expect("the window has room");
        }
        let submitted = Instant::now();
        let out = core.transmit(now, &mut buffer).expect("a datagram is due");
        let packed = Instant::now();
        answer(&mut buffer[..out.len], integrity);
        let answered = Instant::now();
        core.receive(now + 5_000, &buffer[..out.len], &mut |completion| {
            ended += usize::from(black_box(completion.outcome).is_ok());
        });
        core.tick(now + 5_000, &mut |_| unreachable!("nothing is late"));
        receive += answered.elapsed().as_nanos();
        submit += (submitted - start).as_nanos();
        pack += (packed - submitted).as_nanos();
    }
    assert_eq!(ended, BATCH * ROUNDS);
    let each = |ns: u128| ns as f64 / (BATCH * ROUNDS) as f64;
    Cost { submit: each(submit), pack: each(pack), receive: each(receive) }
}

fn answer(bytes: &mut [u8], integrity: Integrity) {
    let mut header = Header::decode(bytes).expect("our own datagram");
    let mut at = HEADER_BYTES;
    for _ in 0..header.count {
        let message = Message::decode(&bytes[at..]).expect("our own message");
        Message { flags: MESSAGE_SERVED, reply_len: 48, ..message }.encode(&mut bytes[at..]);
        at += MESSAGE_BYTES + usize::from(message.room);
    }
    header.kind = Kind::Reply;
    header.encode(bytes);
    if let Integrity::Tagged { key, .. } = integrity {
        header.tag = wire::tag(key, bytes);
        header.encode(bytes);
    }
}
