//! The example `protocol-echo` of socketio-server: what it hears comes back, bytes included.

use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::command::logged;
use crate::tree;

/// The selection of `cargo test --workspace`, which may have built it already.
const BUILD: [&str; 6] = ["build", "--locked", "--workspace", "--example", "protocol-echo", "--quiet"];

/// Running; killed when dropped.
#[derive(Debug)]
pub struct Echo {
    child: Child,
    pub url: String,
}

/// Once in a process; who comes meanwhile waits.
fn build() -> Result<()> {
    static BUILT: Mutex<bool> = Mutex::new(false);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !*built {
        logged("build protocol-echo", tree::cargo().args(BUILD), |_| ())?;
        *built = true;
    }
    Ok(())
}

impl Echo {
    /// Builds it and lets it listen, e.g. on `127.0.0.1:0`; `protocol` is `engine` or `socket`.
    ///
    /// # Errors
    /// When it cannot be built, or does not begin to listen.
    pub fn start(listen: &str, protocol: &str, flags: &[&str]) -> Result<Self> {
        build()?;
        let program = tree::target().join("debug/examples/protocol-echo");
        let mut child = Command::new(&program)
            .args(["--listen", listen, "--protocol", protocol])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut echo = Self { child, url: String::new() };
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .with_context(|| format!("protocol-echo did not begin to listen at {listen}: {line}"))?;
        echo.url = format!("http://{address}");
        // So that a later line does not end it with a broken pipe.
        std::thread::spawn(move || io::copy(&mut stdout, &mut io::sink()));
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
