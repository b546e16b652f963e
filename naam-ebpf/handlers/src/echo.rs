//! Replies with its arguments.

use naam_abi::limits::REPLY_BYTES;
use naam_handler::{Msg, Step, View64};

/// Longest reply: arguments behind it are left out.
pub const REPLY_MAX: usize = REPLY_BYTES;

/// The only step.
#[inline(always)]
pub fn step(m: &mut Msg, _: &View64) -> Step {
    let mut len = m.arg_len;
    if len > m.reply_max {
        len = m.reply_max;
    }
    if len > REPLY_MAX as u32 {
        len = REPLY_MAX as u32;
    }
    m.reply_from_args(u64::from(len).div_ceil(8));
    m.done(0, len)
}

#[cfg(test)]
mod tests {
    use naam_abi::wire::Status;
    use naam_handler::native::{Memory, reply, request, run};

    use super::*;

    #[test]
    fn replies_with_its_arguments_as_far_as_there_is_room() {
        let memory = Memory::new(&[]);
        for (len, room) in [(0, 1024), (1, 1024), (8, 1024), (1023, 1024), (1024, 1024), (1088, 1024), (100, 40)] {
            let args: Vec<u8> = (0..len).map(|i| i as u8 ^ 0x5a).collect();
            let mut m = request(&args);
            m.reply_max = room;
            assert_eq!(run(step, &mut m, &memory), Status::Ok);
            assert_eq!(reply(&m), args[..len.min(room as usize)], "{len} bytes of arguments, room for {room}");
        }
    }
}
