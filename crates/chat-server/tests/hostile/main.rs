//! Hostile and slow peers against the real `dna` with one worker. Each case says in raw bytes what the attacker
//! does and which answer or close code it gets; the server counts it; a bystander in the same world, on the same
//! worker, hears every message of the time, in order and promptly.

#[path = "../../../socketio-server/tests/support/raw.rs"]
#[allow(dead_code, unreachable_pub)] // shared with socketio-server's own tests
mod raw;
#[path = "../support/mod.rs"]
mod support;

mod stage;

/// What stands inside events: depth, numbers, texts, keys.
mod events;
/// Many at once: connections, handshakes, namespaces, pings, events.
mod floods;
/// WebSocket frames.
mod frames;
/// Requests that are not what they seem.
mod http;
/// Engine.IO and Socket.IO packets.
mod packets;
/// Long polling.
mod polling;
/// What takes its time: heads, frames, readers.
mod slow;
/// Identity.
mod tokens;
