//! Which addresses may connect: how fast new connections come, and how many there are at a time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::FxHashMap;
use socketio_server::Lease;

use crate::config::Config;
use crate::limits::{Buckets, Rate};
use crate::metrics::AddressLimit;

/// The addresses of one listener's peers; lives on the accept thread.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// `None`: nobody is limited.
    limits: Option<Limits>,
    arrivals: Buckets<IpAddr>,
    /// Each connection holds a clone, so an address has one connection less than there are owners.
    open: FxHashMap<IpAddr, Arc<()>>,
    /// When to look for addresses that are gone, in entries.
    sweep_at: usize,
}

#[derive(Debug)]
struct Limits {
    connections: usize,
    exempt_loopback: bool,
    /// Their clients' addresses are not known.
    trusted: Vec<IpAddr>,
}

const FIRST_SWEEP: usize = 4096;

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
            open: FxHashMap::default(),
            sweep_at: FIRST_SWEEP,
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
        if !self.arrivals.take(address, now) {
            return Err(AddressLimit::Rate);
        }
        if self.open.len() >= self.sweep_at {
            self.open.retain(|_, owners| Arc::strong_count(owners) > 1);
            self.sweep_at = (self.open.len() * 2).max(FIRST_SWEEP);
        }
        let owners = self.open.entry(address).or_default();
        if Arc::strong_count(owners) > limits.connections {
            return Err(AddressLimit::Connections);
        }
        Ok(Some(owners.clone()))
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

    #[test]
    fn addresses_that_are_gone_are_forgotten() {
        let mut addresses = addresses(|_| ());
        for n in 0..FIRST_SWEEP as u32 {
            addresses.admit(IpAddr::from(n.to_be_bytes()), Instant::now()).unwrap();
        }
        let _held = addresses.admit([192, 0, 2, 1].into(), Instant::now()).unwrap();
        assert!(addresses.open.len() <= 2, "{}", addresses.open.len());
    }
}
