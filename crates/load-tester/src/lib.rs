//! drumfire: a load tester that runs Artillery scripts and reports honestly what happened.
//!
//! A script becomes a [`script::model::Script`] that has been checked whole, its phases a [`plan::Plan`] of instants;
//! [`run`] walks one virtual user per instant and yields an [`outcome::Outcome`], which [`report`] tells.

// What panics when nobody reads or a disk is full has no place in a long run.
#![deny(clippy::print_stderr, clippy::print_stdout)]

/// What was typed.
pub mod cli;

// What is asked.
pub mod init; // a script to begin with
pub mod plan;
pub mod quick; // flags -> the script a person would write
pub mod script; // Artillery YAML -> a Script that has been checked whole

// What is done.
pub mod capture; // JSON paths and regular expressions over answers
mod flow; // a scenario made ready to be walked
pub mod http; // requests of a user
mod inbox; // what a user heard and has not waited for yet
pub mod limit; // the most the target holds
mod link; // Socket.IO or a plain WebSocket, behind one way of visiting
pub mod listeners; // connections that stand and listen
mod preflight; // can this machine carry the run at all
pub mod progress; // what is told while a run goes on
pub mod run; // threads, pacer, listeners first, results last
pub mod signals; // the first ends gently, the second at once
pub mod socketio; // emits, acks and responses of a user
pub mod sources; // where connections come from
mod steps; // connecting, leaving, waiting for what comes
mod timer; // wakes the pacer on time
mod trace; // what one user does, told as it happens
mod unstarted; // interrupted before the first phase
pub mod virtual_user; // one user walking one scenario
mod websocket; // frames of a user of the ws engine

// What is measured.
pub mod delivery; // what was said, and what was heard of it
mod ledger; // who should have heard, and whether they did
pub mod metrics; // counters and histograms, merged from many users
pub mod monitor; // CPU and memory of a process
pub mod outcome; // what a run measured, before any output format
pub mod prometheus; // what a server says of itself
mod samples; // what was seen of a process, in bounded memory
mod target; // the target's processes, stages and series, from a thread of its own

// What is judged and told.
pub mod compare; // is one run better than another, and is that more than noise
pub mod ensure; // limits judged after the run
pub mod exit; // the exit code, and what outranks what
pub mod live; // the report while the run goes on
pub mod metric; // the names of figures, and what a run answers to them
pub mod outputs; // no file is lost to another
pub mod report; // one file per output format
pub mod screen; // the terminal while a run goes on
pub mod validity; // may the numbers be believed
