//! Engine.IO over WebSocket.

use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::rule::rules;
use crate::subject::Subject;
use crate::websocket::WebSocket;

rules! {
    mod websocket_3 = EngineIo3, "WebSocket", "#websocket";
    /// Each packet is a message of its own: payloads are for polling.
    server packets_travel_one_by_one => "an echo for each";
    /// A payload in a message is not understood.
    server payloads_are_for_polling => "close 1008 for `7:4hello!`";
    /// Text packets travel as text, binary packets as binary with the byte of their type in front.
    server text_and_binary_stay_apart => "`4text`, `04 01`";
    /// A client that asked with `b64=1` is sent binary data as base64 in text, and may send it so.
    server base64_for_who_asked => "`b4AQID` for `b4AQID`";
}

rules! {
    mod websocket_4 = EngineIo4, "WebSocket", "#websocket";
    /// `EIO` and `transport` are mandatory; without them the WebSocket does not open.
    server parameters_are_mandatory => "400, codes 5 and 0";
    /// A sid that names no session opens nothing.
    server an_unknown_sid_is_refused => "400, code 1";
    /// Each packet is a message of its own.
    server packets_travel_one_by_one => "an echo for each";
    /// A session has one WebSocket: a second one is closed, the first goes on.
    server a_second_websocket_is_closed => "400, or closed at once";
}

rules! {
    mod webtransport_4 = EngineIo4, "WebTransport", "#webtransport";
    /// A transport that is not served is neither offered nor opened.
    server webtransport_is_not_offered => "400, code 0; `upgrades` without it";
    /// A WebTransport session begins with an `open` packet of the client's, and has one stream.
    none webtransport_sessions => "WebTransport needs HTTP/3, which is not served";
    /// On a stream, a header says the length and whether the packet is binary.
    none webtransport_headers => "WebTransport needs HTTP/3, which is not served";
}

rules! {
    mod encoding_4 = EngineIo4, "Packet encoding: WebSocket", "#websocket-1";
    /// Text packets travel as text: type, then data. Binary messages travel as they are, without a type.
    server text_and_binary_stay_apart => "`4text`, `01 02 03`";
    /// Payloads are for polling: a separator in a message is data like any other.
    server a_separator_is_data => "`4a` U+001E `4b` as one message";
}

fn packets_travel_one_by_one(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for text in ["4hello", "4world", "4"] {
        socket.send(text)?;
    }
    for text in ["4hello", "4world", "4"] {
        socket.expect(text)?;
    }
    Ok(())
}

fn payloads_are_for_polling(subject: &Subject) -> Result<()> {
    // Lengths that begin with the digit of no packet type: `6:4hello` would be a noop with data.
    for text in ["7:4hello!", "80:4hello"] {
        let mut socket = subject.websocket()?;
        socket.send(text)?;
        socket.expect_expelled()?;
    }
    Ok(())
}

fn text_and_binary_stay_apart(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    let binary = subject.revision.pick(&[4, 1, 2, 3][..], &[1, 2, 3]);
    socket.send("4text")?;
    socket.expect("4text")?;
    socket.send_binary(binary)?;
    socket.expect_binary(binary)
}

fn base64_for_who_asked(subject: &Subject) -> Result<()> {
    let (mut socket, _) = subject.opened_with(&format!("{}&b64=1", subject.query("websocket")))?;
    for packet in ["b4AQIDBA==", "b4"] {
        socket.send(packet)?;
        socket.expect(packet)?;
    }
    socket.send_binary(&[4, 1, 2, 3, 4])?;
    socket.expect("b4AQIDBA==")
}

fn parameters_are_mandatory(subject: &Subject) -> Result<()> {
    let eio = subject.revision.number();
    subject.upgrade("transport=websocket")?.1.expect_refusal(5, "Unsupported protocol version")?;
    subject.upgrade(&format!("EIO={eio}"))?.1.expect_refusal(0, "Transport unknown")
}

fn an_unknown_sid_is_refused(subject: &Subject) -> Result<()> {
    let query = format!("{}&sid=nobody", subject.query("websocket"));
    subject.upgrade(&query)?.1.expect_refusal(1, "Session ID unknown")
}

fn a_second_websocket_is_closed(subject: &Subject) -> Result<()> {
    let (mut first, open) = subject.opened()?;
    let sid = open["sid"].as_str().context("a sid")?;
    expect_no_second(subject, sid, &mut first)?;
    subject.expect_alive(&mut first)
}

/// A WebSocket for a session that has one: refused, or opened and closed before it can say anything. The first
/// one answers heartbeats meanwhile.
pub(super) fn expect_no_second(subject: &Subject, sid: &str, first: &mut WebSocket) -> Result<()> {
    let query = format!("{}&sid={sid}", subject.query("websocket"));
    let second = || {
        let (exchange, response) = subject.upgrade(&query)?;
        if response.status == 101 {
            return WebSocket::client(exchange, subject.revision, subject.is_ours()).expect_over();
        }
        response.expect_status(400)
    };
    thread::scope(|scope| {
        let second = scope.spawn(second);
        while !second.is_finished() {
            ensure!(first.is_silent_for(Duration::from_millis(10))?, "the first one heard of it");
        }
        second.join().map_err(|_| anyhow!("the second one panicked"))?
    })
}

fn webtransport_is_not_offered(subject: &Subject) -> Result<()> {
    let query = subject.query("webtransport");
    subject.get(&query)?.expect_refusal(0, "Transport unknown")?;
    subject.upgrade(&query)?.1.expect_refusal(0, "Transport unknown")?;
    let (_, open) = subject.opened()?;
    let upgrades = open["upgrades"].to_string();
    ensure!(!upgrades.contains("webtransport"), "upgrades {upgrades}");
    Ok(())
}

fn a_separator_is_data(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("4a\u{1e}4b")?;
    socket.expect("4a\u{1e}4b")
}
