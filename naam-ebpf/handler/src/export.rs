//! From a step function to a handler object.

use naam_abi::handler::{META_WRITES, Meta, NaamMsg, Step};
use naam_abi::limits::SLOT_REPLY_BYTES;

use crate::Msg;

/// Calls `step` with checked pointers; what [`handler!`](crate::handler) exports.
///
/// # Safety
/// Each pointer is null, or valid for the call: `message` exclusively, `view` for reads.
#[inline(always)]
pub unsafe fn entry<V>(message: *mut NaamMsg, view: *const V, step: impl Fn(&mut Msg, &V) -> Step) -> u32 {
    // SAFETY: `Msg` is a transparent wrapper; the caller vouches for the pointer.
    let message = unsafe { message.cast::<Msg>().as_mut() };
    // SAFETY: the caller vouches for the pointer.
    let view = unsafe { view.as_ref() };
    match (message, view) {
        (Some(message), Some(view)) => step(message, view) as u32,
        _ => Step::Fail as u32,
    }
}

/// The description that [`handler!`](crate::handler) puts into its section.
///
/// # Panics
/// At compile time, if a value is out of range.
pub const fn meta(name: &str, writes: bool, reply_max: usize, state_len: usize) -> Meta {
    assert!(!writes || reply_max <= SLOT_REPLY_BYTES, "the reply of a writing handler is cached for retries");
    Meta::new(name, if writes { META_WRITES } else { 0 }, reply_max as u32, state_len as u32)
}

/// Makes a handler object of the binary it stands in.
///
/// | field | |
/// |---|---|
/// | `name` | the handler's name, an identifier of at most 31 bytes |
/// | `view` | `View64` or `View1k` |
/// | `writes` | whether the handler may WRITE, CAS or FAA; the runtime holds it to that |
/// | `reply_max` | longest reply in bytes, a multiple of 8, at most 1,024 (240 if it writes) |
/// | `state_len` | bytes of state in use between steps, a multiple of 8, at most 128 |
/// | `step` | `fn(&mut Msg, &View) -> Step` |
///
/// On the BPF target it exports the global function and the `.naam` section. On any other it makes
/// a program that prints what the section says.
#[macro_export]
macro_rules! handler {
    (
        name = $name:ident, view = $view:ident, writes = $writes:literal, reply_max = $reply_max:expr,
        state_len = $state_len:expr, step = $step:path $(,)?
    ) => {
        /// What the loader reads before it looks at an instruction.
        #[used]
        #[unsafe(no_mangle)]
        #[unsafe(link_section = ".naam")]
        pub static NAAM: $crate::Meta = $crate::meta(::core::stringify!($name), $writes, $reply_max, $state_len);

        /// One step of the handler.
        ///
        /// # Safety
        /// Each pointer is null, or valid for the call: `message` exclusively, `view` for reads.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(message: *mut $crate::NaamMsg, view: *const $crate::$view) -> u32 {
            // SAFETY: passed on from the caller.
            unsafe { $crate::entry(message, view, $step) }
        }

        #[cfg(target_arch = "bpf")]
        #[panic_handler]
        fn panic(_: &::core::panic::PanicInfo) -> ! {
            loop {}
        }

        #[cfg(not(target_arch = "bpf"))]
        fn main() {
            ::std::println!("{}", $crate::native::describe(&NAAM, <$crate::$view as $crate::View>::BYTES));
        }
    };
}
