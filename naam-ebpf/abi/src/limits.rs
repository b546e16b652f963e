//! Every bound of the system, in one place, with the relations between them asserted.

/// Messages in one datagram.
pub const MESSAGES_MAX: usize = 32;
/// Steps a message may take at one visit to a site.
pub const STEPS_MAX: u32 = 32;
/// Steps a message may take at all sites together; one that has run more is not carried on.
pub const STEPS_TOTAL_MAX: u32 = 255;
/// Sites a message may pass before it is failed.
pub const HOPS_MAX: u8 = 8;
/// Apps (tenants) of one host.
pub const APPS_MAX: usize = 64;
/// Functions of one app; 0..[`BUILTIN_FUNCTIONS`] are the runtime's own.
pub const FUNCTIONS_MAX: usize = 64;
/// Function numbers reserved for built-in one-sided operations.
pub const BUILTIN_FUNCTIONS: u16 = 16;
/// Steering units of one app.
pub const SHARDS_MAX: usize = 64;
/// Regions bound into one handler program.
pub const REGIONS_MAX: usize = 8;
/// Sessions of one host.
pub const SESSIONS_MAX: usize = 1024;
/// Request slots of one session: writing messages it may have in flight.
pub const SLOTS_MAX: usize = 64;
/// Places of a program array.
pub const PROGRAMS_MAX: usize = 4096;
/// Loaded handlers of one host, all versions together. Each has two programs a hook: one for Requests, and one for
/// Continues, which stands [`CONTINUE_OFFSET`] places behind it.
pub const HANDLERS_MAX: usize = PROGRAMS_MAX / 2;
/// From a handler's program to the one for Continues.
pub const CONTINUE_OFFSET: u32 = HANDLERS_MAX as u32;

/// Bytes of handler state that travel with a message.
pub const STATE_BYTES: usize = 128;
/// Bytes of arguments of one message: a 64 B key, a 1,000 B value and 24 B of header.
pub const ARGS_BYTES: usize = 1088;
/// Bytes of reply of one message: a 1,000 B value and 24 B of header.
pub const REPLY_BYTES: usize = 1024;
/// Bytes of reply that a writing function may return: its slot caches them for retries.
pub const SLOT_REPLY_BYTES: usize = 240;
/// Bytes of the small view.
pub const VIEW_SMALL: usize = 64;
/// Bytes of the large view.
pub const VIEW_LARGE: usize = 1024;

/// UDP payload of one datagram: fits the largest frame that native XDP on veth accepts in one page.
pub const DATAGRAM_BYTES: usize = 3424;

/// First UDP port when the configuration names none. App `a`'s shard `s` listens on
/// `base + a * SHARDS_MAX + s`; the block ends just below Linux's ephemeral ports.
pub const PORT_BASE: u16 = 28_672;
/// UDP ports of the block.
pub const PORTS: u16 = (APPS_MAX * SHARDS_MAX) as u16;

/// Places for addresses of interfaces served at XDP: an interface's index modulo this.
pub const INTERFACES_MAX: usize = 1024;
/// Receive queues of a client interface that AF_XDP serves.
pub const XSK_QUEUES_MAX: usize = 64;

/// Smallest region.
pub const REGION_BYTES_MIN: u64 = 2 << 20;
/// Largest region.
pub const REGION_BYTES_MAX: u64 = 4 << 30;
/// A region's largest map value; larger regions are slots of this size, and no object straddles two.
/// The kernel's verifier keeps pointer offsets below 2^29.
pub const REGION_VALUE_MAX: u64 = 512 << 20;

/// Bytes of one map value of a region of `bytes` bytes; `None` if no region has that size. A region
/// is one value, a power of two, up to [`REGION_VALUE_MAX`], and a number of such values above.
pub const fn region_value_len(bytes: u64) -> Option<u64> {
    if bytes < REGION_BYTES_MIN || bytes > REGION_BYTES_MAX {
        None
    } else if bytes <= REGION_VALUE_MAX {
        if bytes.is_power_of_two() { Some(bytes) } else { None }
    } else if bytes.is_multiple_of(REGION_VALUE_MAX) {
        Some(REGION_VALUE_MAX)
    } else {
        None
    }
}

/// Bytes of the name of an app or a region: what the kernel keeps of a map's name, so that bpftool
/// shows ours whole.
pub const NAME_BYTES_MAX: usize = 15;

/// Whether `name` may name an app, a region or an instance: 1 to [`NAME_BYTES_MAX`] lower-case
/// letters, digits and `_`, beginning with a letter. Such names stand unchanged in bpffs paths,
/// BTF and file names.
pub const fn is_name(name: &str) -> bool {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() > NAME_BYTES_MAX || !bytes[0].is_ascii_lowercase() {
        return false;
    }
    let mut i = 0;
    while i < bytes.len() {
        if !(bytes[i].is_ascii_lowercase() || bytes[i].is_ascii_digit() || bytes[i] == b'_') {
            return false;
        }
        i += 1;
    }
    true
}

/// Nanoseconds after which a datagram's unfinished messages are given back unfinished. Far above what honest
/// handlers need: the clock also runs while a hypervisor or an interrupt has the CPU.
pub const TIME_BUDGET_NS: u64 = 1_000_000;
/// Instructions on the longest path of one handler step, loops unrolled (admission).
pub const STEP_COST_MAX: u64 = 16_384;
/// Instructions of handlers that may run between two looks at the clock: a few hundredths of
/// [`TIME_BUDGET_NS`]. A look costs as much as a hundred instructions.
pub const CLOCK_COST: u64 = 65_536;
/// Steps between two looks at the clock at most, however little they cost: each may have performed an op, of up to some
/// 300 ns (kernel-notes/cost-of-a-message.md), which no handler's longest path has in it.
pub const CLOCK_STEPS_MAX: u32 = 256;

/// Steps between two looks at the clock, a power of two, for a handler whose steps cost at most `cost`.
pub const fn clock_steps(cost: u64) -> u32 {
    let steps = CLOCK_COST / if cost == 0 { 1 } else { cost };
    if steps < 1 {
        1
    } else if steps > CLOCK_STEPS_MAX as u64 {
        CLOCK_STEPS_MAX
    } else {
        1 << steps.ilog2()
    }
}
/// Instructions of one handler object, local functions included.
pub const HANDLER_INSNS_MAX: usize = 8_192;

const _: () = {
    assert!(PORT_BASE as u32 + PORTS as u32 <= 32_768);
    assert!(DATAGRAM_BYTES.is_multiple_of(8) && DATAGRAM_BYTES < 4096);
    assert!(crate::wire::HEADER_BYTES + crate::wire::MESSAGE_BYTES + ARGS_BYTES <= 1472);
    assert!(SLOT_REPLY_BYTES <= REPLY_BYTES);
    assert!(BUILTIN_FUNCTIONS as usize <= FUNCTIONS_MAX);
    assert!(REGION_BYTES_MAX / REGION_VALUE_MAX <= 8);
    assert!(MESSAGES_MAX.is_power_of_two());
    assert!(CLOCK_STEPS_MAX.is_power_of_two() && CLOCK_STEPS_MAX as u64 * 300 * 8 < TIME_BUDGET_NS);
    assert!(clock_steps(STEP_COST_MAX) as u64 * STEP_COST_MAX <= CLOCK_COST);
    assert!(STEPS_TOTAL_MAX >= STEPS_MAX * (HOPS_MAX as u32 - 1));
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_powers_of_two_or_many_large_values() {
        let mib = |n: u64| n << 20;
        assert_eq!(region_value_len(mib(2)), Some(mib(2)));
        assert_eq!(region_value_len(mib(512)), Some(mib(512)));
        assert_eq!(region_value_len(mib(1536)), Some(mib(512)));
        assert_eq!(region_value_len(mib(4096)), Some(mib(512)));
        for bytes in [0, mib(1), mib(3), mib(2) + 1, mib(700), mib(4608), u64::MAX] {
            assert_eq!(region_value_len(bytes), None, "{bytes}");
        }
    }

    #[test]
    fn the_clock_is_looked_at_by_cost() {
        for (cost, steps) in [(0, 256), (64, 256), (256, 256), (257, 128), (1000, 64), (STEP_COST_MAX, 4), (1 << 40, 1)]
        {
            assert_eq!(clock_steps(cost), steps, "{cost}");
        }
    }

    #[test]
    fn names_are_short_and_plain() {
        for good in ["a", "store", "mica_64", "abcdefghijklmno"] {
            assert!(is_name(good), "{good:?}");
        }
        for bad in ["", "_a", "6to4", "Store", "a-b", "a.b", "a/b", "..", "a b", "ä", "abcdefghijklmnop"] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }
}
