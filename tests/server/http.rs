//! The answers over HTTP, and the pages that may request them.

use radio_istic::config::Settings;
use regex_lite::Regex;
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::support::{Server, within};

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

async fn get(server: &Server, path: &str) -> reqwest::Response {
    within(reqwest::get(format!("{}{path}", server.url))).await.unwrap()
}

/// A request as a page of `origin` makes it.
async fn from_page(server: &Server, method: Method, path: &str, origin: &str) -> reqwest::Response {
    let mut request = reqwest::Client::new()
        .request(method, format!("{}{path}", server.url))
        .header(header::ORIGIN, origin);
    if path.contains("websocket") {
        request = request
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
    }
    within(request.send()).await.unwrap()
}

#[tokio::test]
async fn health_shows_the_connections_and_the_online_users() {
    let server = Server::start().await;
    let _alice = server.user("alice").await;
    let _tab = server.user("alice").await;
    let mut nobody = server.client().await;
    within(nobody.ask("leave-conversation", json!({ "conversationId": "-" }))).await.unwrap();
    let response = get(&server, "/health").await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut health: Value = response.json().await.unwrap();
    assert!(health["uptime"].take().as_f64().unwrap() > 0.0);
    let expected = json!({
        "status": "healthy",
        "uptime": null,
        "version": env!("CARGO_PKG_VERSION"),
        "storage": { "backend": "sqlite", "connected": true, "pending": 0 },
        "connections": 3,
        "onlineUsers": 1,
    });
    assert_eq!(health, expected);
}

/// Sends the request of a browser.
async fn browse(server: &Server, path: &str) -> reqwest::Response {
    let request = reqwest::Client::new()
        .get(format!("{}{path}", server.url))
        .header(header::ACCEPT, "text/html,application/xhtml+xml,*/*;q=0.8");
    within(request.send()).await.unwrap()
}

#[tokio::test]
async fn a_browser_gets_a_page_that_loads_nothing_from_elsewhere() {
    let server = Server::start().await;
    let page = browse(&server, "/").await;
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(page.headers()[header::VARY], "Accept");
    let mut seen = vec!["/".to_owned()];
    let mut texts = vec![page.text().await.unwrap()];
    let address =
        Regex::new(r#"(?:src|href|from) ?=? ?["']([^"'$]+)["']|`(/demo/[^`$]*)"#).unwrap();
    while let Some(text) = texts.pop() {
        for found in address.captures_iter(&text) {
            let path = found.get(1).or(found.get(2)).unwrap().as_str();
            let path =
                path.strip_prefix('.').map_or(path.to_owned(), |file| format!("/demo{file}"));
            assert!(path.starts_with("/demo/") || path.starts_with("/socket.io/"), "{path}");
            if path.ends_with('/') || seen.contains(&path) {
                continue;
            }
            let response = browse(&server, &path).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
            let headers = response.headers();
            let policy = headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            assert!(policy.starts_with("default-src 'self'; "), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
            assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert_eq!(headers[header::REFERRER_POLICY], "no-referrer");
            if path.starts_with("/demo/") {
                texts.push(response.text().await.unwrap());
            }
            seen.push(path);
        }
    }
    assert!(seen.contains(&"/demo/messages.js".to_owned()), "{seen:?}");
}

#[tokio::test]
async fn the_demo_can_be_turned_off() {
    let settings = Settings { demo: Some("off".into()), ..Settings::default() };
    let server = Server::start_with(tempfile::tempdir().unwrap(), settings).await;
    let index: Value = browse(&server, "/").await.json().await.unwrap();
    assert_eq!(index["status"], "online");
    assert_eq!(browse(&server, "/demo/main.js").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(browse(&server, "/socket.io/socket.io.js").await.status(), StatusCode::OK);
}

#[tokio::test]
async fn the_index_shows_that_the_server_is_online() {
    let server = Server::start().await;
    let _alice = server.user("alice").await;
    let index: Value = get(&server, "/").await.json().await.unwrap();
    assert_eq!(index["status"], "online");
    assert_eq!(index["connectedUsers"], 1);
    assert!(index["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn the_official_client_is_served_and_cached() {
    let server = Server::start().await;
    let path = "/socket.io/socket.io.js";
    let response = get(&server, path).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/javascript; charset=utf-8");
    let etag = response.headers()[header::ETAG].clone();
    let text = response.text().await.unwrap();
    assert!(text.contains(&format!("Socket.IO v{}", etag.to_str().unwrap().trim_matches('"'))));

    let request = reqwest::Client::new().get(format!("{}{path}", server.url));
    let response = within(request.header(header::IF_NONE_MATCH, etag).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_page_of_a_foreign_origin_is_refused_on_both_transports() {
    let server = Server::start().await;
    for origin in ["http://evil.example", "https://localhost.evil.example", "null"] {
        for path in [POLLING, WEBSOCKET] {
            let response = from_page(&server, Method::GET, path, origin).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{origin} {path}");
            assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
        }
    }
    for (path, status) in [(POLLING, StatusCode::OK), (WEBSOCKET, StatusCode::SWITCHING_PROTOCOLS)]
    {
        let response = from_page(&server, Method::GET, path, "http://localhost:3000").await;
        assert_eq!(response.status(), status);
        assert_eq!(
            response.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN],
            "http://localhost:3000"
        );
        assert_eq!(response.headers()[header::ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        // The server's own page is allowed on any address.
        let response = from_page(&server, Method::GET, path, &server.url).await;
        assert_eq!(response.status(), status);
    }
}

#[tokio::test]
async fn a_foreign_page_is_refused_within_a_session_too() {
    let server = Server::start().await;
    let opened = get(&server, POLLING).await.text().await.unwrap();
    let open: Value = serde_json::from_str(&opened[1..]).unwrap();
    let session = format!("{POLLING}&sid={}", open["sid"].as_str().unwrap());
    let upgrade = session.replace("polling", "websocket");
    for (method, path) in
        [(Method::POST, &session), (Method::GET, &session), (Method::GET, &upgrade)]
    {
        let response = from_page(&server, method, path, "http://evil.example").await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn a_preflight_allows_get_and_post_with_credentials() {
    let server = Server::start().await;
    let preflight = |origin: &str| {
        reqwest::Client::new()
            .request(Method::OPTIONS, format!("{}{POLLING}", server.url))
            .header(header::ORIGIN, origin)
            .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
            .header(header::ACCESS_CONTROL_REQUEST_HEADERS, "content-type")
            .send()
    };
    let response = within(preflight("http://localhost:3000")).await.unwrap();
    let headers = response.headers();
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_ORIGIN], "http://localhost:3000");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_METHODS], "GET,POST");
    assert_eq!(headers[header::ACCESS_CONTROL_ALLOW_HEADERS], "content-type");
    let response = within(preflight("http://evil.example")).await.unwrap();
    assert!(!response.headers().contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN));
}

#[tokio::test]
async fn the_origins_that_are_set_are_the_ones_that_are_allowed() {
    let allowed_origins = Some("https://Chat.example.com/, https://other.example".into());
    let settings = Settings { allowed_origins, ..Settings::default() };
    let server = Server::start_with(tempfile::tempdir().unwrap(), settings).await;
    let origins = [
        ("https://chat.example.com", StatusCode::OK),
        ("https://other.example", StatusCode::OK),
        ("http://localhost:3000", StatusCode::FORBIDDEN),
        (&*server.url, StatusCode::OK),
    ];
    for (origin, status) in origins {
        assert_eq!(
            from_page(&server, Method::GET, POLLING, origin).await.status(),
            status,
            "{origin}"
        );
    }
}
