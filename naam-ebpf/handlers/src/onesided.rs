//! The built-in one-sided functions: what a client does to a region without a handler of the app's own.
//!
//! Numbers, arguments, replies: [`naam_abi::onesided`]. Nothing here is privileged: what makes these functions safe to
//! offer is that the shell checks their ops against raw rights.

use naam_abi::limits::ARGS_BYTES;
use naam_abi::onesided::{
    BAD_ARGUMENTS, CHAIN_HEAD_BYTES, CHAIN_OP_BYTES, CHAIN_OPS_MAX, CHAIN_REPLY_BYTES, HEAD_BYTES, OTHER_WORD,
    READ_BYTES_MAX, WRITE_BYTES_MAX,
};
use naam_handler::{Msg, Step, View1k, View64, opaque};

/// Bytes of READ's reply.
pub const READ_REPLY_MAX: usize = READ_BYTES_MAX;
/// Bytes of WRITE's reply.
pub const WRITE_REPLY_MAX: usize = 0;
/// Bytes of CAS's reply.
pub const CAS_REPLY_MAX: usize = 8;
/// Bytes of FAA's reply.
pub const FAA_REPLY_MAX: usize = 8;
/// Bytes of a chain's reply.
pub const CHAIN_REPLY_MAX: usize = CHAIN_REPLY_BYTES;

/// The region, and the length that stands beside it.
#[inline(always)]
fn head(m: &Msg) -> (u32, u32) {
    (m.args[0] as u32, (m.args[0] >> 32) as u32)
}

/// READ. The state tells the second step from the first.
#[inline(always)]
pub fn read(m: &mut Msg, v: &View1k) -> Step {
    let (region, len) = head(m);
    if m.state[0] == 0 {
        if m.arg_len < HEAD_BYTES as u32 || len > m.reply_max {
            return m.fail(BAD_ARGUMENTS);
        }
        m.state[0] = 1;
        return m.read(region, m.args[1], len);
    }
    copy(m, v, len);
    m.done(0, len)
}

/// Copies the view's first `len` bytes to the reply, eight words at a time: a third of the instructions of a loop over words.
/// The words behind, up to seven, are not sent.
#[inline(always)]
fn copy(m: &mut Msg, v: &View1k, len: u32) {
    let (to, from) = (m.reply.as_chunks_mut::<8>().0, v.w.as_chunks::<8>().0);
    let mut i = 0;
    while i < READ_BYTES_MAX / 64 && (i as u32 * 64) < len {
        for word in 0..8 {
            to[i][word] = opaque(from[i][word]);
        }
        i += 1;
    }
}

/// WRITE.
#[inline(always)]
pub fn write(m: &mut Msg, _: &View64) -> Step {
    let (region, len) = head(m);
    if m.state[0] == 0 {
        let short = m.arg_len < HEAD_BYTES as u32 || m.arg_len - (HEAD_BYTES as u32) < len;
        if short || len > WRITE_BYTES_MAX as u32 {
            return m.fail(BAD_ARGUMENTS);
        }
        m.state[0] = 1;
        return m.write(region, m.args[1], HEAD_BYTES as u32, len);
    }
    m.done(0, 0)
}

/// CAS.
#[inline(always)]
pub fn cas(m: &mut Msg, _: &View64) -> Step {
    if m.state[0] == 0 {
        if m.arg_len < HEAD_BYTES as u32 + 16 {
            return m.fail(BAD_ARGUMENTS);
        }
        m.state[0] = 1;
        return m.cas(head(m).0, m.args[1], m.args[2], m.args[3]);
    }
    m.reply[0] = m.found();
    let code = if m.exchanged() { 0 } else { OTHER_WORD };
    m.done(code, CAS_REPLY_MAX as u32)
}

/// FAA.
#[inline(always)]
pub fn faa(m: &mut Msg, _: &View64) -> Step {
    if m.state[0] == 0 {
        if m.arg_len < HEAD_BYTES as u32 + 8 {
            return m.fail(BAD_ARGUMENTS);
        }
        m.state[0] = 1;
        return m.faa(head(m).0, m.args[1], m.args[2]);
    }
    m.reply[0] = m.found();
    m.done(0, FAA_REPLY_MAX as u32)
}

/// Word of a chain's arguments at which op `i` begins. A state that a client has made up may say any `i`.
const fn op_at(i: u64) -> u64 {
    CHAIN_HEAD_BYTES as u64 / 8 + i % (1 << 32) * (CHAIN_OP_BYTES as u64 / 8)
}

const READ: u32 = Step::Read as u32;
const WRITE: u32 = Step::Write as u32;
const CAS: u32 = Step::Cas as u32;
const FAA: u32 = Step::Faa as u32;

/// A chain. `state[0]` counts the ops asked for, `state[1]` the bytes of reply so far; both and the reply travel.
#[inline(always)]
pub fn chain(m: &mut Msg, v: &View1k) -> Step {
    let asked = m.state[0];
    let count = u64::from(m.args[0] as u32);
    if asked == 0 {
        if !is_well_formed(m) {
            return m.fail(BAD_ARGUMENTS);
        }
        m.state[1] = 8;
    } else {
        let exchanged = take_result(m, v, asked - 1);
        let done = if exchanged { asked } else { asked - 1 };
        m.reply[0] = done;
        // The code of an end that the runtime makes: how many ops were done before the one it refuses.
        m.code = done as u32;
        m.reply_len = m.state[1] as u32;
        if !exchanged {
            return m.done(OTHER_WORD, m.state[1] as u32);
        }
        if asked >= count {
            return m.done(0, m.state[1] as u32);
        }
    }
    m.state[0] = asked.wrapping_add(1);
    let at = op_at(asked);
    let (kind, region) = (m.arg(at) as u32, (m.arg(at) >> 32) as u32);
    let (offset, a, b) = (m.arg(at + 1), m.arg(at + 2), m.arg(at + 3));
    match kind {
        READ => m.read(region, offset, a as u32),
        WRITE => m.write(region, offset, b as u32, a as u32),
        CAS => m.cas(region, offset, a, b),
        FAA => m.faa(region, offset, a),
        _ => m.fail(BAD_ARGUMENTS),
    }
}

/// Whether every op can be asked for, and the reply fits. Places and rights are the runtime's to check.
#[inline(always)]
fn is_well_formed(m: &Msg) -> bool {
    let count = u64::from(m.args[0] as u32);
    let ops_end = (CHAIN_HEAD_BYTES as u64) + count * CHAIN_OP_BYTES as u64;
    let args_end = u64::from(m.arg_len);
    if count == 0 || count > CHAIN_OPS_MAX as u64 || args_end < ops_end || args_end > ARGS_BYTES as u64 {
        return false;
    }
    let mut reply = 8;
    for i in 0..CHAIN_OPS_MAX as u64 {
        if i >= count {
            break;
        }
        let at = op_at(i);
        let (kind, a, b) = (m.arg(at) as u32, m.arg(at + 2), m.arg(at + 3));
        let result = match kind {
            READ => a,
            WRITE if a <= args_end && b >= ops_end && b <= args_end - a => 0,
            CAS | FAA => 8,
            _ => return false,
        };
        if result > CHAIN_REPLY_BYTES as u64 {
            return false;
        }
        reply += result;
    }
    reply <= CHAIN_REPLY_BYTES as u64 && reply <= u64::from(m.reply_max)
}

/// Puts the result of op `i` behind those before it; false if the op was a CAS that found another word.
#[inline(always)]
fn take_result(m: &mut Msg, v: &View1k, i: u64) -> bool {
    let at = op_at(i);
    let (kind, len) = (m.arg(at) as u32, m.arg(at + 2));
    let word = m.state[1] / 8;
    if kind == READ {
        let mut i = 0;
        while i < CHAIN_REPLY_BYTES / 8 && (i as u64) < len / 8 {
            m.set_reply(word.wrapping_add(i as u64), v.w[i]);
            i += 1;
        }
        m.state[1] = m.state[1].wrapping_add(len);
    } else if kind == CAS || kind == FAA {
        m.set_reply(word, m.found());
        m.state[1] = m.state[1].wrapping_add(8);
    }
    kind != CAS || m.exchanged()
}

#[cfg(test)]
mod tests {
    use naam_abi::onesided::{self, Op};
    use naam_abi::wire::Status;
    use naam_handler::View;
    use naam_handler::native::{self, Memory, request, run};

    use super::*;

    fn memory() -> Memory {
        let memory = Memory::new(&[2 << 20, 4096]);
        (0..512).for_each(|word| memory.write(1, word * 8, word + 1000));
        memory
    }

    /// Status, code, words of the reply.
    fn call<V: View>(step: fn(&mut Msg, &V) -> Step, args: &[u8], memory: &Memory) -> (Status, u32, Vec<u64>) {
        let mut m = request(args);
        let status = run(step, &mut m, memory);
        let words = native::reply(&m).chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
        (status, m.code, if status == Status::Ok { words } else { vec![] })
    }

    fn chained(ops: &[Op<'_>], memory: &Memory) -> (Status, u32, Vec<u64>) {
        let mut args = [0; ARGS_BYTES];
        let len = onesided::chain_args(ops, &mut args).unwrap();
        call(chain, &args[..len], memory)
    }

    #[test]
    fn single_ops_do_what_they_say() {
        let memory = memory();
        let (status, _, words) = call(read, &onesided::read_args(1, 80, 1024), &memory);
        assert_eq!((status, words), (Status::Ok, (1010..1138).collect()));
        let mut args = [0; ARGS_BYTES];
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let len = onesided::write_args(0, 160, &bytes, &mut args).unwrap();
        assert_eq!(call(write, &args[..len], &memory), (Status::Ok, 0, vec![]));
        let (_, _, words) = call(read, &onesided::read_args(0, 152, 1016), &memory);
        let written: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!((&written[..8], &written[8..1008], &written[1008..]), (&[0; 8][..], &bytes[..], &[0; 8][..]));
        assert_eq!(call(cas, &onesided::cas_args(1, 0, 1000, 5), &memory), (Status::Ok, 0, vec![1000]));
        assert_eq!(call(cas, &onesided::cas_args(1, 0, 1000, 6), &memory), (Status::Ok, OTHER_WORD, vec![5]));
        assert_eq!(call(faa, &onesided::faa_args(1, 0, u64::MAX), &memory), (Status::Ok, 0, vec![5]));
        assert_eq!(memory.read(1, 0), 4);
    }

    #[test]
    fn edges_and_lies_end_with_a_reason() {
        let memory = memory();
        let status = |outcome: (Status, u32, Vec<u64>)| (outcome.0, outcome.1);
        for (offset, len, expected) in [
            (4096 - 1024, 1024, Status::Ok),
            (4096 - 1016, 1024, Status::Bounds),
            (4096, 8, Status::Bounds),
            (u64::MAX - 7, 8, Status::Bounds),
            (4, 8, Status::BadStep),
            (0, 0, Status::BadStep),
            (0, 12, Status::BadStep),
        ] {
            assert_eq!(call(read, &onesided::read_args(1, offset, len), &memory).0, expected, "{offset} {len}");
        }
        assert_eq!(status(call(read, &onesided::read_args(1, 0, 1032), &memory)), (Status::Failed, BAD_ARGUMENTS));
        assert_eq!(call(read, &onesided::read_args(2, 0, 8), &memory).0, Status::NoRegion);
        let mut short = onesided::read_args(0, 0, 16).to_vec();
        short.extend([0; 8]);
        assert_eq!(status(call(write, &short, &memory)), (Status::Failed, BAD_ARGUMENTS));
        let mut long = onesided::read_args(0, 0, 1008).to_vec();
        long.resize(ARGS_BYTES, 0);
        assert_eq!(status(call(write, &long, &memory)), (Status::Failed, BAD_ARGUMENTS));
        assert_eq!(status(call(read, &[0; 15], &memory)), (Status::Failed, BAD_ARGUMENTS));
        assert_eq!(status(call(cas, &[0; 31], &memory)), (Status::Failed, BAD_ARGUMENTS));
        assert_eq!(status(call(faa, &[0; 23], &memory)), (Status::Failed, BAD_ARGUMENTS));
        assert!(memory.words(0).iter().all(|word| word.load(std::sync::atomic::Ordering::Relaxed) == 0));
    }

    #[test]
    fn chains_stop_at_the_first_failure() {
        let memory = memory();
        let lock = Op::Cas { region: 0, offset: 0, expect: 0, new: 7 };
        let ops = [
            lock,
            Op::Write { region: 0, offset: 64, bytes: &[3; 16] },
            Op::Read { region: 0, offset: 56, len: 24 },
            Op::Faa { region: 1, offset: 8, addend: 1 },
        ];
        let three = u64::from_le_bytes([3; 8]);
        assert_eq!(chained(&ops, &memory), (Status::Ok, 0, vec![4, 0, 0, three, three, 1001]));
        // Again: the lock is held, so nothing else happens.
        assert_eq!(chained(&ops, &memory), (Status::Ok, OTHER_WORD, vec![0, 7]));
        assert_eq!(memory.read(1, 8), 1002);
        let late = [Op::Faa { region: 1, offset: 8, addend: 1 }, lock, ops[3]];
        assert_eq!(chained(&late, &memory), (Status::Ok, OTHER_WORD, vec![1, 1002, 7]));
        // An op that the runtime refuses: the code says how many were done.
        let outside = [ops[3], ops[3], Op::Read { region: 1, offset: 4096, len: 8 }, ops[3]];
        assert_eq!(chained(&outside, &memory), (Status::Bounds, 2, vec![]));
        assert_eq!(memory.read(1, 8), 1005);
    }

    #[test]
    fn malformed_chains_do_nothing() {
        let memory = memory();
        let faa = Op::Faa { region: 0, offset: 0, addend: 1 };
        let mut good = [0; ARGS_BYTES];
        let ops =
            [faa, Op::Write { region: 0, offset: 8, bytes: &[9; 8] }, Op::Read { region: 0, offset: 0, len: 224 }];
        let len = onesided::chain_args(&ops, &mut good).unwrap();
        let with = |at: usize, word: u64| {
            let mut args = good[..len].to_vec();
            args[at..at + 8].copy_from_slice(&word.to_le_bytes());
            args
        };
        // Byte of the arguments, the word that goes there.
        let lies = [
            (0, 0),
            (0, 4),
            (0, 5),
            (0, u64::from(u32::MAX)),
            (8, 0),
            (40, 5),
            (8, u64::from(u32::MAX)),
            (56, 16),
            (56, u64::MAX),
            (64, 96),
            (64, len as u64),
            (64, u64::MAX - 7),
            (88, 232),
            (88, 1 << 32),
            (88, u64::MAX),
        ];
        for (at, word) in lies {
            let (status, code, _) = call(chain, &with(at, word), &memory);
            assert_eq!((status, code), (Status::Failed, BAD_ARGUMENTS), "{word} at {at}");
        }
        assert_eq!(call(chain, &good[..103], &memory).0, Status::Failed);
        assert_eq!(call(chain, &[], &memory).0, Status::Failed);
        let mut m = request(&good[..len]);
        m.reply_max = 232;
        assert_eq!(run(chain, &mut m, &memory), Status::Failed, "too little room");
        assert_eq!(memory.read(0, 0), 0);
        assert_eq!(call(chain, &good[..len], &memory).2.len(), 30);
    }
}
