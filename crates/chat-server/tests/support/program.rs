//! The `dna` program as a process of its own, for what must not happen to the test's.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use super::{LONG, Person, SECRET, get, token};

pub struct Program {
    child: Child,
    pub address: SocketAddr,
    log: PathBuf,
}

impl Program {
    /// `dna serve` on a free port, without rate limits. `arguments` come last.
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::start_with(data, arguments, &[] as &[(&str, &str)])
    }

    /// As [`Program::start`]; `environment` goes before the usual one; empty: not there.
    pub fn start_with(data: &Path, arguments: &[&str], environment: &[(&str, impl AsRef<OsStr>)]) -> Self {
        Self::spawn(data, &[&["--no-limits"], arguments].concat(), environment)
            .unwrap_or_else(|output| panic!("dna did not start: {output}"))
    }

    /// As [`Program::start`]; what it said on stderr when it would not.
    pub fn try_start(data: &Path, arguments: &[&str]) -> Result<Self, String> {
        Self::spawn(data, &[&["--no-limits"], arguments].concat(), &[] as &[(&str, &str)])
    }

    /// With these settings (the text of a `dna.toml`), limits included.
    pub fn with_settings(data: &Path, settings: &str) -> Self {
        std::fs::write(data.join("dna.toml"), settings).unwrap();
        Self::spawn(data, &[], &[] as &[(&str, &str)])
            .unwrap_or_else(|output| panic!("dna did not start: {output}"))
    }

    fn spawn(
        data: &Path,
        arguments: &[&str],
        environment: &[(&str, impl AsRef<OsStr>)],
    ) -> Result<Self, String> {
        let log = data.join("dna.log");
        let mut command = dna(data);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--data"])
            .arg(data)
            .args(arguments)
            .env("DNA_LOG", "info")
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap());
        for (name, value) in environment {
            match value.as_ref() {
                empty if empty.is_empty() => command.env_remove(name),
                value => command.env(name, value),
            };
        }
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        // Nobody reads on after the first line; that must not trouble it.
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        let Some(address) = address else {
            let status = child.wait().unwrap();
            assert!(!status.success());
            return Err(line + &std::fs::read_to_string(log).unwrap());
        };
        Ok(Self { child, address, log })
    }

    pub async fn person(&self, idx: u64) -> Person {
        Person::connect(self.address, &token(idx)).await
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has said on stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until the log says this.
    pub async fn until_log_says(&self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            assert!(began.elapsed() < LONG, "no {text:?} in the log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// One sample of `/metrics`, e.g. `dna_messages_total{world="test"}`.
    pub async fn metric(&self, sample: &str) -> f64 {
        let text = get(self.address, "/metrics").await.1;
        text.lines()
            .find_map(|line| line.strip_prefix(sample)?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no {sample} in\n{text}"))
    }

    /// How large a file of this process may grow; `None`: as large as it likes.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        self.limit(rustix::process::Resource::Fsize, bytes);
    }

    /// How many descriptors this process may have open.
    pub fn limit_descriptors(&self, count: u64) {
        self.limit(rustix::process::Resource::Nofile, Some(count));
    }

    fn limit(&self, resource: rustix::process::Resource, current: Option<u64>) {
        use rustix::process::{Pid, Rlimit, prlimit};
        let pid = Pid::from_child(&self.child);
        let maximum = rustix::process::getrlimit(resource).maximum;
        prlimit(Some(pid), resource, Rlimit { current, maximum }).unwrap();
    }

    /// Waits for an end it comes to by itself.
    pub fn until_ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < LONG, "dna does not end; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    }

    /// Bytes of memory the process holds now.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// SIGHUP: the files of TLS are read again.
    pub fn hang_up(&self) {
        use rustix::process::{Pid, Signal, kill_process};
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// SIGTERM, and the end of the process with success.
    pub fn stop(mut self) {
        self.terminate();
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// SIGKILL: what a power cut leaves of a process.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- dna's log ----\n{}", self.log());
        }
    }
}

/// `dna`, without arguments yet; `folder` is where it runs.
pub fn dna(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dna"));
    command
        .current_dir(folder)
        .env("DNA_JWT_SECRET", std::str::from_utf8(SECRET).unwrap())
        .stdin(Stdio::null());
    command
}

/// Runs a command of `dna` to its end; gives both its outputs.
pub fn run_dna(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    said(dna(folder).args(arguments).output().unwrap())
}

/// Both outputs, by success.
pub fn said(output: Output) -> Result<String, String> {
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8(text).unwrap();
    if output.status.success() { Ok(text) } else { Err(text) }
}
