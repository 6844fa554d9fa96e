//! The example `protocol-echo` of socketio-server, with heartbeats of our choice.

use std::time::Duration;

/// Killed when dropped.
#[derive(Debug)]
pub struct Echo {
    pub url: String,
    _running: xtask::Echo,
}

impl Echo {
    /// On a free port, ready when this returns.
    pub fn start(ping_interval: Duration, ping_timeout: Duration) -> Self {
        let [interval, timeout] = [ping_interval, ping_timeout].map(|time| time.as_millis().to_string());
        let flags = ["--ping-interval-ms", &interval, "--ping-timeout-ms", &timeout];
        let running = xtask::Echo::start("127.0.0.1:0", "socket", &flags).expect("protocol-echo");
        Self { url: running.url.clone(), _running: running }
    }
}
