//! The end of the process when a thread panics: what and where on stderr, then an abort.
//!
//! A worker that is gone would leave its people without answers, and a store thread everybody; a process that
//! is gone is started again by whoever watches it, and its clients come back.

use std::backtrace::Backtrace;
use std::io::Write as _;
use std::panic::PanicHookInfo;

/// From now on a panic in any thread ends the process with its trace; `json`: on one line, as the log is.
pub(crate) fn end_on_panic(json: bool) {
    std::panic::set_hook(Box::new(move |panic| {
        let _ = std::io::stderr().write_all(report(panic, json).as_bytes());
        std::process::abort();
    }));
}

fn report(panic: &PanicHookInfo<'_>, json: bool) -> String {
    let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = without_quotations(panic.payload_as_str().unwrap_or("(no message)"));
    let backtrace = Backtrace::force_capture();
    if json {
        let line = serde_json::json!({
            "timestamp": chat_server::clock::now().to_string(),
            "level": "ERROR",
            "fields": {
                "message": "a thread panicked; ending",
                "panic": message,
                "thread": thread,
                "place": place,
                "backtrace": backtrace.to_string(),
            },
            "target": "dna",
        });
        return format!("{line}\n");
    }
    format!("dna: a thread panicked; ending\nthread {thread} at {place}: {message}\n{backtrace}\n")
}

/// A message may quote what it was about (a slice of a text, a value), and no text belongs in the log.
fn without_quotations(message: &str) -> String {
    match message.find(['"', '\'']).or_else(|| message.rfind(" `")) {
        Some(at) => format!("{} ...", message[..at].trim_end()),
        None => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::without_quotations;

    #[test]
    fn what_is_quoted_is_left_out() {
        for (message, expected) in [
            ("the len is 3 but the index is 5", "the len is 3 but the index is 5"),
            ("index 1 is inside 'é' (bytes 0..2) of `été`", "index 1 is inside ..."),
            ("byte index 9 is out of bounds of `a text`", "byte index 9 is out of bounds of ..."),
            ("no place in \"37.5\"", "no place in ..."),
        ] {
            assert_eq!(without_quotations(message), expected);
        }
    }
}
