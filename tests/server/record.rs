//! `radio-istic record`: a session of official clients becomes a file that plays the same.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    javascript::node,
    process::{BINARY, Process},
    support::{PATIENCE, package},
};

/// A recorder in a process of its own.
struct Recorder {
    child: Child,
    url: String,
}

impl Recorder {
    fn start(server: &str, output: &str) -> Self {
        let mut child = Command::new(BINARY)
            .args(["record", "--listen", "127.0.0.1:0", "--url", server, "--output", output])
            // The recorder assigns answers to steps by the clock, and tests run side by side.
            .args(["--quiet", "400ms"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("{line}")).to_owned();
        Self { child, url }
    }

    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Records the official clients, and plays the recording.
fn plays_the_same(transports: &str) {
    let mut node = node();
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let output = directory.path().join("recorded.txt");
    let output = output.to_str().unwrap();
    let mut recorder = Recorder::start(&server.url, output);
    let session = node.args(["session.js", &recorder.url, transports]).output().unwrap();
    assert!(session.status.success(), "{}", String::from_utf8_lossy(&session.stderr));
    let started_at = Instant::now();
    while !std::fs::read_to_string(output).unwrap().contains("last vanishes") {
        assert!(
            started_at.elapsed() < 3 * PATIENCE,
            "{}",
            std::fs::read_to_string(output).unwrap()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    recorder.stop();
    server.kill();

    let recorded = std::fs::read_to_string(output).unwrap();
    for line in [
        "alice-2 < receive-message <message-",
        "\"content\":\"<<time>\"",
        "bob-smith ? mark-as-read {\"conversationId\":\"c1\",\"messageIds\":[\"<message-1>\"]}",
        "alice awaits user-typing within ",
        "bob-smith ? \"no such event\" 1 {",
        "bob-smith connects {\"query\":{\"from\":\"the <message-1> test\"}",
        "alice connects {\"auth\":{\"token\":\"of Alice\"}",
    ] {
        assert!(recorded.contains(line), "{line} is missing in\n{recorded}");
    }
    let replayed = Command::new(BINARY).args(["replay", output]).output().unwrap();
    let told = String::from_utf8_lossy(&replayed.stdout);
    assert_eq!(told, format!("same {output}\n"), "{recorded}");
    assert_eq!(replayed.status.code(), Some(0));
}

#[test]
#[ignore = "slow"]
fn a_session_over_websocket_plays_the_same() {
    plays_the_same("websocket");
}

#[test]
#[ignore = "slow"]
fn a_session_over_polling_plays_the_same() {
    plays_the_same("polling");
}

#[test]
#[ignore = "slow"]
fn a_session_that_upgrades_plays_the_same() {
    plays_the_same("polling,websocket");
}

#[test]
fn no_file_is_overwritten() {
    let path = package("tests/replay/two-people.txt");
    let output = Command::new(BINARY)
        .args(["record", "--listen", "127.0.0.1:0", "--output", path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(
        line.starts_with(&format!("radio-istic: make {}: File exists", path.display())),
        "{line}"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[cfg_attr(not(node), ignore = "needs Node and `npm ci` in tests/js")]
async fn unrecorded_traffic_passes_too() {
    let directory = tempfile::tempdir().unwrap();
    let server = Process::start(directory.path());
    let output = directory.path().join("recorded.txt");
    let mut recorder = Recorder::start(&server.url, output.to_str().unwrap());
    let get = async |path: &str| reqwest::get(format!("{}{path}", recorder.url)).await.unwrap();
    let health: serde_json::Value = get("/health").await.json().await.unwrap();
    assert_eq!(health["status"], "healthy");
    assert_eq!(get("/nowhere").await.status(), reqwest::StatusCode::NOT_FOUND);
    let bundle = get("/socket.io/socket.io.js").await;
    assert!(
        bundle.headers()["content-type"].to_str().unwrap().starts_with("application/javascript")
    );
    assert!(bundle.text().await.unwrap().contains("Socket.IO"));
    // A page that the proxy serves is one of the server's own; another page is not.
    let handshake = |origin: String| {
        let url = format!("{}/socket.io/?EIO=4&transport=polling", recorder.url);
        reqwest::Client::new().get(url).header("Origin", origin).send()
    };
    assert_eq!(handshake(recorder.url.clone()).await.unwrap().status(), 200);
    assert_eq!(handshake("https://evil.example".into()).await.unwrap().status(), 403);
    // Clients of Socket.IO v2 work through the recorder, though it records nothing of theirs.
    let mut node = node();
    node.args(["talk.js", &recorder.url, "socket.io-client-v2", "polling,websocket"]);
    let talked = tokio::task::spawn_blocking(move || node.output().unwrap()).await.unwrap();
    assert!(talked.status.success(), "{}", String::from_utf8_lossy(&talked.stderr));
    server.kill();
    assert_eq!(get("/health").await.status(), reqwest::StatusCode::BAD_GATEWAY);
    recorder.stop();
}
