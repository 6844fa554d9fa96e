//! The pause between two steps: a step must not pay for the one before it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use tokio::time::Instant;

use crate::signals::Signals;
use crate::target::Quiet;

/// Between two looks; no pause is shorter.
const LOOK: Duration = Duration::from_millis(500);
/// A server with a backlog works on when everybody has gone, and connections take time to go. No more than this is waited.
const MOST: Duration = Duration::from_secs(30);
/// A target that uses less of a core is idle,
const IDLE: f64 = 0.1;
/// and so is one that uses hardly more than before the first step.
const HARDLY_MORE: f64 = 1.5;

#[derive(Debug)]
pub struct Settler {
    port: Option<u16>,
    target: Quiet,
    /// Cores, and connections of others on this machine, before the first step.
    usual: Option<(f64, usize)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    Idle,
    /// Still at work after half a minute.
    Busy,
    /// A signal cut the pause short.
    Interrupted(&'static str),
}

impl Settler {
    /// To be made before the first step.
    pub fn new(target: &str) -> Self {
        let url = url::Url::parse(target).ok();
        let addresses: Vec<SocketAddr> = url
            .as_ref()
            .and_then(|url| {
                // In brackets, as URLs write them, addresses of IPv6 would be names.
                let host = url.host_str()?.trim_matches(['[', ']']);
                (host, url.port_or_known_default()?).to_socket_addrs().ok()
            })
            .map_or_else(Vec::new, Iterator::collect);
        let port = url.and_then(|url| url.port_or_known_default());
        Self { port, target: Quiet::watch(&addresses), usual: None }
    }

    /// Waits until the connections of the last step are gone, as far as this machine's kernel knows, and the target has
    /// done its work, when it is on this machine.
    ///
    /// # Errors
    /// When the runtime cannot be made.
    pub fn settle(&mut self) -> anyhow::Result<Settled> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.wait(MOST))
    }

    async fn wait(&mut self, most: Duration) -> anyhow::Result<Settled> {
        let mut signals = Signals::new(true)?;
        let until = Instant::now() + most;
        self.target.cores();
        loop {
            tokio::select! {
                signal = signals.next() => return Ok(Settled::Interrupted(signal)),
                () = tokio::time::sleep(LOOK) => {}
            }
            let cores = self.target.cores();
            let open = self.port.map_or(0, connections_to);
            let usual = *self.usual.get_or_insert((cores.unwrap_or(0.0), open));
            if open <= usual.1 && cores.is_none_or(|cores| cores < IDLE || cores < usual.0 * HARDLY_MORE) {
                return Ok(Settled::Idle);
            }
            if Instant::now() >= until {
                return Ok(Settled::Busy);
            }
        }
    }
}

/// Connections of this machine to a port that are not gone yet; those that only wait out their time count as gone.
fn connections_to(port: u16) -> usize {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let open = tables.iter().filter_map(|table| File::open(table).ok());
    open.map(|table| open_to(BufReader::new(table), port)).sum()
}

/// State `06` is TIME_WAIT, `0A` LISTEN, `07` CLOSE.
fn open_to(mut table: impl BufRead, port: u16) -> usize {
    let wanted = format!(":{port:04X}");
    let (mut count, mut line) = (0, String::new());
    while table.read_line(&mut line).is_ok_and(|length| length > 0) {
        let mut fields = line.split_ascii_whitespace();
        let remote = fields.nth(2).is_some_and(|remote| remote.ends_with(&wanted));
        if remote && fields.next().is_some_and(|state| !matches!(state, "06" | "07" | "0A")) {
            count += 1;
        }
        line.clear();
    }
    count
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn connections_that_only_wait_out_their_time_are_gone() {
        let table = "  sl  local_address rem_address   st\n\
             0: 0100007F:A001 0100007F:2335 01 rest\n\
             1: 0100007F:A002 0100007F:2335 06 rest\n\
             2: 0100007F:2335 0100007F:A001 01 rest\n\
             3: 0100007F:A003 0100007F:2335 08 rest\n";
        assert_eq!(open_to(table.as_bytes(), 9013), 2);
    }

    /// A shell that listens, and works while there is a file, stands for a server with a backlog.
    #[test]
    fn a_target_that_works_on_is_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let socket: std::os::fd::OwnedFd = listener.into();
        // It holds the listening socket as its standard input; this process gives its own away.
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        let mut child = Command::new("sh")
            .args([
                "-c",
                "until [ -e work ]; do sleep 0.3; done; while [ -e work ]; do :; done; exec sleep 60",
            ])
            .current_dir(folder.path())
            .stdin(Stdio::from(socket))
            .spawn()
            .unwrap();
        let mut settler = Settler::new(&url);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let mut settle = |most_s| {
            let begun = Instant::now();
            (runtime.block_on(settler.wait(Duration::from_secs(most_s))).unwrap(), begun.elapsed())
        };
        let (before, took) = settle(60);
        assert!(before == Settled::Idle && took < Duration::from_secs(5), "{took:?}");
        File::create(&work).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        let busy = settle(0).0;
        std::fs::remove_file(&work).unwrap();
        let after = settle(60).0;
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((busy, after), (Settled::Busy, Settled::Idle));
    }
}
