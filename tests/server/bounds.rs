//! Bounds in bytes and work: cost is bounded before the work, and files are private.

use std::{fs, os::unix::fs::PermissionsExt, process::Command};

use reqwest::StatusCode;
use serde_json::json;

use crate::{
    poller::Poller,
    process::{BINARY, Process},
    support::within,
};

/// The memory that a refused request may leave behind, in bytes.
const LITTLE: u64 = 20_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_request_with_too_many_packets_costs_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let mut bystander = Poller::connect(&server.url).await;
    let before = server.resident();
    for packet in ["40", "40/x", "41", "43[]", "3", "6"] {
        let attacker = Poller::connect(&server.url).await;
        let separated = format!("{packet}\u{1e}");
        let body = separated.repeat(999_000 / separated.len());
        assert_eq!(attacker.post(&body).await, StatusCode::BAD_REQUEST, "{packet}");
        // The session has ended.
        assert_eq!(attacker.post("3").await, StatusCode::BAD_REQUEST, "{packet}");
    }
    let twice = Poller::connect(&server.url).await;
    assert_eq!(twice.post("40\u{1e}40").await, StatusCode::BAD_REQUEST);
    let grown = server.resident().saturating_sub(before);
    assert!(grown < LITTLE, "{grown} bytes more than before");
    let answer = bystander.ask(1, "authenticate", json!({ "id": "bystander" })).await;
    assert_eq!(answer[0]["ok"], true, "{answer}");
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_polling_request_may_have_a_hundred_packets() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let mut poller = Poller::connect(&server.url).await;
    let answer = poller.ask(0, "authenticate", json!({ "id": "alice" })).await;
    assert_eq!(answer[0]["ok"], true, "{answer}");
    let events: Vec<_> = (1..=100)
        .map(|number| {
            format!("42{number}{}", json!(["leave-conversation", { "conversationId": "-" }]))
        })
        .collect();
    assert_eq!(poller.post(&events.join("\u{1e}")).await, StatusCode::OK);
    assert_eq!(poller.packet("43100").await[0]["ok"], true);
    server.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let mut poller = Poller::connect(&server.url).await;
    let message = json!({ "conversationId": "c1", "senderId": "alice", "message": "Private" });
    assert_eq!(within(poller.ask(1, "send-message", message)).await[0]["ok"], true);
    for arguments in [["backup", "copy.db"], ["export", "lines.jsonl"]] {
        let mut command = Command::new(BINARY);
        command.args(arguments).env("SQLITE_PATH", "chat.db").current_dir(directory.path());
        assert!(command.output().unwrap().status.success(), "{arguments:?}");
    }
    for name in ["chat.db", "chat.db-wal", "copy.db", "lines.jsonl"] {
        let mode = fs::metadata(directory.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    server.kill();
}

#[test]
fn a_path_that_looks_like_a_uri_is_a_path() {
    let directory = tempfile::tempdir().unwrap();
    let name = "file:chat.db?mode=memory";
    let server = Process::start_with(directory.path(), &[("SQLITE_PATH", name)]);
    server.kill();
    let files: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(files.iter().any(|file| file == name), "{files:?}");
    assert!(files.iter().all(|file| file.starts_with(name)), "{files:?}");
}
