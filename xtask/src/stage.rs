//! What the demo and the soak put on: one `dna` with a data directory of its own, tokens for its people, and the end of it.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::command::{self, Interrupted, seconds};
use crate::{signal, tree};

const READY_WITHIN: Duration = Duration::from_secs(20);
const DRAINED_WITHIN: Duration = Duration::from_secs(20);
/// A soak may last a day.
const TOKENS_LAST: &str = "2d";
/// Listeners, users and their messages are sockets on both sides.
const OPEN_FILES: u64 = 16_384;

pub(crate) fn port_is_free(listen: SocketAddr) -> Result<()> {
    match TcpListener::bind(listen) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => bail!(
            "{listen} is in use: another demo or dna may still be serving there. \
             End it, or choose another place with --listen 127.0.0.1:9113"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on {listen}")),
    }
}

/// One signed token of the test world for each of `count` people from `first` on.
pub(crate) fn make_tokens(path: &Path, first: u64, count: u64, data: &Path) -> Result<()> {
    let (idx, people) = (first.to_string(), count.to_string());
    let tokens = Command::new(tree::binary("dna"))
        .args(["token", "--test", "--ttl", TOKENS_LAST, "--idx", &idx, "--count", &people, "--data"])
        .arg(data)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start dna token")?;
    let made = tokens.stdout.iter().filter(|&&byte| byte == b'\n').count() as u64;
    if signal::received().is_some() {
        return Err(Interrupted.into());
    }
    if !tokens.status.success() || made != count {
        bail!("dna token made {made} tokens instead of {count} ({})", tokens.status);
    }
    fs::write(path, tokens.stdout).with_context(|| format!("cannot write {}", path.display()))
}

/// What `dna` with this data directory signs tokens with, for others that are to know them.
pub(crate) fn secret(data: &Path) -> Result<String> {
    if let Ok(secret) = std::env::var("DNA_JWT_SECRET") {
        return Ok(secret);
    }
    let path = data.join("jwt-secret");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// A port of the loopback device that was free a moment ago.
pub(crate) fn free_port() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Starts `dna` and waits until it is ready.
pub(crate) fn serve(listen: SocketAddr, data: &Path, log_path: &Path) -> Result<Child> {
    serve_as(Command::new(tree::binary("dna")), listen, data, log_path)
}

/// With less of the processor than others, where there is not enough for all.
pub(crate) fn nice(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "15"]).arg(program);
    command
}

pub(crate) fn serve_as(mut dna: Command, listen: SocketAddr, data: &Path, log_path: &Path) -> Result<Child> {
    let log = File::create(log_path).with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut dna = dna
        .args(["serve", "--listen", &listen.to_string(), "--data"])
        .arg(data)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A group of its own: Ctrl-C must reach drumfire first, and dna only when all is written.
        .process_group(0)
        .spawn()
        .context("cannot start dna")?;
    let until = Instant::now() + READY_WITHIN;
    while get(listen, "/readyz").is_none() {
        let ended = dna.try_wait()?;
        if ended.is_some() || Instant::now() >= until || signal::received().is_some() {
            let _ = dna.kill();
            let _ = dna.wait();
            if signal::received().is_some() {
                return Err(Interrupted.into());
            }
            let said = fs::read_to_string(log_path).unwrap_or_default();
            let how =
                ended.map_or_else(|| "did not become ready".to_owned(), |status| format!("ended ({status})"));
            bail!("dna {how}:\n{}", said.trim_end());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(dna)
}

/// The body of an answer with status 200.
pub(crate) fn get(listen: SocketAddr, path: &str) -> Option<String> {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&listen, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    head.split(' ').nth(1).is_some_and(|status| status == "200").then(|| body.to_owned())
}

/// As `end`, and says so.
pub(crate) fn stop(dna: &mut Child) -> Result<()> {
    end(dna)?;
    println!("dna has drained and ended.");
    Ok(())
}

/// SIGTERM, then the time dna needs to drain; an end that was not clean is an error.
pub(crate) fn end(dna: &mut Child) -> Result<()> {
    command::terminate(dna);
    let Some(status) = command::wait_for(dna, DRAINED_WITHIN)? else {
        let _ = dna.kill();
        let _ = dna.wait();
        bail!("dna did not drain within {}", seconds(DRAINED_WITHIN));
    };
    if !status.success() {
        bail!("dna did not end cleanly: {status}");
    }
    Ok(())
}

/// As far as the hard limit lets; the programs say themselves when it is too low.
pub(crate) fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let wanted = now.maximum.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES));
    if now.current.is_some_and(|current| current < wanted) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: now.maximum });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_named_with_a_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = taken.local_addr().expect("address");
        let text = port_is_free(address).expect_err("in use").to_string();
        assert!(text.contains(&address.to_string()) && text.contains("--listen"), "{text}");
    }
}
