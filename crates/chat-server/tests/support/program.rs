//! The `dna` program as a process of its own, for what must not happen to the test's.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::{Person, SECRET, token};

pub struct Program {
    child: Child,
    pub address: SocketAddr,
}

impl Program {
    /// `dna serve` on a free port, without rate limits. `arguments` come last.
    pub fn start(data: &Path, arguments: &[&str]) -> Self {
        Self::try_start(data, arguments).unwrap_or_else(|output| panic!("dna did not start: {output}"))
    }

    /// As [`Program::start`]; what it said on stderr when it would not.
    pub fn try_start(data: &Path, arguments: &[&str]) -> Result<Self, String> {
        Self::spawn(data, &[&["--no-limits"], arguments].concat())
    }

    /// With these settings (the text of a `dna.toml`), limits included.
    pub fn with_settings(data: &Path, settings: &str) -> Self {
        std::fs::write(data.join("dna.toml"), settings).unwrap();
        Self::spawn(data, &[]).unwrap_or_else(|output| panic!("dna did not start: {output}"))
    }

    fn spawn(data: &Path, arguments: &[&str]) -> Result<Self, String> {
        // SIGXFSZ is ignored, so that a full disk is an error and no death. exec keeps that.
        let mut child = Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; exec "$0" "$@""#, env!("CARGO_BIN_EXE_dna")])
            .args(["serve", "--listen", "127.0.0.1:0", "--workers", "1", "--data"])
            .arg(data)
            .args(arguments)
            .current_dir(data)
            .env("DNA_JWT_SECRET", std::str::from_utf8(SECRET).unwrap())
            .env("DNA_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_once("://").and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
        let Some(address) = address else {
            let output = child.wait_with_output().unwrap();
            assert!(!output.status.success());
            return Err(line + &String::from_utf8_lossy(&output.stderr));
        };
        // Its log is not read; a full pipe must not stop it.
        let mut log = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Ok(Self { child, address })
    }

    pub async fn person(&self, idx: u64) -> Person {
        Person::connect(self.address, &token(idx)).await
    }

    /// How large a file of this process may grow; `None`: as large as it likes.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        use rustix::process::{Pid, Resource, Rlimit, prlimit};
        let pid = Pid::from_child(&self.child);
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
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
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )
        .unwrap();
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
    }
}
