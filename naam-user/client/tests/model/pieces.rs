//! A core whose one call goes to and fro in datagrams of one message.

use naam_abi::handler::Step;
use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::wire::{
    self, CARRIED_BYTES_MAX, Carried, HEADER_BYTES, Header, Kind, MESSAGE_BYTES, MESSAGE_SERVED, Message, Status,
};
use naam_client::{Call, CallError, Core, Function, FunctionInfo, Options, RegionInfo, SessionInfo};
use naam_handler::native;

/// Read-only.
pub const READ: u16 = 16;
/// Writing.
pub const WRITE: u16 = 17;
/// Bytes of arguments.
pub const ARGS: usize = 16;
pub const NOW: u64 = 1_000_000_000;
pub const MS: u64 = 1_000_000;

/// A session with one region, which it may read by itself.
pub fn session(handler_rights: u8, raw_rights: u8) -> SessionInfo {
    let mut session = SessionInfo::new([127, 0, 0, 1].into(), 3, 77);
    for (name, number, writes) in [("read", READ, false), ("write", WRITE, true)] {
        session.functions.insert(name.to_owned(), FunctionInfo { number, version: 1, writes, reply_max: 48 });
    }
    let info = RegionInfo { index: 0, bytes: 4096, value_len: 4096, handler_rights, raw_rights };
    session.regions.insert("store".to_owned(), info);
    session
}

pub fn core(session: SessionInfo) -> Core {
    Core::new(session, &Options::default(), 1472, NOW)
}

pub fn call(function: u16, args: &[u8; ARGS]) -> Call<'_> {
    Call::new(Function { number: function }, args)
}

/// The next datagram: its header, its one message, and its bytes.
pub fn sent(core: &mut Core, now: u64) -> Option<(Header, Message, Vec<u8>)> {
    let mut buffer = vec![0; 1472];
    let len = core.transmit(now, &mut buffer)?.len;
    buffer.truncate(len);
    let (header, mut messages) = wire::parse(&buffer).unwrap();
    let (message, _) = messages.next().unwrap().unwrap();
    Some((header, message, buffer))
}

pub type Outcome = Result<Vec<u8>, CallError>;

pub fn arrive(core: &mut Core, bytes: &[u8], now: u64) -> Vec<Outcome> {
    let mut ends = Vec::new();
    core.receive(now, bytes, &mut |end| ends.push(end.outcome.map(|reply| reply.bytes.to_vec())));
    ends
}

/// The answer to a datagram of one message.
pub fn answer(sent: &[u8], kind: Kind, edit: impl FnOnce(&mut Message, &mut [u8])) -> Vec<u8> {
    let mut bytes = sent.to_vec();
    let mut header = Header::decode(&bytes).unwrap();
    let mut message = Message::decode(&bytes[HEADER_BYTES..]).unwrap();
    edit(&mut message, &mut bytes[HEADER_BYTES + MESSAGE_BYTES..]);
    message.encode(&mut bytes[HEADER_BYTES..]);
    header.kind = kind;
    header.encode(&mut bytes);
    tagged(bytes)
}

pub fn tagged(mut bytes: Vec<u8>) -> Vec<u8> {
    let header = Header::decode(&bytes).unwrap();
    Header { tag: wire::tag(PUBLIC_KEY, &bytes), ..header }.encode(&mut bytes);
    bytes
}

/// A Pushback of it, cut after `steps` steps; the first word of state tells it.
pub fn pushback(sent: &[u8], steps: u32) -> Vec<u8> {
    answer(sent, Kind::Pushback, |message, room| {
        let mut buffer = [0; CARRIED_BYTES_MAX];
        let carried = cut(steps, &mut buffer);
        carried.fill(message);
        message.hops += 1;
        room[..carried.body().len()].copy_from_slice(carried.body());
    })
}

pub fn cut(steps: u32, buffer: &mut [u8; CARRIED_BYTES_MAX]) -> Carried<'_> {
    let mut m = native::request(&[3; ARGS]);
    m.state[0] = steps.into();
    m.reply_max = 48;
    Carried::cut(&m, Step::Read, steps, 1, buffer).expect("carried")
}

pub fn done(sent: &[u8]) -> Vec<u8> {
    answer(sent, Kind::Reply, |message, room| {
        message.flags = MESSAGE_SERVED;
        message.reply_len = 8;
        room[..8].fill(9);
    })
}

pub fn over_budget(sent: &[u8], steps: u32) -> Vec<u8> {
    answer(sent, Kind::Reply, |message, _| {
        (message.flags, message.status, message.steps) = (MESSAGE_SERVED, Status::Budget as u16, steps as u8);
    })
}
