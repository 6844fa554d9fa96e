//! `dna`: arguments to settings, settings to a running server.

mod cli;
mod trace;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("dna: {error:#}");
            ExitCode::FAILURE
        }
    }
}
