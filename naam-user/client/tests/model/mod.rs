//! A host in a few lines: sessions' slots, handler versions, and two functions.

use std::collections::HashMap;

use naam_abi::siphash::PUBLIC_KEY;
use naam_abi::wire::{self, HEADER_BYTES, Kind, MESSAGE_BYTES, MESSAGE_DUPLICATE, MESSAGE_SERVED, Message, Status};
use naam_client::{FunctionInfo, SessionInfo};

/// Read-only: replies with its arguments, each byte plus one.
pub const READ: u16 = 16;
/// Writing: the argument's first 8 bytes name an effect, which is counted; replies like [`READ`].
pub const WRITE: u16 = 17;
/// Bytes of arguments of both.
pub const ARGS: usize = 16;

/// The session that the model serves.
pub fn session() -> SessionInfo {
    let mut info = SessionInfo::new([127, 0, 0, 1].into(), 3, 77);
    let function = |number, writes| FunctionInfo { number, version: 1, writes, reply_max: 48 };
    info.functions.insert("read".to_owned(), function(READ, false));
    info.functions.insert("write".to_owned(), function(WRITE, true));
    info
}

/// What both functions reply to `args`.
pub fn expected_reply(args: &[u8]) -> Vec<u8> {
    args.iter().map(|byte| byte.wrapping_add(1)).collect()
}

#[derive(Clone, Copy)]
struct SlotState {
    sequence: u32,
    /// The message runs until then; afterwards its reply is cached.
    done_at: u64,
    args: [u8; ARGS],
}

/// The host's state.
pub struct Host {
    /// Handler version that serves.
    pub version: u16,
    /// How often each effect took place.
    pub effects: HashMap<u64, u32>,
    slots: HashMap<u16, SlotState>,
}

impl Host {
    pub fn new() -> Self {
        Self { version: 1, effects: HashMap::new(), slots: HashMap::new() }
    }

    /// Serves a request that arrives at `now` in place, as tables.rs and wire.rs say; a write takes
    /// `run_ns` to run. `elsewhere` pretends that the shard is moving. `None`: dropped.
    pub fn serve(&mut self, bytes: &mut [u8], now: u64, run_ns: u64, elsewhere: bool) -> Option<()> {
        let (mut header, messages) = wire::parse(bytes).ok()?;
        if header.tag != wire::tag(PUBLIC_KEY, &bytes[..usize::from(header.length)]) {
            return None;
        }
        let mut served = Vec::new();
        for message in messages {
            let (mut message, room) = message.expect("the tag was right");
            assert!(
                room[usize::from(message.arg_len)..].iter().all(|&byte| byte == 0),
                "old bytes leak into a request"
            );
            let args: [u8; ARGS] = room[..usize::from(message.arg_len)].try_into().expect("these functions' length");
            let status = if elsewhere {
                Status::Elsewhere
            } else if header.handler != 0 && header.handler != self.version {
                Status::Version
            } else if header.function == WRITE {
                self.write(&mut message, &args, now, run_ns)
            } else {
                Status::Ok
            };
            message.status = status as u16;
            message.flags |= MESSAGE_SERVED;
            served.push((message, args));
        }
        let mut at = HEADER_BYTES;
        for (mut message, args) in served {
            let room = &mut bytes[at + MESSAGE_BYTES..at + MESSAGE_BYTES + usize::from(message.room)];
            if message.status == Status::Ok as u16 {
                room[..ARGS].copy_from_slice(&expected_reply(&args));
                message.reply_len = ARGS as u16;
            }
            message.encode(&mut bytes[at..]);
            at += MESSAGE_BYTES + usize::from(message.room);
        }
        header.kind = Kind::Reply;
        header.handler = self.version;
        header.encode(bytes);
        header.tag = wire::tag(PUBLIC_KEY, bytes);
        header.encode(bytes);
        Some(())
    }

    fn write(&mut self, message: &mut Message, args: &[u8; ARGS], now: u64, run_ns: u64) -> Status {
        assert!(message.sequence > 0, "sequence 0 is a slot that was never used");
        match self.slots.get(&message.slot) {
            Some(slot) if message.sequence < slot.sequence => return Status::Stale,
            Some(slot) if now < slot.done_at => return Status::Running,
            Some(slot) if message.sequence == slot.sequence => {
                assert_eq!(&slot.args, args, "a sequence was used for two calls");
                message.flags |= MESSAGE_DUPLICATE;
                return Status::Ok;
            }
            _ => {}
        }
        self.slots.insert(message.slot, SlotState { sequence: message.sequence, done_at: now + run_ns, args: *args });
        let effect = u64::from_le_bytes(args[..8].try_into().expect("8 bytes"));
        *self.effects.entry(effect).or_default() += 1;
        Status::Ok
    }
}
