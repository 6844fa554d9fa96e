//! HdrHistogram's interval log: a line for each second and distribution, tagged with the distribution's name, so that
//! HistogramLogAnalyzer, HistogramLogProcessor and the libraries of other languages can read, merge and plot it.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

use crate::outcome::Window;

pub(super) fn render(started_at_ms: u64, windows: &[Window]) -> String {
    let mut bytes = Vec::new();
    // A Vec takes everything, and counts stay far below what the format can hold.
    let _ = write(started_at_ms, windows, &mut bytes);
    String::from_utf8(bytes).unwrap_or_default()
}

fn write(
    started_at_ms: u64,
    windows: &[Window],
    bytes: &mut Vec<u8>,
) -> Result<(), Box<dyn std::error::Error>> {
    let begun = UNIX_EPOCH + Duration::from_millis(started_at_ms);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment(" Written by drumfire. Values are microseconds; Interval_Max is in milliseconds.")
        .with_start_time(begun)
        .with_base_time(begun)
        .with_max_value_divisor(1000.0)
        .begin_log_with(bytes, &mut serializer)?;
    for window in windows {
        for (name, histogram) in window.histograms.iter().filter(|(_, histogram)| !histogram.is_empty()) {
            let tag = tag(name);
            log.write_histogram(
                histogram,
                Duration::try_from_secs_f64(window.start_s)?,
                Duration::try_from_secs_f64(window.length_s)?,
                Tag::new(&tag),
            )?;
        }
    }
    Ok(())
}

/// A tag may hold neither space nor comma, and a script's own words may hold both: `GET%20/`.
fn tag(name: &str) -> String {
    let mut tag = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_whitespace() || c.is_control() || matches!(c, ',' | '%' | '#') {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                let _ = write!(tag, "%{byte:02X}");
            }
        } else {
            tag.push(c);
        }
    }
    tag
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_one_word() {
        assert_eq!(tag("http.response_time"), "http.response_time");
        assert_eq!(tag("response_time.GET /a,b 100%"), "response_time.GET%20/a%2Cb%20100%25");
    }
}
