//! The contents of the log: disconnected users with the reason, and no message text.

use radio_istic::client::{Client, Options};
use serde_json::{Value, json};

use crate::{
    process::Process,
    support::{PATIENCE, within},
};

#[tokio::test(flavor = "multi_thread")]
async fn the_log_gives_reasons_and_contains_no_texts_or_secrets() {
    const SECRET: &str = "a-secret-that-is-longer-than-32-bytes";
    let directory = tempfile::tempdir().unwrap();
    let settings = [
        ("JWT_SECRET", SECRET),
        ("RUST_LOG", "debug,engineioxide=info,socketioxide=info"),
        ("CONNECTION_LIMIT", "1000/s,open=2"),
        ("TRUSTED_PROXY", "X-Forwarded-For"),
    ];
    let server = Process::start_with(directory.path(), &settings);
    let options = |token: &str, address: &str| Options {
        auth: Some(json!({ "token": token })),
        extra_headers: [("X-Forwarded-For".to_owned(), address.to_owned())].into_iter().collect(),
        ..Options::default()
    };
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({ "sub": "alice" });
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();

    let good = options(&token, "192.0.2.1");
    let mut alice = within(Client::connect_with(&server.url, &good)).await.unwrap();
    let profile = json!({ "email": "alice@example.com", "name": "Alice\n{\"level\":\"ERROR\"}" });
    within(alice.ask("authenticate", profile)).await.unwrap();
    let message = json!({ "conversationId": "c1", "recipientId": "bob", "message": "psst" });
    within(alice.ask("send-message", message)).await.unwrap();
    within(alice.ask("no-such-event", json!({ "message": "psst" }))).await.unwrap();

    let forged = options("eyJ.forged.token", "192.0.2.1");
    assert!(within(Client::connect_with(&server.url, &forged)).await.is_err());
    let _second = within(Client::connect_with(&server.url, &good)).await;
    let _third = within(Client::connect_with(&server.url, &good)).await;

    let expected = ["invalid_token", "too many open connections from this address"];
    let begun = std::time::Instant::now();
    while !expected.iter().all(|reason| server.log().contains(reason)) {
        assert!(begun.elapsed() < PATIENCE, "{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let log = server.log();
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        assert_ne!(entry["level"], "ERROR", "{line}");
    }
    for secret in [SECRET, "psst", "alice@example.com", &token, "forged"] {
        assert!(!log.contains(secret), "{secret} is in the log:\n{log}");
    }
    server.stop();
}

#[test]
fn a_public_server_in_open_mode_logs_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let open = Process::start_with(directory.path(), &[("HOST", "0.0.0.0")]);
    assert!(open.log().contains("open mode beyond this machine"), "{}", open.log());
    open.stop();
    let short = Process::start_with(directory.path(), &[("JWT_SECRET", "short")]);
    assert!(short.log().contains("JWT_SECRET has fewer than 32 bytes"), "{}", short.log());
    short.stop();
    let fine = Process::start(directory.path());
    assert!(!fine.log().contains("WARN"), "{}", fine.log());
    fine.stop();
}
