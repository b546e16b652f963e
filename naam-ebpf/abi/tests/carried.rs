//! Carried messages both ways: what is cut is restored, lengths that lie are refused, and the bytes are these.

use naam_abi::handler::{NaamMsg, Step};
use naam_abi::limits::{ARGS_BYTES, REPLY_BYTES, STATE_BYTES, STEPS_TOTAL_MAX};
use naam_abi::wire::{CARRIED_BYTES_MAX, Carried, MESSAGE_BYTES, MESSAGE_CARRIED, Malformed, Message, Op};
use proptest::collection::vec;
use proptest::prelude::*;

const OPS: [Step; 4] = [Step::Read, Step::Write, Step::Cas, Step::Faa];

prop_compose! {
    /// Any message that a handler may leave behind and that can be carried.
    fn message()(
        (op_offset, op_value, op_expect) in any::<(u64, u64, u64)>(),
        (op_region, op_len, op_source, op_done, code) in any::<(u32, u32, u32, u32, u32)>(),
        (arg_len, reply_words, reply_share) in (0..=ARGS_BYTES as u32, 0..=REPLY_BYTES as u32 / 8, 0u32..=1000),
        seeds in any::<[u64; 3]>(),
    ) -> NaamMsg {
        let words = |seed: u64, i: usize| seed.wrapping_mul(i as u64 * 2 + 1) ^ seed.rotate_left(i as u32);
        let reply_max = reply_words * 8;
        NaamMsg {
            op_offset, op_value, op_expect, op_region, op_len, op_source, op_done, code, arg_len, reply_max,
            reply_len: reply_max * reply_share / 1000,
            state: std::array::from_fn(|i| words(seeds[0], i)),
            args: std::array::from_fn(|i| words(seeds[1], i)),
            reply: std::array::from_fn(|i| words(seeds[2], i)),
            ..NaamMsg::ZERO
        }
    }
}

fn bytes(words: &[u64], len: u32) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).take(len as usize).collect()
}

/// The words of `words` that hold its first `len` bytes, with zeros behind them.
fn kept<const N: usize>(words: &[u64; N], len: u32) -> [u64; N] {
    let mut kept = bytes(words, len);
    kept.resize(N * 8, 0);
    std::array::from_fn(|i| u64::from_le_bytes(kept[i * 8..i * 8 + 8].try_into().expect("eight bytes")))
}

proptest! {
    #[test]
    fn what_is_cut_is_restored(
        m in message(), step in 0usize..4, steps in 0..=STEPS_TOTAL_MAX, state_len in 0usize..=16,
        (request, sequence, sent) in any::<(u32, u32, u32)>(), spare in 0usize..4, shard in 0u16..64,
    ) {
        let mut buffer = [0xa5; CARRIED_BYTES_MAX];
        let cut = Carried::cut(&m, OPS[step], steps, state_len, &mut buffer).expect("carried");
        let mut header = Message { request, sequence, sent, ..Message::default() };
        cut.fill(&mut header);
        let mut wire = vec![0; MESSAGE_BYTES];
        header.room += spare as u16 * 8;
        header.encode(&mut wire);
        wire.extend(cut.body());
        wire.resize(MESSAGE_BYTES + usize::from(header.room), 0);

        let read = Message::decode(&wire).expect("lengths that fit");
        prop_assert_eq!(read, header);
        let carried = Carried::decode(&read, &wire[MESSAGE_BYTES..]).expect("carried");
        prop_assert_eq!(carried, cut);
        prop_assert_eq!((carried.step(), u32::from(carried.steps()), carried.code()), (OPS[step], steps, m.code));
        prop_assert_eq!(carried.op(), Op { done: 1, ..Op::of(&m) });
        prop_assert_eq!(carried.args(), bytes(&m.args, m.arg_len));
        prop_assert_eq!(carried.state(), bytes(&m.state, state_len as u32 * 8));
        prop_assert_eq!(carried.reply(), bytes(&m.reply, m.reply_len));

        let mut back = NaamMsg { args: [7; ARGS_BYTES / 8], state: [7; 16], reply: [7; REPLY_BYTES / 8], ..NaamMsg::ZERO };
        carried.restore(shard, &mut back);
        prop_assert_eq!(Op::of(&back), Op { done: 1, ..Op::of(&m) });
        prop_assert_eq!((back.step, back.shard, back.code), (steps, u32::from(shard), m.code));
        prop_assert_eq!((back.arg_len, back.reply_len, back.reply_max), (m.arg_len, m.reply_len, m.reply_max));
        prop_assert_eq!(back.state, kept(&m.state, state_len as u32 * 8));
        prop_assert_eq!(back.reply, kept(&m.reply, m.reply_len));
        let words = (m.arg_len as usize).div_ceil(8);
        prop_assert_eq!(&back.args[..words], &kept(&m.args, m.arg_len)[..words]);
        prop_assert!(back.args[words..].iter().all(|word| *word == 7), "nothing behind the arguments");
    }

    /// Any header over any room: refused, or within the limits and the room, and written back as it came.
    #[test]
    fn any_header_is_taken_or_refused(
        (step, flags, steps, state_len, reply_max) in (0u8..8, any::<u8>(), any::<u8>(), 0u8..24, 0u8..140),
        (code, arg_len, reply_len) in (any::<u32>(), 0u16..1200, 0u16..1100), room in vec(any::<u8>(), 0..2400),
    ) {
        let room_len = (room.len() / 8 * 8) as u16;
        let message =
            Message { step, flags, steps, code, state_len, reply_max, arg_len, reply_len, room: room_len, ..Default::default() };
        let room = &room[..usize::from(room_len)];
        match Carried::decode(&message, room) {
            Ok(carried) => {
                prop_assert!(carried.room() <= room.len() && carried.args().len() <= ARGS_BYTES);
                prop_assert!(carried.reply().len() <= carried.reply_max() && carried.reply_max() <= REPLY_BYTES);
                prop_assert!(carried.state().len() <= STATE_BYTES);
                prop_assert_eq!(carried.body(), &room[..carried.body().len()]);
                let mut written = Message { room: room_len, ..Message::default() };
                carried.fill(&mut written);
                prop_assert_eq!(written, Message { flags: MESSAGE_CARRIED, ..message });
            }
            Err(error) => {
                prop_assert_eq!(error, Malformed::Message);
                let parts = Carried::bytes(usize::from(arg_len), usize::from(state_len), usize::from(reply_len));
                prop_assert!(
                    flags & MESSAGE_CARRIED == 0
                        || !(1..=4).contains(&step)
                        || usize::from(arg_len) > ARGS_BYTES
                        || state_len > 16
                        || usize::from(reply_max) > REPLY_BYTES / 8
                        || usize::from(reply_len) > usize::from(reply_max) * 8
                        || parts.max(usize::from(reply_max) * 8) > room.len()
                );
            }
        }
    }

    /// What a handler left beyond the limits is not carried, and never panics.
    #[test]
    fn what_cannot_be_carried_is_not_cut(
        m in message(), (arg_len, reply_len, reply_max) in any::<(u32, u32, u32)>(),
        (steps, state_len, buffer) in (any::<u32>(), any::<usize>(), 0usize..2400), step in 0u32..6,
    ) {
        let mut buffer = vec![0; buffer];
        let step = Step::from_code(step).expect("a step");
        let op = OPS.contains(&step);
        let cut = |m: &NaamMsg, steps, state_len, buffer: &mut [u8]| Carried::cut(m, step, steps, state_len, buffer).is_some();
        let len = Carried::bytes(m.arg_len as usize, 3, m.reply_len as usize);
        prop_assert_eq!(cut(&m, 9, 3, &mut buffer), op && buffer.len() >= len);
        let mut buffer = [0; CARRIED_BYTES_MAX];
        prop_assert_eq!(cut(&m, steps, 3, &mut buffer), op && steps <= STEPS_TOTAL_MAX);
        prop_assert_eq!(cut(&m, 9, state_len, &mut buffer), op && state_len <= 16);
        let other = NaamMsg { arg_len, ..m.clone() };
        prop_assert_eq!(cut(&other, 9, 3, &mut buffer), op && arg_len as usize <= ARGS_BYTES);
        let other = NaamMsg { reply_len, ..m.clone() };
        prop_assert_eq!(cut(&other, 9, 3, &mut buffer), op && reply_len <= m.reply_max);
        let other = NaamMsg { reply_max, ..m.clone() };
        let kept = reply_max / 8 * 8;
        prop_assert_eq!(cut(&other, 9, 3, &mut buffer), op && kept >= m.reply_len && kept as usize <= REPLY_BYTES);
    }
}

/// The very bytes, so that no change of the code changes the wire unseen.
#[test]
fn golden_bytes() {
    let mut m = NaamMsg {
        op_offset: 0x0807_0605_0403_0201,
        op_value: 0x1817_1615_1413_1211,
        op_expect: 0x2827_2625_2423_2221,
        op_region: 0x3433_3231,
        op_len: 0x4443_4241,
        op_source: 0x5453_5251,
        op_done: 0,
        code: 0x6463_6261,
        arg_len: 11,
        reply_len: 3,
        reply_max: 24,
        ..NaamMsg::ZERO
    };
    m.args[0] = u64::from_le_bytes(*b"argument");
    m.args[1] = u64::from_le_bytes([b's', b'!', b'?', 0xff, 0xff, 0xff, 0xff, 0xff]);
    m.state[0] = 0x7877_7675_7473_7271;
    m.state[1] = 0x8887_8685_8483_8281;
    m.state[2] = u64::MAX;
    m.reply[0] = u64::from_le_bytes([b'r', b'e', b'p', 0xff, 0xff, 0xff, 0xff, 0xff]);
    let mut buffer = [0xff; CARRIED_BYTES_MAX];
    let cut = Carried::cut(&m, Step::Cas, 5, 2, &mut buffer).expect("carried");
    let mut header =
        Message { request: 1, sequence: 2, slot: 3, hops: 4, room: 8, sent: 0xaabb_ccdd, ..Message::default() };
    cut.fill(&mut header);
    let mut wire = vec![0; MESSAGE_BYTES];
    header.encode(&mut wire);
    wire.extend(cut.body());
    #[rustfmt::skip]
    let golden = [
        1, 0, 0, 0,  0x61, 0x62, 0x63, 0x64,  2, 0, 0, 0,  3, 0,  0, 0,  // request, code, sequence, slot, status
        3, 2, 5, 4,  11, 0,  3, 0,  80, 0,  2, 3,  0xdd, 0xcc, 0xbb, 0xaa, // step, flags, steps, hops, lengths, sent
        b'a', b'r', b'g', b'u', b'm', b'e', b'n', b't',  b's', b'!', b'?', 0, 0, 0, 0, 0,
        0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,  0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18,
        0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28,  0x31, 0x32, 0x33, 0x34,  0x41, 0x42, 0x43, 0x44,
        0x51, 0x52, 0x53, 0x54,  1, 0, 0, 0,
        0x71, 0x72, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78,  0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88,
        b'r', b'e', b'p', 0, 0, 0, 0, 0,
    ];
    assert_eq!(wire, golden);
    assert_eq!(usize::from(header.room), wire.len() - MESSAGE_BYTES);
}
