//! Durations as people write them: `30`, `0.5`, `500ms`, `90s`, `5m`, `1h 30m`, `1d`.

use std::time::Duration;

use serde_json::Value;

/// Nothing in a script lasts longer.
pub const MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error(
        "is not a duration: write seconds (`30`, `0.5`) or a number with ms, s, m, h or d (`500ms`, `1h 30m`)"
    )]
    Unreadable,
    #[error("is a negative duration")]
    Negative,
    #[error("is longer than a year")]
    TooLong,
}

/// A number or numeric string means seconds, fractions included; else each number needs a unit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let text = text.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return from_seconds(seconds);
    }
    let mut seconds = 0.0;
    let mut rest = text;
    if rest.is_empty() {
        return Err(DurationError::Unreadable);
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or(DurationError::Unreadable)?;
        let number: f64 = rest[..end].parse().map_err(|_| DurationError::Unreadable)?;
        let after = rest[end..].trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        seconds += number * unit(&after[..end]).ok_or(DurationError::Unreadable)?;
        rest = after[end..].trim_start();
    }
    from_seconds(seconds)
}

/// A YAML or JSON number or string.
pub fn from_value(value: &Value) -> Result<Duration, DurationError> {
    match value {
        Value::Number(number) => from_seconds(number.as_f64().ok_or(DurationError::Unreadable)?),
        Value::String(text) => parse(text),
        _ => Err(DurationError::Unreadable),
    }
}

/// Short text that [`parse`] reads back: `1.5s`, `20ms`.
pub fn shown(duration: Duration) -> String {
    if duration.is_zero() || duration >= Duration::from_secs(1) {
        format!("{}s", duration.as_secs_f64())
    } else {
        format!("{}ms", (duration.as_secs_f64() * 1e9).round() / 1e6)
    }
}

fn unit(name: &str) -> Option<f64> {
    Some(match name.to_ascii_lowercase().as_str() {
        "ms" | "msec" | "msecs" | "millisecond" | "milliseconds" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    })
}

fn from_seconds(seconds: f64) -> Result<Duration, DurationError> {
    if seconds.is_nan() {
        Err(DurationError::Unreadable)
    } else if seconds < 0.0 {
        Err(DurationError::Negative)
    } else if seconds > MAX.as_secs_f64() {
        Err(DurationError::TooLong)
    } else {
        // Through whole nanoseconds, so that `0.001 * 20` is 20 ms.
        Ok(Duration::from_nanos((seconds * 1e9).round() as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let rows: &[(&str, Result<f64, DurationError>)] = &[
            ("30", Ok(30.0)),
            ("0.5", Ok(0.5)),
            (" 1e1 ", Ok(10.0)),
            ("500ms", Ok(0.5)),
            ("20 ms", Ok(0.02)),
            ("90s", Ok(90.0)),
            ("1.5 minutes", Ok(90.0)),
            ("1h 30m", Ok(5400.0)),
            ("1h30m", Ok(5400.0)),
            ("2 days", Ok(172_800.0)),
            ("0", Ok(0.0)),
            ("", Err(DurationError::Unreadable)),
            ("ms", Err(DurationError::Unreadable)),
            ("5 parsecs", Err(DurationError::Unreadable)),
            ("1..5s", Err(DurationError::Unreadable)),
            ("nan", Err(DurationError::Unreadable)),
            ("inf", Err(DurationError::TooLong)),
            ("-1", Err(DurationError::Negative)),
            ("5분", Err(DurationError::Unreadable)),
            ("99999d", Err(DurationError::TooLong)),
        ];
        for (text, expected) in rows {
            let expected = expected.clone().map(Duration::from_secs_f64);
            assert_eq!(parse(text), expected, "{text:?}");
            if let Ok(duration) = expected {
                assert_eq!(parse(&shown(duration)), Ok(duration), "{text:?} shown");
            }
        }
    }
}
