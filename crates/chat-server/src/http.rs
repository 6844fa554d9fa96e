//! Everything on the port that is not Socket.IO: the map page, health, metrics.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use rust_embed::{EmbeddedFile, RustEmbed};
use serde::Deserialize;
use serde_json::json;
use socketio_server::Fallback;
use tower::ServiceExt as _;

use crate::bus::Bus;
use crate::metrics::Metrics;
use crate::storage::Storage;
use crate::store::Store;
use crate::token::{Claims, MAX_NICKNAME_CHARS, TokenKey, now_s};
use crate::world::{PerWorld, World};

/// The page as Vite built it; in debug builds read from the disk at each request.
#[derive(RustEmbed)]
#[folder = "../../web/dist"]
#[allow_missing = true]
struct Page;

/// What the routes look at.
#[derive(Clone)]
pub(crate) struct Routes {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stores: PerWorld<Store>,
    pub(crate) storages: PerWorld<Arc<dyn Storage>>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) stopping: Arc<AtomicBool>,
    /// Set only while listening on loopback: hands out tokens to whoever opens the page.
    pub(crate) dev_key: Option<TokenKey>,
}

pub(crate) fn fallback(routes: Routes) -> Fallback {
    let dev = routes.dev_key.is_some();
    let mut router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    if dev {
        router = router.route("/api/dev-token", post(dev_token));
    }
    let router = router.fallback(get(page)).with_state(routes);
    Rc::new(move |request| {
        let router = router.clone();
        async move {
            let response = match router.oneshot(request.map(axum::body::Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        }
        .boxed_local()
    })
}

async fn ready(State(routes): State<Routes>) -> Response {
    let mut problems = Vec::new();
    if routes.stopping.load(Ordering::Relaxed) {
        problems.push("the server is stopping".to_owned());
    }
    for world in World::ALL {
        if let Some(cause) = routes.stores.get(world).state.problem() {
            problems.push(format!("the {} store refused its last messages: {cause}", world.name()));
        }
    }
    if !routes.bus.healthy().await {
        problems.push("a worker is gone".to_owned());
    }
    let status = if problems.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": problems.is_empty(), "problems": problems }))).into_response()
}

async fn metrics(State(routes): State<Routes>) -> Response {
    let wal_bytes = PerWorld::new(|world| routes.storages.get(world).wal_bytes());
    let text = routes.metrics.encode(&wal_bytes);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text)
        .into_response()
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct DevToken {
    test: bool,
    nickname: Option<String>,
}

/// A token for a new user, valid a day; only where the server listens on loopback.
async fn dev_token(State(routes): State<Routes>, Json(wanted): Json<DevToken>) -> Response {
    let Some(key) = routes.dev_key else { return StatusCode::NOT_FOUND.into_response() };
    let nickname = wanted.nickname.map(|name| name.chars().take(MAX_NICKNAME_CHARS).collect());
    // Above the numbers people give with `dna token --idx`.
    let idx = 1_000_000_000 + fastrand::u64(0..1_000_000_000);
    let claims = Claims {
        idx,
        exp: now_s() + 24 * 60 * 60,
        nickname,
        avatar: None,
        anonymity: None,
        test: wanted.test,
    };
    match key.sign(&claims) {
        Ok(token) => Json(json!({ "token": token, "idx": idx })).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn page(uri: Uri) -> Response {
    let path = uri.path().trim_start_matches('/');
    if let Some(file) = Page::get(if path.is_empty() { "index.html" } else { path }) {
        return file_response(path, file);
    }
    if path.is_empty() {
        return ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], NO_PAGE).into_response();
    }
    (StatusCode::NOT_FOUND, "not found\n").into_response()
}

fn file_response(path: &str, file: EmbeddedFile) -> Response {
    let mime = file.metadata.mimetype().to_owned();
    // Vite puts a hash into the names under assets/; everything else must be asked for again.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = file.data.into_owned().into_response();
    let headers = response.headers_mut();
    if let Ok(mime) = HeaderValue::from_str(&mime) {
        headers.insert(header::CONTENT_TYPE, mime);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const NO_PAGE: &str = "<!doctype html><meta charset=utf-8><meta name=viewport content='width=device-width'>\
<title>dna</title><body style='font:16px/1.5 system-ui;max-width:40em;margin:4em auto;padding:0 1em'>\
<h1>dna is running</h1><p>The map page was not built into this binary. Build it with \
<code>cargo xtask web</code>, then build <code>dna</code> again.</p>\
<p>Clients connect at <code>/socket.io/</code>; see also <a href=/healthz>/healthz</a>, \
<a href=/readyz>/readyz</a> and <a href=/metrics>/metrics</a>.</p>";
