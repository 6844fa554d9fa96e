//! `dna` with a certificate: page and chat over TLS, a new certificate while old connections go on, and what
//! `dna check` says about files that do not hold.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use socketio_client::{Options, tls};
use support::program::Program;
use support::{HERE, LONG, Person, get, token};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate for `localhost`, valid from `from` to `until` after 2 days ago, and its key; both PEM.
struct Made {
    certificate: String,
    key: String,
    der: CertificateDer<'static>,
}

fn made(from: Duration, until: Duration) -> Made {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    let start = SystemTime::now() - 2 * DAY;
    parameters.not_before = (start + from).into();
    parameters.not_after = (start + until).into();
    let certificate = parameters.self_signed(&key).unwrap();
    Made { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().clone() }
}

fn fresh() -> Made {
    made(Duration::ZERO, 92 * DAY)
}

/// Where the files of a test are, and the `dna` that reads them.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, made: &Made) {
        self.write_one("fullchain.pem", &made.certificate);
        self.write_one("key.pem", &made.key);
    }

    fn write_one(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o600)).unwrap();
    }

    fn start(&self) -> Program {
        let settings = "[tls]\ncertificate = \"fullchain.pem\"\nkey = \"key.pem\"\n";
        self.write_one("dna.toml", settings);
        let data = self.path("data");
        std::fs::create_dir(&data).unwrap();
        // Its working directory is not where the settings are: their paths begin there all the same.
        Program::start(&data, &["--config", self.path("dna.toml").to_str().unwrap()])
    }
}

fn trusting(made: &Made) -> std::sync::Arc<rustls::ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(made.der.clone()).unwrap();
    tls::with_roots(roots)
}

/// Somebody who trusts this certificate alone.
async fn person(dna: &Program, idx: u64, made: &Made) -> Person {
    let mut options = Options::new(&format!("https://localhost:{}", dna.address.port())).unwrap();
    options.tls = Some(trusting(made));
    let mut person = Person::connect_with(options, &token(idx)).await;
    person.join(HERE, 500.0, None).await;
    person
}

/// `GET path`: status and body, and the certificate that was shown.
async fn get_https(dna: &Program, path: &str) -> (u16, String, CertificateDer<'static>) {
    let exchange = async {
        let tcp = tokio::net::TcpStream::connect(dna.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls::insecure());
        let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // An end without `close_notify` would be an error here.
        stream.read_to_string(&mut answer).await.unwrap();
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        (answer, shown)
    };
    let (answer, shown) = tokio::time::timeout(LONG, exchange).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned(), shown)
}

/// Waits until `/metrics` has this line.
async fn until_metric(dna: &Program, line: &str) {
    let asking = async {
        while !get_https(dna, "/metrics").await.1.lines().any(|have| have == line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, asking).await.unwrap_or_else(|_| panic!("/metrics never said {line}"));
}

/// Each says something that the other hears.
async fn talk(one: &mut Person, other: &mut Person, text: &str) {
    let before = (one.heard.len(), other.heard.len());
    let id = one.say(text).await;
    assert_eq!(one.verdict(id).await, (201, 0));
    other.until_heard(before.1 + 1).await;
    let id = other.say(text).await;
    assert_eq!(other.verdict(id).await, (201, 0));
    one.until_heard(before.0 + 2).await;
    assert_eq!((&*one.heard.last().unwrap().text, &*other.heard[before.1].text), (text, text));
}

#[tokio::test]
async fn a_new_certificate_is_taken_on_sighup_while_old_connections_go_on() {
    let files = Files::new();
    let (first, second) = (fresh(), made(Duration::ZERO, 180 * DAY));
    files.write(&first);
    let dna = files.start();
    let (status, page, shown) = get_https(&dna, "/").await;
    assert!(status == 200 && page.starts_with("<!doctype html>") && shown == first.der, "{status} {page}");
    let mut ann = person(&dna, 1, &first).await;
    let mut ben = person(&dna, 2, &first).await;
    talk(&mut ann, &mut ben, "under the first").await;

    files.write(&second);
    let (_, _, shown) = get_https(&dna, "/healthz").await;
    assert!(shown == first.der, "nothing changes before the signal");
    dna.hang_up();
    until_metric(&dna, "dna_tls_reloads_total{result=\"ok\"} 1").await;
    let (_, metrics, shown) = get_https(&dna, "/metrics").await;
    assert!(shown == second.der);
    let expires = metrics.lines().find_map(|line| line.strip_prefix("dna_tls_certificate_expires_seconds "));
    let expected = SystemTime::now() + 178 * DAY;
    let expected = expected.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(expires.unwrap().parse::<u64>().unwrap().abs_diff(expected) < 3600, "{expires:?}");
    let mut cid = person(&dna, 3, &second).await;
    talk(&mut ann, &mut cid, "old and new").await;

    // What does not hold changes nothing: no certificate, another's key, one that has expired.
    let expired = made(Duration::ZERO, DAY);
    let rows =
        [("", &*second.key), (&*second.certificate, &*first.key), (&*expired.certificate, &*expired.key)];
    for (number, (certificate, key)) in rows.into_iter().enumerate() {
        files.write_one("fullchain.pem", certificate);
        files.write_one("key.pem", key);
        dna.hang_up();
        until_metric(&dna, &format!("dna_tls_reloads_total{{result=\"refused\"}} {}", number + 1)).await;
        assert!(get_https(&dna, "/healthz").await.2 == second.der);
    }
    let mut dan = person(&dna, 4, &second).await;
    talk(&mut ann, &mut dan, "still the second").await;

    // Somebody who forgot the s.
    let (status, told) = get(dna.address, "/").await;
    assert!(status == 400 && told.contains("https"), "{status} {told}");
    until_metric(&dna, "dna_tls_failed_total 1").await;
    drop((ben, cid, dan));
    let stopping = tokio::task::spawn_blocking(|| dna.stop());
    assert_eq!(ann.until_closed().await, Some(1012));
    stopping.await.unwrap();
}

#[tokio::test]
async fn sighup_without_certificates_is_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let dna = Program::start(directory.path(), &[]);
    let mut ann = dna.person(1).await;
    ann.join(HERE, 500.0, None).await;
    for _ in 0..3 {
        dna.hang_up();
        ann.round_trip().await;
    }
    let (_, metrics) = get(dna.address, "/metrics").await;
    assert!(!metrics.contains("dna_tls_certificate_expires_seconds"), "{metrics}");
    drop(ann);
    dna.stop();
}

/// `dna check` with these arguments: whether it was content, and all it said.
fn check(directory: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_dna"))
        .arg("check")
        .args(arguments)
        .current_dir(directory)
        .env_remove("DNA_TLS_CERTIFICATE")
        .env_remove("DNA_TLS_KEY")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn check_says_what_is_wrong_with_the_files() {
    let files = Files::new();
    let good = fresh();
    files.write(&good);
    let soon = made(Duration::ZERO, 12 * DAY);
    let past = made(Duration::ZERO, DAY);
    let future = made(5 * DAY, 90 * DAY);
    files.write_one("soon.pem", &soon.certificate);
    files.write_one("soon-key.pem", &soon.key);
    files.write_one("past.pem", &past.certificate);
    files.write_one("past-key.pem", &past.key);
    files.write_one("future.pem", &future.certificate);
    files.write_one("future-key.pem", &future.key);
    files.write_one("open-key.pem", &good.key);
    std::fs::set_permissions(files.path("open-key.pem"), PermissionsExt::from_mode(0o644)).unwrap();
    files.write_one("empty.pem", "");
    files.write_one("cut.pem", &good.certificate[..good.certificate.len() / 2]);
    let wrong = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    files.write_one("wrong.pem", wrong);
    files.write_one("large.pem", &"#".repeat(2 << 20));
    std::fs::create_dir(files.path("directory")).unwrap();
    let rows: &[(&str, &str, bool, &[&str])] = &[
        ("fullchain.pem", "key.pem", true, &["fullchain.pem is valid until 20"]),
        ("soon.pem", "soon-key.pem", true, &["Warning: ", "soon.pem: expires at 20", "14 days"]),
        ("fullchain.pem", "open-key.pem", true, &["Warning: ", "open-key.pem: every user", "chmod"]),
        ("past.pem", "past-key.pem", false, &["past.pem: expired at 20"]),
        ("future.pem", "future-key.pem", false, &["future.pem: not valid before 20"]),
        ("none.pem", "key.pem", false, &["none.pem: No such file"]),
        ("fullchain.pem", "none.pem", false, &["none.pem: No such file"]),
        // A file that cannot be read, whoever runs the test.
        ("directory", "key.pem", false, &["directory: Is a directory"]),
        ("empty.pem", "key.pem", false, &["empty.pem: no certificate in it", "BEGIN CERTIFICATE"]),
        ("key.pem", "key.pem", false, &["key.pem: no certificate in it"]),
        ("fullchain.pem", "fullchain.pem", false, &["fullchain.pem: no unencrypted private key in it"]),
        ("cut.pem", "key.pem", false, &["cut.pem: "]),
        ("wrong.pem", "key.pem", false, &["wrong.pem: its first certificate cannot be read"]),
        ("large.pem", "key.pem", false, &["large.pem: more than 1048576 bytes"]),
        (
            "fullchain.pem",
            "soon-key.pem",
            false,
            &["soon-key.pem: this key does not belong", "fullchain.pem"],
        ),
    ];
    for (certificate, key, content, parts) in rows {
        let settings = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n");
        files.write_one("dna.toml", &settings);
        // From another directory: the paths are the file's own.
        let (success, text) = check(Path::new("/"), &["--config", files.path("dna.toml").to_str().unwrap()]);
        assert_eq!(success, *content, "{certificate} {key}: {text}");
        for part in *parts {
            assert!(text.contains(part), "{certificate} {key}: no {part:?} in {text}");
        }
    }
    // Flags go before the file; one alone is none.
    let settings = "[tls]\ncertificate = \"none.pem\"\nkey = \"none.pem\"\n";
    files.write_one("dna.toml", settings);
    let flags = ["--tls-certificate", "fullchain.pem", "--tls-key", "key.pem"];
    let (success, text) = check(files.directory.path(), &flags);
    assert!(success && text.contains("valid until"), "{text}");
    std::fs::remove_file(files.path("dna.toml")).unwrap();
    let (success, text) = check(files.directory.path(), &flags[..2]);
    assert!(!success && text.contains("tls.certificate and tls.key belong together"), "{text}");
}

#[test]
fn serve_refuses_files_that_do_not_hold() {
    let files = Files::new();
    let (one, other) = (fresh(), fresh());
    files.write_one("fullchain.pem", &one.certificate);
    files.write_one("key.pem", &other.key);
    let arguments = ["--tls-certificate", "fullchain.pem", "--tls-key", "key.pem"];
    let told = Program::try_start(files.directory.path(), &arguments).err().expect("no start");
    assert!(told.contains("key.pem: this key does not belong"), "{told}");
}
