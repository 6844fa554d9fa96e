//! Events, acknowledgements and what comes with them in binary.

use anyhow::{Result, ensure};

use crate::rule::{Revision, rules};
use crate::subject::Subject;
use crate::websocket::WebSocket;

rules! {
    mod events_4 = SocketIo4, "EVENT, BINARY_EVENT", "#2---event";
    /// An event is an array: its name, then its arguments.
    server an_event_keeps_its_arguments => "`42[\"message-back\",...]`";
    /// It may carry binary data: placeholders in the JSON, the attachments behind it in order.
    server attachments_follow_their_event => "`452-[\"message-back\",...]` and both attachments";
    /// A placeholder may stand anywhere in the arguments.
    server placeholders_may_lie_deep => "the JSON as it was, its attachment";
    /// In this revision an attachment begins with the byte of its packet's type.
    server attachments_are_engine_packets => "`04 01 02 03`";
    /// A payload that is not an array with a name ends the session.
    server a_payload_must_be_an_array => "close 1008";
}

rules! {
    mod acknowledgement_4 = SocketIo4, "Acknowledgement", "#acknowledgement";
    /// An event with an id is answered by an ACK with that id, in its namespace.
    server an_event_with_an_id_is_acknowledged => "`43456[...]`, `43/custom,456[...]`";
    /// The payload of an ACK may be empty, and the id may be 0.
    server an_acknowledgement_may_be_empty => "`430[]`";
    /// An answer with binary data is a BINARY_ACK.
    server a_binary_answer_is_a_binary_ack => "`461-456[{\"_placeholder\":true,\"num\":0}]`";
    /// The server may ask too; what the client acknowledges reaches who asked.
    server the_server_may_ask => "`42[\"answer-back\",\"yes\"]`";
    /// A client may answer with a BINARY_ACK.
    server a_client_may_answer_in_binary => "`451-[\"answer-back\",...]`";
}

rules! {
    mod events_5 = SocketIo5, "Sending and receiving data", "#sending-and-receiving-data";
    /// An event is an array: its name, then its arguments.
    server an_event_keeps_its_arguments => "`42[\"message-back\",...]`";
    /// The payload is mandatory, an array, and not empty; else the receiver closes the connection.
    server a_payload_must_be_an_array => "close 1008";
    /// An event may carry binary data: placeholders in the JSON, the attachments behind it in order.
    server attachments_follow_their_event => "`452-[\"message-back\",...]` and both attachments";
    /// A placeholder may stand anywhere in the arguments.
    server placeholders_may_lie_deep => "the JSON as it was, its attachment";
    /// Nothing may come between an event and its attachments.
    server attachments_come_at_once => "close 1008";
    /// Each placeholder has its attachment.
    server a_placeholder_needs_its_attachment => "close 1008";
    /// An attachment nobody announced ends the session.
    server an_unannounced_attachment_ends_the_session => "close 1008";
    /// Events of a namespace that is not connected end the session.
    server an_event_needs_its_namespace => "close 1008";
}

rules! {
    mod acknowledgement_5 = SocketIo5, "Acknowledgement", "#acknowledgement";
    /// An event with an id is answered by an ACK with that id, in its namespace.
    server an_event_with_an_id_is_acknowledged => "`43456[...]`, `43/custom,456[...]`";
    /// The payload of an ACK is an array, possibly empty; the id may be 0.
    server an_acknowledgement_may_be_empty => "`430[]`";
    /// An answer with binary data is a BINARY_ACK.
    server a_binary_answer_is_a_binary_ack => "`461-456[{\"_placeholder\":true,\"num\":0}]`";
    /// A binary event may be answered in text.
    server a_binary_event_is_acknowledged => "`461-14[...]` with the same attachment";
    /// The server may ask too; what the client acknowledges reaches who asked.
    server the_server_may_ask => "`42[\"answer-back\",\"yes\"]`";
    /// A client may answer with a BINARY_ACK.
    server a_client_may_answer_in_binary => "`451-[\"answer-back\",...]`";
    /// The payload of a client's ACK is an array too.
    server an_answer_must_be_an_array => "close 1008";
    /// Without an id there is nothing to acknowledge.
    server an_answer_needs_its_id => "close 1008";
    /// An acknowledgement nobody waits for is no offence.
    server an_unasked_answer_is_no_offence => "its echo";
}

/// Sends an attachment as the revision has it.
fn attach(subject: &Subject, socket: &mut WebSocket, data: &[u8]) -> Result<()> {
    socket.send_binary(&attachment(subject, data))
}

fn expect_attachment(subject: &Subject, socket: &mut WebSocket, data: &[u8]) -> Result<()> {
    socket.expect_binary(&attachment(subject, data))
}

fn attachment(subject: &Subject, data: &[u8]) -> Vec<u8> {
    match subject.revision {
        Revision::V3 => [&[4], data].concat(),
        Revision::V4 => data.to_vec(),
    }
}

/// In `/custom` as well as in `/`.
fn in_both(subject: &Subject) -> Result<WebSocket> {
    let mut socket = subject.websocket()?;
    socket.send("40/custom,")?;
    ensure!(socket.text()?.starts_with("40/custom,"), "expected a CONNECT");
    socket.expect(r#"42/custom,["auth",{}]"#)?;
    Ok(socket)
}

fn an_event_keeps_its_arguments(subject: &Subject) -> Result<()> {
    let mut socket = in_both(subject)?;
    for arguments in [r#","foo""#, "", r#",1,"2",{"3":[true,null,-1.5]}"#, r#","\"한\\ €""#] {
        for namespace in ["", "/custom,"] {
            socket.send(&format!(r#"42{namespace}["message"{arguments}]"#))?;
            socket.expect(&format!(r#"42{namespace}["message-back"{arguments}]"#))?;
        }
    }
    Ok(())
}

const FIRST: &str = r#"{"_placeholder":true,"num":0}"#;
const SECOND: &str = r#"{"_placeholder":true,"num":1}"#;

fn attachments_follow_their_event(subject: &Subject) -> Result<()> {
    let mut socket = in_both(subject)?;
    for namespace in ["", "/custom,"] {
        socket.send(&format!(r#"452-{namespace}["message",{FIRST},{SECOND}]"#))?;
        attach(subject, &mut socket, &[1, 2, 3])?;
        attach(subject, &mut socket, &[])?;
        socket.expect(&format!(r#"452-{namespace}["message-back",{FIRST},{SECOND}]"#))?;
        expect_attachment(subject, &mut socket, &[1, 2, 3])?;
        expect_attachment(subject, &mut socket, &[])?;
    }
    Ok(())
}

fn placeholders_may_lie_deep(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    let arguments = format!(r#"{{"a":[1,{FIRST}]}},"b""#);
    socket.send(&format!(r#"451-["message",{arguments}]"#))?;
    attach(subject, &mut socket, &[0xff; 300])?;
    socket.expect(&format!(r#"451-["message-back",{arguments}]"#))?;
    expect_attachment(subject, &mut socket, &[0xff; 300])
}

fn attachments_are_engine_packets(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send(&format!(r#"451-["message",{FIRST}]"#))?;
    socket.send_binary(&[4, 1, 2, 3])?;
    socket.expect(&format!(r#"451-["message-back",{FIRST}]"#))?;
    socket.expect_binary(&[4, 1, 2, 3])
}

/// Each row on a connection of its own; the session must end.
fn expelled(subject: &Subject, rows: &[&[&str]]) -> Result<()> {
    for texts in rows {
        let mut socket = subject.websocket()?;
        for text in *texts {
            socket.send(text)?;
        }
        socket.expect_expelled()?;
    }
    Ok(())
}

fn a_payload_must_be_an_array(subject: &Subject) -> Result<()> {
    expelled(
        subject,
        &[&["42"], &["42{}"], &["42[]"], &["42\"message\""], &["42null"], &[r#"42["message""#], &["42[{}]"]],
    )
}

fn attachments_come_at_once(subject: &Subject) -> Result<()> {
    expelled(subject, &[&[r#"451-["message",{"_placeholder":true,"num":0}]"#, r#"42["message",1]"#]])
}

fn a_placeholder_needs_its_attachment(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send(&format!(r#"451-["message",{SECOND}]"#))?;
    socket.send_binary(&attachment(subject, b"x"))?;
    socket.expect_expelled()
}

fn an_unannounced_attachment_ends_the_session(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    attach(subject, &mut socket, b"nobody asked")?;
    socket.expect_expelled()
}

fn an_event_needs_its_namespace(subject: &Subject) -> Result<()> {
    expelled(subject, &[&[r#"42/custom,["message",1]"#], &[r#"42/unknown,["message",1]"#]])
}

fn an_event_with_an_id_is_acknowledged(subject: &Subject) -> Result<()> {
    let mut socket = in_both(subject)?;
    for namespace in ["", "/custom,"] {
        for id in ["0", "456", "9007199254740991"] {
            socket.send(&format!(r#"42{namespace}{id}["message-with-ack","foo",1]"#))?;
            socket.expect(&format!(r#"43{namespace}{id}["foo",1]"#))?;
        }
    }
    Ok(())
}

fn an_acknowledgement_may_be_empty(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send(r#"420["message-with-ack"]"#)?;
    socket.expect("430[]")
}

fn a_binary_answer_is_a_binary_ack(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send(&format!(r#"451-456["message-with-ack",{FIRST}]"#))?;
    attach(subject, &mut socket, &[3, 2, 1])?;
    socket.expect(&format!("461-456[{FIRST}]"))?;
    expect_attachment(subject, &mut socket, &[3, 2, 1])
}

fn a_binary_event_is_acknowledged(subject: &Subject) -> Result<()> {
    let mut socket = in_both(subject)?;
    socket.send(&format!(r#"451-/custom,14["message-with-ack","foo",{FIRST}]"#))?;
    attach(subject, &mut socket, &[1, 2, 3, 4])?;
    socket.expect(&format!(r#"461-/custom,14["foo",{FIRST}]"#))?;
    expect_attachment(subject, &mut socket, &[1, 2, 3, 4])
}

/// Has the server ask and gives the id of its question.
fn asked(socket: &mut WebSocket) -> Result<String> {
    socket.send(r#"42["ask-me","really?"]"#)?;
    let question = socket.text()?;
    let id = question.strip_prefix("42").and_then(|rest| rest.strip_suffix(r#"["question","really?"]"#));
    let id = id.ok_or_else(|| anyhow::anyhow!("not the question: {question:?}"))?;
    ensure!(!id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()), "id {id:?}");
    Ok(id.to_owned())
}

fn the_server_may_ask(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    let first = asked(&mut socket)?;
    let second = asked(&mut socket)?;
    ensure!(first != second, "the same id for two questions");
    for id in [second, first] {
        socket.send(&format!(r#"43{id}["yes"]"#))?;
        socket.expect(r#"42["answer-back","yes"]"#)?;
    }
    Ok(())
}

fn a_client_may_answer_in_binary(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    let id = asked(&mut socket)?;
    socket.send(&format!(r#"461-{id}["yes",{FIRST}]"#))?;
    attach(subject, &mut socket, &[9])?;
    socket.expect(&format!(r#"451-["answer-back","yes",{FIRST}]"#))?;
    expect_attachment(subject, &mut socket, &[9])
}

fn an_answer_must_be_an_array(subject: &Subject) -> Result<()> {
    expelled(subject, &[&["431"], &["431{}"], &["431\"x\""]])
}

fn an_answer_needs_its_id(subject: &Subject) -> Result<()> {
    expelled(subject, &[&["43[]"], &[r#"43["x"]"#], &["43/,[]"]])
}

fn an_unasked_answer_is_no_offence(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send(r#"4399["nobody asked"]"#)?;
    subject.expect_alive(&mut socket)
}
