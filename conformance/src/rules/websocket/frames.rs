//! Frames: masking, lengths, opcodes, fragments, UTF-8, sizes.

use anyhow::{Result, ensure};

use crate::rule::rules;
use crate::subject::{Subject, milliseconds};
use crate::websocket::{BINARY, BINARY_PART, Got, LAST_PART, PART, PING, TEXT, TEXT_PART, masked};

rules! {
    mod masking_5_1 = WebSocket, "5.1 Overview, 5.3 Masking", "#section-5.1";
    /// A client frame that is not masked ends the connection.
    server unmasked_frames_are_refused => "close 1002";
    /// A server masks nothing.
    server server_frames_are_not_masked => "frames with mask bit 0";
    /// Any masking key will do, and each frame has its own.
    server every_key_unmasks => "its echo";
}

rules! {
    mod framing_5_2 = WebSocket, "5.2 Base framing protocol", "#section-5.2";
    /// The reserved bits RSV1 to RSV3 must be 0 while no extension gives them a meaning.
    server reserved_bits_are_refused => "close 1002";
    /// The opcodes 3 to 7 and 11 to 15 are reserved.
    server reserved_opcodes_are_refused => "close 1002";
    /// A length of 0 to 125 stands in 7 bits, up to 65,535 in 16 bits, above that in 64 bits, big-endian.
    server lengths_of_all_forms_are_read => "their echoes";
    /// The sender writes each length in the shortest form.
    server lengths_are_written_shortest => "1, 3 or 9 bytes of length";
    /// The most significant bit of a 64-bit length is 0.
    server a_length_has_63_bits => "close 1002";
    /// Where TCP cuts the stream means nothing.
    server any_cut_of_the_stream_will_do => "its echo";
}

rules! {
    mod fragmentation_5_4 = WebSocket, "5.4 Fragmentation", "#section-5.4";
    /// A message may come in fragments: the first names the type, the others are continuations, the last has FIN.
    server fragments_are_put_together => "its echo, text and binary";
    /// Fragments may be empty.
    server fragments_may_be_empty => "its echo";
    /// Control frames may stand between fragments and are answered at once.
    server control_frames_stand_between_fragments => "the pong, then the echo";
    /// A control frame itself is never a fragment.
    server control_frames_are_whole => "close 1002";
    /// A continuation without a beginning ends the connection.
    server a_continuation_needs_a_beginning => "close 1002";
    /// Fragments of two messages are never mixed.
    server messages_do_not_overlap => "close 1002";
}

rules! {
    mod utf8_8_1 = WebSocket, "8.1 Handling of errors in UTF-8-encoded data", "#section-8.1";
    /// Text that is not UTF-8 ends the connection.
    server text_must_be_utf8 => "close 1007";
    /// UTF-8 is asked of a message as a whole: fragments may cut a character.
    server a_character_may_be_cut => "its echo";
    /// A character left incomplete at the end of a message is not UTF-8.
    server an_incomplete_character_is_refused => "close 1007";
    /// Every Unicode scalar value may be sent, noncharacters and U+0000 as well.
    server every_scalar_value_may_be_sent => "its echo";
}

rules! {
    mod limits_10_4 = WebSocket, "10.4 Implementation-specific limits", "#section-10.4";
    /// A message larger than the server takes (`maxPayload`) ends the connection, judged by its header alone.
    server large_messages_are_refused => "close 1009";
    /// The limit holds for all fragments of a message together.
    server large_messages_in_fragments_are_refused => "close 1009";
    /// A message of exactly the greatest size passes.
    server the_greatest_size_passes => "its echo";
}

/// Each row on a connection of its own; the server must close with this code.
fn refused(subject: &Subject, code: u16, rows: &[Vec<u8>]) -> Result<()> {
    for bytes in rows {
        let mut socket = subject.websocket()?;
        socket.raw(bytes)?;
        socket.expect_close(code)?;
    }
    Ok(())
}

fn unmasked_frames_are_refused(subject: &Subject) -> Result<()> {
    refused(subject, 1002, &[b"\x81\x024x".to_vec(), b"\x82\x01x".to_vec(), b"\x89\x00".to_vec()])
}

fn server_frames_are_not_masked(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("4text")?;
    socket.send_binary(b"binary")?;
    for _ in 0..2 {
        let frame = socket.next_frame()?;
        ensure!(frame.as_ref().is_some_and(|frame| frame.mask.is_none()), "{frame:?}");
    }
    Ok(())
}

fn every_key_unmasks(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for key in [[0_u8; 4], [0xff; 4], [1, 2, 4, 8]] {
        let text = b"4masked";
        let mut bytes = vec![TEXT, 0x80 | text.len() as u8];
        bytes.extend(key);
        bytes.extend(text.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
        socket.raw(&bytes)?;
        socket.expect("4masked")?;
    }
    Ok(())
}

fn reserved_bits_are_refused(subject: &Subject) -> Result<()> {
    refused(subject, 1002, &[0xc1, 0xa1, 0x91, 0xc2, 0xc9, 0x41].map(|first| masked(first, b"4x")))
}

fn reserved_opcodes_are_refused(subject: &Subject) -> Result<()> {
    let opcodes = [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf];
    refused(subject, 1002, &opcodes.map(|opcode| masked(0x80 | opcode, b"")))
}

const LENGTHS: [(usize, usize); 6] = [(1, 1), (125, 1), (126, 3), (127, 3), (65_535, 3), (65_536, 9)];

fn lengths_of_all_forms_are_read(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for (length, _) in LENGTHS {
        let text = format!("4{}", "x".repeat(length - 1));
        socket.send(&text)?;
        socket.expect(&text)?;
    }
    Ok(())
}

fn lengths_are_written_shortest(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for (length, length_len) in LENGTHS {
        socket.send_binary(&vec![7; length])?;
        let frame = socket.next_frame()?;
        let (got, got_len) = frame.map_or((0, 0), |frame| (frame.payload.len(), frame.length_len));
        ensure!((got, got_len) == (length, length_len), "{length} bytes came with {got_len} of length");
    }
    Ok(())
}

fn a_length_has_63_bits(subject: &Subject) -> Result<()> {
    let bytes = [&[BINARY, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 1][..], &[1, 2, 3, 4, 5]].concat();
    let mut socket = subject.websocket()?;
    socket.raw(&bytes)?;
    if subject.is_ours() { socket.expect_close(1002) } else { socket.expect_over() }
}

fn any_cut_of_the_stream_will_do(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    let text = format!("4{}", "ab€".repeat(60));
    let bytes = masked(TEXT, text.as_bytes());
    for step in [1, 2, 3, 7, 50] {
        for piece in bytes.chunks(step) {
            socket.raw(piece)?;
        }
        socket.expect(&text)?;
    }
    Ok(())
}

fn fragments_are_put_together(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.frame(TEXT_PART, b"4on")?;
    socket.frame(PART, b"e mess")?;
    socket.frame(LAST_PART, b"age")?;
    socket.expect("4one message")?;
    socket.frame(BINARY_PART, &[1, 2])?;
    socket.frame(LAST_PART, &[3, 0xff])?;
    socket.expect_binary(&[1, 2, 3, 0xff])
}

fn fragments_may_be_empty(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for (first, payload) in
        [(TEXT_PART, &b""[..]), (PART, b"4a"), (PART, b""), (PART, b"b"), (LAST_PART, b"")]
    {
        socket.frame(first, payload)?;
    }
    socket.expect("4ab")
}

fn control_frames_stand_between_fragments(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.frame(TEXT_PART, b"4be")?;
    socket.frame(PING, b"between")?;
    let got = socket.next()?;
    ensure!(got == Got::Pong(b"between".to_vec()), "{got:?}");
    socket.frame(LAST_PART, b"gun")?;
    socket.expect("4begun")
}

fn control_frames_are_whole(subject: &Subject) -> Result<()> {
    refused(subject, 1002, &[masked(0x09, b"a"), masked(0x0a, b"a"), masked(0x08, b"")])
}

fn a_continuation_needs_a_beginning(subject: &Subject) -> Result<()> {
    let after_a_message = [masked(TEXT, b"4x"), masked(PART, b"y")].concat();
    refused(subject, 1002, &[masked(LAST_PART, b"4x"), masked(PART, b"4x"), after_a_message])
}

fn messages_do_not_overlap(subject: &Subject) -> Result<()> {
    refused(
        subject,
        1002,
        &[
            [masked(TEXT_PART, b"4a"), masked(TEXT, b"4b")].concat(),
            [masked(TEXT_PART, b"4a"), masked(BINARY_PART, b"4b")].concat(),
            [masked(BINARY_PART, b"4a"), masked(TEXT_PART, b"4b")].concat(),
        ],
    )
}

fn text_must_be_utf8(subject: &Subject) -> Result<()> {
    let bad: [&[u8]; 7] = [
        b"4\x80",
        b"4\xff",
        // Longer than needed.
        b"4\xc0\xaf",
        b"4\xe0\x80\xaf",
        // A surrogate.
        b"4\xed\xa0\x80",
        // Beyond U+10FFFF.
        b"4\xf4\x90\x80\x80",
        b"4\xf8\x88\x80\x80\x80",
    ];
    refused(subject, 1007, &bad.map(|text| masked(TEXT, text)))?;
    refused(subject, 1007, &[[masked(TEXT_PART, b"4\xed"), masked(LAST_PART, b"\xa0\x80")].concat()])
}

fn a_character_may_be_cut(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.frame(TEXT_PART, b"4\xf0\x9f")?;
    socket.frame(PART, b"\x98")?;
    socket.frame(LAST_PART, b"\x80!")?;
    socket.expect("4😀!")
}

fn an_incomplete_character_is_refused(subject: &Subject) -> Result<()> {
    let in_fragments = [masked(TEXT_PART, b"4\xe2"), masked(LAST_PART, b"\x82")].concat();
    refused(subject, 1007, &[masked(TEXT, b"4\xe2\x82"), in_fragments])
}

fn every_scalar_value_may_be_sent(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for text in ["4\u{0}", "4\u{7f}\u{80}", "4\u{fffe}\u{ffff}", "4\u{10ffff}", "4한국어 €"] {
        socket.send(text)?;
        socket.expect(text)?;
    }
    Ok(())
}

fn max_payload(subject: &Subject) -> Result<usize> {
    let (_, open) = subject.opened()?;
    Ok(milliseconds(&open, "maxPayload")?.as_millis() as usize)
}

fn large_messages_are_refused(subject: &Subject) -> Result<()> {
    let limit = max_payload(subject)?;
    let mut header = vec![BINARY, 0xff];
    header.extend((limit as u64 + 1).to_be_bytes());
    header.extend([1, 2, 3, 4]);
    refused(subject, 1009, &[header, masked(TEXT, "4".repeat(limit + 1).as_bytes())])
}

fn large_messages_in_fragments_are_refused(subject: &Subject) -> Result<()> {
    let half = max_payload(subject)? / 2 + 1;
    let part = vec![b'4'; half];
    refused(subject, 1009, &[[masked(TEXT_PART, &part), masked(LAST_PART, &part)].concat()])
}

fn the_greatest_size_passes(subject: &Subject) -> Result<()> {
    let text = "4".repeat(max_payload(subject)?);
    let mut socket = subject.websocket()?;
    socket.send(&text)?;
    socket.expect(&text)
}
