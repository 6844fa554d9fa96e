//! Ctrl-C and SIGTERM as a question one can ask.
//!
//! The tasks must outlive the signal long enough to end their children in order, so the default (die at once) will not do.

use std::sync::atomic::{AtomicI32, Ordering};

static RECEIVED: AtomicI32 = AtomicI32::new(0);

extern "C" fn remember(signal: libc::c_int) {
    RECEIVED.store(signal, Ordering::Relaxed);
}

/// From here on SIGINT, SIGTERM and SIGHUP are remembered instead of ending the process.
pub(crate) fn watch() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler = remember as extern "C" fn(libc::c_int);
        // Installing a handler has no safe interface in the standard library; ours only stores to an atomic,
        // which is allowed inside a signal handler.
        #[allow(unsafe_code)]
        unsafe {
            libc::signal(signal, handler as libc::sighandler_t);
        }
    }
}

pub(crate) fn received() -> Option<i32> {
    match RECEIVED.load(Ordering::Relaxed) {
        0 => None,
        signal => Some(signal),
    }
}

/// The shell's convention: 128 plus the signal's number.
pub(crate) fn exit_code() -> u8 {
    received().map_or(1, |signal| u8::try_from(128 + signal).unwrap_or(1))
}
