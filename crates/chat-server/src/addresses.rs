//! Which addresses may connect: how fast new connections come, and how many there are at a time.

use std::net::IpAddr;
use std::time::Instant;

use socketio_server::{Lease, PerAddress, per_address};

use crate::config::Config;
use crate::limits::{Buckets, Rate};
use crate::metrics::AddressLimit;

/// The addresses of one listener's peers; lives on the accept thread.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// `None`: nobody is limited.
    limits: Option<Limits>,
    arrivals: Buckets<IpAddr>,
    open: PerAddress,
}

#[derive(Debug)]
struct Limits {
    connections: usize,
    exempt_loopback: bool,
    /// Their clients' addresses are not known.
    trusted: Vec<IpAddr>,
}

impl Addresses {
    pub(crate) fn new(config: &Config) -> Self {
        let rate: Option<Rate> = config.limit(config.limits.per_address);
        Self {
            limits: rate.map(|_| Limits {
                connections: config.limits.connections_per_address,
                exempt_loopback: config.limits.exempt_loopback,
                trusted: config.limits.trusted_proxies.clone(),
            }),
            arrivals: Buckets::new(rate),
            open: PerAddress::default(),
        }
    }

    /// What a new connection has to keep until it ends; `None` where it is not limited.
    ///
    /// # Errors
    /// The limit it would break.
    pub(crate) fn admit(&mut self, address: IpAddr, now: Instant) -> Result<Option<Lease>, AddressLimit> {
        let Some(limits) = &self.limits else { return Ok(None) };
        // An IPv4 address may come in IPv6's clothes.
        let address = address.to_canonical();
        if limits.exempt_loopback && address.is_loopback() || limits.trusted.contains(&address) {
            return Ok(None);
        }
        if !self.arrivals.take(per_address::key(address), now) {
            return Err(AddressLimit::Rate);
        }
        self.open.take(address, limits.connections).map(Some).ok_or(AddressLimit::Connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(change: impl FnOnce(&mut Config)) -> Addresses {
        let mut config = Config::default();
        config.limits.connections_per_address = 2;
        change(&mut config);
        Addresses::new(&config)
    }

    #[test]
    fn a_connection_that_ends_makes_room_for_its_address_alone() {
        let mut addresses = addresses(|_| ());
        let (now, one, other) = (Instant::now(), [192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let mut held: Vec<_> = (0..2).map(|_| addresses.admit(one, now).unwrap()).collect();
        assert_eq!(addresses.admit(one, now).err(), Some(AddressLimit::Connections));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(addresses.admit(mapped, now).err(), Some(AddressLimit::Connections));
        assert!(addresses.admit(other, now).is_ok());
        held.pop();
        assert!(addresses.admit(one, now).is_ok_and(|lease| lease.is_some()));
    }

    #[test]
    fn too_fast_is_told_apart_from_too_many() {
        let mut addresses = addresses(|config| config.limits.per_address.burst = 2.0);
        let (now, one) = (Instant::now(), [192, 0, 2, 1].into());
        assert!(addresses.admit(one, now).is_ok() && addresses.admit(one, now).is_ok());
        assert_eq!(addresses.admit(one, now).err(), Some(AddressLimit::Rate));
        // A subscriber of IPv6 has a network, not an address.
        let mut neighbour = |n: u16| addresses.admit([0x2001, 0xdb8, 0, 0, 0, 0, 0, n].into(), now);
        assert!(neighbour(1).is_ok() && neighbour(2).is_ok());
        assert_eq!(neighbour(3).err(), Some(AddressLimit::Rate));
    }

    #[test]
    fn who_is_exempt() {
        let proxy: IpAddr = [192, 0, 2, 1].into();
        let loopback: IpAddr = [127, 0, 0, 9].into();
        let now = Instant::now();
        let mut usual = addresses(|config| config.limits.trusted_proxies.push(proxy));
        let mut strict = addresses(|config| config.limits.exempt_loopback = false);
        let mut off = addresses(|config| config.limits.enabled = false);
        let limited = |addresses: &mut Addresses, address| addresses.admit(address, now).unwrap().is_some();
        assert!(!limited(&mut usual, proxy) && !limited(&mut usual, loopback));
        assert!(limited(&mut strict, loopback) && !limited(&mut off, proxy));
    }
}
