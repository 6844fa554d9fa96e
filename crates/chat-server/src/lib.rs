//! `dna`: a location-based real-time chat server.
//!
//! A message written at a place reaches everyone whose own circle (own position, own radius) holds that
//! place. [`server::run`] is the whole server; `main.rs` only turns arguments into a [`config::Config`].
//!
//! The modules in the order a message meets them:

/// At most one alert per connection and interval, the rest folded.
mod alerts;
/// From the store to the workers, later from node to node.
pub mod bus;
/// Encode once, hand to many.
pub mod delivery;
/// The closed list of what a client may send, parsed and validated.
pub mod event;
/// One file per event.
mod handlers;
/// Who is online on this worker, where, and with what radius.
mod presence;
/// Alerts for those whose page is closed; the test world ends in a loopback receiver.
pub mod push;
/// Keeps messages: one trait; `sqlite` is the embedded one.
pub mod storage;
/// Per world: limits, group commits, publishing in order. A message is stored here before anyone sees it.
pub mod store;
/// One thread's connections and its shard of the index.
mod worker;

/// Which addresses may connect, and how many connections each may have.
mod addresses;
/// The time of day, and whether to believe it.
pub mod clock;
/// Settings: flags over environment over file over defaults.
pub mod config;
/// Lock, secret, and files of the data directory.
pub mod data_dir;
/// The map page, health and metrics.
mod http;
/// Token buckets.
pub mod limits;
/// What Prometheus reads.
pub mod metrics;
/// Handles for anonymous authors.
pub mod privacy;
/// Codes and bodies of refusals.
pub mod refusal;
/// The secrets of tokens, while one follows another.
pub mod rotation;
/// Starts everything, ends everything.
pub mod server;
/// Certificate and key by files, reloaded.
pub mod tls;
/// Who somebody is: signed tokens, nothing else.
pub mod token;
/// The two worlds and what keeps them apart.
pub mod world;
