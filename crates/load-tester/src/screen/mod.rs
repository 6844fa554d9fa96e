//! The terminal while a run goes on. The conductor puts what it is told into a [`Picture`]; a thread of its own draws
//! that, at most ten times a second, and reads the keys. Nothing of this is on a worker's path.

mod picture;
mod view;

use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::mem::ManuallyDrop;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ratatui::DefaultTerminal;
use ratatui::crossterm::cursor::Show;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{LeaveAlternateScreen, disable_raw_mode};

pub use picture::Picture;
pub use view::{Overlay, Tab, View, text};

use crate::run::Progress;
use crate::script::model::Script;
use crate::signals;

/// At most so many frames a second.
const FRAME: Duration = Duration::from_millis(100);
/// What the thread that draws gets to end.
const MOST_WAITING: Duration = Duration::from_secs(2);
/// The clock in the header moves at least so often.
const CLOCK: Duration = Duration::from_millis(500);

/// Whether the terminal is the screen's. Held while a frame is drawn, so that giving the terminal back never happens in
/// the middle of one.
static ON: Mutex<bool> = Mutex::new(false);

/// Whether the screen can and should be shown: somebody sits at this terminal, and did not ask for lines.
pub fn wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let ci = set("CI").is_some_and(|value| value != "false" && value != "0");
    std::io::stdin().is_terminal()
        && std::io::stdout().is_terminal()
        && set("TERM").is_none_or(|term| term != "dumb")
        && !ci
        && in_foreground()
}

/// Started with `&`, a program that takes the terminal is stopped by it.
fn in_foreground() -> bool {
    rustix::termios::tcgetpgrp(std::io::stdout()).is_ok_and(|group| group == rustix::process::getpgrp())
}

/// The screen of one run.
#[derive(Debug)]
pub struct Screen {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    picture: Mutex<Picture>,
    over: AtomicBool,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When it does not let itself be taken; it is as it was then.
    pub fn start(script: &Script) -> anyhow::Result<Self> {
        let picture = Picture::new(script);
        let terminal = ratatui::try_init().inspect_err(|_| restore_now()).context("taking the terminal")?;
        // Given back by `restore`; its own end prints to a terminal that may be gone, and panics.
        let mut terminal = ManuallyDrop::new(terminal);
        *lock(&ON) = true;
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
        let shared = Arc::new(Shared { picture: Mutex::new(picture), over: AtomicBool::new(false) });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name("screen".into()).spawn(move || show(&mut terminal, &shared))
        };
        let thread = thread.inspect_err(|_| restore()).context("starting the screen's thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Takes in what a run tells.
    pub fn tell(&mut self, progress: &Progress<'_>) {
        lock(&self.shared.picture).tell(progress);
    }

    /// A line for the log, from outside the run.
    pub fn note(&mut self, text: &str) {
        lock(&self.shared.picture).note(text);
    }

    /// Gives the terminal back, and answers what was said that lines would have shown: notices, and what the script
    /// itself printed, in order.
    pub fn close(mut self) -> Vec<String> {
        self.end();
        lock(&self.shared.picture).said()
    }

    fn end(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // One that reads from a terminal that went away in this very moment never ends; the run must.
            let begun = Instant::now();
            while !thread.is_finished() && begun.elapsed() < MOST_WAITING {
                std::thread::sleep(Duration::from_millis(2));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
        restore();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal back if the screen has it. Safe to call from anywhere, a panic in the drawing included.
pub fn restore() {
    let begun = Instant::now();
    loop {
        match ON.try_lock() {
            Ok(mut on) => {
                if std::mem::take(&mut *on) {
                    restore_now();
                }
                return;
            }
            // The thread that draws may be the one that panics, and holds the lock for good.
            Err(_) if begun.elapsed() > Duration::from_millis(300) => return restore_now(),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

fn restore_now() {
    let _ = disable_raw_mode();
    let _ = execute!(std::io::stdout(), LeaveAlternateScreen, Show);
}

/// Waits for a key, at most for so long, and answers whether the terminal was hung up: crossterm would read its end over
/// and over. Asked of standard output, since keys may come from `/dev/tty`.
fn is_gone(wait: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let out = std::io::stdout();
    let mut fds = [PollFd::new(&out, PollFlags::IN)];
    let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
    poll(&mut fds, Some(&wait)).is_ok() && fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
}

/// The screen's thread: keys in, frames out.
fn show(terminal: &mut DefaultTerminal, shared: &Shared) {
    let mut view =
        View { colour: std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()), ..View::default() };
    let (mut drawn, mut seen, mut stale) = (Instant::now(), 0, true);
    while !shared.over.load(Ordering::Acquire) {
        let wait = FRAME.saturating_sub(drawn.elapsed()).max(Duration::from_millis(10));
        if is_gone(wait) {
            return;
        }
        if event::poll(Duration::ZERO).unwrap_or(false) {
            match event::read() {
                Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => {
                    let ctrl_c =
                        key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    act(key.code, ctrl_c, &mut view, shared);
                    stale = true;
                }
                Ok(Event::Resize(..)) => stale = true,
                _ => {}
            }
        }
        let version = lock(&shared.picture).version();
        if drawn.elapsed() < FRAME || !(stale || version != seen || drawn.elapsed() >= CLOCK) {
            continue;
        }
        let picture = lock(&shared.picture).clone();
        view.elapsed_s = picture.elapsed_s(Instant::now());
        let on = lock(&ON);
        if !*on || terminal.draw(|frame| view::draw(frame, &picture, &view)).is_err() {
            return;
        }
        (drawn, seen, stale) = (Instant::now(), version, false);
    }
}

fn act(key: KeyCode, ctrl_c: bool, view: &mut View, shared: &Shared) {
    use rustix::process::{Signal, getpid, kill_current_process_group, kill_process};
    // The signal takes the way it takes without a screen.
    let interrupt = || {
        let _ = kill_process(getpid(), Signal::INT);
    };
    view.message = None;
    match key {
        // In raw mode a key like any other; else the terminal would tell all who share it.
        _ if ctrl_c => {
            let _ = kill_current_process_group(Signal::INT);
        }
        KeyCode::Char('q') if !lock(&shared.picture).interrupted() => interrupt(),
        KeyCode::Char('Q') => {
            // The second signal ends the process; the first may not have been heeded yet.
            if !lock(&shared.picture).interrupted() {
                interrupt();
                std::thread::sleep(signals::SAME_PRESS + FRAME);
            }
            interrupt();
        }
        KeyCode::Char(digit @ '1'..='5') => {
            view.tab = Tab::ALL[digit as usize - '1' as usize];
            view.overlay = None;
        }
        KeyCode::Tab | KeyCode::Right => view.tab = view.tab.step(1),
        KeyCode::BackTab | KeyCode::Left => view.tab = view.tab.step(Tab::ALL.len() - 1),
        KeyCode::Char('l') => view.toggle(Overlay::Log),
        KeyCode::Char('?' | 'h') => view.toggle(Overlay::Help),
        KeyCode::Esc => view.overlay = None,
        KeyCode::Char('s') => {
            let picture = lock(&shared.picture).clone();
            view.message = Some(match snapshot(&picture, view) {
                Ok(path) => format!("written: {}", path.display()),
                Err(error) => format!("{error:#}: start drumfire where you may write"),
            });
        }
        _ => {}
    }
}

/// Every tab as text, in a new file of the working directory.
fn snapshot(picture: &Picture, view: &View) -> anyhow::Result<PathBuf> {
    let stamp = jiff::Zoned::now().strftime("%Y%m%d_%H%M%S").to_string();
    let path = PathBuf::from(format!("drumfire_screen_{stamp}.txt"));
    let mut pages = String::new();
    for tab in Tab::ALL {
        let view = View { tab, overlay: None, message: None, ..view.clone() };
        pages += &text(picture, &view, 120, 45);
        pages.push('\n');
    }
    let file = OpenOptions::new().write(true).create_new(true).open(&path);
    file.and_then(|mut file| file.write_all(pages.as_bytes()))
        .with_context(|| format!("{}: cannot write here", path.display()))?;
    Ok(path)
}
