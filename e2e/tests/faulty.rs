//! The 43: the journal's run lost 43 of 9,000 to "websocket error", and nobody could say why. Here a server
//! breaks exactly 43 connections in three ways, and the report has to tell each by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use e2e::stage::Stage;
use e2e::{alone, drumfire, read_json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const USERS: u64 = 9_000;
const FAULTS: u64 = 43;
/// Every 209th connection is broken: 43 times in 9,000.
const EVERY: u64 = USERS / FAULTS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    RefusedWith503,
    ResetAfter101,
    SilentAfterOpen,
}

/// Which fault the n-th WebSocket has, if any: 15, 14 and 14 of each.
fn fault(n: u64) -> Option<Fault> {
    if !n.is_multiple_of(EVERY) || n / EVERY > FAULTS {
        return None;
    }
    Some(match (n / EVERY - 1) % 3 {
        0 => Fault::RefusedWith503,
        1 => Fault::ResetAfter101,
        _ => Fault::SilentAfterOpen,
    })
}

async fn serve(mut stream: TcpStream, opened: Arc<AtomicU64>) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    loop {
        while !buffer.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let head = String::from_utf8_lossy(&buffer).into_owned();
        buffer.clear();
        if !head.starts_with("GET /socket.io/") {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await?;
            continue;
        }
        let fault = fault(opened.fetch_add(1, Ordering::SeqCst) + 1);
        if fault == Some(Fault::RefusedWith503) {
            let answer = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 9\r\nConnection: close\r\n\r\nno room\r\n";
            return stream.write_all(answer.as_bytes()).await;
        }
        return websocket(stream, &head, fault).await;
    }
}

/// Just enough Engine.IO 4 for a user who connects, says one thing and leaves.
async fn websocket(mut stream: TcpStream, head: &str, fault: Option<Fault>) -> std::io::Result<()> {
    let key = head
        .lines()
        .find_map(|line| {
            line.to_ascii_lowercase().starts_with("sec-websocket-key:").then(|| line[18..].trim())
        })
        .unwrap_or_default();
    let accept = socketio_wire::websocket::upgrade::accept_key(key);
    let switch = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    stream.write_all(switch.as_bytes()).await?;
    if fault == Some(Fault::ResetAfter101) {
        // Closed with a reset instead of a farewell.
        stream.set_zero_linger()?;
        return Ok(());
    }
    let open = r#"0{"sid":"s","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;
    stream.write_all(&text_frame(open)).await?;
    let mut bytes = [0u8; 4096];
    if fault == Some(Fault::SilentAfterOpen) {
        while stream.read(&mut bytes).await? > 0 {}
        return Ok(());
    }
    if stream.read(&mut bytes).await? == 0 {
        return Ok(());
    }
    stream.write_all(&text_frame(r#"40{"sid":"n"}"#)).await?;
    loop {
        let count = stream.read(&mut bytes).await?;
        // The end, or a close frame: answered in kind.
        if count == 0 {
            return Ok(());
        }
        if bytes[0] & 0x0f == 8 {
            return stream.write_all(&[0x88, 0]).await;
        }
    }
}

fn text_frame(text: &str) -> Vec<u8> {
    assert!(text.len() < 126);
    let mut frame = vec![0x81, text.len() as u8];
    frame.extend_from_slice(text.as_bytes());
    frame
}

#[test]
fn forty_three_broken_connections_are_told_apart_by_name() {
    let _alone = alone();
    let kinds: Vec<Fault> = (1..=USERS).filter_map(fault).collect();
    assert_eq!(kinds.len() as u64, FAULTS);

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let opened = Arc::new(AtomicU64::new(0));
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let counter = opened.clone();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counter = counter.clone();
            tokio::spawn(async move {
                // A user who breaks off is no fault of the server.
                let _ = serve(stream, counter).await;
            });
        }
    });

    let stage = Stage::empty();
    stage.write("tokens.csv", "a token\n");
    let run = drumfire(
        &[
            "run",
            "-o",
            "43.json",
            "-t",
            &format!("http://127.0.0.1:{port}"),
            "--overrides",
            r#"{"config":{"socketio":{"protocol":4}}}"#,
            "journal.yml",
        ],
        stage.dir(),
        Duration::from_secs(120),
    )
    .expect_code(0);
    assert_eq!(opened.load(Ordering::SeqCst), USERS);

    let result = read_json(&stage.path("43.json"));
    let errors = result["drumfire"]["errors"].as_array().unwrap();
    println!("{}", serde_json::to_string_pretty(errors).unwrap());
    println!("{}", run.stdout);
    assert_eq!(errors.len(), 3, "{errors:#?}");
    let count_of = |fault: Fault| kinds.iter().filter(|kind| **kind == fault).count() as u64;
    for (fault, words) in [
        (Fault::RefusedWith503, "503"),
        (Fault::ResetAfter101, "ECONNRESET"),
        (Fault::SilentAfterOpen, "time"),
    ] {
        let row = errors
            .iter()
            .find(|row| {
                let told = format!("{} {} {}", row["cause"], row["code"], row["sample"]).to_lowercase();
                told.contains(&words.to_lowercase())
            })
            .unwrap_or_else(|| panic!("no row says {words}: {errors:#?}"));
        assert_eq!(row["count"], count_of(fault), "{row:#}");
        assert!(row["step"].as_str().unwrap().contains("connect"), "{row:#}");
        assert!(row["endpoint"].as_str().unwrap().contains(&port.to_string()), "{row:#}");
        assert!(!row["sample"].as_str().unwrap().is_empty(), "{row:#}");
        let (first, last) = (row["first_s"].as_f64().unwrap(), row["last_s"].as_f64().unwrap());
        assert!(0.0 < first && first < last, "{row:#}");
    }
    let sum: u64 = errors.iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(sum, FAULTS);
    assert_eq!(result["aggregate"]["counters"]["vusers.failed"], FAULTS);
    assert_eq!(result["aggregate"]["counters"]["vusers.completed"], USERS - FAULTS);

    drumfire(&["report", "43.json"], stage.dir(), Duration::from_secs(20)).expect_code(0);
    let page = std::fs::read_to_string(stage.path("43.json.html")).unwrap();
    assert!(page.contains("503") && page.contains("ECONNRESET"));
}
