//! What binds clients, checked against `socketio-client`.

use crate::rule::Section;

mod engineio;
mod polling;
mod socketio;
mod websocket;

pub(super) static SECTIONS: &[&Section] = &[
    &engineio::client_3::SECTION,
    &engineio::client_4::SECTION,
    &polling::client_3::SECTION,
    &polling::client_4::SECTION,
    &socketio::client_4::SECTION,
    &socketio::client_5::SECTION,
    &websocket::opening::SECTION,
    &websocket::framing::SECTION,
    &websocket::closing::SECTION,
];
