//! Packets in characters, and whole sessions over polling.

use anyhow::{Result, ensure};

use crate::rule::{Revision, rules};
use crate::subject::Subject;

rules! {
    mod types_4 = SocketIo4, "Packet types", "#packet-types";
    /// The types are 0 to 6; any other ends the session.
    server unknown_types_end_the_session => "close 1008";
    /// ERROR comes from servers only.
    server only_servers_refuse => "close 1008";
    /// An id is a whole number.
    server an_id_is_a_number => "close 1008";
}

rules! {
    mod format_4 = SocketIo4, "Packet encoding", "#encoding-format";
    /// The order is type, attachments and `-`, namespace and `,`, id, payload; what is not needed is left away.
    server every_part_has_its_place => "`461-/custom,456[...]`";
    /// `/` is left away by the sender and understood by the receiver.
    server the_default_namespace_is_left_away => "`42[...]` for `42/,[...]`";
    /// The `,` behind a namespace may be missing when nothing follows.
    server a_namespace_at_the_end_needs_no_comma => "`40/custom,` for `40/custom`";
    /// The number of attachments must be there, and be a number.
    server the_count_of_attachments_is_needed => "close 1008";
    /// Each packet is the data of an Engine.IO message.
    server packets_travel_in_messages => "`42[...]`";
    /// Parsers other than the default one may be agreed on outside the protocol.
    none other_parsers => "optional, and only the default parser is served";
}

rules! {
    mod session_4 = SocketIo4, "Sample session", "#sample-session";
    /// Over polling the first answers hold the `open` packet and CONNECT.
    server a_polling_session_is_connected_unasked => "`0{...}` and `40`";
    /// Several events fit one POST.
    server events_share_a_payload => "`ok`, then both answers in order";
    /// Attachments over polling travel as packets of their own.
    server attachments_travel_over_polling => "the event and its attachment";
    /// After the upgrade the namespaces are still connected.
    server namespaces_outlive_the_upgrade => "its echo in `/custom`";
}

rules! {
    mod format_5 = SocketIo5, "Packet encoding: Format", "#format";
    /// The order is type, attachments and `-`, namespace and `,`, id, payload; what is not needed is left away.
    server every_part_has_its_place => "`461-/custom,456[...]`";
    /// `/` is left away by the sender and understood by the receiver.
    server the_default_namespace_is_left_away => "`42[...]` for `42/,[...]`";
    /// The `,` behind a namespace may be missing when nothing follows.
    server a_namespace_at_the_end_needs_no_comma => "`40/custom,{...}` for `40/custom`";
    /// The types are 0 to 6; any other ends the session.
    server unknown_types_end_the_session => "close 1008";
    /// CONNECT_ERROR comes from servers only.
    server only_servers_refuse => "close 1008";
    /// An id is a whole number.
    server an_id_is_a_number => "close 1008";
    /// The number of attachments must be there, and be a number.
    server the_count_of_attachments_is_needed => "close 1008";
    /// Each packet is the data of an Engine.IO message.
    server packets_travel_in_messages => "`42[...]`";
    /// Parsers other than the default one may be agreed on outside the protocol.
    none other_parsers => "optional, and only the default parser is served";
}

rules! {
    mod session_5 = SocketIo5, "Sample session", "#sample-session";
    /// Over polling CONNECT goes by POST and is granted by GET.
    server a_polling_session_connects => "`ok`, then `40{\"sid\":...}`";
    /// Several events fit one POST.
    server events_share_a_payload => "`ok`, then both answers in order";
    /// Attachments over polling travel as packets of their own.
    server attachments_travel_over_polling => "the event and its attachment";
    /// After the upgrade the namespaces are still connected.
    server namespaces_outlive_the_upgrade => "its echo in `/custom`";
    /// A packet that is not understood ends a session over polling too.
    server a_broken_packet_ends_a_polling_session => "afterwards 400, code 1";
}

fn unknown_types_end_the_session(subject: &Subject) -> Result<()> {
    for packet in ["47", "49[]", "4abc", "4-1", "4 2[\"message\"]"] {
        let mut socket = subject.websocket()?;
        socket.send(packet)?;
        socket.expect_expelled()?;
    }
    Ok(())
}

fn only_servers_refuse(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send(subject.revision.pick(r#"44"no""#, r#"44{"message":"no"}"#))?;
    socket.expect_expelled()
}

fn an_id_is_a_number(subject: &Subject) -> Result<()> {
    for id in ["abc", "-1", "1.5", "1e3", "99999999999999999999"] {
        let mut socket = subject.websocket()?;
        socket.send(&format!(r#"42{id}["message-with-ack",1]"#))?;
        socket.expect_expelled()?;
    }
    Ok(())
}

fn every_part_has_its_place(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("40/custom,")?;
    ensure!(socket.text()?.starts_with("40/custom,"), "expected a CONNECT");
    socket.expect(r#"42/custom,["auth",{}]"#)?;
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    socket.send(&format!(r#"451-/custom,456["message-with-ack",{placeholder}]"#))?;
    let data = subject.revision.pick(&[4, 1, 2, 3][..], &[1, 2, 3]);
    socket.send_binary(data)?;
    socket.expect(&format!("461-/custom,456[{placeholder}]"))?;
    socket.expect_binary(data)
}

fn the_default_namespace_is_left_away(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send(r#"42/,["message",1]"#)?;
    socket.expect(r#"42["message-back",1]"#)?;
    socket.send(r#"42/,7["message-with-ack",1]"#)?;
    socket.expect("437[1]")
}

fn a_namespace_at_the_end_needs_no_comma(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send("40/custom")?;
    ensure!(socket.text()?.starts_with("40/custom,"), "expected a CONNECT");
    socket.expect(r#"42/custom,["auth",{}]"#)
}

fn the_count_of_attachments_is_needed(subject: &Subject) -> Result<()> {
    for packet in [r#"45["message"]"#, r#"45-["message"]"#, r#"45x-["message"]"#, r#"451["message"]"#] {
        let mut socket = subject.websocket()?;
        socket.send(packet)?;
        socket.expect_expelled()?;
    }
    Ok(())
}

fn packets_travel_in_messages(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    subject.expect_alive(&mut socket)
}

/// A polling session in `/`, what the application says first read.
fn entered(subject: &Subject) -> Result<crate::subject::Polling<'_>> {
    let session = subject.polling()?;
    match subject.revision {
        Revision::V3 => session.expect("40")?,
        Revision::V4 => {
            session.send(&["40"])?;
            let answer = session.next()?;
            ensure!(answer.starts_with(r#"40{"sid":""#), "expected a CONNECT, got {answer:?}");
        }
    }
    session.expect(r#"42["auth",{}]"#)?;
    Ok(session)
}

fn a_polling_session_is_connected_unasked(subject: &Subject) -> Result<()> {
    entered(subject).map(drop)
}

fn a_polling_session_connects(subject: &Subject) -> Result<()> {
    entered(subject).map(drop)
}

fn events_share_a_payload(subject: &Subject) -> Result<()> {
    let session = entered(subject)?;
    session.send(&[r#"42["message","hello"]"#, r#"42["message","world"]"#])?;
    session.expect(r#"42["message-back","hello"]"#)?;
    session.expect(r#"42["message-back","world"]"#)
}

fn attachments_travel_over_polling(subject: &Subject) -> Result<()> {
    let session = subject.polling_with("&b64=1")?;
    if subject.revision == Revision::V3 {
        session.expect("40")?;
    } else {
        session.send(&["40"])?;
        session.next()?;
    }
    session.expect(r#"42["auth",{}]"#)?;
    let event = r#"51-["message",{"_placeholder":true,"num":0}]"#;
    let attachment = subject.revision.pick("b4AQIDBA==", "bAQIDBA==");
    session.send(&[&format!("4{event}"), attachment])?;
    session.expect(r#"451-["message-back",{"_placeholder":true,"num":0}]"#)?;
    session.expect(attachment)
}

fn namespaces_outlive_the_upgrade(subject: &Subject) -> Result<()> {
    let session = entered(subject)?;
    session.send(&["40/custom,"])?;
    session.next()?;
    session.expect(r#"42/custom,["auth",{}]"#)?;
    let mut socket = session.upgraded()?;
    socket.send(r#"42/custom,["message","hello"]"#)?;
    socket.expect(r#"42/custom,["message-back","hello"]"#)
}

fn a_broken_packet_ends_a_polling_session(subject: &Subject) -> Result<()> {
    for packet in ["4abc", "42{}", r#"42abc["message-with-ack"]"#] {
        let session = entered(subject)?;
        // Read as a payload, it is whole; what it holds is the application protocol's.
        session.post(packet)?;
        session.expect_gone()?;
    }
    Ok(())
}
