//! What the kernel says about XDP on an interface.

use libbpf_sys as bpf;

use crate::error::check;
use crate::{Operation, SysError};

/// XDP on an interface of this network namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpState {
    /// Number of the program in the driver, if there is one.
    pub native: Option<u32>,
    /// Number of the generic program, if there is one.
    pub generic: Option<u32>,
    /// Number of the program in the device itself, if there is one.
    pub offloaded: Option<u32>,
    /// What the driver can do; `None` before kernel 6.3, which does not tell.
    pub features: Option<XdpFeatures>,
}

impl XdpState {
    /// The program that an interface carries, whatever the mode.
    pub fn program(&self) -> Option<u32> {
        self.native.or(self.offloaded).or(self.generic)
    }
}

/// Bits of the kernel's `enum netdev_xdp_act`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFeatures(pub u64);

impl XdpFeatures {
    /// PASS, DROP, TX and ABORTED in the driver.
    pub const BASIC: Self = Self(1);
    /// Redirecting from it.
    pub const REDIRECT: Self = Self(2);
    /// AF_XDP without copies.
    pub const ZERO_COPY: Self = Self(8);

    /// Whether all of `other` are among these.
    pub const fn include(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Asks for XDP on an interface. Kernel 5.10; needs no privilege.
pub fn query(ifindex: u32) -> Result<XdpState, SysError> {
    let mut opts = bpf::bpf_xdp_query_opts { sz: size_of::<bpf::bpf_xdp_query_opts>() as _, ..Default::default() };
    // SAFETY: `opts` is initialised, says its own size, and outlives the call.
    let returned = unsafe { bpf::bpf_xdp_query(ifindex as i32, 0, &mut opts) };
    check(returned).map_err(|errno| SysError::new(Operation::Info, format!("XDP on interface {ifindex}"), errno))?;
    let some = |number: u32| (number != 0).then_some(number);
    Ok(XdpState {
        native: some(opts.drv_prog_id),
        generic: some(opts.skb_prog_id),
        offloaded: some(opts.hw_prog_id),
        features: (opts.feature_flags != 0 || tells_features()).then_some(XdpFeatures(opts.feature_flags)),
    })
}

/// Kernel 6.3 brought the netlink family that tells.
fn tells_features() -> bool {
    crate::features::kernel_version().is_some_and(|version| version >= crate::features::KernelVersion::new(6, 3, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_carries_no_program() {
        let state = query(1).unwrap();
        assert_eq!(state.program(), None);
        assert!(!state.features.unwrap_or_default().include(XdpFeatures::BASIC));
    }
}
