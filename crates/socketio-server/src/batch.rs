//! Many sends in one system call.
//!
//! After each `send` the kernel may hand the processor to the reader it has just woken, so that a message for
//! ninety readers of one process behind the same machine's proxy, or of one load tester, may be ninety changes of
//! task, each of which finds one frame. Submitted together (Linux `io_uring`) the frames are all there when the reader
//! comes to run. [`measure`] tells what that is worth where the process runs.

#[cfg(not(target_os = "linux"))]
use std::io;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use std::time::Duration;

#[cfg(target_os = "linux")]
mod measure;
#[cfg(target_os = "linux")]
mod ring;

#[cfg(target_os = "linux")]
pub use measure::measure;
#[cfg(target_os = "linux")]
pub(crate) use ring::Ring;

/// Most sends handed over at once.
pub(crate) const MOST_SENDS: usize = 64;

/// CPU time of sending and reading one frame over loopback, in the median of several bursts.
#[derive(Clone, Copy, Debug)]
pub struct SendCost {
    /// One `send` a frame.
    pub single: Duration,
    /// All frames of a burst in one call.
    pub batched: Duration,
}

/// What one socket is to be sent.
pub(crate) struct Send<'a> {
    pub(crate) socket: BorrowedFd<'a>,
    pub(crate) frames: &'a [IoSlice<'a>],
}

/// Where there is no `io_uring`.
#[cfg(not(target_os = "linux"))]
pub(crate) enum Ring {}

#[cfg(not(target_os = "linux"))]
impl Ring {
    pub(crate) fn new() -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn send(&mut self, _: &[Send<'_>]) -> Vec<io::Result<usize>> {
        match *self {}
    }

    pub(crate) fn is_broken(&self) -> bool {
        match *self {}
    }
}

/// What sends cost here, one by one and in batches; takes some 60 ms.
///
/// # Errors
/// When the system has no `io_uring`, or does not let this process use it.
#[cfg(not(target_os = "linux"))]
pub fn measure() -> io::Result<SendCost> {
    Err(io::ErrorKind::Unsupported.into())
}
