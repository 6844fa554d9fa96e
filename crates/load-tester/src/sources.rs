//! Source addresses: where connections come from, when one address has too few ports.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Addresses of this machine, taken in turn.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    nets: Vec<Net>,
}

/// `10.0.0.7` or `127.0.0.0/8`: the addresses from `first` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net {
    /// As written.
    address: IpAddr,
    prefix: u8,
    first: u128,
    count: u128,
}

/// Why a text names no source addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no address and no block of addresses: write `192.0.2.7` or `127.0.0.0/8`")]
pub struct NoSource {
    text: String,
}

impl Sources {
    /// Addresses and blocks in CIDR form. Of a block of IPv4 the first and last address are left out (they name the
    /// network and everyone in it), of a block of IPv6 the first, unless the block has only two.
    ///
    /// # Errors
    /// With the first text that is neither.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, NoSource> {
        let nets = texts.into_iter().map(|text| {
            Net::parse(text.trim()).ok_or_else(|| NoSource { text: text.trim().chars().take(100).collect() })
        });
        Ok(Self { nets: nets.collect::<Result<_, _>>()? })
    }

    pub fn is_empty(&self) -> bool {
        self.nets.is_empty()
    }

    /// How many addresses can reach one of the family.
    pub fn count(&self, to_v6: bool) -> u128 {
        self.fitting(to_v6).map(|net| net.count).fold(0, u128::saturating_add)
    }

    /// The `turn`-th address, around and around, among those that can reach one of the family.
    pub fn get(&self, turn: u64, to_v6: bool) -> Option<IpAddr> {
        let mut turn = u128::from(turn).checked_rem(self.count(to_v6))?;
        for net in self.fitting(to_v6) {
            if turn < net.count {
                return Some(net.get(turn));
            }
            turn -= net.count;
        }
        None
    }

    /// The first and last address of each block, to be tried before a run.
    pub fn ends(&self) -> impl Iterator<Item = IpAddr> {
        self.nets.iter().flat_map(|net| [net.get(0), net.get(net.count - 1)])
    }

    /// Whether any of a server's addresses can be reached from here.
    pub fn reach(&self, addresses: &[SocketAddr]) -> bool {
        addresses.iter().any(|address| self.count(address.is_ipv6()) > 0)
    }

    fn fitting(&self, to_v6: bool) -> impl Iterator<Item = &Net> {
        self.nets.iter().filter(move |net| net.address.is_ipv6() == to_v6)
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, net) in self.nets.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            let bits = if net.address.is_ipv6() { 128 } else { 32 };
            match net.prefix {
                prefix if prefix == bits => write!(f, "{comma}{}", net.address)?,
                prefix => write!(f, "{comma}{}/{prefix}", net.address)?,
            }
        }
        Ok(())
    }
}

impl Net {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) if !prefix.starts_with('+') => {
                (address, Some(prefix.parse::<u8>().ok()?))
            }
            Some(_) => return None,
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let (bits, value) = match address {
            IpAddr::V4(v4) => (32, u128::from(v4.to_bits())),
            IpAddr::V6(v6) => (128, v6.to_bits()),
        };
        let prefix = prefix.unwrap_or(bits);
        let host_bits = bits.checked_sub(prefix)?;
        // All ones in the bits that name a host.
        let hosts = u128::MAX.checked_shr(128 - u32::from(host_bits)).unwrap_or(0);
        let first = value & !hosts;
        let (first, count) = match (host_bits, address) {
            (0 | 1, _) => (first, hosts + 1),
            (_, IpAddr::V4(_)) => (first + 1, hosts - 1),
            (_, IpAddr::V6(_)) => (first + 1, hosts),
        };
        Some(Self { address, prefix, first, count })
    }

    fn get(&self, number: u128) -> IpAddr {
        let value = self.first + number;
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from_bits(value as u32).into(),
            IpAddr::V6(_) => Ipv6Addr::from_bits(value).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(texts: &[&str], to_v6: bool, turns: u64) -> Vec<String> {
        let sources = Sources::parse(texts.iter().copied()).unwrap();
        (0..turns).filter_map(|turn| sources.get(turn, to_v6)).map(|address| address.to_string()).collect()
    }

    #[test]
    fn addresses_are_taken_in_turn() {
        assert_eq!(taken(&["127.0.0.0/8"], false, 3), ["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
        assert_eq!(taken(&["127.0.0.77/30"], false, 3), ["127.0.0.77", "127.0.0.78", "127.0.0.77"]);
        assert_eq!(taken(&["10.1.2.3", "10.1.2.9"], false, 3), ["10.1.2.3", "10.1.2.9", "10.1.2.3"]);
        assert_eq!(taken(&["10.0.0.4/31"], false, 3), ["10.0.0.4", "10.0.0.5", "10.0.0.4"]);
        assert_eq!(taken(&["fd00::/126"], true, 4), ["fd00::1", "fd00::2", "fd00::3", "fd00::1"]);
        assert_eq!(taken(&["10.1.2.3", "::1"], true, 2), ["::1", "::1"]);
        assert_eq!(taken(&["10.1.2.3"], true, 2), [""; 0]);
        assert_eq!(taken(&["::/0"], true, 1), ["::1"]);
        assert_eq!(taken(&["::1/0"], true, 1), ["::1"]);
        assert_eq!(taken(&["0.0.0.0/0"], false, 1), ["0.0.0.1"]);
    }

    #[test]
    fn what_is_no_address_is_named() {
        for text in [
            "",
            "localhost",
            "127.0.0.1/33",
            "::1/129",
            "1.2.3",
            "127.0.0.0/-1",
            "127.0.0.0/+8",
            "1.2.3.4/8/8",
        ] {
            let error = Sources::parse([text]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{text}` is no address")), "{error}");
        }
        let texts = ["127.0.0.0/8", "10.0.0.1", "fd00::/64"];
        assert_eq!(Sources::parse(texts).unwrap().to_string(), texts.join(", "));
        assert_eq!(Sources::parse(texts).unwrap().count(false), (1 << 24) - 2 + 1);
        assert_eq!(Sources::parse(texts).unwrap().ends().count(), 6);
    }
}
