//! Adds to a word of region 0.
//!
//! | arguments | reply |
//! |---|---|
//! | `u64` offset, `u64` addend | `u64` the word before |

use naam_handler::{Msg, Step, View64};

/// Bytes of the reply.
pub const REPLY_MAX: usize = 8;
/// [`NaamMsg::code`](naam_handler::NaamMsg::code) of a message with fewer than 16 bytes of arguments.
pub const BAD_ARGUMENTS: u32 = 1;

/// One step: ask for the addition, then reply with what it found.
#[inline(always)]
pub fn step(m: &mut Msg, _: &View64) -> Step {
    if m.state[0] == 0 {
        if m.arg_len < 16 {
            return m.fail(BAD_ARGUMENTS);
        }
        m.state[0] = 1;
        return m.faa(0, m.args[0], m.args[1]);
    }
    m.reply[0] = m.found();
    m.done(0, REPLY_MAX as u32)
}

/// The arguments.
pub fn arguments(offset: u64, addend: u64) -> [u8; 16] {
    let mut args = [0; 16];
    args[..8].copy_from_slice(&offset.to_le_bytes());
    args[8..].copy_from_slice(&addend.to_le_bytes());
    args
}

#[cfg(test)]
mod tests {
    use naam_abi::wire::Status;
    use naam_handler::native::{Memory, request, run};

    use super::*;

    #[test]
    fn no_addition_is_lost_between_threads() {
        let memory = Memory::new(&[2 << 20]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let mut m = request(&arguments(128, 3));
                        assert_eq!(run(step, &mut m, &memory), Status::Ok);
                        assert_eq!(m.reply[0] % 3, 0);
                    }
                });
            }
        });
        assert_eq!(memory.read(0, 128), 4 * 2_000 * 3);
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        let memory = Memory::new(&[2 << 20]);
        let outcome = |args: &[u8]| run(step, &mut request(args), &memory);
        assert_eq!(outcome(&[0; 15]), Status::Failed);
        assert_eq!(outcome(&arguments(2 << 20, 1)), Status::Bounds);
        assert_eq!(outcome(&arguments(u64::MAX - 7, 1)), Status::Bounds);
        assert_eq!(outcome(&arguments(4, 1)), Status::BadStep);
        assert!(memory.words(0).iter().all(|word| word.load(std::sync::atomic::Ordering::Relaxed) == 0));
    }
}
