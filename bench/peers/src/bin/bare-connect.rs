//! The load of the bench's part `connect`: WebSockets, one thread on epoll, no runtime.
//!
//! Each is dropped as soon as it has its 101, or with `--hold` joins Socket.IO's main namespace and stays until standard
//! input ends. Prints one line of JSON when all have come so far.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bench_peers::bare;
use clap::Parser;

const TEXT: u8 = 1;
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
const PATIENCE: Duration = Duration::from_secs(20);
/// Under way together, where no rate is asked for.
const AT_ONCE: usize = 64;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    target: SocketAddr,
    #[arg(long, default_value_t = 15_000)]
    connections: usize,
    /// New connections a second; 0: as many as go.
    #[arg(long, default_value_t = 0)]
    rate: u32,
    #[arg(long)]
    hold: bool,
}

enum Step {
    Dial,
    Upgrade,
    Welcome,
    Join,
    Done,
}

struct Connection {
    stream: TcpStream,
    step: Step,
    unread: Vec<u8>,
}

struct Run {
    arguments: Arguments,
    poll: bare::Poll,
    request: Vec<u8>,
    connections: Vec<Option<Connection>>,
    done: usize,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let mut run = Run {
        poll: bare::Poll::new()?,
        request: bare::upgrade_request(arguments.target),
        connections: Vec::with_capacity(arguments.connections),
        done: 0,
        arguments,
    };
    let result = run.all()?;
    println!("{result}");
    std::io::stdout().flush()?;
    if run.arguments.hold {
        // The kernel keeps what comes meanwhile; nobody answers heartbeats.
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    run.connections.into_iter().flatten().for_each(|connection| bare::drop_connection(connection.stream));
    Ok(())
}

impl Run {
    fn all(&mut self) -> anyhow::Result<serde_json::Value> {
        let (all, rate) = (self.arguments.connections, self.arguments.rate);
        let timer = bare::Timer::new(&self.poll)?;
        let begin = bare::now();
        let due = |n: usize| match rate {
            0 => begin,
            rate => begin + Duration::from_secs_f64(n as f64 / f64::from(rate)),
        };
        let mut late = Vec::with_capacity(all);
        let (mut last, mut last_done) = (begin, 0);
        while self.done < all {
            let started = self.connections.len();
            let now = bare::now();
            if started < all && due(started) <= now && (rate > 0 || started - self.done < AT_ONCE) {
                late.push(now - due(started));
                self.start()?;
                continue;
            }
            if self.done > last_done {
                (last, last_done) = (now, self.done);
            }
            anyhow::ensure!(now - last < PATIENCE, "{} of {all}, then none within {PATIENCE:?}", self.done);
            timer.set(if started < all && rate > 0 { due(started) } else { now + PATIENCE })?;
            for (name, readable) in self.poll.wait()?.filter(|&(name, _)| name != bare::TIMER) {
                self.turn(name as usize, readable)?;
            }
        }
        let took = bare::now() - begin;
        late.sort_unstable();
        let p99 = late[(late.len() - 1) * 99 / 100].as_secs_f64() * 1e3;
        Ok(serde_json::json!({
            "connections": all,
            "seconds": took.as_secs_f64(),
            "start_lateness_p99_ms": (rate > 0).then_some(p99),
        }))
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let stream = bare::dial(self.arguments.target)?;
        self.poll.add(&stream, self.connections.len() as u64)?;
        self.connections.push(Some(Connection { stream, step: Step::Dial, unread: Vec::new() }));
        Ok(())
    }

    fn turn(&mut self, name: usize, readable: bool) -> anyhow::Result<()> {
        let hold = self.arguments.hold;
        let slot = &mut self.connections[name];
        let Some(connection) = slot else { return Ok(()) };
        if let Step::Dial = connection.step {
            bare::write(&connection.stream, &self.request)?;
            connection.step = Step::Upgrade;
        }
        if !readable {
            return Ok(());
        }
        let stays = bare::read(&connection.stream, &mut connection.unread)?;
        if let Step::Upgrade = connection.step
            && let Some(end) = bare::head_end(&connection.unread)
        {
            anyhow::ensure!(connection.unread.starts_with(b"HTTP/1.1 101"), "no 101");
            if !hold {
                self.done += 1;
                slot.take().into_iter().for_each(|connection| bare::drop_connection(connection.stream));
                return Ok(());
            }
            connection.unread.drain(..end);
            connection.step = Step::Welcome;
        }
        while hold && let Some(frame) = bare::frame(&connection.unread) {
            let payload = &connection.unread[frame.payload.clone()];
            match connection.step {
                Step::Welcome if payload.starts_with(b"0{") => {
                    let mut hello = Vec::new();
                    bare::put_frame(&mut hello, TEXT, b"40", Some(MASK));
                    bare::write(&connection.stream, &hello)?;
                    connection.step = Step::Join;
                }
                Step::Join if payload.starts_with(b"40") => {
                    connection.step = Step::Done;
                    self.done += 1;
                }
                _ => {}
            }
            connection.unread.drain(..frame.payload.end);
        }
        anyhow::ensure!(stays, "the server closed a connection after {} of them", self.done);
        Ok(())
    }
}
