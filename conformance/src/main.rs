//! Runs the cases against our own server or another one, or writes docs/protocol.md.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use conformance::rule::{Case, Protocol};
use conformance::subject::Target;
use conformance::{document, rules, run};

/// Checks a Socket.IO server rule by rule, in raw bytes.
#[derive(Parser)]
struct Arguments {
    /// The server under test, HOST:PORT; ours, in this process, when left away.
    #[arg(long, value_name = "HOST:PORT", requires = "protocol")]
    target: Option<String>,
    /// What the target speaks: `engine` echoes messages at /engine.io/, `socket` is the application of
    /// `protocol-echo` at /socket.io/.
    #[arg(long, value_enum)]
    protocol: Option<Spoken>,
    /// Write the document of all rules and run nothing.
    #[arg(long, value_name = "FILE", exclusive = true)]
    write: Option<PathBuf>,
    /// Only cases whose name holds this.
    filter: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Spoken {
    Engine,
    Socket,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(path) = arguments.write {
        std::fs::write(&path, document::document())
            .with_context(|| format!("cannot write {}", path.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let target = match &arguments.target {
        None => Target::Ours,
        Some(text) => Target::Other(resolve(text)?),
    };
    let protocol = arguments.protocol.map(|spoken| match spoken {
        Spoken::Engine => Protocol::Engine,
        Spoken::Socket => Protocol::Socket,
    });
    let (mut passed, mut failed) = (0, 0);
    for section in rules::sections() {
        for rule in section.rules {
            let is_wanted = match (protocol, &rule.case) {
                (_, Case::None) => false,
                (None, _) => true,
                (Some(protocol), _) => run::concerns(section, rule, protocol),
            };
            let name = format!("{}: {}", section.spec.name(), rule.name);
            if !is_wanted || arguments.filter.as_ref().is_some_and(|wanted| !name.contains(wanted.as_str())) {
                continue;
            }
            match run::run(target, section, rule) {
                Ok(()) => {
                    passed += 1;
                    println!("ok      {name}");
                }
                Err(error) => {
                    failed += 1;
                    println!("FAILED  {name}\n{error:#}\n");
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    Ok(if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn resolve(target: &str) -> Result<SocketAddr> {
    let mut found = target.to_socket_addrs().with_context(|| format!("--target {target}"))?;
    found.next().with_context(|| format!("--target {target} names no address"))
}
