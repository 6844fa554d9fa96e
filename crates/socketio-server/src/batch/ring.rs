//! One thread's `io_uring`, for sends alone.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{IoUring, Probe, opcode, types};

use super::{MOST_SENDS, Send};

/// As [`Ring::send`] marks what the kernel has not answered.
const UNANSWERED: i32 = i32::MIN;

/// Every call waits until the kernel is done with all it was given, so nothing it points at outlives the call.
pub(crate) struct Ring {
    ring: IoUring,
    broken: bool,
}

impl Ring {
    /// To be used by the thread that makes it.
    ///
    /// # Errors
    /// When the system has no `io_uring`, or does not let this process use it, as the default profile of containers.
    pub(crate) fn new() -> io::Result<Self> {
        let entries = MOST_SENDS as u32;
        let mut builder = IoUring::builder();
        builder.setup_submit_all().setup_single_issuer().setup_defer_taskrun();
        // Before Linux 6.1.
        let ring = builder.build(entries).or_else(|_| IoUring::new(entries))?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        if !probe.is_supported(opcode::Send::CODE) || !probe.is_supported(opcode::SendMsg::CODE) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        Ok(Self { ring, broken: false })
    }

    /// One non-blocking send for each, at most [`MOST_SENDS`]: how many bytes each socket took, in order, or why none.
    ///
    /// What the kernel did not get to is an error of kind `Interrupted`: not a byte of it was sent.
    #[allow(unsafe_code)] // the kernel is handed pointers; see at each place why they are good
    pub(crate) fn send(&mut self, sends: &[Send<'_>]) -> Vec<io::Result<usize>> {
        let sends = &sends[..sends.len().min(MOST_SENDS)];
        let headers: Vec<_> = sends
            .iter()
            .map(|send| {
                // SAFETY: all its fields are numbers and pointers, which may be zero.
                let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
                // An `IoSlice` is an `iovec` on Unix; the kernel reads from it only.
                header.msg_iov = send.frames.as_ptr().cast_mut().cast();
                header.msg_iovlen = send.frames.len() as _;
                header
            })
            .collect();
        let mut answers = [UNANSWERED; MOST_SENDS];
        let mut waiting = 0;
        for (place, (send, header)) in sends.iter().zip(&headers).enumerate() {
            let socket = types::Fd(send.socket.as_fd().as_raw_fd());
            // With this flag a send is never kept by the kernel until the socket takes more.
            let flags = libc::MSG_DONTWAIT;
            let entry = match send.frames {
                [one] => opcode::Send::new(socket, one.as_ptr(), one.len() as u32).flags(flags).build(),
                _ => opcode::SendMsg::new(socket, header).flags(flags as u32).build(),
            };
            // SAFETY: sockets, headers and frames are borrowed until this function returns, and it returns only when
            // the kernel has answered each entry, or when the ring is broken and never used again.
            let pushed = unsafe { self.ring.submission().push(&entry.user_data(place as u64)) };
            if pushed.is_err() {
                break;
            }
            waiting += 1;
        }
        while waiting > 0 && !self.broken {
            let submitted = self.ring.submit_and_wait(waiting);
            for answer in self.ring.completion() {
                if let Some(place) = answers.get_mut(answer.user_data() as usize) {
                    *place = answer.result();
                    waiting -= 1;
                }
            }
            if let Err(error) = submitted
                && waiting > 0
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::warn!(%error, "io_uring takes no more sends; from now on each is a call of its own");
                self.broken = true;
            }
        }
        answers[..sends.len()].iter().map(|&answer| outcome(answer)).collect()
    }

    /// Whether it must not be used again: it may hold entries of a call that has returned.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }
}

fn outcome(answer: i32) -> io::Result<usize> {
    match answer {
        UNANSWERED => Err(io::ErrorKind::Interrupted.into()),
        error if error < 0 => Err(io::Error::from_raw_os_error(-error)),
        bytes => Ok(bytes as usize),
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("broken", &self.broken).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read as _};
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (listener.accept().unwrap().0, theirs)
    }

    /// `None` where the system has none: then there is nothing to test.
    fn ring() -> Option<Ring> {
        Ring::new().map_err(|error| eprintln!("no io_uring here: {error}")).ok()
    }

    #[test]
    fn each_socket_gets_its_own_in_order() {
        let Some(mut ring) = ring() else { return };
        let pairs: Vec<_> = (0..MOST_SENDS).map(|_| pair()).collect();
        for round in 0..3 {
            let texts: Vec<_> = (0..pairs.len()).map(|i| format!("{round}:{i};")).collect();
            let frames: Vec<Vec<_>> = texts
                .iter()
                .enumerate()
                .map(|(i, text)| vec![IoSlice::new(text.as_bytes()); 1 + i % 3])
                .collect();
            let sends: Vec<_> = pairs
                .iter()
                .zip(&frames)
                .map(|((ours, _), frames)| Send { socket: ours.as_fd(), frames })
                .collect();
            for (i, outcome) in ring.send(&sends).into_iter().enumerate() {
                assert_eq!(outcome.unwrap(), texts[i].len() * (1 + i % 3));
            }
        }
        for (i, (ours, mut theirs)) in pairs.into_iter().enumerate() {
            drop(ours);
            let mut heard = String::new();
            theirs.read_to_string(&mut heard).unwrap();
            let told: String = (0..3).map(|round| format!("{round}:{i};").repeat(1 + i % 3)).collect();
            assert_eq!(heard, told);
        }
    }

    #[test]
    fn a_full_socket_and_a_dead_one_say_so_and_keep_nobody_waiting() {
        let Some(mut ring) = ring() else { return };
        let (full, _full_reader) = pair();
        let (dead, dead_reader) = pair();
        let (fine, mut fine_reader) = pair();
        drop(dead_reader);
        let much = vec![7; 1 << 20];
        let much = [IoSlice::new(&much)];
        // Blocking sockets: the call itself must not wait.
        let mut taken = 0;
        let blocked = loop {
            match ring.send(&[Send { socket: full.as_fd(), frames: &much }]).remove(0) {
                Ok(bytes) => taken += bytes,
                Err(error) => break error,
            }
        };
        assert_eq!((blocked.kind(), taken > 0), (io::ErrorKind::WouldBlock, true));
        let little = [IoSlice::new(b"little")];
        let sends = [&full, &dead, &fine].map(|socket| Send { socket: socket.as_fd(), frames: &little });
        let mut outcomes = ring.send(&sends);
        // The first one after the reset may be taken; the next is not.
        outcomes.extend(ring.send(&sends[1..2]));
        assert_eq!(outcomes[0].as_ref().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(*outcomes[2].as_ref().unwrap(), 6);
        let broken = outcomes[3].as_ref().unwrap_err().kind();
        assert!(matches!(broken, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{broken}");
        let mut heard = [0; 6];
        fine_reader.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"little");
    }
}
