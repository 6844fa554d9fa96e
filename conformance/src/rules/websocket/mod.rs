//! RFC 6455, the server's side. The echo behind it is Engine.IO's: a text message that begins with `4` comes back,
//! and so does a binary one.

use crate::rule::Section;

mod closing;
mod control;
mod frames;
mod handshake;

pub(super) static SECTIONS: &[&Section] = &[
    &handshake::reading_4_2_1::SECTION,
    &handshake::answering_4_2_2::SECTION,
    &handshake::versions_4_4::SECTION,
    &frames::masking_5_1::SECTION,
    &frames::framing_5_2::SECTION,
    &frames::fragmentation_5_4::SECTION,
    &control::control_5_5::SECTION,
    &control::data_5_6::SECTION,
    &closing::closing_7_1::SECTION,
    &closing::codes_7_4::SECTION,
    &frames::utf8_8_1::SECTION,
    &handshake::extensions_9::SECTION,
    &frames::limits_10_4::SECTION,
];
