//! The way of a message through the core allocates nothing.

mod model;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use model::{ARGS, Host, READ, WRITE};
use naam_client::{Call, Core, Function, Options, Shard};

/// Counts what the thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator; the counter is plain thread-local data.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn submit_pack_match_and_retry_do_not_allocate() {
    let mut now = 1_000_000_000;
    let mut core = Core::new(model::session(), &Options { window: 64, ..Options::default() }, 1472, now);
    let mut host = Host::new();
    let mut buffer = [0; 1472];
    let (mut ended, mut inside) = (0, 0);
    for round in 0..1_000u64 {
        let before = ALLOCATIONS.get();
        for i in 0..32u16 {
            let function = Function { number: if i % 2 == 0 { READ } else { WRITE } };
            let args = [i as u8; ARGS];
            core.submit(&Call::new(function, &args).shard(Shard::Number(i % 3)), now).unwrap();
        }
        inside += ALLOCATIONS.get() - before;
        loop {
            let before = ALLOCATIONS.get();
            let sent = core.transmit(now, &mut buffer);
            inside += ALLOCATIONS.get() - before;
            let Some(out) = sent else {
                if core.in_flight() == 0 {
                    break;
                }
                // What was lost is sent again.
                now += 10_000_000;
                let before = ALLOCATIONS.get();
                core.tick(now, &mut |_| ended += 1);
                inside += ALLOCATIONS.get() - before;
                continue;
            };
            // The model allocates; only the core's share counts.
            host.serve(&mut buffer[..out.len], now, 1, false).unwrap();
            if (round + u64::from(out.port)).is_multiple_of(7) && now.is_multiple_of(3) {
                continue;
            }
            let before = ALLOCATIONS.get();
            core.receive(now, &buffer[..out.len], &mut |_| ended += 1);
            inside += ALLOCATIONS.get() - before;
        }
        now += 1_000;
    }
    assert_eq!((ended, core.stats().succeeded), (32_000, 32_000));
    assert!(core.stats().retries > 0);
    assert_eq!(inside, 0, "allocations");
}
