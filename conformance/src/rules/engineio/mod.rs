//! Engine.IO, both revisions: a case for both asks its subject which one it speaks. The server echoes messages.

use crate::rule::Section;

mod encoding;
mod heartbeat;
mod opening;
mod polling;
mod upgrade;
mod websocket;

pub(super) static SECTIONS: &[&Section] = &[
    &opening::anatomy_3::SECTION,
    &opening::urls_3::SECTION,
    &encoding::packet_3::SECTION,
    &encoding::payload_3::SECTION,
    &polling::polling_3::SECTION,
    &polling::xhr_3::SECTION,
    &polling::jsonp_3::SECTION,
    &websocket::websocket_3::SECTION,
    &upgrade::upgrading_3::SECTION,
    &heartbeat::timeouts_3::SECTION,
    &opening::path_4::SECTION,
    &opening::query_4::SECTION,
    &polling::headers_4::SECTION,
    &polling::sending_4::SECTION,
    &polling::receiving_4::SECTION,
    &websocket::websocket_4::SECTION,
    &websocket::webtransport_4::SECTION,
    &opening::handshake_4::SECTION,
    &heartbeat::heartbeat_4::SECTION,
    &upgrade::upgrade_4::SECTION,
    &encoding::packets_4::SECTION,
    &opening::protocol_4::SECTION,
    &encoding::payload_4::SECTION,
    &websocket::encoding_4::SECTION,
    &polling::suite_4::SECTION,
];
