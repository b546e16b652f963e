//! Follows a linked list in region 0. A node has 64 bytes: `u64` offset of the next, then values.
//!
//! | arguments | reply |
//! |---|---|
//! | `u64` offset of the first node, `u64` hops | the last node's 64 bytes, `u64` its offset |
//!
//! At most [`HOPS_MAX`] hops: a visit has 32 steps, one of which replies.

use naam_abi::limits::STEPS_MAX;
use naam_handler::{Msg, Step, View64};

/// Bytes of a node.
pub const NODE_BYTES: u64 = 64;
/// Bytes of the reply.
pub const REPLY_MAX: usize = 72;
/// Most hops of one message.
pub const HOPS_MAX: u64 = STEPS_MAX as u64 - 2;
/// [`NaamMsg::code`](naam_handler::NaamMsg::code) of a message with fewer than 16 bytes of arguments or too many hops.
pub const BAD_ARGUMENTS: u32 = 1;

/// One step: read the node that the last one names. `state[0]` counts the nodes read.
#[inline(always)]
pub fn step(m: &mut Msg, v: &View64) -> Step {
    let nodes = m.state[0];
    if nodes == 0 {
        if m.arg_len < 16 || m.args[1] > HOPS_MAX {
            return m.fail(BAD_ARGUMENTS);
        }
        m.state[0] = 1;
        return m.read(0, m.args[0], NODE_BYTES as u32);
    }
    if nodes <= m.args[1] {
        m.state[0] = nodes.wrapping_add(1);
        return m.read(0, v.w[0], NODE_BYTES as u32);
    }
    m.reply_from(&v.w, 8);
    m.reply[8] = m.op_offset;
    m.done(0, REPLY_MAX as u32)
}

/// The arguments.
pub fn arguments(offset: u64, hops: u64) -> [u8; 16] {
    let mut args = [0; 16];
    args[..8].copy_from_slice(&offset.to_le_bytes());
    args[8..].copy_from_slice(&hops.to_le_bytes());
    args
}

#[cfg(test)]
mod tests {
    use naam_abi::wire::Status;
    use naam_handler::native::{Memory, Progress, Visit, request, run};

    use super::*;

    /// A ring of `nodes` nodes; node `i` has value `i` and stands at a place that is not in order.
    fn ring(nodes: u64) -> (Memory, impl Fn(u64) -> u64) {
        let memory = Memory::new(&[2 << 20]);
        let at = move |i: u64| (i % nodes * 37 % nodes) * NODE_BYTES;
        for i in 0..nodes {
            memory.write(0, at(i), at(i + 1));
            memory.write(0, at(i) + 8, i);
        }
        (memory, at)
    }

    #[test]
    fn follows_as_many_hops_as_a_visit_has_steps_for() {
        let (memory, at) = ring(1_000);
        for hops in [0, 1, 5, HOPS_MAX] {
            let mut m = request(&arguments(at(990), hops));
            assert_eq!(run(step, &mut m, &memory), Status::Ok);
            assert_eq!((m.reply[1], m.reply[8]), ((990 + hops) % 1_000, at(990 + hops)), "{hops} hops");
        }
        assert_eq!(run(step, &mut request(&arguments(0, HOPS_MAX + 1)), &memory), Status::Failed);
        assert_eq!(run(step, &mut request(&[0; 8]), &memory), Status::Failed);
    }

    #[test]
    fn a_message_cut_anywhere_goes_on_elsewhere() {
        let (memory, at) = ring(100);
        let mut m = request(&arguments(at(0), 9));
        let mut visit = Visit::new();
        while let Progress::Pending(op) = visit.advance(step, &mut m, &memory) {
            visit = Visit::resume(op);
        }
        assert_eq!(m.reply[1], 9);
    }

    #[test]
    fn a_list_that_leaves_the_region_ends_the_message() {
        let (memory, _) = ring(10);
        memory.write(0, 0, 1 << 40);
        assert_eq!(run(step, &mut request(&arguments(0, 1)), &memory), Status::Bounds);
    }
}
