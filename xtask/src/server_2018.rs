//! The chat server of 2018 (bench/2018): a Redis on a port of its own, and Node beside it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::command::Part;
use crate::program::Program;
use crate::stage::free_port;
use crate::{tree, web};

/// Running; both programs are killed when dropped.
#[derive(Debug)]
pub struct Server2018 {
    redis: Program,
    node: Program,
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

/// A Redis on a port of its own, begun by `command`; in memory alone, so that what is measured is not a disk, and nothing is
/// left behind.
pub(crate) fn start_redis(mut command: Command, logs: &Path) -> Result<(Program, SocketAddr)> {
    let listen = free_port()?;
    command.args(["--bind", "127.0.0.1", "--port", &listen.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no"]);
    let mut redis = Program::start("redis-server", &mut command, logs)?;
    redis.wait_for(listen)?;
    Ok((redis, listen))
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
        let (redis, redis_listens) = start_redis(begin("redis-server"), logs)?;
        let mut node = begin("node");
        node.arg(folder().join("server.js"));
        node.env("PORT", listen.port().to_string())
            .env("REDIS_PORT", redis_listens.port().to_string())
            .env("JWT_SECRET", secret);
        let mut node = Program::start("node", &mut node, logs)?;
        node.wait_for(listen)?;
        Ok(Self { redis, node })
    }

    /// Processes to be measured: Node and Redis.
    pub(crate) fn pids(&self) -> [u32; 2] {
        [self.node.pid(), self.redis.pid()]
    }

    /// SIGTERM to both, Node first.
    ///
    /// # Errors
    /// When one of them does not end in time; it is killed then.
    pub fn stop(mut self) -> Result<()> {
        for program in [&mut self.node, &mut self.redis] {
            program.stop()?;
        }
        Ok(())
    }
}
