//! URLs, query parameters and the handshake.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::rule::{Revision, rules};
use crate::subject::{Subject, head, request, upgrade_headers};

rules! {
    mod anatomy_3 = EngineIo3, "Anatomy of an Engine.IO session", "#anatomy-of-an-engineio-session";
    /// A GET opens a session over polling; the answer begins with the `open` packet.
    server polling_opens_a_session => "200, `<length>:0{...}`";
    /// A WebSocket opens a session by itself; its first message is the `open` packet.
    server a_websocket_opens_a_session => "101, then `0{...}`";
    /// The `open` packet holds JSON: `sid`, `upgrades` (an array), `pingInterval` and `pingTimeout` (milliseconds).
    server the_open_packet_says_it_all => "these keys with these types";
    /// `upgrades` names what the session may change to: WebSocket from polling, nothing from WebSocket.
    server upgrades_are_named => "`[\"websocket\"]`, `[]`";
    /// Each session has an id of its own.
    server every_session_has_its_own_sid => "ids that differ";
    /// Messages go both ways at will.
    server messages_go_both_ways => "its echo";
    /// A `close` packet over polling ends the session; a waiting poll is ended with `noop`.
    server a_close_packet_over_polling_ends_the_session => "`1:6`; afterwards 400, code 1";
    /// A `close` packet over WebSocket ends the session.
    server a_close_packet_over_websocket_ends_the_session => "close 1000";
}

rules! {
    mod urls_3 = EngineIo3, "URLs", "#urls";
    /// Everything happens below one path; other paths are not Engine.IO's.
    server the_path_is_served_and_no_other => "404 elsewhere";
    /// `transport` names the transport: `polling` or `websocket`.
    server the_transport_is_known => "400, code 0 for others and for none";
    /// `sid` must name a session that lives.
    server the_sid_is_known => "400, code 1";
    /// `sid` goes with the transport of its session.
    server a_session_keeps_its_transport => "400 for a poll of a WebSocket's session";
    /// `EIO` is the revision of the protocol; one that is not spoken is refused.
    server the_revision_is_known => "400, code 5 for 2, 5 and `abc`";
    /// `t` only defeats caches.
    server t_is_ignored => "200";
    /// The handshake is a GET.
    server only_get_opens_a_session => "400, code 2";
}

rules! {
    mod path_4 = EngineIo4, "Request path", "#request-path";
    /// The path is `/engine.io/`, or what a library above sets (`/socket.io/`); other paths are not Engine.IO's.
    server the_path_is_served_and_no_other => "404 elsewhere";
}

rules! {
    mod query_4 = EngineIo4, "Query parameters", "#query-parameters";
    /// `EIO` is mandatory and names a revision that is spoken.
    server the_revision_is_mandatory => "400, code 5 for none, 2, 5 and `abc`";
    /// `transport` is mandatory and names a transport that is served.
    server the_transport_is_known => "400, code 0 for others and for none";
    /// `sid` must name a session that lives.
    server the_sid_is_known => "400, code 1";
    /// `sid` is mandatory once there is a session: without one a POST is a handshake of the wrong method.
    server a_post_needs_its_sid => "400, code 2";
    /// `sid` goes with the transport of its session.
    server a_session_keeps_its_transport => "400 for a poll of a WebSocket's session";
}

rules! {
    mod handshake_4 = EngineIo4, "Handshake", "#handshake";
    /// The handshake is a GET.
    server only_get_opens_a_session => "400, code 2";
    /// A GET opens a session over polling; the answer is the `open` packet.
    server polling_opens_a_session => "200, `0{...}`";
    /// A WebSocket opens a session by itself; its first message is the `open` packet.
    server a_websocket_opens_a_session => "101, then `0{...}`";
    /// The `open` packet holds JSON: `sid`, `upgrades` (an array), `pingInterval` and `pingTimeout` (milliseconds) and `maxPayload` (bytes).
    server the_open_packet_says_it_all => "these keys with these types, and no others";
    /// `upgrades` names what the session may change to: WebSocket from polling, nothing from WebSocket.
    server upgrades_are_named => "`[\"websocket\"]`, `[]`";
    /// Each session has an id of its own.
    server every_session_has_its_own_sid => "ids that differ";
}

rules! {
    mod protocol_4 = EngineIo4, "Protocol: close and message", "#message";
    /// Messages go both ways once there is a session.
    server messages_go_both_ways => "its echo";
    /// A `close` packet over polling ends the session; a waiting poll is ended with `noop`.
    server a_close_packet_over_polling_ends_the_session => "`6`; afterwards 400, code 1";
    /// A `close` packet over WebSocket ends the session.
    server a_close_packet_over_websocket_ends_the_session => "close 1000";
}

fn polling_opens_a_session(subject: &Subject) -> Result<()> {
    let response = subject.get(&subject.query("polling"))?;
    response.expect_status(200)?;
    let body = response.text()?;
    let json = match subject.revision {
        Revision::V3 => {
            let (length, packet) = body.split_once(':').context("a length")?;
            ensure!(
                packet.len() == length.parse::<usize>()?,
                "{} characters announced as {length}",
                packet.len()
            );
            packet.strip_prefix('0').context("an open packet")?
        }
        Revision::V4 => body.strip_prefix('0').context("an open packet")?,
    };
    expect_handshake(subject, &serde_json::from_str(json)?)
}

fn a_websocket_opens_a_session(subject: &Subject) -> Result<()> {
    let (mut socket, open) = subject.opened()?;
    expect_handshake(subject, &open)?;
    subject.expect_alive(&mut socket)
}

fn the_open_packet_says_it_all(subject: &Subject) -> Result<()> {
    let (_, open) = subject.opened()?;
    expect_handshake(subject, &open)
}

fn expect_handshake(subject: &Subject, open: &Value) -> Result<()> {
    ensure!(open["sid"].as_str().is_some_and(|sid| sid.len() >= 8), "sid in {open}");
    ensure!(
        open["upgrades"].as_array().is_some_and(|all| all.iter().all(Value::is_string)),
        "upgrades in {open}"
    );
    let numbers: &[&str] = subject
        .revision
        .pick(&["pingInterval", "pingTimeout"], &["pingInterval", "pingTimeout", "maxPayload"]);
    for name in numbers {
        ensure!(open[*name].as_u64().is_some_and(|value| value > 0), "{name} in {open}");
    }
    let keys = open.as_object().map_or(0, serde_json::Map::len);
    ensure!(keys == 2 + numbers.len() || (subject.revision == Revision::V3 && keys == 5), "keys of {open}");
    Ok(())
}

fn upgrades_are_named(subject: &Subject) -> Result<()> {
    let (_, open) = subject.opened()?;
    ensure!(open["upgrades"] == json!([]), "over WebSocket: {open}");
    let open = subject.polling()?.open;
    ensure!(open["upgrades"] == json!(["websocket"]), "over polling: {open}");
    Ok(())
}

fn every_session_has_its_own_sid(subject: &Subject) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..5 {
        let (_, open) = subject.opened()?;
        ensure!(seen.insert(open["sid"].to_string()), "twice: {open}");
    }
    Ok(())
}

fn messages_go_both_ways(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for text in ["4", "4hey", "4한 €", "4{\"json\":true}"] {
        socket.send(text)?;
        socket.expect(text)?;
    }
    Ok(())
}

fn a_close_packet_over_polling_ends_the_session(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut waiting = session.start_get()?;
    ensure!(waiting.is_silent_for(std::time::Duration::from_millis(50))?, "nothing was to be said");
    session.send(&["1"])?;
    let response = waiting.response()?;
    response.expect_status(200)?;
    response.expect_body(subject.revision.pick("1:6", "6"))?;
    session.expect_gone()
}

fn a_close_packet_over_websocket_ends_the_session(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("1")?;
    if subject.is_ours() { socket.expect_close(1000) } else { socket.expect_over() }
}

fn the_path_is_served_and_no_other(subject: &Subject) -> Result<()> {
    // What else a server serves is its own affair.
    let others: &[&str] =
        if subject.is_ours() { &["/", "/elsewhere", "/engine.i", "/engine.io.js"] } else { &[] };
    for path in others {
        let target = format!("{path}?{}", subject.query("polling"));
        subject.start(request("GET", &target, &[], b""))?.response()?.expect_status(404)?;
    }
    subject.websocket().map(drop)
}

fn the_transport_is_known(subject: &Subject) -> Result<()> {
    let eio = subject.revision.number();
    for query in ["", "&transport=", "&transport=abc", "&transport=flashsocket", "&transport=Polling"] {
        let response = subject.get(&format!("EIO={eio}{query}"))?;
        response.expect_refusal(0, "Transport unknown")?;
    }
    let (_, response) = subject.upgrade(&format!("EIO={eio}&transport=abc"))?;
    response.expect_refusal(0, "Transport unknown")
}

fn the_sid_is_known(subject: &Subject) -> Result<()> {
    let polling = format!("{}&sid=nobody", subject.query("polling"));
    let unknown = "Session ID unknown";
    subject.get(&polling)?.expect_refusal(1, unknown)?;
    subject.request("POST", &polling, &[], b"4hello")?.expect_refusal(1, unknown)?;
    let (_, response) = subject.upgrade(&format!("{}&sid=nobody", subject.query("websocket")))?;
    response.expect_refusal(1, unknown)
}

fn a_session_keeps_its_transport(subject: &Subject) -> Result<()> {
    let (mut socket, open) = subject.opened()?;
    let sid = open["sid"].as_str().context("a sid")?;
    let query = format!("{}&sid={sid}", subject.query("polling"));
    subject.get(&query)?.expect_status(400)?;
    subject.request("POST", &query, &[], b"4hello")?.expect_status(400)?;
    subject.expect_alive(&mut socket)
}

const UNSUPPORTED: &str = "Unsupported protocol version";

fn the_revision_is_known(subject: &Subject) -> Result<()> {
    for eio in ["2", "5", "abc", "33"] {
        subject.get(&format!("EIO={eio}&transport=polling"))?.expect_refusal(5, UNSUPPORTED)?;
        let (_, response) = subject.upgrade(&format!("EIO={eio}&transport=websocket"))?;
        response.expect_refusal(5, UNSUPPORTED)?;
    }
    Ok(())
}

fn the_revision_is_mandatory(subject: &Subject) -> Result<()> {
    subject.get("transport=polling")?.expect_refusal(5, UNSUPPORTED)?;
    subject.upgrade("transport=websocket")?.1.expect_refusal(5, UNSUPPORTED)?;
    the_revision_is_known(subject)
}

fn t_is_ignored(subject: &Subject) -> Result<()> {
    let session = subject.polling_with("&t=N8hyd6w")?;
    session.send(&["4hello"])?;
    session.expect("4hello")
}

fn only_get_opens_a_session(subject: &Subject) -> Result<()> {
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for transport in ["polling", "websocket"] {
            let response = subject.request(method, &subject.query(transport), &[], b"4hello")?;
            response.expect_refusal(2, "Bad handshake method")?;
        }
    }
    let target = format!("{}?{}", subject.path(), subject.query("websocket"));
    let response = subject.start(head("POST", &target, &upgrade_headers()))?.response()?;
    response.expect_status(400)
}

fn a_post_needs_its_sid(subject: &Subject) -> Result<()> {
    for sid in ["", "&sid="] {
        let response =
            subject.request("POST", &format!("{}{sid}", subject.query("polling")), &[], b"4hello")?;
        response.expect_refusal(2, "Bad handshake method")?;
    }
    Ok(())
}
