//! Socket.IO, both revisions: 4 on Engine.IO 3, 5 on Engine.IO 4. The server has the namespaces `/` and `/custom`;
//! it says `auth` with the handshake's payload, answers `message` with `message-back`, `message-with-ack` with an
//! acknowledgement, `ask-me` with a question of its own whose answer comes back as `answer-back`, and `turn-me-out`
//! with a DISCONNECT.

use crate::rule::Section;

mod connecting;
mod disconnecting;
mod encoding;
mod events;

pub(super) static SECTIONS: &[&Section] = &[
    &encoding::types_4::SECTION,
    &encoding::format_4::SECTION,
    &connecting::default_4::SECTION,
    &connecting::other_4::SECTION,
    &disconnecting::disconnection_4::SECTION,
    &events::events_4::SECTION,
    &events::acknowledgement_4::SECTION,
    &encoding::session_4::SECTION,
    &connecting::connection_5::SECTION,
    &events::events_5::SECTION,
    &events::acknowledgement_5::SECTION,
    &disconnecting::disconnection_5::SECTION,
    &encoding::format_5::SECTION,
    &encoding::session_5::SECTION,
    &connecting::suite_5::SECTION,
];
