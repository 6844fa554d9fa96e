//! What the whole-system tests share: the programs themselves, started as a user would start them.
//!
//! Everything listens on loopback on a port of its own. Tests that load the machine take [`alone`], so
//! that they do not measure each other.

pub mod clients;
pub mod echo;
pub mod lines;
pub mod oracle;
mod ports;
pub mod stage;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

pub use ports::{free_port, lasting_port};
pub use xtask::root;
pub(crate) use xtask::{cargo, target};

/// One loaded test at a time in a test binary (cargo runs the binaries one after another).
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Release builds of `dna` and `drumfire`, made once.
pub fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| Binaries::build().expect("building dna and drumfire"))
}

#[derive(Debug)]
pub struct Binaries {
    pub dna: PathBuf,
    pub drumfire: PathBuf,
}

impl Binaries {
    fn build() -> anyhow::Result<Self> {
        let find = cargo_build(&["--release", "-p", "chat-server", "-p", "load-tester"])?;
        Ok(Self { dna: find("dna")?, drumfire: find("drumfire")? })
    }
}

/// Builds, and says where a program is.
pub(crate) fn cargo_build(what: &[&str]) -> anyhow::Result<impl Fn(&str) -> anyhow::Result<PathBuf>> {
    let output = cargo()
        .args(["build", "--quiet", "--message-format", "json-render-diagnostics"])
        .args(what)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "cargo build failed");
    Ok(move |name: &str| {
        output
            .stdout
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == name)
            .find_map(|message| message["executable"].as_str().map(PathBuf::from))
            .with_context(|| format!("cargo did not say where {name} is"))
    })
}

/// A running `dna`; killed when dropped.
#[derive(Debug)]
pub struct Dna {
    child: Child,
    pub port: u16,
    pub data: PathBuf,
    log: PathBuf,
}

impl Dna {
    /// `dna serve` on a free port with this data directory and further flags, ready when this returns.
    pub fn start(data: &Path, flags: &[&str]) -> Self {
        Self::start_on(free_port(), data, flags)
    }

    pub fn start_on(port: u16, data: &Path, flags: &[&str]) -> Self {
        std::fs::create_dir_all(data).expect("data directory");
        let log = data.join("dna.log");
        let mut child = Command::new(&binaries().dna)
            .args(["serve", "--listen", &format!("127.0.0.1:{port}")])
            .arg("--data")
            .arg(data)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("log file"))
            .spawn()
            .expect("starting dna");
        let line = first_line(&mut child);
        let dna = Self { child, port, data: data.to_owned(), log };
        assert!(line.contains("listening"), "dna said {line:?}; log: {}", dna.log());
        dna
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, as a crash.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, then waits for the drain.
    pub fn stop(mut self) -> ExitStatus {
        signal(self.pid(), libc::SIGTERM);
        wait(&mut self.child, Duration::from_secs(30)).expect("dna drains within its time")
    }

    /// Signed tokens for users `first`, `first + 1`, ...
    pub fn tokens(&self, first: u64, count: u64, test: bool) -> Vec<String> {
        tokens(&self.data, first, count, test)
    }

    /// The value of one sample line of `/metrics`, e.g. `dna_messages_total{world="test"}`.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = http_get(self.port, "/metrics").expect("metrics").1;
        text.lines()
            .find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {sample} in\n{text}"))
    }
}

impl Drop for Dna {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- dna's log ----\n{}", self.log());
        }
    }
}

/// Of its standard output. The rest is drained, so that a later line does not end the child with a broken pipe.
pub(crate) fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("reading a first line");
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
    line
}

pub fn tokens(data: &Path, first: u64, count: u64, test: bool) -> Vec<String> {
    let mut command = Command::new(&binaries().dna);
    command.args(["token", "--idx", &first.to_string(), "--count", &count.to_string()]);
    command.arg("--data").arg(data);
    if test {
        command.arg("--test");
    }
    let output = command.output().expect("dna token");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// What a finished program said.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "\nstdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }
}

/// Runs a command to its end in `dir`, within `limit`.
pub fn run(command: &mut Command, dir: &Path, limit: Duration) -> anyhow::Result<Finished> {
    let mut child = command
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let read = |mut pipe: Box<dyn std::io::Read + Send>| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let stdout = read(Box::new(child.stdout.take().context("piped")?));
    let stderr = read(Box::new(child.stderr.take().context("piped")?));
    let status = wait(&mut child, limit);
    if status.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    let finished = Finished {
        code: status.as_ref().ok().and_then(ExitStatus::code),
        stdout: stdout.join().unwrap_or_default(),
        stderr: stderr.join().unwrap_or_default(),
    };
    if let Err(error) = status {
        bail!("{command:?}: {error}\nstdout:\n{}\nstderr:\n{}", finished.stdout, finished.stderr);
    }
    Ok(finished)
}

/// `drumfire` with these arguments.
pub fn drumfire(arguments: &[&str], dir: &Path, limit: Duration) -> Finished {
    run(Command::new(&binaries().drumfire).args(arguments), dir, limit).expect("drumfire ends")
}

/// A result file of `drumfire run -o`.
pub fn read_json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Asks the stock SQLite command-line client, not us; rows as it prints them, columns joined by `|`.
pub fn sqlite(database: &Path, query: &str) -> Vec<String> {
    let output = Command::new("sqlite3")
        .arg("-readonly")
        .arg(database)
        .arg(query)
        .output()
        .expect("sqlite3 is installed (apt-get install sqlite3)");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

/// One number from the stock SQLite client.
pub fn sqlite_number(database: &Path, query: &str) -> i64 {
    let rows = sqlite(database, query);
    rows.first().and_then(|row| row.parse().ok()).unwrap_or_else(|| panic!("{query}: {rows:?}"))
}

/// The folder with the official JavaScript packages; installs them when what is there is not what is locked.
pub fn node_packages(name: &str) -> PathBuf {
    static INSTALLING: Mutex<()> = Mutex::new(());
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = root().join("e2e").join(name);
    xtask::node_packages(&dir).expect("npm packages");
    dir
}

pub fn signal(pid: u32, signal: libc::c_int) {
    // SAFETY: kill takes two integers; the child is ours and not yet waited for.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(pid.cast_signed(), signal);
    }
}

/// Waits for a child's end.
///
/// # Errors
/// When it has not ended within `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> anyhow::Result<ExitStatus> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if start.elapsed() > limit {
            bail!("still running after {limit:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks until it holds; panics with `what` after `limit`.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < limit, "after {limit:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A plain GET; status and body.
///
/// # Errors
/// Those of the connection.
pub fn http_get(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    use std::io::Write as _;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Ok((status, if chunked { unchunk(body) } else { body.to_owned() }))
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        if size == 0 || rest.len() < size {
            break;
        }
        text.push_str(&rest[..size]);
        body = rest[size..].strip_prefix("\r\n").unwrap_or("");
    }
    text
}
