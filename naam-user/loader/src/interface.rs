//! Interfaces of this thread's network namespace.

use std::collections::HashMap;
use std::io;

use nix::ifaddrs::getifaddrs;

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its number in this network namespace. One that is made again gets another.
    pub index: u32,
    /// Its Ethernet address, if it has one.
    pub address: Option<[u8; 6]>,
}

/// All interfaces, by name.
pub fn interfaces() -> io::Result<HashMap<String, Interface>> {
    let links = getifaddrs()?.filter_map(|entry| {
        let link = *entry.address?.as_link_addr()?;
        Some((entry.interface_name, Interface { index: link.ifindex() as u32, address: link.addr() }))
    });
    Ok(links.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_the_first() {
        assert_eq!(interfaces().unwrap()["lo"], Interface { index: 1, address: Some([0; 6]) });
    }
}
