//! A small HTTP client for metrics: one connection kept open, a bound on time and size, nothing followed.

use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use socketio_client::io_text;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use crate::prometheus::MOST_BYTES;

/// Both forms are read; a server chooses.
const ACCEPT: &str = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";

/// An endpoint, and the connection to it while it lasts.
pub(super) struct Endpoint {
    url: Url,
    authorization: Option<HeaderValue>,
    tls_verify: bool,
    /// Made when first needed.
    tls: Option<TlsConnector>,
    open: Option<SendRequest<Empty<Bytes>>>,
}

impl Endpoint {
    pub(super) fn new(mut url: Url, tls_verify: bool) -> Self {
        let authorization = (!url.username().is_empty()).then(|| {
            use base64::Engine as _;
            let pair = format!("{}:{}", url.username(), url.password().unwrap_or_default());
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        });
        // A URL with a host takes both.
        let _ = (url.set_username(""), url.set_password(None));
        let authorization = authorization.and_then(|text| HeaderValue::from_str(&text).ok());
        Self { url, authorization, tls_verify, tls: None, open: None }
    }

    /// Without name and password, as it may be told.
    pub(super) fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The whole answer.
    ///
    /// # Errors
    /// In words that do not differ from second to second.
    pub(super) async fn get(&mut self, within: Duration) -> Result<String, String> {
        match tokio::time::timeout(within, self.exchange()).await {
            Ok(answer) => answer.inspect_err(|_| self.open = None),
            Err(_) => {
                self.open = None;
                Err(format!("no answer within {} s", within.as_secs_f64()))
            }
        }
    }

    async fn exchange(&mut self) -> Result<String, String> {
        let kept = self.open.take().filter(|open| !open.is_closed());
        let reused = kept.is_some();
        let mut open = match kept {
            Some(open) => open,
            None => self.connect().await?,
        };
        let mut answer = send(&mut open, self.request()?).await;
        if reused && answer.is_err() {
            // The other side had closed it meanwhile.
            open = self.connect().await?;
            answer = send(&mut open, self.request()?).await;
        }
        let answer = answer.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("HTTP {}", answer.status()));
        }
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                format!("more than {} MiB", MOST_BYTES >> 20)
            } else {
                error.to_string()
            }
        })?;
        self.open = Some(open);
        String::from_utf8(body.to_bytes().into()).map_err(|_| "not UTF-8".to_owned())
    }

    fn request(&self) -> Result<http::Request<Empty<Bytes>>, String> {
        let authority = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let mut request = http::Request::get(&self.url[url::Position::BeforePath..url::Position::AfterQuery])
            .header(header::HOST, authority)
            .header(header::ACCEPT, ACCEPT)
            .header(header::USER_AGENT, concat!("drumfire/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(Empty::new()).map_err(|error| error.to_string())
    }

    async fn connect(&mut self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let host = self.url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = self.url.port_or_known_default().unwrap_or(80);
        let stream = TcpStream::connect((&*host, port)).await.map_err(|error| io_text(&error))?;
        if self.url.scheme() != "https" {
            return handshake(stream).await;
        }
        let tls = match &self.tls {
            Some(tls) => tls.clone(),
            None => {
                let config = if self.tls_verify {
                    socketio_client::tls::native_roots()
                        .map_err(|error| format!("reading the trusted certificates: {error}"))?
                } else {
                    socketio_client::tls::insecure()
                };
                self.tls.insert(TlsConnector::from(config)).clone()
            }
        };
        let name = rustls::pki_types::ServerName::try_from(host).map_err(|error| error.to_string())?;
        handshake(tls.connect(name, stream).await.map_err(|error| io_text(&error))?).await
    }
}

async fn handshake(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<Empty<Bytes>>, String> {
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // Ends with the sender.
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(
    open: &mut SendRequest<Empty<Bytes>>,
    request: http::Request<Empty<Bytes>>,
) -> hyper::Result<http::Response<hyper::body::Incoming>> {
    open.ready().await?;
    open.send_request(request).await
}
