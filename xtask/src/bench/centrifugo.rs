//! Centrifugo, whose places are channels: installed by Go, told to let everybody in.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::command::logged;
use crate::program::Program;
use crate::tree;

const MODULE: &str = "github.com/centrifugal/centrifugo/v6";
pub(super) const VERSION: &str = "v6.9.1";

fn program() -> PathBuf {
    tree::target().join("bench-centrifugo").join(VERSION).join("centrifugo")
}

/// Builds it, unless it is there.
///
/// # Errors
/// When Go is absent, or cannot build it.
pub(super) fn install() -> Result<()> {
    let program = program();
    if program.is_file() {
        return Ok(());
    }
    let mut install = Command::new("go");
    install.args(["install", &format!("{MODULE}@{VERSION}")]);
    install.env("GOBIN", program.parent().context("a folder")?);
    logged("Centrifugo", &mut install, |_| ()).map(|_| ())
}

/// Everybody may come, join a channel and publish there; nothing is kept.
pub(super) fn start(listen: SocketAddr, logs: &Path) -> Result<Program> {
    let settings = json!({
        "http_server": {"address": listen.ip(), "port": listen.port().to_string()},
        "log": {"level": "error"},
        // drumfire does not answer its pings, and no run lasts as long.
        "client": {"insecure": true, "ping_interval": "600s", "pong_timeout": "60s"},
        "channel": {"without_namespace": {"allow_subscribe_for_client": true, "allow_publish_for_client": true}},
    });
    let path = logs.join("centrifugo.json");
    fs::write(&path, settings.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
    let mut centrifugo =
        Program::start("centrifugo", Command::new(program()).arg("--config").arg(&path), logs)?;
    centrifugo.wait_for(listen)?;
    Ok(centrifugo)
}
