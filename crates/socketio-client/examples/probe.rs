//! Connects to a Socket.IO server, emits one event and prints what comes back.
//!
//! ```text
//! cargo run -p socketio-client --example probe -- http://127.0.0.1:9013 save_msg '{"lng":127.0}' [seconds]
//! ```

use std::time::Duration;

use socketio_client::{Options, connect, detect_revision, tls};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let url = args.next().ok_or("usage: probe URL [EVENT [JSON-ARGS [SECONDS]]]")?;
    let event = args.next();
    let json = args.next().unwrap_or_default();
    let seconds = args.next().map_or(Ok(1.0), |text| text.parse())?;

    let mut options = Options::new(&url)?;
    if options.endpoint.is_secure() {
        options.tls = Some(tls::native_roots()?);
    }
    options.revision = detect_revision(&options).await?;
    println!("speaks {:?}", options.revision);
    let connected = connect(&options).await?;
    println!("sid {} {} in {:?}", connected.sid, connected.namespace_data, connected.stages);
    let mut client = connected.client;
    if let Some(event) = event {
        let id = client.emit_with_ack(&options.namespace, &event, &json).await?;
        println!("emitted {event} with ack id {id}");
    }
    let pause = tokio::time::sleep(Duration::from_secs_f64(seconds));
    client.visit_while(pause, |incoming| println!("{incoming:?}")).await?;
    println!("{}", client.close().await);
    Ok(())
}
