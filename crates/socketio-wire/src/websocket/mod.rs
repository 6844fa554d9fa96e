//! WebSocket (RFC 6455) without extensions: frames, messages, close codes, handshake keys.

pub mod close;
pub mod frame;
pub mod upgrade;
