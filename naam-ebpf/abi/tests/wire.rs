//! The wire format both ways: what is written is read back, and whatever is read can be written.

use naam_abi::limits::{ARGS_BYTES, DATAGRAM_BYTES, MESSAGES_MAX};
use naam_abi::siphash::Key;
use naam_abi::wire::{
    self, HEADER_BYTES, Header, Kind, MAGIC, MESSAGE_BYTES, MESSAGE_SERVED, Malformed, Message, Status, VERSION,
};
use proptest::collection::vec;
use proptest::prelude::*;

/// A message with its room.
type Filled = (Message, Vec<u8>);

fn kind() -> impl Strategy<Value = Kind> {
    (1u8..=6).prop_map(|byte| Kind::from_byte(byte).expect("a kind"))
}

prop_compose! {
    fn header()(
        kind in kind(),
        (flags, key, placement) in any::<(u8, u8, u8)>(),
        (app, function, handler, shard, lease, status) in any::<(u16, u16, u16, u16, u16, u16)>(),
        (session, epoch) in any::<(u32, u32)>(),
        (nonce, tag) in any::<(u64, u64)>(),
    ) -> Header {
        // Count and length are the datagram's.
        let (count, length) = (0, 0);
        Header {
            kind, flags, count, app, function, handler, shard, session, length, status, epoch, key, placement, lease,
            nonce, tag,
        }
    }
}

prop_compose! {
    fn message()(
        (request, code, sequence, sent) in any::<(u32, u32, u32, u32)>(),
        (slot, status) in any::<(u16, u16)>(),
        (step, flags, steps, hops, state_len, reply_max) in any::<(u8, u8, u8, u8, u8, u8)>(),
        words in 0usize..=12,
        (args, reply) in any::<(usize, usize)>(),
        bytes in vec(any::<u8>(), 96),
    ) -> Filled {
        let room = words * 8;
        // A served message may tell of arguments that its reply has overwritten.
        let most = if flags & MESSAGE_SERVED == 0 { room } else { ARGS_BYTES };
        let (arg_len, reply_len) = ((args % (most + 1)) as u16, (reply % (room + 1)) as u16);
        let room_field = room as u16;
        let message = Message {
            request, code, sequence, slot, status, step, flags, steps, hops, arg_len, reply_len, room: room_field,
            state_len, reply_max, sent,
        };
        (message, bytes[..room].to_vec())
    }
}

prop_compose! {
    fn datagram()(header in header(), messages in vec(message(), 1..=26)) -> (Header, Vec<Filled>) {
        let length = messages.iter().map(|(_, room)| MESSAGE_BYTES + room.len()).sum::<usize>() + HEADER_BYTES;
        assert!(length <= DATAGRAM_BYTES);
        (Header { count: messages.len() as u8, length: length as u16, ..header }, messages)
    }
}

fn write(header: &Header, messages: &[Filled]) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(header.length)];
    header.encode(&mut bytes);
    let mut at = HEADER_BYTES;
    for (message, room) in messages {
        message.encode(&mut bytes[at..]);
        at += MESSAGE_BYTES;
        bytes[at..at + room.len()].copy_from_slice(room);
        at += room.len();
    }
    bytes
}

fn read(bytes: &[u8]) -> Result<(Header, Vec<Filled>), Malformed> {
    let (header, messages) = wire::parse(bytes)?;
    let messages = messages.map(|message| message.map(|(message, room)| (message, room.to_vec())));
    Ok((header, messages.collect::<Result<_, _>>()?))
}

proptest! {
    #[test]
    fn what_is_written_is_read_back((header, messages) in datagram(), padding in vec(any::<u8>(), 0..64)) {
        let mut bytes = write(&header, &messages);
        // Ethernet pads short frames.
        bytes.extend(padding);
        prop_assert_eq!(read(&bytes), Ok((header, messages)));
    }

    #[test]
    fn every_truncation_is_short((header, messages) in datagram(), cut in any::<prop::sample::Index>()) {
        let bytes = write(&header, &messages);
        let len = cut.index(bytes.len());
        prop_assert_eq!(read(&bytes[..len]), Err(Malformed::Short));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }

    /// Noise behind a header that is right: what passes can be written again.
    #[test]
    fn what_is_read_can_be_written(
        header in header(), count in 0u8..40, words in 0usize..60, noise in vec(any::<u8>(), 480),
        rooms in vec(0u16..6, 40),
    ) {
        let length = HEADER_BYTES + words * 8;
        let mut bytes = vec![0; HEADER_BYTES];
        Header { count, length: length as u16, ..header }.encode(&mut bytes);
        bytes.extend(&noise[..words * 8]);
        // Rooms that have a chance: the noise else ends the walk at the first message.
        let mut at = HEADER_BYTES;
        for room in rooms {
            if at + MESSAGE_BYTES > bytes.len() {
                break;
            }
            bytes[at + 20..at + 24].copy_from_slice(&[0; 4]);
            bytes[at + 24..at + 26].copy_from_slice(&(room * 8).to_le_bytes());
            at += MESSAGE_BYTES + usize::from(room) * 8;
        }
        if let Ok((header, messages)) = read(&bytes) {
            prop_assert!((1..=MESSAGES_MAX).contains(&messages.len()));
            prop_assert_eq!(write(&header, &messages), bytes);
        }
    }

    /// Each byte of the header that decides is looked at.
    #[test]
    fn a_changed_structure_is_refused((header, messages) in datagram(), to in any::<u8>()) {
        let bytes = write(&header, &messages);
        let changed = |at: usize| {
            let mut bytes = bytes.clone();
            bytes[at] = to;
            bytes
        };
        for at in 0..4 {
            if to != MAGIC.to_le_bytes()[at] {
                prop_assert_eq!(read(&changed(at)), Err(Malformed::Magic));
            }
        }
        if to != VERSION {
            prop_assert_eq!(read(&changed(4)), Err(Malformed::Version));
        }
        if Kind::from_byte(to).is_none() {
            prop_assert_eq!(read(&changed(5)), Err(Malformed::Kind));
        }
        if to != header.count {
            // One message less leaves bytes over; one more finds none, or none that fits.
            prop_assert_eq!(read(&changed(7)), Err(Malformed::Count));
        }
    }

    #[test]
    fn the_tag_covers_every_other_byte(
        (header, messages) in datagram(), keys in any::<(u64, u64)>(), flip in any::<(prop::sample::Index, u8)>(),
    ) {
        let key = Key { k0: keys.0, k1: keys.1 };
        let bytes = write(&header, &messages);
        let (at, bit) = (flip.0.index(bytes.len()), 1u8 << (flip.1 % 8));
        let mut other = bytes.clone();
        other[at] ^= bit;
        let same = wire::tag(key, &bytes) == wire::tag(key, &other);
        prop_assert_eq!(same, (wire::TAG_OFFSET..HEADER_BYTES).contains(&at));
        prop_assert_ne!(wire::tag(Key { k0: keys.0 ^ 1, k1: keys.1 }, &bytes), wire::tag(key, &bytes));
    }

    #[test]
    fn numbers_name_at_most_one_meaning(code in any::<u16>(), byte in any::<u8>()) {
        prop_assert_eq!(Status::from_code(code).map_or(code, |status| status as u16), code);
        prop_assert_eq!(Status::from_code(code).is_some(), usize::from(code) < wire::STATUS_COUNT);
        prop_assert_eq!(Kind::from_byte(byte).map_or(byte, |kind| kind as u8), byte);
    }
}
