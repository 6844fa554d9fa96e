//! From polling to WebSocket without losing anything.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::websocket::expect_no_second;
use crate::rule::rules;
use crate::subject::Subject;

rules! {
    mod upgrading_3 = EngineIo3, "Transport upgrading", "#transport-upgrading";
    /// A `ping` with the data `probe` on a WebSocket of the session is answered with a `pong` of the same data.
    server a_probe_is_answered => "`3probe` for `2probe`";
    /// A poll that waits is ended with `noop`, so that the client can pause polling.
    server a_waiting_poll_is_ended_with_noop => "`1:6`";
    /// After `upgrade` the WebSocket is the session's channel, both ways.
    server the_websocket_takes_over => "its echo";
    /// What waits for the client when it upgrades comes over the WebSocket, in order.
    server what_waits_comes_over_the_websocket => "all of it, in order";
    /// Messages before, during and after the upgrade keep their order.
    server messages_keep_their_order_over_the_upgrade => "the echoes in order, each once";
    /// Until `upgrade` the session is polling's.
    server polling_goes_on_until_the_upgrade => "`6:4hello`";
    /// A probe that is given up costs nothing.
    server an_abandoned_probe_leaves_the_session => "its echo over polling";
    /// A WebSocket that says something else than the probe is closed; the session goes on over polling.
    server only_a_probe_is_heard => "the end; its echo over polling";
    /// After the upgrade there is no polling any more.
    server polling_ends_with_the_upgrade => "400 to GET and POST; the WebSocket goes on";
    /// After the upgrade there is no second WebSocket.
    server no_websocket_after_the_upgrade => "closed; the first goes on";
}

rules! {
    mod upgrade_4 = EngineIo4, "Upgrade", "#upgrade";
    /// A `ping` with the data `probe` on a WebSocket of the session is answered with a `pong` of the same data.
    server a_probe_is_answered => "`3probe` for `2probe`";
    /// A poll that waits is ended with `noop`, so that the client can pause polling.
    server a_waiting_poll_is_ended_with_noop => "`6`";
    /// A poll that comes after the probe is ended with `noop` too.
    server a_poll_after_the_probe_is_ended_with_noop => "`6`";
    /// After `upgrade` the WebSocket is the session's channel, both ways.
    server the_websocket_takes_over => "its echo";
    /// What waits for the client when it upgrades comes over the WebSocket, in order.
    server what_waits_comes_over_the_websocket => "all of it, in order";
    /// Messages before, during and after the upgrade keep their order.
    server messages_keep_their_order_over_the_upgrade => "the echoes in order, each once";
    /// Until `upgrade` the session is polling's.
    server polling_goes_on_until_the_upgrade => "`4hello`";
    /// A probe that is given up costs nothing.
    server an_abandoned_probe_leaves_the_session => "its echo over polling";
    /// A WebSocket that says something else than the probe is closed; the session goes on over polling.
    server only_a_probe_is_heard => "the end; its echo over polling";
    /// A WebSocket that does not come to `upgrade` in time is closed; the session goes on over polling.
    server an_unfinished_upgrade_is_given_up => "the end; its echo over polling";
    /// A session is probed by one WebSocket at a time.
    server no_second_probe => "closed; the first goes on";
    /// After the upgrade there is no polling any more.
    server polling_ends_with_the_upgrade => "400 to GET and POST; the WebSocket goes on";
    /// After the upgrade there is no second WebSocket.
    server no_websocket_after_the_upgrade => "closed; the first goes on";
    /// After the upgrade heartbeats go over the WebSocket.
    server heartbeats_follow_the_upgrade => "`2`, and the end without an answer";
}

const SOON: Duration = Duration::from_millis(100);

fn a_probe_is_answered(subject: &Subject) -> Result<()> {
    subject.polling()?.probed().map(drop)
}

fn a_waiting_poll_is_ended_with_noop(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut waiting = session.start_get()?;
    ensure!(waiting.is_silent_for(SOON)?, "nothing was to be said");
    let mut socket = session.probed()?;
    let response = waiting.response()?;
    response.expect_status(200)?;
    response.expect_body(subject.revision.pick("1:6", "6"))?;
    socket.send("5")?;
    subject.expect_alive(&mut socket)
}

fn a_poll_after_the_probe_is_ended_with_noop(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut socket = session.probed()?;
    let response = session.get()?;
    response.expect_status(200)?;
    response.expect_body(subject.revision.pick("1:6", "6"))?;
    socket.send("5")?;
    subject.expect_alive(&mut socket)
}

fn the_websocket_takes_over(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut socket = session.upgraded()?;
    socket.send("4€")?;
    socket.expect("4€")?;
    let binary = subject.revision.pick(&[4, 1, 2][..], &[1, 2]);
    socket.send_binary(binary)?;
    socket.expect_binary(binary)?;
    socket.send("1")?;
    if subject.is_ours() { socket.expect_close(1000) } else { socket.expect_over() }
}

fn what_waits_comes_over_the_websocket(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut socket = session.probed()?;
    session.send(&["4one", "4two"])?;
    session.send(&[subject.revision.pick("b4AQID", "bAQID")])?;
    session.send(&["4three"])?;
    socket.send("5")?;
    socket.expect("4one")?;
    socket.expect("4two")?;
    socket.expect_binary(subject.revision.pick(&[4, 1, 2, 3][..], &[1, 2, 3]))?;
    socket.expect("4three")
}

fn messages_keep_their_order_over_the_upgrade(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    session.send(&["40", "41"])?;
    session.expect("40")?;
    session.expect("41")?;
    session.send(&["42", "43"])?;
    let mut socket = session.probed()?;
    session.send(&["44", "45"])?;
    // The client has paused polling: all that it sent has been answered.
    socket.send("5")?;
    socket.send("46")?;
    socket.send("47")?;
    for text in ["42", "43", "44", "45", "46", "47"] {
        socket.expect(text)?;
    }
    ensure!(socket.is_silent_for(SOON)?, "more than was said");
    Ok(())
}

fn polling_goes_on_until_the_upgrade(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let query = format!("{}&sid={}", subject.query("websocket"), session.sid);
    let socket = subject.bare_websocket(&query)?;
    session.send(&["4hello"])?;
    session.expect("4hello")?;
    drop(socket);
    Ok(())
}

fn an_abandoned_probe_leaves_the_session(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    for _ in 0..2 {
        let socket = session.probed()?;
        socket.shut()?;
        drop(socket);
        session.send(&["4still here"])?;
        while session.next()? != "4still here" {}
    }
    Ok(())
}

fn only_a_probe_is_heard(subject: &Subject) -> Result<()> {
    for other in ["2", "2other", "4hello", "1", "abc"] {
        let session = subject.polling()?;
        let query = format!("{}&sid={}", subject.query("websocket"), session.sid);
        let mut socket = subject.bare_websocket(&query)?;
        socket.answers_pings = false;
        socket.send(other)?;
        socket.expect_over()?;
        session.send(&["4still here"])?;
        session.expect("4still here")?;
    }
    Ok(())
}

fn an_unfinished_upgrade_is_given_up(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let silent = subject.polling()?;
    let mut socket = subject.bare_websocket(&format!("{}&sid={}", subject.query("websocket"), silent.sid))?;
    let probing = subject.polling()?;
    let mut probed = probing.probed()?;
    for (session, socket) in [(&silent, &mut socket), (&probing, &mut probed)] {
        socket.answers_pings = false;
        socket.expect_over()?;
        session.send(&["4still here"])?;
        while session.next()? != "4still here" {}
    }
    Ok(())
}

fn heartbeats_follow_the_upgrade(subject: &Subject) -> Result<()> {
    let subject = subject.brisk();
    let mut socket = subject.polling()?.upgraded()?;
    socket.answers_pings = false;
    socket.expect("2")?;
    socket.send("3")?;
    socket.expect("2")?;
    socket.expect_over()
}

fn no_second_probe(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut socket = session.probed()?;
    expect_no_second(subject, &session.sid, &mut socket)?;
    socket.send("5")?;
    subject.expect_alive(&mut socket)
}

fn polling_ends_with_the_upgrade(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut socket = session.upgraded()?;
    session.get()?.expect_status(400)?;
    session.post(subject.revision.pick("6:4hello", "4hello"))?.expect_status(400)?;
    subject.expect_alive(&mut socket)
}

fn no_websocket_after_the_upgrade(subject: &Subject) -> Result<()> {
    let session = subject.polling()?;
    let mut socket = session.upgraded()?;
    expect_no_second(subject, &session.sid, &mut socket)?;
    subject.expect_alive(&mut socket)
}
