//! Socket.IO, the client's side.

use anyhow::{Result, bail, ensure};
use socketio_client::{Cause, Kind, Options, Revision, connect};

use crate::client_side::{Listener, greet};
use crate::rule::rules;
use crate::websocket::WebSocket;

rules! {
    mod client_4 = SocketIo4, "Clients", "#exchange-protocol";
    /// The client does not ask for `/`: it waits for the server's CONNECT.
    client the_default_namespace_is_not_asked_for => "nothing until `40` has come";
    /// For another namespace it sends CONNECT after the server's for `/`; its payload goes into a query.
    client another_namespace_is_asked_for => "`40/custom?token=1,`";
    /// ERROR refuses the namespace, its payload is the reason.
    client an_error_refuses => "an error that says `Not authorized`";
    /// An event with an id is acknowledged with that id.
    client an_event_may_be_acknowledged_4 => "`4312[\"yes\"]`";
}

rules! {
    mod client_5 = SocketIo5, "Clients", "#exchange-protocol";
    /// The client sends CONNECT first.
    client a_connect_comes_first => "`40`";
    /// A payload for the server goes with CONNECT.
    client a_payload_goes_with_connect => "`40/custom,{\"token\":\"1\"}`";
    /// CONNECT_ERROR refuses the namespace; its `message` is the reason.
    client a_connect_error_refuses => "an error that says `Not authorized`";
    /// An event with an id is acknowledged with that id.
    client an_event_may_be_acknowledged_5 => "`4312[\"yes\"]`";
    /// An event's attachments arrive with it.
    client attachments_arrive_with_their_event => "the event with both";
    /// A client's attachments follow its event.
    client a_clients_attachments_follow_its_event => "`451-[...]`, then `01 02`";
    /// A client leaves a namespace with DISCONNECT and needs no answer.
    client a_namespace_is_left_with_disconnect => "`41/custom,`";
}

fn the_default_namespace_is_not_asked_for(listener: &Listener) -> Result<()> {
    listener.play(
        async |options| {
            let options = Options { revision: Revision::V3, ..options };
            let mut client = connect(&options).await?.client;
            client.emit("/", "message", "1").await?;
            client.abort();
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V3)?;
            socket.expect(r#"42["message",1]"#)
        },
    )
}

fn another_namespace_is_asked_for(listener: &Listener) -> Result<()> {
    listener.play(
        async |options| {
            let mut client = connect(&Options { revision: Revision::V3, ..options }).await?.client;
            client.connect_namespace("/custom", Some("token=1"), |_| ()).await?;
            client.abort();
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V3)?;
            socket.expect("40/custom?token=1,")?;
            socket.send("40/custom,")
        },
    )
}

fn an_error_refuses(listener: &Listener) -> Result<()> {
    refused(listener, Revision::V3, r#"44/custom,"Not authorized""#)
}

fn a_connect_error_refuses(listener: &Listener) -> Result<()> {
    refused(listener, Revision::V4, r#"44/custom,{"message":"Not authorized"}"#)
}

fn refused(listener: &Listener, revision: Revision, refusal: &str) -> Result<()> {
    listener.play(
        async move |options| {
            let options = Options { revision, namespace: "/custom".to_owned(), ..options };
            match connect(&options).await {
                Ok(_) => bail!("it connected"),
                Err(error) => match error.cause() {
                    Cause::Refused { message, .. } if message == "Not authorized" => Ok(()),
                    other => bail!("{other:?}"),
                },
            }
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            open(&mut socket)?;
            if revision == Revision::V3 {
                socket.send("40")?;
            }
            socket.expect("40/custom,")?;
            socket.send(refusal)
        },
    )
}

fn open(socket: &mut WebSocket) -> Result<()> {
    socket.send(
        r#"0{"sid":"engine","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#,
    )
}

fn a_connect_comes_first(listener: &Listener) -> Result<()> {
    listener.play(
        async |options| {
            connect(&options).await?.client.abort();
            Ok(())
        },
        |listener| greet(&mut listener.accept()?.upgrade()?, Revision::V4),
    )
}

fn a_payload_goes_with_connect(listener: &Listener) -> Result<()> {
    listener.play(
        async |options| {
            let auth = Some(r#"{"token":"1"}"#.to_owned());
            let options = Options { namespace: "/custom".to_owned(), auth, ..options };
            connect(&options).await?.client.abort();
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            open(&mut socket)?;
            socket.expect(r#"40/custom,{"token":"1"}"#)?;
            socket.send(r#"40/custom,{"sid":"socket"}"#)
        },
    )
}

fn an_event_may_be_acknowledged_4(listener: &Listener) -> Result<()> {
    acknowledged(listener, Revision::V3)
}

fn an_event_may_be_acknowledged_5(listener: &Listener) -> Result<()> {
    acknowledged(listener, Revision::V4)
}

fn acknowledged(listener: &Listener, revision: Revision) -> Result<()> {
    listener.play(
        async move |options| {
            let mut client = connect(&Options { revision, ..options }).await?.client;
            let event = client.next().await?;
            ensure!(event.kind == Kind::Event && event.ack == Some(12), "{event:?}");
            client.send_ack("/", 12, r#""yes""#).await?;
            client.abort();
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, revision)?;
            socket.send(r#"4212["foo"]"#)?;
            socket.expect(r#"4312["yes"]"#)
        },
    )
}

fn attachments_arrive_with_their_event(listener: &Listener) -> Result<()> {
    listener.play(
        async |options| {
            let mut client = connect(&options).await?.client;
            let event = client.next().await?;
            let attachments: Vec<&[u8]> = event.attachments.iter().map(|bytes| &bytes[..]).collect();
            ensure!(attachments == [&[1, 2][..], &[]], "{event:?}");
            client.abort();
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V4)?;
            socket.send(r#"452-["foo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#)?;
            socket.send_binary(&[1, 2])?;
            socket.send_binary(&[])?;
            while socket.next_frame()?.is_some() {}
            Ok(())
        },
    )
}

fn a_clients_attachments_follow_its_event(listener: &Listener) -> Result<()> {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    listener.play(
        async |options| {
            let mut client = connect(&options).await?.client;
            client
                .emit_binary("/", None, &format!(r#"["message",{placeholder}]"#), &[vec![1, 2].into()])
                .await?;
            client.abort();
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V4)?;
            socket.expect(&format!(r#"451-["message",{placeholder}]"#))?;
            socket.expect_binary(&[1, 2])
        },
    )
}

fn a_namespace_is_left_with_disconnect(listener: &Listener) -> Result<()> {
    listener.play(
        async |options| {
            let mut client = connect(&options).await?.client;
            client.connect_namespace("/custom", None, |_| ()).await?;
            client.disconnect_namespace("/custom").await?;
            client.emit("/", "message", "1").await?;
            client.abort();
            Ok(())
        },
        |listener| {
            let mut socket = listener.accept()?.upgrade()?;
            greet(&mut socket, Revision::V4)?;
            socket.expect("40/custom,")?;
            socket.send(r#"40/custom,{"sid":"other"}"#)?;
            socket.expect("41/custom,")?;
            socket.expect(r#"42["message",1]"#)
        },
    )
}
