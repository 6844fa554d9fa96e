//! The input is what stands after `--sources`: addresses and blocks, between commas.

use std::net::{IpAddr, SocketAddr};

use load_tester::sources::Sources;

/// Address and length of the prefix as written, read by nobody of ours.
fn block(text: &str) -> Option<(IpAddr, u32)> {
    let (address, prefix) =
        text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
    let address: IpAddr = address.parse().ok()?;
    let bits = if address.is_ipv6() { 128 } else { 32 };
    let prefix = match prefix {
        None => bits,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|prefix| *prefix <= bits)?
        }
        Some(_) => return None,
    };
    Some((address, prefix))
}

/// The bits that name the network, at the top.
fn network((address, prefix): (IpAddr, u32)) -> u128 {
    let value = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    value.checked_shr(128 - prefix).unwrap_or(0)
}

pub(crate) fn check(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let blocks: Option<Vec<_>> = text.split(',').map(|one| block(one.trim())).collect();
    let sources = match (Sources::parse(text.split(',')), &blocks) {
        (Ok(sources), Some(_)) => sources,
        (Err(error), None) => {
            assert!(error.to_string().len() < 600, "{error}");
            return;
        }
        (read, _) => panic!("{text:?} is {blocks:?}, and was read as {read:?}"),
    };
    let blocks = blocks.unwrap_or_default();
    assert!(!sources.is_empty());
    assert_eq!(Sources::parse(sources.to_string().split(',')).as_ref(), Ok(&sources), "{sources}");
    let within = |address: IpAddr| {
        blocks.iter().any(|&(net, prefix)| {
            net.is_ipv6() == address.is_ipv6() && network((net, prefix)) == network((address, prefix))
        })
    };
    assert_eq!(sources.ends().count(), 2 * blocks.len());
    for address in sources.ends() {
        assert!(within(address), "{address} is not in {text}");
    }
    for to_v6 in [false, true] {
        let count = sources.count(to_v6);
        assert_eq!(count > 0, blocks.iter().any(|(net, _)| net.is_ipv6() == to_v6), "{text}");
        let server = SocketAddr::new(if to_v6 { [0; 16].into() } else { [0; 4].into() }, 80);
        assert_eq!(sources.reach(&[server]), count > 0);
        for turn in [0, 1, 2, 255, u64::MAX] {
            let address = sources.get(turn, to_v6);
            assert!(address.is_some() == (count > 0) && address.is_none_or(within), "{text}: {address:?}");
            if let Ok(around) = u64::try_from(count)
                && let Some(next) = turn.checked_add(around)
            {
                assert_eq!(sources.get(next, to_v6), address, "{text}");
            }
        }
    }
}
