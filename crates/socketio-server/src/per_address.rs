//! How many of something each address has at a time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::worker::Lease;

/// Counts owners by [`key`].
#[derive(Debug, Default)]
pub struct PerAddress {
    /// Each owner holds a clone, so an address has one owner less than there are holders.
    owners: HashMap<IpAddr, Arc<()>>,
}

impl PerAddress {
    /// What one more owner has to keep until it ends; `None` where its address has `most` already.
    pub fn take(&mut self, address: IpAddr, most: usize) -> Option<Lease> {
        // Looked through when it has grown to where the table would grow, so that it costs little and never leaks.
        if self.owners.len() == self.owners.capacity() {
            self.owners.retain(|_, holders| Arc::strong_count(holders) > 1);
        }
        let holders = self.owners.entry(key(address)).or_default();
        (Arc::strong_count(holders) <= most).then(|| Arc::clone(holders) as Lease)
    }
}

/// What limits per address count by: an IPv4 address, also one in IPv6's clothes; of IPv6 the first 64 bits,
/// for a subscriber has at least 2^64 addresses to choose from.
pub fn key(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_one_address() {
        for (address, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2::1", "2001:db8:1:2::"),
            ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ] {
            assert_eq!(key(address.parse().unwrap()), expected.parse::<IpAddr>().unwrap(), "{address}");
        }
    }

    #[test]
    fn an_owner_that_ends_makes_room_for_its_address_alone() {
        let mut counted = PerAddress::default();
        let mut take = |address: &str| counted.take(address.parse().unwrap(), 2);
        let mut held: Vec<_> = (1..=2).map(|n| take(&format!("2001:db8::{n}")).unwrap()).collect();
        assert!(take("2001:db8::3").is_none() && take("2001:db8:0:1::1").is_some());
        held.pop();
        assert!(take("2001:db8::3").is_some());
    }

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let mut counted = PerAddress::default();
        for n in 0..10_000_u32 {
            counted.take(IpAddr::from(n.to_be_bytes()), 1).unwrap();
        }
        assert!(counted.owners.capacity() < 100, "{}", counted.owners.capacity());
    }
}
