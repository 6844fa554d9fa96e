//! The journal's virtual user as system calls alone: one thread, epoll, due instants by a timerfd, no runtime.
//!
//! Each user connects, asks for `/` and reads the answer; connects again, upgrades to a WebSocket, waits for Engine.IO's and
//! Socket.IO's welcome, says its one message, thinks for a second, closes. Prints one line of JSON. What a load tester pays
//! to the operating system for a user.

use std::collections::VecDeque;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use bench_peers::bare;
use clap::Parser;

const THINK: Duration = Duration::from_secs(1);
/// Who has no answer by then has failed.
const PATIENCE: Duration = Duration::from_secs(10);
const TEXT: u8 = 1;
const CLOSE: u8 = 8;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    target: SocketAddr,
    /// Users per second.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// One signed token a line; after the last one the first comes again.
    #[arg(long)]
    tokens: PathBuf,
}

enum Step {
    /// Of `GET /`.
    Page {
        asked: bool,
    },
    Upgrade {
        asked: bool,
    },
    Welcome,
    /// Of the namespace.
    Join,
    Think,
}

struct User {
    stream: TcpStream,
    step: Step,
    unread: Vec<u8>,
}

struct Run {
    target: SocketAddr,
    poll: bare::Poll,
    page_request: Vec<u8>,
    upgrade_request: Vec<u8>,
    tokens: Vec<String>,
    users: Vec<Option<User>>,
    thinking: VecDeque<(Duration, usize)>,
    completed: usize,
    failures: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let tokens: Vec<String> =
        std::fs::read_to_string(&arguments.tokens)?.lines().map(str::to_owned).collect();
    anyhow::ensure!(!tokens.is_empty(), "no tokens");
    let mut run = Run {
        target: arguments.target,
        poll: bare::Poll::new()?,
        page_request: format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", arguments.target).into_bytes(),
        upgrade_request: bare::upgrade_request(arguments.target),
        tokens,
        users: Vec::new(),
        thinking: VecDeque::new(),
        completed: 0,
        failures: Vec::new(),
    };
    let all = (arguments.rate * arguments.seconds) as usize;
    run.users.resize_with(all, || None);
    let timer = bare::Timer::new(&run.poll)?;
    let mut late: Vec<Duration> = Vec::with_capacity(all);
    let begin = bare::now() + Duration::from_millis(10);
    let due = |user: usize| begin + Duration::from_secs_f64(user as f64 / f64::from(arguments.rate));
    let mut next = 0;
    let end = due(all) + THINK + PATIENCE;
    while run.completed + run.failures.len() < all {
        let starts = (next < all).then(|| due(next));
        let ends = run.thinking.front().map(|&(at, _)| at);
        timer.set([starts, ends].into_iter().flatten().min().unwrap_or(end))?;
        for (name, readable) in run.poll.wait()? {
            if name != bare::TIMER {
                run.turn(name as usize, readable);
            }
        }
        let now = bare::now();
        while next < all && due(next) <= now {
            late.push(bare::now() - due(next));
            run.start(next);
            next += 1;
        }
        while let Some(&(_, user)) = run.thinking.front().filter(|(at, _)| *at <= now) {
            run.thinking.pop_front();
            run.leave(user);
        }
        if now >= end {
            let waiting = all - run.completed - run.failures.len();
            run.failures.extend(std::iter::repeat_n("no answer in time".to_owned(), waiting));
        }
    }
    late.sort_unstable();
    let late_ms = |part: f64| late[((late.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    let result = serde_json::json!({
        "users": all,
        "completed": run.completed,
        "errors": run.failures.len(),
        "first_error": run.failures.first(),
        "start_lateness_ms": {"p50": late_ms(0.5), "p99": late_ms(0.99)},
    });
    println!("{result}");
    Ok(())
}

impl Run {
    fn start(&mut self, user: usize) {
        self.connect(user, Step::Page { asked: false });
    }

    fn connect(&mut self, user: usize, step: Step) {
        let dialled = bare::dial(self.target).and_then(|stream| {
            self.poll.add(&stream, user as u64)?;
            Ok(stream)
        });
        match dialled {
            Ok(stream) => self.users[user] = Some(User { stream, step, unread: Vec::new() }),
            Err(error) => self.fail(user, format!("connect: {error}")),
        }
    }

    fn fail(&mut self, user: usize, why: String) {
        self.users[user] = None;
        self.failures.push(why);
    }

    /// Something can be written or read.
    fn turn(&mut self, user: usize, readable: bool) {
        if let Err(why) = self.try_turn(user, readable) {
            self.fail(user, why.to_string());
        }
    }

    fn try_turn(&mut self, name: usize, readable: bool) -> anyhow::Result<()> {
        let Some(user) = &mut self.users[name] else { return Ok(()) };
        match &mut user.step {
            Step::Page { asked } if !*asked => {
                *asked = true;
                bare::write(&user.stream, &self.page_request)?;
            }
            Step::Upgrade { asked } if !*asked => {
                *asked = true;
                bare::write(&user.stream, &self.upgrade_request)?;
            }
            _ => {}
        }
        if !readable {
            return Ok(());
        }
        let open = bare::read(&user.stream, &mut user.unread)?;
        if let Step::Page { .. } = user.step {
            if page_is_whole(&user.unread)? {
                self.users[name] = None;
                self.connect(name, Step::Upgrade { asked: false });
                return Ok(());
            }
        } else if let Step::Upgrade { .. } = user.step
            && let Some(end) = bare::head_end(&user.unread)
        {
            anyhow::ensure!(user.unread.starts_with(b"HTTP/1.1 101"), "no 101");
            user.unread.drain(..end);
            user.step = Step::Welcome;
        }
        if matches!(user.step, Step::Welcome | Step::Join | Step::Think) {
            self.frames(name)?;
        }
        anyhow::ensure!(open, "the server closed");
        Ok(())
    }

    fn frames(&mut self, name: usize) -> anyhow::Result<()> {
        let Some(user) = &mut self.users[name] else { return Ok(()) };
        let mut said = Vec::new();
        while let Some(frame) = bare::frame(&user.unread) {
            anyhow::ensure!(frame.opcode != CLOSE, "closed by the server");
            let payload = &user.unread[frame.payload.clone()];
            match user.step {
                Step::Welcome if payload.starts_with(b"0{") => {
                    bare::put_frame(&mut said, TEXT, b"40", Some(MASK));
                    user.step = Step::Join;
                }
                Step::Join if payload.starts_with(b"40") => {
                    let token = &self.tokens[name % self.tokens.len()];
                    bare::put_frame(&mut said, TEXT, message(token).as_bytes(), Some(MASK));
                    user.step = Step::Think;
                    self.thinking.push_back((bare::now() + THINK, name));
                }
                // What is said near it; refusals come as exceptions.
                Step::Think => anyhow::ensure!(!payload.starts_with(b"42[\"exception\""), "refused"),
                _ => anyhow::bail!("not expected: {}", String::from_utf8_lossy(payload)),
            }
            user.unread.drain(..frame.payload.end);
        }
        if !said.is_empty() {
            bare::write(&user.stream, &said)?;
        }
        Ok(())
    }

    /// Says goodbye as official clients do, and closes.
    fn leave(&mut self, name: usize) {
        let Some(user) = self.users[name].take() else { return };
        let mut said = Vec::new();
        bare::put_frame(&mut said, TEXT, b"41", Some(MASK));
        bare::put_frame(&mut said, CLOSE, &[], Some(MASK));
        match bare::write(&user.stream, &said) {
            Ok(()) => self.completed += 1,
            Err(error) => self.failures.push(format!("goodbye: {error}")),
        }
    }
}

/// Chance is nothing to measure.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// As `scenarios/journal.yml` has it.
fn message(token: &str) -> String {
    format!(
        r#"42["save_msg",{{"token":"{token}","messageData":{{"lng":127.0276,"lat":37.4979,"contents":"testing","type":"LoudSpeaker"}},"radius":500}}]"#
    )
}

/// Head and as much as it announces.
fn page_is_whole(bytes: &[u8]) -> anyhow::Result<bool> {
    let Some(end) = bare::head_end(bytes) else { return Ok(false) };
    let head = std::str::from_utf8(&bytes[..end])?;
    anyhow::ensure!(
        head.starts_with("HTTP/1.1 200"),
        "the page: {}",
        head.lines().next().unwrap_or_default()
    );
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>())
    });
    let length = length.transpose()?.ok_or_else(|| anyhow::anyhow!("a page without a length"))?;
    Ok(bytes.len() >= end + length)
}
