//! Polling bodies taken apart, written down from the specifications alone.

use anyhow::{Context, Result, ensure};

use crate::rule::Revision;

/// Packets into a text body.
pub(crate) fn join(revision: Revision, packets: &[&str]) -> String {
    match revision {
        Revision::V3 => packets.iter().map(|packet| format!("{}:{packet}", length(packet))).collect(),
        Revision::V4 => packets.join("\u{1e}"),
    }
}

/// A text body into its packets.
pub(crate) fn split(revision: Revision, body: &str) -> Result<Vec<String>> {
    match revision {
        Revision::V3 => split_counted(body),
        Revision::V4 => Ok(body.split('\u{1e}').map(str::to_owned).collect()),
    }
}

fn split_counted(mut body: &str) -> Result<Vec<String>> {
    let mut packets = Vec::new();
    while !body.is_empty() {
        let (count, rest) = body.split_once(':').with_context(|| format!("no length in {body:?}"))?;
        let count: usize = count.parse().with_context(|| format!("length in {body:?}"))?;
        let mut units = 0;
        let mut end = 0;
        for character in rest.chars() {
            if units >= count {
                break;
            }
            units += character.len_utf16();
            end += character.len_utf8();
        }
        ensure!(units == count, "{count} characters announced, {units} found in {rest:?}");
        packets.push(rest[..end].to_owned());
        body = &rest[end..];
    }
    Ok(packets)
}

/// JavaScript's length of a string.
fn length(packet: &str) -> usize {
    packet.encode_utf16().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_examples() {
        let rows: &[(Revision, &[&str], &str)] = &[
            (Revision::V3, &["4hello", "4€"], "6:4hello2:4€"),
            (Revision::V3, &["4€", "b4AQIDBA=="], "2:4€10:b4AQIDBA=="),
            (Revision::V4, &["4hello", "2", "4world"], "4hello\u{1e}2\u{1e}4world"),
            (Revision::V4, &["4hello", "bAQIDBA=="], "4hello\u{1e}bAQIDBA=="),
        ];
        for (revision, packets, body) in rows {
            assert_eq!(join(*revision, packets), *body);
            assert_eq!(split(*revision, body).unwrap(), *packets);
        }
        assert!(split(Revision::V3, "9:4short").is_err());
    }
}
