//! The chat server of 2018 (bench/2018): a Redis on a port of its own, and Node beside it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::command::{self, Interrupted, Part, seconds};
use crate::{signal, tree, web};

const READY_WITHIN: Duration = Duration::from_secs(20);
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// Running; both programs are killed when dropped.
#[derive(Debug)]
pub struct Server2018 {
    redis: Program,
    node: Program,
}

#[derive(Debug)]
struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

/// Fails with what to do where Node or Redis is absent.
pub(crate) fn need_programs() -> Result<()> {
    web::need_node()?;
    let found = Command::new("redis-server").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        bail!(
            "`redis-server` is missing (the chat server of 2018 keeps its sessions there): \
             apt-get install redis-server | brew install redis"
        );
    }
    Ok(())
}

/// Its packages, when what is installed is not what is locked.
pub(crate) fn install() -> Result<Option<Part>> {
    web::install(&folder(), "2018 packages")
}

fn folder() -> PathBuf {
    tree::root().join("bench/2018")
}

impl Server2018 {
    /// Installs what is missing, starts both and waits until the server answers. Logs go to `logs`; nothing else is
    /// written. Tokens are `dna`'s: `secret` is what they are signed with.
    ///
    /// # Errors
    /// When Node or Redis is absent, or does not become ready; with what they said.
    pub fn start(listen: SocketAddr, secret: &str, logs: &Path) -> Result<Self> {
        Self::start_as(|program| Command::new(program), listen, secret, logs)
    }

    pub(crate) fn start_as(
        begin: fn(&str) -> Command,
        listen: SocketAddr,
        secret: &str,
        logs: &Path,
    ) -> Result<Self> {
        need_programs()?;
        install()?;
        let redis_port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut redis = begin("redis-server");
        redis.args(["--bind", "127.0.0.1", "--port", &redis_port.to_string()]);
        // In memory alone, so that what is measured is not a disk, and nothing is left behind.
        redis.args(["--save", "", "--appendonly", "no"]);
        let mut redis = Program::start("redis-server", &mut redis, logs)?;
        redis.wait_for((Ipv4Addr::LOCALHOST, redis_port).into())?;

        let mut node = begin("node");
        node.arg(folder().join("server.js"));
        node.env("PORT", listen.port().to_string())
            .env("REDIS_PORT", redis_port.to_string())
            .env("JWT_SECRET", secret);
        let mut node = Program::start("node", &mut node, logs)?;
        node.wait_for(listen)?;
        Ok(Self { redis, node })
    }

    /// SIGTERM to both, Node first.
    ///
    /// # Errors
    /// When one of them does not end in time; it is killed then.
    pub fn stop(mut self) -> Result<()> {
        for program in [&mut self.node, &mut self.redis] {
            command::terminate(&program.child);
            if command::wait_for(&mut program.child, ENDED_WITHIN)?.is_none() {
                bail!("{} did not end within {}", program.name, seconds(ENDED_WITHIN));
            }
        }
        Ok(())
    }
}

impl Program {
    fn start(name: &'static str, command: &mut Command, logs: &Path) -> Result<Self> {
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

    /// Until it accepts connections.
    fn wait_for(&mut self, address: SocketAddr) -> Result<()> {
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
                let said = fs::read_to_string(&self.log).unwrap_or_default();
                bail!("{} {how}:\n{}", self.name, said.trim_end());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
