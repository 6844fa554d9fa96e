//! Engine.IO, the client's side.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use socketio_client::{Closed, Options, Revision, connect};

use crate::client_side::{Listener, greet_with};
use crate::rule::rules;
use crate::websocket::Got;

rules! {
    mod client_3 = EngineIo3, "Clients", "#timeouts";
    /// The handshake names revision and transport.
    client the_handshake_names_revision_and_transport_3 => "`EIO=3&transport=websocket`, no `sid`";
    /// The client pings every `pingInterval` of the `open` packet.
    client the_client_pings => "`2`, three times";
    /// A client that hears nothing for `pingTimeout` after its ping gives up.
    client a_silent_server_is_given_up_3 => "the end, as a ping timeout";
}

rules! {
    mod client_4 = EngineIo4, "Clients", "#heartbeat";
    /// The handshake names revision and transport.
    client the_handshake_names_revision_and_transport_4 => "`EIO=4&transport=websocket`, no `sid`";
    /// The client answers each `ping` with a `pong`.
    client the_client_answers_pings => "`3` for each `2`";
    /// A client that hears no `ping` for `pingInterval + pingTimeout` gives up.
    client a_silent_server_is_given_up_4 => "the end, as a ping timeout, not before that time";
    /// A `close` packet of the server's is the end.
    client a_close_packet_is_the_end => "the end, as closed by the server's engine";
}

/// Long enough that a busy machine keeps them, short enough to wait for; milliseconds.
const INTERVAL: u64 = 200;
const TIMEOUT: u64 = 800;

fn the_handshake_names_revision_and_transport_3(listener: &Listener) -> Result<()> {
    handshake(listener, Revision::V3, "3")
}

fn the_handshake_names_revision_and_transport_4(listener: &Listener) -> Result<()> {
    handshake(listener, Revision::V4, "4")
}

fn handshake(listener: &Listener, revision: Revision, number: &str) -> Result<()> {
    listener.play(
        async move |options| {
            connect(&Options { revision, ..options }).await?.client.abort();
            Ok(())
        },
        |listener| {
            let request = listener.accept()?;
            ensure!(request.query("EIO") == Some(number), "{}", request.line);
            ensure!(request.query("transport") == Some("websocket"), "{}", request.line);
            ensure!(request.query("sid").is_none(), "{}", request.line);
            greet_with(&mut request.upgrade()?, revision, 25_000, 20_000)
        },
    )
}

/// The client listens until the connection ends; gives how it ended, and after how long.
fn ended(
    listener: &Listener,
    revision: Revision,
    server: impl FnOnce(&mut crate::websocket::WebSocket) -> Result<()>,
) -> Result<(Closed, Duration)> {
    listener.play(
        async move |options| {
            let mut client = connect(&Options { revision, ..options }).await?.client;
            let began = Instant::now();
            loop {
                if let Err(end) = client.next().await {
                    return Ok((end, began.elapsed()));
                }
            }
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet_with(&mut socket, revision, INTERVAL, TIMEOUT)?;
            server(&mut socket)
        },
    )
}

fn the_client_pings(listener: &Listener) -> Result<()> {
    ended(listener, Revision::V3, |socket| {
        for _ in 0..3 {
            socket.expect("2")?;
            socket.send("3")?;
        }
        Ok(())
    })?;
    Ok(())
}

fn a_silent_server_is_given_up_3(listener: &Listener) -> Result<()> {
    let (end, _) = ended(listener, Revision::V3, |socket| {
        socket.expect("2")?;
        until_end(socket)
    })?;
    ensure!(end == Closed::PingTimeout, "{end:?}");
    Ok(())
}

fn the_client_answers_pings(listener: &Listener) -> Result<()> {
    ended(listener, Revision::V4, |socket| {
        for _ in 0..3 {
            socket.send("2")?;
            socket.expect("3")?;
        }
        Ok(())
    })?;
    Ok(())
}

fn a_silent_server_is_given_up_4(listener: &Listener) -> Result<()> {
    let (end, took) = ended(listener, Revision::V4, until_end)?;
    ensure!(end == Closed::PingTimeout, "{end:?}");
    ensure!(
        took + Duration::from_millis(50) >= Duration::from_millis(INTERVAL + TIMEOUT),
        "given up after {took:?}"
    );
    Ok(())
}

fn a_close_packet_is_the_end(listener: &Listener) -> Result<()> {
    let (end, _) = ended(listener, Revision::V4, |socket| {
        socket.send("1")?;
        until_end(socket)
    })?;
    ensure!(end == Closed::Engine, "{end:?}");
    Ok(())
}

fn until_end(socket: &mut crate::websocket::WebSocket) -> Result<()> {
    while socket.next()? != Got::End {}
    Ok(())
}
