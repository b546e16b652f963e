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

/// The name that an interface has now, by its index.
pub(crate) fn name_of(present: &HashMap<String, Interface>, index: u32) -> Option<&str> {
    present.iter().find(|(_, interface)| interface.index == index).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_the_first() {
        let present = interfaces().unwrap();
        assert_eq!(present["lo"], Interface { index: 1, address: Some([0; 6]) });
        assert_eq!(name_of(&present, 1), Some("lo"));
    }
}
