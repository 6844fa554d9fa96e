//! RFC 6455, the client's side.

use anyhow::{Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use socketio_client::{Closed, Options, Revision, connect};

use crate::client_side::{Listener, greet};
use crate::rule::rules;
use crate::websocket::{CLOSE, Got, LAST_PART, PART, PING, TEXT, TEXT_PART, WebSocket, frame};

rules! {
    mod opening = WebSocket, "Clients: 4.1 Client requirements", "#section-4.1";
    /// The handshake is a GET of HTTP/1.1 with `Host`, `Upgrade: websocket`, `Connection: Upgrade` and `Sec-WebSocket-Version: 13`.
    client the_handshake_is_complete => "these fields, once each";
    /// `Sec-WebSocket-Key` is the base64 of 16 random bytes, new for each connection.
    client every_handshake_has_its_own_key => "keys that differ";
    /// An answer that does not prove the key opens nothing.
    client a_wrong_accept_opens_nothing => "an error, nothing sent";
    /// A status other than 101 opens nothing.
    client another_status_opens_nothing => "an error that names the status";
    /// An extension that was not asked for opens nothing.
    client an_unasked_extension_opens_nothing => "an error, nothing sent";
    /// A subprotocol that was not asked for opens nothing.
    client an_unasked_subprotocol_opens_nothing => "an error, nothing sent";
}

rules! {
    mod framing = WebSocket, "Clients: 5 Data framing", "#section-5.1";
    /// Every frame of a client's is masked, each with a key of its own.
    client every_frame_is_masked => "masked frames, keys that differ";
    /// A client ends a connection on which a masked frame comes.
    client masked_frames_are_refused => "close 1002";
    /// A client ends a connection on which a frame breaks the framing: reserved bits, reserved opcodes, a continuation without a beginning.
    client broken_frames_are_refused => "close 1002";
    /// A client puts fragments together.
    client fragments_are_put_together => "the event";
    /// A client ends a connection on which text is not UTF-8.
    client text_must_be_utf8 => "close 1007";
    /// A client answers a ping with a pong of the same data.
    client pings_are_answered => "the pong";
}

rules! {
    mod closing = WebSocket, "Clients: 7 Closing the connection", "#section-7.1";
    /// A client answers a close frame with a close frame.
    client a_close_is_answered => "close with the server's code";
    /// A client that leaves sends a close frame and waits for the answer.
    client leaving_is_said => "a close frame";
}

fn the_handshake_is_complete(listener: &Listener) -> Result<()> {
    connecting(listener, |listener| {
        let request = listener.accept()?;
        ensure!(request.line.starts_with("GET /socket.io/?"), "{}", request.line);
        ensure!(request.line.ends_with(" HTTP/1.1"), "{}", request.line);
        for (name, value) in
            [("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "13")]
        {
            let got = request.header(name)?.to_ascii_lowercase();
            ensure!(got.split(',').any(|token| token.trim() == value), "{name}: {got}");
        }
        ensure!(request.header("host")?.starts_with("127.0.0.1:"), "host");
        let key = STANDARD.decode(request.header("sec-websocket-key")?)?;
        ensure!(key.len() == 16, "a key of {} bytes", key.len());
        let mut socket = request.upgrade()?;
        greet(&mut socket, Revision::V4)
    })
}

/// The client connects to the default namespace and leaves at once.
fn connecting(listener: &Listener, server: impl FnOnce(&Listener) -> Result<()>) -> Result<()> {
    listener.play(
        async |options| {
            connect(&options).await?.client.abort();
            Ok(())
        },
        server,
    )
}

fn every_handshake_has_its_own_key(listener: &Listener) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for _ in 0..3 {
        connecting(listener, |listener| {
            let request = listener.accept()?;
            ensure!(seen.insert(request.header("sec-websocket-key")?.to_owned()), "the same key again");
            greet(&mut request.upgrade()?, Revision::V4)
        })?;
    }
    Ok(())
}

/// The connect must fail, and the server hear no frame.
fn opens_nothing(
    listener: &Listener,
    server: impl FnOnce(&Listener) -> Result<Option<WebSocket>>,
) -> Result<String> {
    listener.play(
        async |options| match connect(&options).await {
            Ok(_) => bail!("it connected"),
            Err(error) => Ok(error.to_string()),
        },
        |listener| {
            if let Some(mut socket) = server(listener)? {
                // What the server would say next must not be answered.
                let _ = socket.send(r#"0{"sid":"e","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#);
                loop {
                    match socket.next()? {
                        Got::End => break,
                        Got::Close(..) => {}
                        other => bail!("the client went on: {other:?}"),
                    }
                }
            }
            Ok(())
        },
    )
}

fn a_wrong_accept_opens_nothing(listener: &Listener) -> Result<()> {
    for accept in ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", ""] {
        opens_nothing(listener, |listener| Ok(Some(listener.accept()?.upgrade_with(accept, "")?)))?;
    }
    Ok(())
}

fn another_status_opens_nothing(listener: &Listener) -> Result<()> {
    for status in ["200 OK", "400 Bad Request", "503 Service Unavailable"] {
        let error = opens_nothing(listener, |listener| {
            listener.accept()?.respond(&format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"))?;
            Ok(None)
        })?;
        ensure!(error.contains(&status[..3]), "the error does not name {status}: {error}");
    }
    Ok(())
}

fn an_unasked_extension_opens_nothing(listener: &Listener) -> Result<()> {
    with_field(listener, "Sec-WebSocket-Extensions: permessage-deflate\r\n")
}

fn an_unasked_subprotocol_opens_nothing(listener: &Listener) -> Result<()> {
    with_field(listener, "Sec-WebSocket-Protocol: chat\r\n")
}

fn with_field(listener: &Listener, field: &str) -> Result<()> {
    opens_nothing(listener, |listener| {
        let request = listener.accept()?;
        let accept = request.accept_value()?;
        Ok(Some(request.upgrade_with(&accept, field)?))
    })?;
    Ok(())
}

fn every_frame_is_masked(listener: &Listener) -> Result<()> {
    listener.play(
        async |options: Options| {
            let mut client = connect(&options).await?.client;
            for _ in 0..4 {
                client.emit("/", "message", "1").await?;
            }
            client.close().await;
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V4)?;
            let mut seen = std::collections::HashSet::new();
            while let Some(frame) = socket.next_frame()? {
                let mask = frame.mask.unwrap_or_default();
                ensure!(seen.insert(mask), "the key {mask:?} again");
                if frame.first == CLOSE {
                    socket.frame(CLOSE, &frame.payload)?;
                    break;
                }
            }
            ensure!(seen.len() >= 5, "only {} frames", seen.len());
            Ok(())
        },
    )
}

/// The connected client is sent these bytes; gives what it came to, and the code it closed with.
fn after(listener: &Listener, bytes: &[u8]) -> Result<(String, Option<u16>)> {
    let mut code = None;
    let end = listener.play(
        async |options: Options| {
            let mut client = connect(&options).await?.client;
            match client.next().await {
                Ok(message) => {
                    ensure!(
                        message.data == r#"["message",1]"#,
                        "an event of a broken frame: {}",
                        message.data
                    );
                    client.close().await;
                    Ok("event".to_owned())
                }
                Err(Closed::Protocol(text)) => Ok(text),
                Err(other) => Ok(other.to_string()),
            }
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V4)?;
            socket.raw(bytes)?;
            loop {
                match socket.next()? {
                    Got::End => return Ok(()),
                    Got::Close(found, _) => {
                        code = found;
                        socket.frame(CLOSE, b"")?;
                        // It may have gone already.
                        let _ = socket.shut();
                    }
                    _ => {}
                }
            }
        },
    )?;
    Ok((end, code))
}

fn refused(listener: &Listener, code: u16, rows: &[Vec<u8>]) -> Result<()> {
    for bytes in rows {
        let (end, got) = after(listener, bytes)?;
        ensure!(end != "event", "the client took {}", bytes.escape_ascii());
        ensure!(got == Some(code), "{}: expected close {code}, got {got:?}", bytes.escape_ascii());
    }
    Ok(())
}

const EVENT: &[u8] = br#"42["message",1]"#;

fn masked_frames_are_refused(listener: &Listener) -> Result<()> {
    refused(listener, 1002, &[frame(TEXT, true, EVENT)])
}

fn broken_frames_are_refused(listener: &Listener) -> Result<()> {
    refused(
        listener,
        1002,
        &[frame(0xc1, false, EVENT), frame(0x83, false, EVENT), frame(LAST_PART, false, EVENT)],
    )
}

fn text_must_be_utf8(listener: &Listener) -> Result<()> {
    refused(listener, 1007, &[frame(TEXT, false, b"42[\"\xff\"]")])
}

fn fragments_are_put_together(listener: &Listener) -> Result<()> {
    let bytes = [
        frame(TEXT_PART, false, &EVENT[..3]),
        frame(PING, false, b"between"),
        frame(PART, false, &EVENT[3..7]),
        frame(LAST_PART, false, &EVENT[7..]),
    ];
    let (end, _) = after(listener, &bytes.concat())?;
    ensure!(end == "event", "{end}");
    Ok(())
}

fn pings_are_answered(listener: &Listener) -> Result<()> {
    listener.play(
        async |options: Options| {
            let mut client = connect(&options).await?.client;
            // Ends with the server's close.
            while client.next().await.is_ok() {}
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V4)?;
            for payload in [&b""[..], b"data"] {
                socket.frame(PING, payload)?;
                let got = socket.next()?;
                ensure!(got == Got::Pong(payload.to_vec()), "{got:?}");
            }
            Ok(())
        },
    )
}

fn a_close_is_answered(listener: &Listener) -> Result<()> {
    let end = listener.play(
        async |options: Options| {
            let mut client = connect(&options).await?.client;
            loop {
                if let Err(end) = client.next().await {
                    return Ok(end);
                }
            }
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V4)?;
            socket.frame(CLOSE, b"\x03\xf4restart")?;
            let got = socket.next()?;
            ensure!(matches!(got, Got::Close(Some(1012), _)), "{got:?}");
            Ok(())
        },
    )?;
    let expected = Closed::Server { code: Some(1012), reason: "restart".to_owned() };
    ensure!(end == expected, "{end:?}");
    Ok(())
}

fn leaving_is_said(listener: &Listener) -> Result<()> {
    listener.play(
        async |options: Options| {
            connect(&options).await?.client.close().await;
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V4)?;
            socket.expect("41")?;
            let got = socket.next()?;
            ensure!(matches!(got, Got::Close(..)), "{got:?}");
            socket.frame(CLOSE, b"")
        },
    )
}
