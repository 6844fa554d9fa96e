//! CSV files whose rows become variables.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::model::{Payload, RowOrder};

/// How a file is read; Artillery's defaults.
#[derive(Debug, Clone)]
pub struct CsvOptions {
    pub delimiter: u8,
    /// The first row is a heading.
    pub skip_header: bool,
    /// Numbers and booleans become typed.
    pub cast: bool,
    pub skip_empty_lines: bool,
    /// Columns each row must have at least.
    pub columns: usize,
}

impl Default for CsvOptions {
    fn default() -> Self {
        Self { delimiter: b',', skip_header: false, cast: true, skip_empty_lines: true, columns: 0 }
    }
}

/// What is wrong with a file, and in which line of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("cannot read {path}: {why}")]
    Unreadable { path: String, why: String },
    #[error("{path} is larger than {MAX_BYTES} bytes")]
    TooLarge { path: String },
    #[error("line {line}: {why}")]
    Malformed { line: u64, why: String },
    #[error("line {line} has {found} columns, but `fields` names {wanted}")]
    TooFewColumns { line: u64, found: usize, wanted: usize },
    #[error("there is no row in it")]
    Empty,
}

/// A file larger than this is refused.
pub const MAX_BYTES: u64 = 1 << 30;
const MAX_COLUMNS: usize = 10_000;

impl Payload {
    /// The row of arrival `arrival`; `None` when there are no rows.
    pub fn row(&self, arrival: u64, rng: &mut fastrand::Rng) -> Option<&[Value]> {
        if self.rows.is_empty() {
            return None;
        }
        let index = match self.order {
            RowOrder::Random => rng.usize(..self.rows.len()),
            RowOrder::Sequence => (arrival % self.rows.len() as u64) as usize,
        };
        Some(&self.rows[index])
    }

    /// The whole file: a list of objects, or of lists where `fields` is absent.
    pub fn as_value(&self) -> Value {
        let object = |row: &Vec<Value>| {
            if self.fields.is_empty() {
                return Value::Array(row.clone());
            }
            Value::Object(self.fields.iter().cloned().zip(row.iter().cloned()).collect::<Map<_, _>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
    }
}

/// Reads a file into rows.
pub fn read(path: &Path, options: &CsvOptions) -> Result<Arc<Vec<Vec<Value>>>, PayloadError> {
    let shown = path.display().to_string();
    let unreadable =
        |error: std::io::Error| PayloadError::Unreadable { path: shown.clone(), why: error.to_string() };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        // A device or a pipe might never end.
        return Err(PayloadError::Unreadable { path: shown, why: "it is not a file".into() });
    }
    if metadata.len() > MAX_BYTES {
        return Err(PayloadError::TooLarge { path: shown });
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    parse_bytes(&bytes, options).map(Arc::new)
}

/// Reads rows out of bytes. Never panics, whatever they are.
pub fn parse_bytes(bytes: &[u8], options: &CsvOptions) -> Result<Vec<Vec<Value>>, PayloadError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(options.delimiter)
        .has_headers(options.skip_header)
        .flexible(true)
        .from_reader(bytes);
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| {
            let line = error.position().map_or(0, csv::Position::line);
            let why = match error.kind() {
                csv::ErrorKind::Utf8 { .. } => "not UTF-8".to_owned(),
                _ => error.to_string(),
            };
            PayloadError::Malformed { line, why }
        })?;
        let line = record.position().map_or(0, csv::Position::line);
        if record.len() > MAX_COLUMNS {
            return Err(PayloadError::Malformed { line, why: format!("more than {MAX_COLUMNS} columns") });
        }
        if options.skip_empty_lines && record.iter().all(|cell| cell.trim().is_empty()) {
            continue;
        }
        if record.len() < options.columns {
            return Err(PayloadError::TooFewColumns { line, found: record.len(), wanted: options.columns });
        }
        rows.push(record.iter().map(|cell| if options.cast { cast(cell) } else { cell.into() }).collect());
    }
    if rows.is_empty() { Err(PayloadError::Empty) } else { Ok(rows) }
}

/// `42` and `true` become typed; `007` and `1e999` stay text.
pub fn cast(cell: &str) -> Value {
    match cell {
        "true" => return true.into(),
        "false" => return false.into(),
        _ => {}
    }
    let digits = cell.strip_prefix('-').unwrap_or(cell);
    let leading_zero = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    if leading_zero || !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return cell.into();
    }
    if let Ok(whole) = cell.parse::<i64>() {
        // Beyond 2^53 a JSON reader would round it; ids of that size are names, not numbers.
        return if whole.unsigned_abs() <= 1 << 53 { whole.into() } else { cell.into() };
    }
    match cell.parse::<f64>() {
        Ok(number) if number.is_finite() && !cell.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
            number.into()
        }
        _ => cell.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn csv_cells() {
        let rows = [
            ("42", json!(42)),
            ("-3", json!(-3)),
            ("1.50", json!(1.5)),
            ("0", json!(0)),
            ("0.5", json!(0.5)),
            ("1e3", json!(1000.0)),
            ("true", json!(true)),
            ("True", json!("True")),
            ("007", json!("007")),
            ("010-1234", json!("010-1234")),
            ("9007199254740993", json!("9007199254740993")),
            ("1e999", json!("1e999")),
            ("inf", json!("inf")),
            ("", json!("")),
            (" 1", json!(" 1")),
            ("가나", json!("가나")),
        ];
        for (cell, expected) in rows {
            assert_eq!(cast(cell), expected, "{cell:?}");
        }
    }

    #[test]
    fn csv_rows() {
        let read = |text: &str, change: fn(&mut CsvOptions)| {
            let mut options = CsvOptions::default();
            change(&mut options);
            parse_bytes(text.as_bytes(), &options).map(Value::from).map_err(|error| error.to_string())
        };
        assert_eq!(read("a,1\n\"b, \"\"c\"\"\",2\n", |_| ()), Ok(json!([["a", 1], ["b, \"c\"", 2]])));
        assert_eq!(read("\u{feff}a\r\n\r\nb\r\n", |_| ()), Ok(json!([["a"], ["b"]])));
        assert_eq!(read("h\n1\n", |o| o.skip_header = true), Ok(json!([[1]])));
        assert_eq!(read("1;2\n", |o| o.delimiter = b';'), Ok(json!([[1, 2]])));
        assert_eq!(read("1\n", |o| o.cast = false), Ok(json!([["1"]])));
        assert_eq!(read("a,,\n , \n", |_| ()), Ok(json!([["a", "", ""]])));
        assert_eq!(read("", |_| ()), Err("there is no row in it".into()));
        assert_eq!(
            read("a,b\nc\n", |o| o.columns = 2),
            Err("line 2 has 1 columns, but `fields` names 2".into())
        );
        let options = CsvOptions::default();
        assert_eq!(
            parse_bytes(b"a\nb\xff\n", &options),
            Err(PayloadError::Malformed { line: 2, why: "not UTF-8".into() })
        );
    }
}
