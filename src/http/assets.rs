//! Files that are in the binary: the official client, and the demo page.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

/// A file as it is served.
#[derive(Clone, Copy)]
pub struct Asset {
    path: &'static str,
    content_type: &'static str,
    content: &'static str,
    /// The ETag. `None`: a hash of the content.
    tag: Option<&'static str>,
}

/// The version of the official client is its ETag, as on the reference server.
const BUNDLE_TAG: Option<&str> = Some("\"4.8.4\"");

const JAVASCRIPT: &str = "application/javascript; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";

macro_rules! assets {
    ($tag:expr; $($path:literal = $content_type:ident $file:literal,)*) => {
        [$(Asset {
            path: $path,
            content_type: $content_type,
            content: include_str!($file),
            tag: $tag,
        }),*]
    };
}

/// The official client, unchanged.
const BUNDLE: [Asset; 2] = assets! {
    BUNDLE_TAG;
    "/socket.io/socket.io.js" = JAVASCRIPT "bundle/socket.io.js",
    "/socket.io/socket.io.js.map" = JAVASCRIPT "bundle/socket.io.js.map",
};

const PAGE: Asset = Asset {
    path: "/",
    content_type: "text/html; charset=utf-8",
    content: include_str!("../demo/index.html"),
    tag: None,
};

const DEMO: [Asset; 29] = assets! {
    None;
    "/demo/main.js" = JAVASCRIPT "../demo/main.js",
    "/demo/chat.js" = JAVASCRIPT "../demo/chat.js",
    "/demo/composer.js" = JAVASCRIPT "../demo/composer.js",
    "/demo/conversation.js" = JAVASCRIPT "../demo/conversation.js",
    "/demo/dom.js" = JAVASCRIPT "../demo/dom.js",
    "/demo/history.js" = JAVASCRIPT "../demo/history.js",
    "/demo/icons.js" = JAVASCRIPT "../demo/icons.js",
    "/demo/identity.js" = JAVASCRIPT "../demo/identity.js",
    "/demo/line.js" = JAVASCRIPT "../demo/line.js",
    "/demo/list.js" = JAVASCRIPT "../demo/list.js",
    "/demo/memory.js" = JAVASCRIPT "../demo/memory.js",
    "/demo/message.js" = JAVASCRIPT "../demo/message.js",
    "/demo/messages.js" = JAVASCRIPT "../demo/messages.js",
    "/demo/outbox.js" = JAVASCRIPT "../demo/outbox.js",
    "/demo/people.js" = JAVASCRIPT "../demo/people.js",
    "/demo/receipts.js" = JAVASCRIPT "../demo/receipts.js",
    "/demo/sidebar.js" = JAVASCRIPT "../demo/sidebar.js",
    "/demo/text.js" = JAVASCRIPT "../demo/text.js",
    "/demo/typing.js" = JAVASCRIPT "../demo/typing.js",
    "/demo/style.css" = CSS "../demo/style.css",
    "/demo/icon.svg" = SVG "../demo/icon.svg",
    "/demo/avatars/fox.svg" = SVG "../demo/avatars/fox.svg",
    "/demo/avatars/cat.svg" = SVG "../demo/avatars/cat.svg",
    "/demo/avatars/bear.svg" = SVG "../demo/avatars/bear.svg",
    "/demo/avatars/owl.svg" = SVG "../demo/avatars/owl.svg",
    "/demo/avatars/frog.svg" = SVG "../demo/avatars/frog.svg",
    "/demo/avatars/chick.svg" = SVG "../demo/avatars/chick.svg",
    "/demo/avatars/whale.svg" = SVG "../demo/avatars/whale.svg",
    "/demo/avatars/robot.svg" = SVG "../demo/avatars/robot.svg",
};

/// The permissions of this server's pages: they load from this server only, and stand in no frame.
const PROTECTION: [(HeaderName, HeaderValue); 3] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
             object-src 'none'",
        ),
    ),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
];

/// The routes of the official client's bundle.
pub fn bundle<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes(&BUNDLE)
}

/// The routes of the files that the demo page loads.
pub fn demo<S: Clone + Send + Sync + 'static>() -> Router<S> {
    routes(&DEMO)
}

/// The demo page itself.
pub fn page(request: &HeaderMap) -> Response {
    respond(PAGE, request)
}

fn routes<S: Clone + Send + Sync + 'static>(assets: &[Asset]) -> Router<S> {
    assets.iter().copied().fold(Router::new(), |router, asset| {
        let serve = async move |request: HeaderMap| respond(asset, &request);
        router.route(asset.path, get(serve))
    })
}

/// Serves a file as the reference server serves its client: cached, and revalidated every time.
fn respond(asset: Asset, request: &HeaderMap) -> Response {
    let tag = asset.tag.map_or_else(|| tag(asset.content), ToOwned::to_owned);
    let known = request.get(header::IF_NONE_MATCH).and_then(|tag| tag.to_str().ok());
    let headers = [
        (header::CONTENT_TYPE, asset.content_type),
        (header::CACHE_CONTROL, "public, max-age=0"),
        (header::VARY, "Accept"),
        (header::ETAG, &tag),
    ];
    if known.is_some_and(|known| known.trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, headers, PROTECTION).into_response();
    }
    (headers, PROTECTION, asset.content).into_response()
}

/// A hash of the content, as an ETag.
fn tag(content: &str) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("\"{:016x}\"", hasher.finish())
}
