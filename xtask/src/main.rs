//! `cargo xtask <task>`: what the project's people run, in Rust, behind one alias.

use std::process::ExitCode;

fn main() -> ExitCode {
    xtask::main()
}
