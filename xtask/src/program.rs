//! A server beside others: started, awaited, told to end; killed when dropped.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::{self, Interrupted, seconds};
use crate::signal;

const READY_WITHIN: Duration = Duration::from_secs(20);
const ENDED_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Its output goes to `<logs>/<name>.log`, where it is started too.
    pub(crate) fn start(name: &'static str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let child = command
            .current_dir(logs)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            // A group of its own: Ctrl-C must reach drumfire first, and these only when all is written.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Until it accepts connections.
    pub(crate) fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            if signal::received().is_some() {
                return Err(Interrupted.into());
            }
            let ended = self.child.try_wait()?;
            if ended.is_none() && TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
                return Ok(());
            }
            if ended.is_some() || Instant::now() >= until {
                let how = ended
                    .map_or_else(|| "did not become ready".to_owned(), |status| format!("ended ({status})"));
                bail!("{} {how}:\n{}", self.name, self.said().trim_end());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGTERM, and the time it needs; an error when that is not enough.
    pub(crate) fn stop(&mut self) -> Result<()> {
        command::terminate(&self.child);
        if command::wait_for(&mut self.child, ENDED_WITHIN)?.is_none() {
            bail!("{} did not end within {}", self.name, seconds(ENDED_WITHIN));
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
