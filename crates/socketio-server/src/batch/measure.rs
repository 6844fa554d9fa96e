//! What a batch of sends costs beside as many calls, on this machine and kernel.
//!
//! Sender and reader are measured together. A sender's own clock flatters a batch: when the kernel has decided to let
//! the woken reader run, and lets it only at the end of the call, Linux counts the rest of the call as the reader's time.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::time::{ClockId, clock_gettime};

use super::{MOST_SENDS, Ring, Send, SendCost};

/// Of each way; the median withstands a neighbour that takes the processor for a while.
const BURSTS: usize = 25;
/// So that the reader has read all and sleeps, as it does between two messages of a chat.
const REST: Duration = Duration::from_micros(500);
/// A message of the chat.
const FRAME: [u8; 400] = [b'm'; 400];

/// What sends cost here, one by one and in batches; takes some 60 ms.
///
/// # Errors
/// When the system has no `io_uring`, or does not let this process use it; when loopback takes no connections.
pub fn measure() -> io::Result<SendCost> {
    let mut ring = Ring::new()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..MOST_SENDS {
        theirs.push(TcpStream::connect(listener.local_addr()?)?);
        ours.push(listener.accept()?.0);
    }
    for socket in &ours {
        socket.set_nodelay(true)?;
    }
    let reader = thread::Builder::new().name("measure".into()).spawn(move || read_all(&theirs))?;
    let (mut single, mut batched) = (Vec::new(), Vec::new());
    thread::sleep(REST);
    for _ in 0..BURSTS {
        single.push(burst(|| ours.iter().try_for_each(|mut socket| socket.write_all(&FRAME)))?);
        batched.push(burst(|| {
            let frame = [IoSlice::new(&FRAME)];
            let sends: Vec<_> =
                ours.iter().map(|socket| Send { socket: socket.as_fd(), frames: &frame }).collect();
            ring.send(&sends).into_iter().try_for_each(|outcome| outcome.map(drop))
        })?);
    }
    drop(ours);
    reader.join().map_err(|_| io::Error::other("the reader of the measurement panicked"))??;
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2] / MOST_SENDS as u32
    };
    Ok(SendCost { single: median(single), batched: median(batched) })
}

/// CPU time of the process until all is read.
fn burst(send: impl FnOnce() -> io::Result<()>) -> io::Result<Duration> {
    let start = process_cpu();
    send()?;
    thread::sleep(REST);
    Ok(process_cpu().saturating_sub(start))
}

fn process_cpu() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.cast_unsigned(), now.tv_nsec as u32)
}

/// Until all have ended.
fn read_all(sockets: &[TcpStream]) -> io::Result<()> {
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (number, socket) in sockets.iter().enumerate() {
        epoll::add(&epoll, socket, epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
    }
    let mut buffer = vec![0; 16 << 10];
    let mut events = Vec::with_capacity(MOST_SENDS);
    let mut open = sockets.len();
    while open > 0 {
        events.clear();
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in &events {
            let mut socket = &sockets[event.data.u64() as usize];
            if socket.read(&mut buffer)? == 0 {
                epoll::delete(&epoll, socket)?;
                open -= 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_measured_or_neither() {
        match measure() {
            Ok(cost) => assert!(cost.single > Duration::ZERO && cost.batched > Duration::ZERO, "{cost:?}"),
            Err(error) => assert!(Ring::new().is_err(), "{error}"),
        }
    }
}
