//! The frame at hand, at XDP or TC.

use aya_ebpf::{
    bindings::{__sk_buff, BPF_F_INVALIDATE_HASH, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action, xdp_md},
    btf_maps::ProgramArray,
    helpers::generated::{
        bpf_redirect, bpf_skb_load_bytes, bpf_skb_pull_data, bpf_skb_store_bytes, bpf_tail_call, bpf_xdp_load_bytes,
        bpf_xdp_store_bytes,
    },
};
use core::{arch::asm, ffi::c_void};
use naam_abi::{limits::PROGRAMS_MAX, tables::InterfaceWord};

use crate::{maps, opaque::opaque};

/// Furthest byte of a frame that the shell looks at; one less than a power of two, as a mask.
const REACH: u64 = 0xfff;

/// What a program returns to the kernel.
pub type Verdict = i32;

/// A frame with its hook. Pointers into it are made anew at every access: the verifier forgets
/// them at each helper that may move the packet.
pub trait Frame: Copy {
    /// Handler programs of this hook.
    const PROGRAMS: &'static ProgramArray<PROGRAMS_MAX>;
    /// Not ours: the network stack goes on with it.
    const PASS: Verdict;
    /// Ours, and ends here.
    const DROP: Verdict;
    /// Whether a checksum still to be filled in at arrival is filled in when the frame leaves.
    const KEEPS_PARTIAL_CHECKSUM: bool;

    /// Address of the first byte.
    fn start(self) -> usize;
    /// Address behind the last byte that can be accessed directly.
    fn end(self) -> usize;
    /// Bytes of the whole frame, directly accessible or not.
    fn length(self) -> u64;
    /// The kernel's context.
    fn context(self) -> *mut c_void;
    /// Makes the first `bytes` bytes directly accessible, as far as the frame has them.
    fn reach(self, bytes: u32);
    /// Whether the frame's destination is the interface that it came by. A switch floods, and an
    /// interface may listen to everything.
    fn is_to_this_interface(self) -> bool;
    /// Makes the first `bytes` bytes directly accessible and writable; false if the kernel cannot.
    fn linear(self, bytes: u32) -> bool;
    /// Copies `len` bytes at `at` to `to`; false if the frame is shorter.
    ///
    /// # Safety
    /// `to` has room for `len` bytes.
    unsafe fn load(self, at: u32, to: *mut u8, len: u32) -> bool;
    /// Copies `len` bytes from `from` to `at`; false if the frame is shorter.
    ///
    /// # Safety
    /// `len` bytes can be read at `from`.
    unsafe fn store(self, at: u32, from: *const u8, len: u32) -> bool;
    /// Sends the frame out of the interface that it came from.
    fn transmit(self) -> Verdict;

    /// A pointer to `len` bytes at `at`, if the frame has them.
    #[inline(always)]
    fn bytes(self, at: u64, len: usize) -> Option<*mut u8> {
        let at = opaque(at) & REACH;
        let pointer = self.start() + at as usize;
        if pointer + len > self.end() { None } else { Some(pointer as *mut u8) }
    }

    /// The frame's bytes from `at` on, to be taken word by word.
    #[inline(always)]
    fn words(self, at: u64) -> FrameWords {
        let at = opaque(at) & REACH;
        FrameWords { start: self.start() + at as usize, end: self.end() }
    }

    /// Goes on in handler program `index`; returns only if there is none.
    ///
    /// The first places are named by constants: the kernel turns such calls into direct jumps, where
    /// others are indirect ones, with all that guards those against speculation.
    #[inline(always)]
    fn tail_call(self, index: u32) {
        let programs: *const _ = Self::PROGRAMS;
        macro_rules! places {
            ($($place:literal)*) => {
                match index {
                    $($place => {
                        // SAFETY: as below; the instruction is `bpf_tail_call`, whose third argument has to be a
                        // constant on every way there. LLVM would join the calls.
                        unsafe {
                            asm!(
                                concat!("r3 = ", $place), "call 12", in("r1") self.context(), in("r2") programs,
                                lateout("r0") _, lateout("r1") _, lateout("r2") _, lateout("r3") _, lateout("r4") _,
                                lateout("r5") _,
                            );
                        }
                        return;
                    })*
                    _ => {}
                }
            };
        }
        places!(0 1 2 3 4 5 6 7);
        // SAFETY: a program array of this hook's program type.
        unsafe { bpf_tail_call(self.context(), programs.cast_mut().cast(), index) };
    }
}

/// Words of a frame from one place on. One pointer serves them all: the verifier learns from every
/// check how far it reaches.
#[derive(Clone, Copy)]
pub struct FrameWords {
    start: usize,
    end: usize,
}

impl FrameWords {
    /// A pointer to word `i`, if the frame has it.
    #[inline(always)]
    pub fn word(self, i: usize) -> Option<*mut u64> {
        if self.start + (i + 1) * 8 > self.end { None } else { Some((self.start + i * 8) as *mut u64) }
    }
}

/// A frame at XDP.
#[derive(Clone, Copy)]
pub struct XdpFrame(pub *mut xdp_md);

impl Frame for XdpFrame {
    const PROGRAMS: &'static ProgramArray<PROGRAMS_MAX> = &maps::PROGRAMS;
    const PASS: Verdict = xdp_action::XDP_PASS as Verdict;
    const DROP: Verdict = xdp_action::XDP_DROP as Verdict;
    const KEEPS_PARTIAL_CHECKSUM: bool = false;

    #[inline(always)]
    fn start(self) -> usize {
        // SAFETY: the kernel's context, valid while the program runs.
        unsafe { (*self.0).data as usize }
    }

    #[inline(always)]
    fn end(self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).data_end as usize }
    }

    #[inline(always)]
    fn length(self) -> u64 {
        (self.end() - self.start()) as u64
    }

    #[inline(always)]
    fn context(self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn reach(self, _bytes: u32) {}

    #[inline(always)]
    fn is_to_this_interface(self) -> bool {
        let Some(ethernet) = self.bytes(0, 8) else { return false };
        // SAFETY: 8 bytes were checked; the first 6 are the destination.
        let destination = unsafe { ethernet.cast::<u64>().read_unaligned() };
        // SAFETY: the kernel's context, valid while the program runs.
        let index = unsafe { (*self.0).ingress_ifindex };
        let Some(word) = maps::INTERFACES.get_ptr(InterfaceWord::place(index)) else { return true };
        // SAFETY: an array's value lives as long as the map; read once, because the daemon may write it.
        InterfaceWord(unsafe { word.read_volatile() }).takes(index, destination)
    }

    #[inline(always)]
    fn linear(self, _bytes: u32) -> bool {
        true
    }

    #[inline(always)]
    unsafe fn load(self, at: u32, to: *mut u8, len: u32) -> bool {
        // SAFETY: the caller vouches for `to`.
        unsafe { bpf_xdp_load_bytes(self.0, at, to.cast(), len) == 0 }
    }

    #[inline(always)]
    unsafe fn store(self, at: u32, from: *const u8, len: u32) -> bool {
        // SAFETY: the caller vouches for `from`.
        unsafe { bpf_xdp_store_bytes(self.0, at, from.cast_mut().cast(), len) == 0 }
    }

    #[inline(always)]
    fn transmit(self) -> Verdict {
        xdp_action::XDP_TX as Verdict
    }
}

/// A frame at TC ingress.
#[derive(Clone, Copy)]
pub struct TcFrame(pub *mut __sk_buff);

impl Frame for TcFrame {
    const PROGRAMS: &'static ProgramArray<PROGRAMS_MAX> = &maps::PROGRAMS_TC;
    // Not OK: that would end classification, and filters behind ours would never see the frame.
    const PASS: Verdict = TC_ACT_UNSPEC;
    const DROP: Verdict = TC_ACT_SHOT as Verdict;
    const KEEPS_PARTIAL_CHECKSUM: bool = true;

    #[inline(always)]
    fn start(self) -> usize {
        // SAFETY: the kernel's context, valid while the program runs.
        unsafe { (*self.0).data as usize }
    }

    #[inline(always)]
    fn end(self) -> usize {
        // SAFETY: as above.
        unsafe { (*self.0).data_end as usize }
    }

    #[inline(always)]
    fn length(self) -> u64 {
        // SAFETY: the kernel's context, valid while the program runs.
        u64::from(unsafe { (*self.0).len })
    }

    #[inline(always)]
    fn context(self) -> *mut c_void {
        self.0.cast()
    }

    #[inline(always)]
    fn reach(self, bytes: u32) {
        // Drivers may leave even the headers of IP in a page of their own.
        if self.start() + bytes as usize > self.end() && self.length() >= u64::from(bytes) {
            // SAFETY: the kernel's context. What cannot be reached is not ours.
            unsafe { bpf_skb_pull_data(self.0, bytes) };
        }
    }

    #[inline(always)]
    fn is_to_this_interface(self) -> bool {
        /// The driver found its own address in the frame.
        const PACKET_HOST: u32 = 0;
        // SAFETY: the kernel's context, valid while the program runs.
        unsafe { (*self.0).pkt_type == PACKET_HOST }
    }

    #[inline(always)]
    fn linear(self, bytes: u32) -> bool {
        // SAFETY: the kernel's context.
        unsafe { bpf_skb_pull_data(self.0, bytes) == 0 }
    }

    #[inline(always)]
    unsafe fn load(self, at: u32, to: *mut u8, len: u32) -> bool {
        // SAFETY: the caller vouches for `to`.
        unsafe { bpf_skb_load_bytes(self.0.cast(), at, to.cast(), len) == 0 }
    }

    #[inline(always)]
    unsafe fn store(self, at: u32, from: *const u8, len: u32) -> bool {
        // SAFETY: the caller vouches for `from`.
        unsafe { bpf_skb_store_bytes(self.0, at, from.cast(), len, u64::from(BPF_F_INVALIDATE_HASH)) == 0 }
    }

    #[inline(always)]
    fn transmit(self) -> Verdict {
        // SAFETY: the kernel's context and a plain helper.
        unsafe { bpf_redirect((*self.0).ifindex, 0) as Verdict }
    }
}
