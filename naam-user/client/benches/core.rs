//! What a message costs in the core: submit, pack, match, complete. Datagrams of 16 messages with
//! 16 B of arguments and 48 B of reply; the host's part (turning the request into its reply) is
//! done beforehand and not measured. Medians over datagrams, so that a busy machine disturbs little.

use std::hint::black_box;
use std::time::Instant;

use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::wire::{self, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, MESSAGE_SERVED, Message};
use naam_client::{Call, Core, Function, FunctionInfo, Integrity, Options, SessionInfo};

const BATCH: usize = 16;
const ROUNDS: usize = 100_000;

fn main() {
    for (name, integrity) in
        [("tagged", Integrity::Tagged { id: 0, key: PUBLIC_KEY }), ("integrity off", Integrity::Off)]
    {
        for writes in [false, true] {
            let [submit, pack, receive] = run(integrity, writes);
            let kind = if writes { "writes" } else { "reads" };
            let total = submit + pack + receive;
            println!(
                "{name:13} {kind:6} {total:6.1} ns a message: submit {submit:.1}, pack {pack:.1}, receive {receive:.1}"
            );
        }
    }
}

/// Nanoseconds a message of submit, pack and receive.
fn run(integrity: Integrity, writes: bool) -> [f64; 3] {
    let mut session = SessionInfo::new([127, 0, 0, 1].into(), 0, 1);
    session.integrity = integrity;
    session.functions.insert("f".to_owned(), FunctionInfo { number: 16, version: 1, writes, reply_max: 48 });
    let mut now = 1_000_000_000;
    let mut core = Core::new(session, &Options::default(), 1472, now);
    let mut buffer = [0; 1472];
    let mut times = [const { Vec::new() }; 3];
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
        let received = Instant::now();
        for (times, time) in times.iter_mut().zip([submitted - start, packed - submitted, received - answered]) {
            times.push(time.as_nanos() as u32);
        }
    }
    assert_eq!(ended, BATCH * ROUNDS);
    times.map(|mut times| {
        let (_, median, _) = times.select_nth_unstable(ROUNDS / 2);
        f64::from(*median) / BATCH as f64
    })
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
