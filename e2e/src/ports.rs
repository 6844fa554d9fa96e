//! Ports to listen on.

use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU16, Ordering};

/// A port nobody listens on right now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a port").port()
}

/// A port nobody listens on, outside the range the kernel deals out: after a restart it is still free. Where the
/// kernel deals out nearly all of them, one that it may give to somebody else meanwhile.
pub fn lasting_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let dealt_out = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let ports = spare(&dealt_out);
    // Tests of several checkouts may run at once.
    let hundreds = (ports.end() - ports.start() + 1) / 100;
    let first = ports.start() + (std::process::id() % u32::from(hundreds)) as u16 * 100;
    (0..100)
        .map(|_| first + NEXT.fetch_add(1, Ordering::Relaxed) % 100)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a port")
}

/// The longer of the stretches below and above what the kernel deals out, at least a hundred ports; all of them where
/// there is none. `dealt_out` as in Linux's ip_local_port_range; without it the range is IANA's.
fn spare(dealt_out: &str) -> RangeInclusive<u16> {
    const FIRST: u16 = 10_000;
    let mut bounds = dealt_out.split_whitespace().map(str::parse::<u16>);
    let (low, high) = match (bounds.next(), bounds.next()) {
        (Some(Ok(low)), Some(Ok(high))) => (low, high),
        _ => (49_152, u16::MAX),
    };
    [FIRST..=low.saturating_sub(1), high.max(FIRST - 1).saturating_add(1)..=u16::MAX]
        .into_iter()
        .max_by_key(|ports| ports.len())
        .filter(|ports| ports.len() >= 100)
        .unwrap_or(FIRST..=u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_ports_are_those_the_kernel_does_not_deal_out() {
        for (dealt_out, ports) in [
            ("32768\t60999\n", 10_000..=32_767),
            ("10000 20000", 20_001..=65_535),
            ("15000 64000", 10_000..=14_999),
            ("1024 9000", 10_000..=65_535),
            ("1024 65535", 10_000..=65_535),
            ("10050 65500", 10_000..=65_535),
            ("", 10_000..=49_151),
        ] {
            assert_eq!(spare(dealt_out), ports, "{dealt_out:?}");
        }
    }

    #[test]
    fn a_lasting_port_can_be_had() {
        let port = lasting_port();
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok(), "{port}");
        assert_ne!(port, lasting_port());
    }
}
