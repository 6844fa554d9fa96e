//! Packets and payloads in bytes.

use anyhow::{Result, ensure};

use crate::rule::{Revision, rules};
use crate::subject::Subject;

rules! {
    mod packet_3 = EngineIo3, "Packet", "#packet";
    /// A text packet is the digit of its type, then its data.
    server text_packets_begin_with_a_digit => "`4hello` for `4hello`";
    /// A binary packet begins with the number of its type as a byte.
    server binary_packets_begin_with_a_byte => "`04 01 02` for `04 01 02`";
    /// The types are 0 to 6; any other ends the session.
    server unknown_types_end_the_session => "close 1008";
    /// A packet of an unknown type ends a session over polling too.
    server unknown_types_end_the_polling_session => "400; afterwards 400, code 1";
    /// A `ping` is answered with a `pong` that carries the same data.
    server a_ping_is_answered_with_its_data => "`3`, `3probe`, `3 any text`";
    /// Only clients ping: a `pong` from a client means nothing here.
    server a_pong_from_a_client_ends_the_session => "close 1008";
    /// `noop` and late parts of an upgrade are no offence.
    server a_noop_means_nothing => "nothing";
}

rules! {
    mod payload_3 = EngineIo3, "Payload", "#payload";
    /// Without binary data a payload is text: for each packet its length, `:` and the packet.
    server a_text_payload_has_lengths => "`6:4hello6:4world`";
    /// Lengths count characters, not bytes, as JavaScript counts them.
    server lengths_count_characters => "`2:4€`, `3:4😀`";
    /// In text, binary data is base64 behind a `b`, its length counted with `b` and type.
    server binary_is_base64_in_text => "`10:b4AQIDBA==` when asked with `b64=1`";
    /// Else a payload that holds binary data is bytes: 0 (text) or 1 (binary), the digits of the length as bytes 0 to 9, 255, the packet.
    server binary_payloads_have_headers => "`00 04 ff 34 e2 82 ac 01 05 ff 04 01 02 03 04`";
    /// A client may send such a payload, as `application/octet-stream`.
    server a_binary_payload_is_read => "`ok`, then its echo";
    /// Packets of a payload keep their order.
    server a_payload_keeps_its_order => "the echoes in order";
    /// A payload that is not in this form ends the session.
    server a_broken_payload_ends_the_session => "400; afterwards 400, code 1";
}

rules! {
    mod packets_4 = EngineIo4, "Protocol: packet types", "#protocol";
    /// A packet is the digit of its type, then its data; messages carry anything.
    server text_packets_begin_with_a_digit => "`4hello` for `4hello`";
    /// The types are 0 to 6; any other ends the session.
    server unknown_types_end_the_session => "close 1008";
    /// A packet of an unknown type ends a session over polling too.
    server unknown_types_end_the_polling_session => "400; afterwards 400, code 1";
    /// `noop` and late parts of an upgrade are no offence.
    server a_noop_means_nothing => "nothing";
}

rules! {
    mod payload_4 = EngineIo4, "Packet encoding: HTTP long-polling", "#http-long-polling-1";
    /// Packets of a payload are parted by U+001E.
    server packets_are_parted_by_a_separator => "`4hello` U+001E `4world`";
    /// Binary data is base64 behind a `b`, with no type: it is always a message.
    server binary_is_base64_in_text => "`bAQIDBA==`";
    /// Text is UTF-8.
    server payloads_are_utf8 => "`4€` U+001E `4😀`";
    /// Packets of a payload keep their order.
    server a_payload_keeps_its_order => "the echoes in order";
    /// A payload that is not in this form ends the session.
    server a_broken_payload_ends_the_session => "400; afterwards 400, code 1";
    /// A body of up to `maxPayload` bytes is taken.
    server the_greatest_payload_passes => "`ok`";
    /// A body of more than `maxPayload` bytes is refused, by its header or as it comes.
    server a_larger_payload_is_refused => "413";
}

fn text_packets_begin_with_a_digit(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for text in ["4", "4hello", "44", "4€", "4 4\n"] {
        socket.send(text)?;
        socket.expect(text)?;
    }
    Ok(())
}

fn binary_packets_begin_with_a_byte(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for bytes in [&[4, 0, 1, 2, 3, 4, 5][..], &[4]] {
        socket.send_binary(bytes)?;
        socket.expect_binary(bytes)?;
    }
    socket.send_binary(&[7, 1])?;
    socket.expect_expelled()
}

fn unknown_types_end_the_session(subject: &Subject) -> Result<()> {
    for text in ["", "7", "9x", "abc", "a4", " 4", "-4"] {
        let mut socket = subject.websocket()?;
        socket.send(text)?;
        socket.expect_expelled()?;
    }
    Ok(())
}

fn unknown_types_end_the_polling_session(subject: &Subject) -> Result<()> {
    for body in subject.revision.pick(["1:7", "2:9x", "3:abc"], ["7", "9x", "abc"]) {
        let session = subject.polling()?;
        session.post(body)?.expect_status(400)?;
        session.expect_gone()?;
    }
    Ok(())
}

fn a_ping_is_answered_with_its_data(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for data in ["", "probe", " any text €"] {
        socket.send(&format!("2{data}"))?;
        socket.expect(&format!("3{data}"))?;
    }
    Ok(())
}

fn a_pong_from_a_client_ends_the_session(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("3")?;
    socket.expect_expelled()
}

fn a_noop_means_nothing(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("6")?;
    socket.send("5")?;
    subject.expect_alive(&mut socket)
}

/// Posts a body and expects these bytes from the next poll.
fn echoed(subject: &Subject, more: &str, body: &str, content_type: &str, echo: &[u8]) -> Result<()> {
    let session = subject.polling_with(more)?;
    let posted = session.post(body)?;
    posted.expect_status(200)?;
    posted.expect_body("ok")?;
    let response = session.get()?;
    response.expect_status(200)?;
    response.expect_body(echo)?;
    let got = response.header("content-type").map(|value| value.to_ascii_lowercase().replace(' ', ""));
    ensure!(got.as_deref() == Some(content_type), "content type {got:?}");
    Ok(())
}

const PLAIN: &str = "text/plain;charset=utf-8";
const OCTETS: &str = "application/octet-stream";

fn a_text_payload_has_lengths(subject: &Subject) -> Result<()> {
    for body in ["6:4hello", "6:4hello6:4world", "1:4"] {
        echoed(subject, "", body, PLAIN, body.as_bytes())?;
    }
    Ok(())
}

fn lengths_count_characters(subject: &Subject) -> Result<()> {
    for body in ["2:4€", "3:4😀", "6:4hello2:4€3:4😀2:4x"] {
        echoed(subject, "", body, PLAIN, body.as_bytes())?;
    }
    Ok(())
}

fn binary_is_base64_in_text(subject: &Subject) -> Result<()> {
    let rows = subject.revision.pick(
        ["10:b4AQIDBA==", "6:4hello10:b4AQIDBA==", "2:b4"],
        ["bAQIDBA==", "4hello\u{1e}bAQIDBA==", "b"],
    );
    for body in rows {
        echoed(subject, subject.revision.pick("&b64=1", ""), body, PLAIN, body.as_bytes())?;
    }
    Ok(())
}

fn binary_payloads_have_headers(subject: &Subject) -> Result<()> {
    let echo = b"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04";
    echoed(subject, "", "2:4€10:b4AQIDBA==", OCTETS, echo)?;
    // A length of two digits.
    let long = format!("{}:4{}10:b4AQIDBA==", 12, "x".repeat(11));
    let echo = [b"\x00\x01\x02\xff4xxxxxxxxxxx", &b"\x01\x05\xff\x04\x01\x02\x03\x04"[..]].concat();
    echoed(subject, "", &long, OCTETS, &echo)
}

fn a_binary_payload_is_read(subject: &Subject) -> Result<()> {
    let body = b"\x00\x04\xff4\xe2\x82\xac\x01\x05\xff\x04\x01\x02\x03\x04";
    let session = subject.polling()?;
    let headers = ["Content-Type: application/octet-stream"];
    let posted = subject.request("POST", &session.query(), &headers, body)?;
    posted.expect_status(200)?;
    posted.expect_body("ok")?;
    let response = session.get()?;
    response.expect_status(200)?;
    response.expect_body(body)
}

fn packets_are_parted_by_a_separator(subject: &Subject) -> Result<()> {
    for body in ["4hello", "4hello\u{1e}4world", "4", "4\u{1e}4"] {
        echoed(subject, "", body, PLAIN, body.as_bytes())?;
    }
    Ok(())
}

fn payloads_are_utf8(subject: &Subject) -> Result<()> {
    let body = "4€\u{1e}4😀";
    echoed(subject, "", body, PLAIN, body.as_bytes())
}

fn a_payload_keeps_its_order(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let messages: Vec<String> = (0..50).map(|n| format!("4{n}")).collect();
    let messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    let (first, rest) = messages.split_at(20);
    session.send(first)?;
    session.send(rest)?;
    messages.iter().try_for_each(|message| session.expect(message))
}

fn a_broken_payload_ends_the_session(subject: &Subject) -> Result<()> {
    let rows: &[&[u8]] = match subject.revision {
        Revision::V3 => {
            &[b"abc", b"9:4short", b"x:4a", b":4a", b"-1:4", b"1:4junk", b"2:4\xff", b"6:bb4AQ=="]
        }
        Revision::V4 => &[b"abc", b"", b"4a\x1e", b"\x1e4a", b"4a\x1e\x1e4b", b"4\xff", b"b!!!!"],
    };
    // Others may try to make sense of what is nearly right.
    let rows = if subject.is_ours() { rows } else { &rows[..1] };
    for body in rows {
        let session = subject.polling()?;
        session.post(body)?.expect_status(400)?;
        session.expect_gone()?;
    }
    Ok(())
}

fn the_greatest_payload_passes(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let limit = session.open["maxPayload"].as_u64().unwrap_or(1_000_000) as usize;
    let body = "4".repeat(limit);
    session.send(&[&body])?;
    session.expect(&body)
}

fn a_larger_payload_is_refused(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let limit = session.open["maxPayload"].as_u64().unwrap_or(1_000_000) as usize;
    // Once as the header says, once as it comes.
    let response = session.post("4".repeat(limit + 1))?;
    response.expect_status(413)?;
    let session = subject.polling()?;
    let headers = ["Connection: close", "Transfer-Encoding: chunked"];
    let target = format!("{}?{}", subject.path(), session.query());
    let mut request = crate::subject::head("POST", &target, &headers);
    request.extend(format!("{:x}\r\n", limit + 1).bytes());
    request.extend("4".repeat(limit + 1).bytes());
    request.extend(b"\r\n0\r\n\r\n");
    subject.start(request)?.response()?.expect_status(413)
}
