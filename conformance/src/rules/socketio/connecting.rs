//! CONNECT, and why it may fail.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::rule::{Revision, rules};
use crate::subject::Subject;
use crate::websocket::WebSocket;

rules! {
    mod default_4 = SocketIo4, "Connection to the default namespace", "#connection-to-the-default-namespace";
    /// The server says CONNECT for `/` as soon as there is a session, unasked.
    server the_default_namespace_is_connected_unasked => "`40`";
    /// CONNECT for `/` comes before any other namespace, even if the client asks for one at once.
    server the_default_namespace_comes_first => "`40`, then `40/custom,`";
    /// No answer is expected, none is needed to talk.
    server the_default_namespace_needs_no_answer => "its echo";
}

rules! {
    mod other_4 = SocketIo4, "Connection to a non-default namespace", "#connection-to-a-non-default-namespace";
    /// A client asks with CONNECT; the server grants with CONNECT.
    server a_namespace_is_granted => "`40/custom,`";
    /// The server refuses with ERROR, the reason as its payload; the session goes on.
    server a_namespace_is_refused_with_error => "`44/unknown,\"Invalid namespace\"`";
    /// A query may stand behind the name; it is no part of the name.
    server a_query_is_no_part_of_the_name => "`40/custom,` for `40/custom?token=1234,`";
    /// Namespaces share a session.
    server namespaces_share_a_session => "each answer in its namespace";
}

rules! {
    mod connection_5 = SocketIo5, "Connection to a namespace", "#connection-to-a-namespace";
    /// CONNECT is answered with CONNECT and a `sid`.
    server a_connect_is_granted_with_a_sid => "`40{\"sid\":...}`";
    /// Another namespace is connected in the same way, and needs no connection to `/`.
    server another_namespace_needs_no_default => "`40/custom,{\"sid\":...}`";
    /// Nobody is connected unasked.
    server nothing_is_connected_unasked => "nothing behind the open packet";
    /// The `sid` of a namespace is its own, not the session's and not another namespace's.
    server every_connection_has_its_own_sid => "ids that differ";
    /// A payload may come with CONNECT, an object; it is the handshake's `auth`.
    server a_payload_is_the_auth => "`42[\"auth\",{\"token\":\"123\"}]`";
    /// A refusal is CONNECT_ERROR with an object that has a `message`; the session goes on.
    server a_refusal_has_a_message => "`44/unknown,{\"message\":\"Invalid namespace\"}`";
    /// A session whose first packet is not CONNECT is closed at once.
    server another_first_packet_ends_the_session => "close 1008";
    /// Several namespaces share a session.
    server namespaces_share_a_session => "each answer in its namespace";
    /// A payload that is not an object is refused.
    server a_payload_must_be_an_object => "close 1008";
}

rules! {
    mod suite_5 = SocketIo5, "Test suite", "#test-suite";
    /// A session that connects to nothing for `connectTimeout` is closed.
    server who_connects_to_nothing_is_closed => "close 1008";
    /// An attempt that was refused does not count.
    server a_refused_connect_does_not_count => "close 1008";
}

fn the_default_namespace_is_connected_unasked(subject: &Subject) -> Result<()> {
    let (mut socket, _) = subject.opened()?;
    socket.expect("40")
}

fn the_default_namespace_comes_first(subject: &Subject) -> Result<()> {
    let mut socket = subject.bare_websocket(&subject.query("websocket"))?;
    socket.send("40/custom,")?;
    ensure!(socket.text()?.starts_with("0{"), "expected the open packet");
    socket.expect("40")?;
    socket.expect(r#"42["auth",{}]"#)?;
    socket.expect("40/custom,")
}

fn the_default_namespace_needs_no_answer(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    subject.expect_alive(&mut socket)
}

fn a_namespace_is_granted(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("40/custom,")?;
    socket.expect("40/custom,")?;
    socket.expect(r#"42/custom,["auth",{}]"#)
}

fn a_namespace_is_refused_with_error(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("40/unknown,")?;
    socket.expect(r#"44/unknown,"Invalid namespace""#)?;
    subject.expect_alive(&mut socket)
}

fn a_query_is_no_part_of_the_name(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("40/custom?token=1234&uid=abcd,")?;
    socket.expect("40/custom,")?;
    socket.expect(r#"42/custom,["auth",{}]"#)?;
    socket.send(r#"42/custom,["message",1]"#)?;
    socket.expect(r#"42/custom,["message-back",1]"#)
}

/// Enters `/custom` and reads what the application says there.
fn enter_custom(subject: &Subject, socket: &mut WebSocket) -> Result<()> {
    socket.send("40/custom,")?;
    let answer = socket.text()?;
    let payload = answer.strip_prefix("40/custom,").with_context(|| format!("not a CONNECT: {answer:?}"))?;
    ensure!(payload.is_empty() == (subject.revision == Revision::V3), "payload {payload:?}");
    socket.expect(r#"42/custom,["auth",{}]"#)
}

fn namespaces_share_a_session(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    enter_custom(subject, &mut socket)?;
    socket.send(r#"42/custom,["message","there"]"#)?;
    socket.send(r#"42["message","here"]"#)?;
    socket.expect(r#"42/custom,["message-back","there"]"#)?;
    socket.expect(r#"42["message-back","here"]"#)
}

/// The payload of a CONNECT to this namespace (`""` or `/custom,`).
fn granted(socket: &mut WebSocket, namespace: &str) -> Result<Value> {
    socket.send(&format!("40{namespace}"))?;
    let answer = socket.text()?;
    let payload = answer.strip_prefix("40").and_then(|rest| rest.strip_prefix(namespace));
    let payload: Value =
        serde_json::from_str(payload.with_context(|| format!("not a CONNECT: {answer:?}"))?)?;
    ensure!(payload["sid"].as_str().is_some_and(|sid| !sid.is_empty()), "no sid in {answer:?}");
    let keys = payload.as_object().map_or(0, serde_json::Map::len);
    ensure!(keys == 1 || payload["pid"].is_string(), "more than was asked for: {answer:?}");
    Ok(payload)
}

fn a_connect_is_granted_with_a_sid(subject: &Subject) -> Result<()> {
    let (mut socket, _) = subject.opened()?;
    granted(&mut socket, "")?;
    socket.expect(r#"42["auth",{}]"#)?;
    subject.expect_alive(&mut socket)
}

fn another_namespace_needs_no_default(subject: &Subject) -> Result<()> {
    let (mut socket, _) = subject.opened()?;
    granted(&mut socket, "/custom,")?;
    socket.expect(r#"42/custom,["auth",{}]"#)
}

fn nothing_is_connected_unasked(subject: &Subject) -> Result<()> {
    let (mut socket, _) = subject.opened()?;
    ensure!(socket.is_silent_for(std::time::Duration::from_millis(100))?, "something was said");
    Ok(())
}

fn every_connection_has_its_own_sid(subject: &Subject) -> Result<()> {
    let (mut socket, open) = subject.opened()?;
    let here = granted(&mut socket, "")?;
    socket.expect(r#"42["auth",{}]"#)?;
    let there = granted(&mut socket, "/custom,")?;
    let ids = [&open["sid"], &here["sid"], &there["sid"]];
    ensure!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
    Ok(())
}

fn a_payload_is_the_auth(subject: &Subject) -> Result<()> {
    for namespace in ["", "/custom,"] {
        let (mut socket, _) = subject.opened()?;
        socket.send(&format!(r#"40{namespace}{{"token":"123"}}"#))?;
        ensure!(socket.text()?.starts_with(&format!("40{namespace}{{")), "expected a CONNECT");
        socket.expect(&format!(r#"42{namespace}["auth",{{"token":"123"}}]"#))?;
    }
    Ok(())
}

fn a_refusal_has_a_message(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("40/unknown,")?;
    let answer = socket.text()?;
    let payload = answer.strip_prefix("44/unknown,").with_context(|| format!("not a refusal: {answer:?}"))?;
    let payload: Value = serde_json::from_str(payload)?;
    ensure!(payload == json!({ "message": "Invalid namespace" }), "{payload}");
    subject.expect_alive(&mut socket)
}

fn another_first_packet_ends_the_session(subject: &Subject) -> Result<()> {
    for first in [r#"42["message",1]"#, "41", "43[]", r#"431["x"]"#, r#"44{"message":"x"}"#, "4abc", "4"] {
        let (mut socket, _) = subject.opened()?;
        socket.send(first)?;
        socket.expect_expelled()?;
    }
    Ok(())
}

fn a_payload_must_be_an_object(subject: &Subject) -> Result<()> {
    for payload in ["[]", "\"text\"", "true", "{", "{]", "{} {}"] {
        let (mut socket, _) = subject.opened()?;
        socket.send(&format!("40{payload}"))?;
        socket.expect_expelled()?;
    }
    Ok(())
}

fn who_connects_to_nothing_is_closed(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let (mut socket, _) = subject.opened()?;
    let began = Instant::now();
    socket.expect_expelled()?;
    ensure!(began.elapsed().as_millis() > 500, "closed after {:?} already", began.elapsed());
    Ok(())
}

fn a_refused_connect_does_not_count(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let (mut socket, _) = subject.opened()?;
    socket.send("40/unknown,")?;
    ensure!(socket.text()?.starts_with("44/unknown,"), "expected a refusal");
    socket.expect_expelled()
}
