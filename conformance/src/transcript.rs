//! What was said in a case, to be read when it fails.

use std::sync::{Arc, Mutex};

/// Longest line kept whole, in characters.
const LONGEST: usize = 300;

/// Shared by all connections of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transcript(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    connections: usize,
    lines: Vec<String>,
}

/// One connection's pen.
#[derive(Clone, Debug)]
pub(crate) struct Pen {
    transcript: Transcript,
    connection: usize,
}

impl Transcript {
    pub(crate) fn connection(&self) -> Pen {
        let mut said = self.0.lock().expect("no panic while writing");
        said.connections += 1;
        Pen { transcript: self.clone(), connection: said.connections }
    }

    pub(crate) fn text(&self) -> String {
        self.0.lock().expect("no panic while writing").lines.join("\n")
    }
}

impl Pen {
    pub(crate) fn sent(&self, what: impl AsRef<str>) {
        self.write('>', what.as_ref());
    }

    pub(crate) fn got(&self, what: impl AsRef<str>) {
        self.write('<', what.as_ref());
    }

    fn write(&self, arrow: char, what: &str) {
        let cut: String = what.chars().take(LONGEST).collect();
        let rest = if cut.len() < what.len() { " ..." } else { "" };
        let line = format!("  {} {arrow} {cut}{rest}", self.connection);
        self.transcript.0.lock().expect("no panic while writing").lines.push(line);
    }
}

/// Bytes as text, the unprintable escaped.
pub(crate) fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => format!("\"{}\"", bytes.escape_ascii()),
    }
}
