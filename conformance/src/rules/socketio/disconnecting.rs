//! DISCONNECT, from either side.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::rule::{Revision, rules};
use crate::subject::Subject;
use crate::websocket::WebSocket;

rules! {
    mod disconnection_4 = SocketIo4, "Disconnection from a non-default namespace", "#disconnection-from-a-non-default-namespace";
    /// A client leaves a namespace with DISCONNECT; no answer comes, and the session goes on.
    server a_client_leaves_a_namespace => "nothing; its echo in `/`";
    /// The server turns a client out with DISCONNECT.
    server the_server_turns_a_client_out => "`41/custom,`";
    /// A namespace that was left may be entered again.
    server a_namespace_may_be_entered_again => "`40/custom,`";
    /// DISCONNECT has no payload and no id.
    server a_disconnect_carries_nothing => "close 1008";
}

rules! {
    mod disconnection_5 = SocketIo5, "Disconnection from a namespace", "#disconnection-from-a-namespace";
    /// A client leaves a namespace with DISCONNECT; no answer comes, and the session goes on for the others.
    server a_client_leaves_a_namespace => "nothing; its echo in `/`";
    /// A client may leave `/` and stay in another namespace.
    server a_client_may_leave_the_default_namespace => "its echo in `/custom`";
    /// What is said in a namespace after leaving it ends the session.
    server a_namespace_that_was_left_is_not_connected => "close 1008";
    /// The server turns a client out with DISCONNECT.
    server the_server_turns_a_client_out => "`41`, `41/custom,`";
    /// What the client sent before it read that is forgiven.
    server what_crossed_the_disconnect_is_forgiven => "nothing; CONNECT is granted";
    /// A namespace that was left may be entered again.
    server a_namespace_may_be_entered_again => "`40/custom,{\"sid\":...}`";
    /// DISCONNECT has no payload and no id.
    server a_disconnect_carries_nothing => "close 1008";
}

/// Enters `/custom` and reads what the application says there.
fn enter_custom(socket: &mut WebSocket) -> Result<()> {
    socket.send("40/custom,")?;
    let answer = socket.text()?;
    ensure!(answer.starts_with("40/custom,"), "not a CONNECT: {answer:?}");
    socket.expect(r#"42/custom,["auth",{}]"#)
}

fn a_client_leaves_a_namespace(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    enter_custom(&mut socket)?;
    socket.send("41/custom,")?;
    ensure!(socket.is_silent_for(Duration::from_millis(50))?, "a DISCONNECT was answered");
    subject.expect_alive(&mut socket)
}

fn a_client_may_leave_the_default_namespace(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    enter_custom(&mut socket)?;
    socket.send("41")?;
    socket.send(r#"42/custom,["message","still here"]"#)?;
    socket.expect(r#"42/custom,["message-back","still here"]"#)
}

fn a_namespace_that_was_left_is_not_connected(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    enter_custom(&mut socket)?;
    socket.send("41/custom,")?;
    socket.send(r#"42/custom,["message",1]"#)?;
    socket.expect_expelled()
}

fn the_server_turns_a_client_out(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    enter_custom(&mut socket)?;
    socket.send(r#"42/custom,["turn-me-out"]"#)?;
    socket.expect("41/custom,")?;
    subject.expect_alive(&mut socket)?;
    socket.send(r#"42["turn-me-out"]"#)?;
    socket.expect("41")
}

fn what_crossed_the_disconnect_is_forgiven(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    socket.send(r#"42["turn-me-out"]"#)?;
    socket.send(r#"42["message","late"]"#)?;
    socket.expect("41")?;
    subject.enter_default(&mut socket)
}

fn a_namespace_may_be_entered_again(subject: &Subject) -> Result<()> {
    let mut socket = subject.websocket()?;
    for _ in 0..3 {
        enter_custom(&mut socket)?;
        socket.send("41/custom,")?;
    }
    subject.expect_alive(&mut socket)
}

fn a_disconnect_carries_nothing(subject: &Subject) -> Result<()> {
    for packet in ["41[]", r#"41{"a":1}"#, "411", "41/custom,1"] {
        let mut socket = subject.websocket()?;
        // Known to the server, so that nothing else is wrong.
        if subject.revision == Revision::V4 {
            enter_custom(&mut socket)?;
        }
        socket.send(packet)?;
        socket.expect_expelled()?;
    }
    Ok(())
}
