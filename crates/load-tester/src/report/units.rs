//! Figures as text. Units are always printed; thousands are separated by commas.

/// `9000` -> `9,000`.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits below a thousand, whole numbers with separators above; no trailing dot.
pub(crate) fn figure(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    let size = value.abs();
    if size >= 999.5 {
        let sign = if value < 0.0 { "-" } else { "" };
        return format!("{sign}{}", thousands(size.round() as u64));
    }
    let decimals = if size >= 99.95 || size == 0.0 {
        0
    } else if size >= 9.995 {
        1
    } else if size >= 0.9995 {
        2
    } else {
        3
    };
    format!("{value:.decimals$}")
}

/// Milliseconds: `0.083 ms`, `22.7 ms`, `1,204 ms`.
pub(crate) fn milliseconds(value: f64) -> String {
    format!("{} ms", figure(value))
}

/// For sentences: milliseconds up to a second, then seconds.
pub(crate) fn latency(milliseconds_value: f64) -> String {
    if milliseconds_value >= 1000.0 {
        format!("{} s", figure(milliseconds_value / 1000.0))
    } else {
        milliseconds(milliseconds_value)
    }
}

/// Events a second with one decimal: `300.0`, `1,200.0`.
pub(crate) fn rate(value: f64) -> String {
    if !value.is_finite() {
        return "n/a".to_owned();
    }
    let tenths = (value.abs() * 10.0).round() as u64;
    format!("{}.{}", thousands(tenths / 10), tenths % 10)
}

/// Seconds: `31.1 s`, `2 min 5 s`, `1 h 3 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "n/a".to_owned();
    }
    if seconds < 120.0 {
        let text = format!("{seconds:.1}");
        return format!("{} s", text.strip_suffix(".0").unwrap_or(&text));
    }
    let whole = seconds.round() as u64;
    if whole < 7200 {
        let rest = whole % 60;
        return if rest == 0 {
            format!("{} min", whole / 60)
        } else {
            format!("{} min {rest} s", whole / 60)
        };
    }
    format!("{} h {} min", whole / 3600, whole % 3600 / 60)
}

/// A point in the run: `12.3 s`, `4:05`, `1:04:05`.
pub(crate) fn instant(seconds: f64) -> String {
    if seconds < 120.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    if whole < 3600 {
        format!("{}:{:02}", whole / 60, whole % 60)
    } else {
        format!("{}:{:02}:{:02}", whole / 3600, whole % 3600 / 60, whole % 60)
    }
}

/// Decimal units, as tools that watch processes print them: `184 MB`, `2.1 GB`.
pub(crate) fn bytes(value: u64) -> String {
    let value = value as f64;
    if value >= 1e9 {
        format!("{:.2} GB", value / 1e9)
    } else if value >= 1e6 {
        format!("{:.0} MB", value / 1e6)
    } else if value >= 1e3 {
        format!("{:.0} kB", value / 1e3)
    } else {
        format!("{value:.0} B")
    }
}

/// `part` of `whole` in per cent; never rounds up to 100 nor down to 0 what is not.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "n/a".to_owned();
    }
    if part == whole {
        return "100 %".to_owned();
    }
    if part == 0 {
        return "0 %".to_owned();
    }
    let value = part as f64 / whole as f64 * 100.0;
    for decimals in 1..6 {
        let text = format!("{value:.decimals$}");
        let shown: f64 = text.parse().unwrap_or(value);
        if shown > 0.0 && (shown < 100.0 || part > whole) {
            return format!("{text} %");
        }
    }
    if value < 50.0 { "< 0.00001 %".to_owned() } else { "> 99.99999 %".to_owned() }
}

/// `1 user`, `2 users`.
pub(crate) fn count(value: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(value), if value == 1 { one } else { many })
}

/// A number as JavaScript prints it after rounding to `decimals`: no trailing zeros.
pub(crate) fn javascript_number(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "NaN".to_owned();
    }
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// The sum of counts, which a result file may claim to be as large as it likes.
pub(crate) fn sum_of(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        let rows: &[(String, &str)] = &[
            (thousands(0), "0"),
            (thousands(999), "999"),
            (thousands(9000), "9,000"),
            (thousands(1_234_567), "1,234,567"),
            (figure(0.0), "0"),
            (figure(0.083), "0.083"),
            (figure(0.9996), "1.00"),
            (figure(22.66), "22.7"),
            (figure(99.96), "100"),
            (figure(1204.4), "1,204"),
            (figure(f64::NAN), "n/a"),
            (rate(252.03), "252.0"),
            (rate(12_345.67), "12,345.7"),
            (duration(30.0), "30 s"),
            (duration(31.07), "31.1 s"),
            (duration(125.0), "2 min 5 s"),
            (duration(7260.0), "2 h 1 min"),
            (instant(12.34), "12.3 s"),
            (instant(245.0), "4:05"),
            (instant(3845.0), "1:04:05"),
            (bytes(184_300_000), "184 MB"),
            (percent(1, 3), "33.3 %"),
            (percent(8957, 9000), "99.5 %"),
            (percent(809_999, 810_000), "99.9999 %"),
            (percent(1, 810_000), "0.0001 %"),
            (percent(5, 5), "100 %"),
            (percent(0, 0), "n/a"),
            (count(1, "user", "users"), "1 user"),
            (javascript_number(53.1818, 3), "53.182"),
            (javascript_number(100.0, 3), "100"),
            (javascript_number(0.04, 1), "0"),
        ];
        for (got, expected) in rows {
            assert_eq!(got, expected);
        }
    }
}
