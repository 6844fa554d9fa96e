//! The example `protocol-echo` of socketio-server: what it hears comes back, bytes included.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::{cargo_build, first_line};

/// Killed when dropped.
#[derive(Debug)]
pub struct Echo {
    child: Child,
    pub url: String,
}

impl Echo {
    /// On a free port, ready when this returns.
    pub fn start(ping_interval: Duration, ping_timeout: Duration) -> Self {
        let mut child = Command::new(program())
            .args(["--listen", "127.0.0.1:0", "--protocol", "socket"])
            .args(["--ping-interval-ms", &ping_interval.as_millis().to_string()])
            .args(["--ping-timeout-ms", &ping_timeout.as_millis().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting protocol-echo");
        let line = first_line(&mut child);
        let address = line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("it said {line:?}"));
        Self { child, url: format!("http://{address}") }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        // The selection of `cargo test --workspace`, which has built it already.
        let find =
            cargo_build(&["--workspace", "--example", "protocol-echo"]).expect("building protocol-echo");
        find("protocol-echo").expect("protocol-echo")
    })
}
