//! HTTP: `/health`, `/`, the files in the binary, and the access to `/socket.io`.

mod assets;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::Serialize;
use socketioxide::socket::Sid;
use tower_http::{
    cors::{AllowHeaders, AllowOrigin, CorsLayer},
    timeout::TimeoutBody,
};

use crate::{
    contract::{MAX_FRAME_BYTES, MAX_POLL_PACKETS},
    gateway::Gateway,
    limits::{Addresses, Permit, Reject, forwarded_address},
    metrics::{self, Gauges},
    model::Time,
    net::Via,
    origins::Origins,
    outlet::{Service, count_packets, event_bytes},
    storage::Storage,
};

/// The longest pause between the parts of a polling request.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// The state behind the HTTP routes.
#[derive(Clone)]
pub struct App {
    pub storage: Arc<Storage>,
    pub gauges: Arc<Gauges>,
    pub gateway: Arc<Gateway>,
    pub origins: Origins,
    pub has_demo: bool,
    pub has_metrics: bool,
    /// The connections of each address, if they are limited.
    pub addresses: Option<Arc<Addresses>>,
    /// The header with the client's address, which a proxy writes.
    pub trusted_proxy: Option<HeaderName>,
}

/// All routes that the server serves over HTTP.
pub fn router(app: App, sockets: Service) -> Router {
    let App { origins, has_demo, has_metrics, .. } = app.clone();
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(move |_, request| origins.allow(&request.headers)))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers(AllowHeaders::mirror_request())
        .allow_credentials(true);
    let sockets = Router::new()
        .route_service("/socket.io", sockets.clone())
        .route_service("/socket.io/", sockets)
        .layer(middleware::from_fn_with_state(app.clone(), admit));
    Router::new()
        .route("/", get(index))
        .route("/health", get(health))
        .merge(assets::bundle())
        .merge(if has_metrics {
            Router::new().route("/metrics", get(metrics))
        } else {
            Router::new()
        })
        .merge(if has_demo { assets::demo() } else { Router::new() })
        .merge(sockets)
        .layer(cors)
        .with_state(app)
}

/// Admits requests to `/socket.io` that pass the checks, and counts the bytes that polls fetch.
async fn admit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let session = parameter(&request, "sid").and_then(|sid| sid.parse().ok());
    if let Err(refusal) = app.check(&mut request, session).await {
        return *refusal;
    }
    let poll = session.filter(|_| request.method() == Method::GET);
    let is_version_3 = parameter(&request, "EIO") == Some("3");
    // A body that never ends would keep its session busy.
    let mut request = request.map(|body| Body::new(TimeoutBody::new(BODY_PATIENCE, body)));
    if let Some(session) = session
        && request.method() == Method::POST
    {
        request = match bounded(request, is_version_3).await {
            Ok(request) => request,
            Err(refusal) => {
                app.gateway.end_polling(session);
                return *refusal;
            }
        };
    }
    let response = next.run(without_buffer(request)).await;
    let Some(session) = poll.filter(|_| response.status() == StatusCode::OK) else {
        return response;
    };
    let (parts, body) = response.into_parts();
    // The body is complete in memory.
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    app.gateway.polled(session, event_bytes(&body, is_version_3));
    Response::from_parts(parts, body.into())
}

/// Refuses a polling request with more packets than anybody needs, before the library handles the
/// first of them: each packet costs it work and an answer, also one that is no event.
async fn bounded(request: Request, is_version_3: bool) -> Result<Request, Box<Response>> {
    let (parts, body) = request.into_parts();
    let refuse = |status: StatusCode, reason: &'static str| {
        metrics::refused(reason);
        Err(Box::new((status, reason).into_response()))
    };
    let Ok(body) = to_bytes(body, MAX_FRAME_BYTES).await else {
        return refuse(StatusCode::PAYLOAD_TOO_LARGE, "request too large or too slow");
    };
    let (packets, connects) = count_packets(&body, is_version_3);
    if packets > MAX_POLL_PACKETS || connects > 1 {
        return refuse(StatusCode::BAD_REQUEST, "too many packets in a request");
    }
    Ok(Request::from_parts(parts, body.into()))
}

impl App {
    /// Refuses pages of foreign origins on every request (WebSockets know no CORS, and polling
    /// requests take effect before CORS hides their answers), sessions over the limit, and upgrades
    /// that would lose packets.
    async fn check(
        &self,
        request: &mut Request,
        session: Option<Sid>,
    ) -> Result<(), Box<Response>> {
        if !self.origins.allow(request.headers()) {
            let origin = request.headers().get(header::ORIGIN);
            let reason = Reject::ForeignOrigin.as_str();
            tracing::info!(?origin, reason, "connection refused");
            metrics::refused(reason);
            let refusal = (StatusCode::FORBIDDEN, "This origin is not allowed.\n");
            return Err(Box::new(refusal.into_response()));
        }
        if session.is_none() {
            self.begin(request)?;
        }
        let is_websocket = parameter(request, "transport") == Some("websocket");
        if is_websocket && let Some(via) = request.extensions().get::<Via>().cloned() {
            if let Some(session) = session
                && !self.gateway.may_upgrade(session).await
            {
                return Err(Box::new(StatusCode::SERVICE_UNAVAILABLE.into_response()));
            }
            self.gateway.websocket_requested(session, &via);
        }
        Ok(())
    }

    /// Begins a session with this request, if the limits allow it.
    fn begin(&self, request: &mut Request) -> Result<(), Box<Response>> {
        if self.gateway.is_closing() {
            // Engine.IO would open a session that no namespace takes, and clients would give up.
            return Err(Box::new(StatusCode::SERVICE_UNAVAILABLE.into_response()));
        }
        let permit = self.permit(request).map_err(|reason| {
            let headers = [(header::RETRY_AFTER, "1")];
            let body = format!("{}\n", reason.as_str());
            Box::new((StatusCode::TOO_MANY_REQUESTS, headers, body).into_response())
        })?;
        // The permit lives as long as the session.
        request.extensions_mut().insert(permit.map(Arc::new));
        request.extensions_mut().insert(self.gateway.transport_begins());
        Ok(())
    }

    /// A permit for one more session at the client's address. An error is the reason against it.
    fn permit(&self, request: &Request) -> Result<Option<Permit>, Reject> {
        let (Some(addresses), Some(via)) = (&self.addresses, request.extensions().get::<Via>())
        else {
            return Ok(None);
        };
        let Some(peer) = via.0.upgrade().map(|connection| connection.peer()) else {
            return Ok(None);
        };
        let address = match &self.trusted_proxy {
            Some(header) => forwarded_address(request.headers(), header).unwrap_or(peer),
            None if peer.to_canonical().is_loopback() => return Ok(None),
            None => peer,
        };
        addresses.admit(address).map(Some).inspect_err(|reason| {
            tracing::info!(%address, reason = reason.as_str(), "connection refused");
            metrics::refused(reason.as_str());
        })
    }
}

/// A parameter of the request's query, undecoded, as Engine.IO reads it. With two readings, a
/// request could pass these checks as another one.
fn parameter<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
    let mut pairs = request.uri().query()?.split('&');
    pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// Copies the parts of a request that Engine.IO needs. A session keeps the head of its first
/// request, and a head consists of slices of the connection's read buffer, which would stay for as
/// long: 16 KiB for each idle socket.
fn without_buffer(mut request: Request) -> Request {
    let mut headers = HeaderMap::new();
    for name in [header::SEC_WEBSOCKET_KEY, header::CONTENT_TYPE] {
        if let Some(value) = request.headers().get(&name)
            && let Ok(copy) = HeaderValue::from_bytes(value.as_bytes())
        {
            headers.insert(name, copy);
        }
    }
    *request.headers_mut() = headers;
    if let Ok(copy) = request.uri().to_string().parse() {
        *request.uri_mut() = copy;
    }
    request
}

/// The demo page for browsers, a short status for other clients.
async fn index(State(app): State<App>, headers: HeaderMap) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Index {
        status: &'static str,
        connected_users: usize,
        timestamp: Time,
    }

    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if app.has_demo && accept.is_some_and(|accept| accept.contains("text/html")) {
        return assets::page(&headers);
    }
    let connected_users = app.gauges.users_online();
    let index = Index { status: "online", connected_users, timestamp: Time::now() };
    ([(header::VARY, "Accept")], Json(index)).into_response()
}

/// The figures for Prometheus.
async fn metrics(State(app): State<App>) -> Response {
    let storage = app.storage.health();
    match metrics::render(&app.gauges, storage.pending, storage.rejected) {
        Some(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn health(State(app): State<App>) -> impl IntoResponse {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Health {
        status: &'static str,
        /// Seconds.
        uptime: f64,
        version: &'static str,
        storage: StorageReport,
        connections: usize,
        online_users: usize,
    }

    #[derive(Serialize)]
    struct StorageReport {
        backend: &'static str,
        connected: bool,
        /// Changes that are confirmed and not yet in the database. SQLite has none.
        pending: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        rejected: Option<u64>,
    }

    let storage = app.storage.health();
    let health = Health {
        status: if storage.is_connected { "healthy" } else { "degraded" },
        uptime: app.gauges.uptime().as_secs_f64(),
        version: env!("CARGO_PKG_VERSION"),
        storage: StorageReport {
            backend: storage.backend,
            connected: storage.is_connected,
            pending: storage.pending,
            rejected: Some(storage.rejected).filter(|rejected| *rejected > 0),
        },
        connections: app.gauges.connections(),
        online_users: app.gauges.users_online(),
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(health))
}
