//! The binary from the operator's side: its refusals, and its end.

use std::{
    fs::Permissions,
    io::{BufRead, BufReader},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use radio_istic::client::{Client, Received};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    poller::Poller,
    support::{PATIENCE, history, within},
};

pub const BINARY: &str = env!("CARGO_BIN_EXE_radio-istic");

/// A server in a process of its own.
pub struct Process {
    pub url: String,
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Process {
    /// Starts on `chat.db` in `directory`.
    pub fn start(directory: &Path) -> Self {
        Self::start_at(directory, "0")
    }

    pub fn start_at(directory: &Path, port: &str) -> Self {
        let mut command = command(directory);
        Self::spawn(command.env("SQLITE_PATH", "chat.db").env("RATE_LIMIT", "off"), port)
    }

    /// Starts with more settings.
    pub fn start_with(directory: &Path, settings: &[(&str, &str)]) -> Self {
        let mut command = command(directory);
        command.env("SQLITE_PATH", "chat.db").env("RATE_LIMIT", "off");
        Self::spawn(command.envs(settings.iter().copied()), "0")
    }

    pub fn start_on_mongodb(directory: &Path, uri: &str) -> Self {
        let mut command = command(directory);
        command.env("SQLITE_PATH", "chat.db").env("RATE_LIMIT", "off");
        Self::spawn(command.env("MONGODB_URI", uri), "0")
    }

    /// Starts with files that may not grow over `blocks` of 512 bytes, as on a full disk.
    pub fn start_with_little_space(directory: &Path, blocks: usize) -> Self {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec {BINARY}");
        shell
            .args(["-c", &script])
            .current_dir(directory)
            .env_clear()
            .env("SQLITE_PATH", "chat.db")
            .env("RATE_LIMIT", "off");
        Self::spawn(&mut shell, "0")
    }

    fn spawn(command: &mut Command, port: &str) -> Self {
        let mut child = command
            .env("PORT", port)
            .env("LOG_FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let written = Arc::new(Mutex::new(String::new()));
        let address = loop {
            let mut line = String::new();
            log.read_line(&mut line).unwrap();
            written.lock().unwrap().push_str(&line);
            let entry: Value =
                serde_json::from_str(&line).unwrap_or_else(|_| panic!("not started: {line}"));
            if let Some(address) = entry["address"].as_str() {
                break address.to_owned();
            }
        };
        let url = format!("http://{address}");
        // The server must be able to continue its log.
        let reading = written.clone();
        std::thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                let mut written = reading.lock().unwrap();
                written.push_str(&line);
                written.push('\n');
            }
        });
        Self { url, child, log: written }
    }

    /// The log of the server so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Resolves when no client is connected any more, and no connection waits for a client: a
    /// session that never connects has 20 s, a request's head 30 s.
    pub async fn is_left_by_all(&self) {
        within(async {
            loop {
                let health = reqwest::get(format!("{}/health", self.url)).await.unwrap();
                let health: Value = health.json().await.unwrap();
                if health["connections"] == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        let open = || {
            let descriptors = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap();
            let targets =
                descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
            targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
        };
        let begun = Instant::now();
        // The remaining sockets are the listener, the one of this test, and the process's own.
        while open() > 8 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} sockets stay open", open());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The current memory of the process, in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1_024
    }

    /// Ends the server as a power cut does.
    pub fn kill(self) {
        drop(self);
    }

    /// Ends the server as a platform does.
    pub fn stop(mut self) {
        self.signal("-TERM");
        assert!(self.child.wait().unwrap().success());
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Process {
    /// A test that fails leaves no server behind either.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(directory: &Path) -> Command {
    let mut command = Command::new(BINARY);
    command.current_dir(directory).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Runs a command that must refuse to start, and returns its one line.
fn refusal(command: &mut Command) -> String {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let started_at = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started_at.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr.trim_end().strip_prefix("radio-istic: ").unwrap().to_owned()
}

#[test]
fn a_setting_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let cases = [
        ("PORT", "70000", r#"PORT: "70000" is not a TCP port from 0 (any free one) to 65535"#),
        (
            "HOST",
            "example.com",
            r#"HOST: "example.com" is not an IP address such as 127.0.0.1, 0.0.0.0 or ::"#,
        ),
        (
            "ALLOWED_ORIGINS",
            "https://a.example,b.example",
            r#"ALLOWED_ORIGINS: "b.example" is not origins such as https://chat.example.com, or * for all"#,
        ),
        ("LOG_FORMAT", "xml", r#"LOG_FORMAT: "xml" is not text or json"#),
        ("DEMO", "yes", r#"DEMO: "yes" is not on or off"#),
        ("RATE_LIMIT", "20", r#"RATE_LIMIT: "20" is not a limit such as 20/s,burst=40, or off"#),
        (
            "CONNECTION_LIMIT",
            "0/s",
            r#"CONNECTION_LIMIT: "0/s" is not a limit such as 50/s,burst=500,open=2000, or off"#,
        ),
        (
            "TRUSTED_PROXY",
            "X Real IP",
            r#"TRUSTED_PROXY: "X Real IP" is not the name of a header such as X-Forwarded-For"#,
        ),
        ("JWT_SECRET", " ", "JWT_SECRET: it is empty; unset it if clients need no token"),
        (
            "JWT_SECRET",
            "-----BEGIN PUBLIC KEY-----",
            "JWT_SECRET: this is a PEM key: set JWT_PUBLIC_KEY to the public one",
        ),
        (
            "JWT_PUBLIC_KEY",
            "-----BEGIN PRIVATE KEY-----",
            "JWT_PUBLIC_KEY: this is a private key: the server needs the public one only",
        ),
        (
            "JWT_PUBLIC_KEY",
            "-----BEGIN PUBLIC KEY-----",
            "JWT_PUBLIC_KEY: this is not a public key in PEM form, of RSA, P-256 or Ed25519",
        ),
        (
            "JWT_PUBLIC_KEY",
            "/no/such/key.pem",
            "JWT_PUBLIC_KEY: cannot read \"/no/such/key.pem\": No such file or directory (os error 2)",
        ),
        (
            "RUST_LOG",
            "a=b=c",
            r#"RUST_LOG: "a=b=c" is not a filter such as info or radio_istic=debug"#,
        ),
    ];
    for (variable, value, line) in cases {
        assert_eq!(refusal(command(directory.path()).env(variable, value)), line);
        let flag = format!("--{}={value}", variable.to_lowercase().replace('_', "-"));
        assert_eq!(refusal(command(directory.path()).arg(flag)), line);
    }
    let uris = [
        ("postgres://user:hunter2@localhost/chat", "hunter2"),
        ("mongodb://user:hunter2@", "hunter2"),
        ("mongodb://user:hunt/er2@localhost/chat", "er2"),
        ("mongodb://user:hunter2@localhost:99999/chat", "hunter2"),
        ("mongodb+srv://user:hunter2@localhost/chat", "hunter2"),
        ("mongodb://user:hunter2", "hunter2"),
        ("hunter2", "hunter2"),
    ];
    for (uri, secret) in uris {
        let line = refusal(command(directory.path()).env("MONGODB_URI", uri));
        assert!(line.starts_with("MONGODB_URI: ") && !line.contains(secret), "{line}");
        assert!(line.ends_with("expected mongodb:// or mongodb+srv:// and a host"), "{line}");
    }
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_flag_goes_before_the_environment_and_the_environment_before_the_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".env"), "# A comment.\nPORT=file\nNODE_ENV=production\n")
        .unwrap();
    let port = |command: &mut Command| refusal(command);
    assert!(port(&mut command(directory.path())).starts_with("PORT: \"file\""));
    assert!(port(command(directory.path()).env("PORT", "env")).starts_with("PORT: \"env\""));
    assert!(
        port(command(directory.path()).env("PORT", "env").arg("--port=flag"))
            .starts_with("PORT: \"flag\"")
    );

    std::fs::write(directory.path().join(".env"), "PORT=1\n\nSECRET 'x\n").unwrap();
    assert_eq!(refusal(&mut command(directory.path())), ".env: line 3 is not NAME=value");
}

#[test]
fn an_empty_setting_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path());
    command.env("HOST", "").env("MONGODB_URI", "").env("PORT", "nothing");
    assert!(refusal(&mut command).starts_with("PORT"));
}

#[test]
fn a_file_that_is_not_the_servers_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat.db");
    let refusal = || refusal(command(directory.path()).args(["--port=0", "--sqlite-path=chat.db"]));

    std::fs::write(
        &path,
        "Dear diary, this is a text and no database, however long it may be.".repeat(99),
    )
    .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(refusal(), r#"SQLITE_PATH: "chat.db": this file is not an SQLite database"#);
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE theirs (id INTEGER)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert_eq!(
        refusal(),
        r#"SQLITE_PATH: "chat.db": this SQLite file belongs to another application"#
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);

    std::fs::remove_file(&path).unwrap();
    Process::start(directory.path()).kill();
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let before = std::fs::read(&path).unwrap();
    let line = refusal();
    assert!(line.contains("schema version 999, made by a newer radio-istic"), "{line}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_cannot_be_used_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("chat.db")).unwrap();
    for path in ["no/such/directory/chat.db", "chat.db"] {
        let line =
            refusal(command(directory.path()).args(["--port=0", &format!("--sqlite-path={path}")]));
        assert!(line.starts_with(&format!("SQLITE_PATH: {path:?}: ")), "{line}");
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_file_or_port_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let first = Process::start(directory.path());
    let line = refusal(command(directory.path()).args(["--port=0", "--sqlite-path=chat.db"]));
    assert_eq!(line, r#"SQLITE_PATH: "chat.db": another radio-istic is using this file"#);
    let port = first.url.rsplit(':').next().unwrap();
    let line = refusal(command(directory.path()).arg(format!("--port={port}")));
    assert!(
        line.starts_with(&format!("HOST and PORT: cannot listen on 127.0.0.1:{port}")),
        "{line}"
    );
    first.kill();
}

#[tokio::test]
async fn nothing_is_kept_in_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut in_memory = command(directory.path());
    in_memory.env("SQLITE_PATH", ":memory:").env("TMPDIR", directory.path());
    let server = Process::spawn(&mut in_memory, "0");
    let mut alice = within(Client::connect(&server.url)).await.unwrap();
    let message = json!({ "conversationId": "c1", "senderId": "alice", "message": "Not for long" });
    assert_eq!(within(alice.ask("send-message", message)).await.unwrap()["ok"], true);
    assert_eq!(history(&server.url, "c1", "alice").await.len(), 1);
    server.kill();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn on_a_platform_the_server_listens_to_all() {
    let directory = tempfile::tempdir().unwrap();
    for (variable, address) in [
        ("FLY_APP_NAME", "http://0.0.0.0:"),
        ("RENDER", "http://0.0.0.0:"),
        ("OTHER", "http://127.0.0.1:"),
    ] {
        let server = Process::spawn(
            command(directory.path()).env(variable, "x").env("SQLITE_PATH", ":memory:"),
            "0",
        );
        assert!(server.url.starts_with(address), "{variable}: {}", server.url);
        server.kill();
    }
}

#[test]
fn the_start_shows_the_address_the_storage_and_the_mode() {
    let directory = tempfile::tempdir().unwrap();
    let greeting = |settings: &[(&str, &str)], line_count| {
        let mut command = command(directory.path());
        command.envs(settings.iter().copied()).args(["--port=0", "--sqlite-path=chat.db"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().take(line_count);
        let lines: Vec<_> = lines.map(Result::unwrap).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        lines
    };
    let lines = greeting(&[], 4);
    assert_eq!(lines[0], format!("radio-istic {}", env!("CARGO_PKG_VERSION")));
    assert!(lines[1].starts_with("  open in a browser: http://localhost:"), "{lines:?}");
    let file = directory.path().join("chat.db");
    assert_eq!(lines[2], format!("  storage: SQLite, {}", file.display()));
    assert!(lines[3].starts_with("  mode: open, users are who they say they are"), "{lines:?}");

    let uri = "mongodb://somebody:hunter2@127.0.0.1:1/chat";
    let lines = greeting(&[("MONGODB_URI", uri), ("DEMO", "off")], 4);
    assert!(lines[1].starts_with("  address: http://localhost:"), "{lines:?}");
    assert!(lines[2].starts_with("  storage: MongoDB, 127.0.0.1:1/chat; outbox "), "{lines:?}");
    assert!(!lines.concat().contains("hunter2") && !lines.concat().contains("somebody"));
}

#[test]
fn a_file_that_is_not_writable_is_named() {
    let directory = tempfile::tempdir().unwrap();
    Process::start(directory.path()).stop();
    let path = directory.path().join("chat.db");
    let mode =
        |path: &Path, mode| std::fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    mode(directory.path(), 0o755);
    mode(&path, 0o444);
    // Modes mean nothing to root, so another user starts the server. It runs from a copy, because
    // the build directory may not be open to every user.
    let binary = directory.path().join("radio-istic");
    std::fs::copy(BINARY, &binary).unwrap();
    mode(&binary, 0o755);
    let before = std::fs::read(&path).unwrap();
    let is_root = std::fs::metadata(directory.path()).unwrap().uid() == 0;
    let mut as_nobody = if is_root { Command::new("setpriv") } else { Command::new(&binary) };
    if is_root {
        as_nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&binary);
    }
    as_nobody.args(["--port=0", "--sqlite-path=chat.db"]).current_dir(&directory);
    let line = refusal(&mut as_nobody);
    assert!(line.starts_with(r#"SQLITE_PATH: "chat.db": not writable: "#), "{line}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poller_gets_its_confirmations_from_a_server_that_stops() {
    let directory = tempfile::tempdir().unwrap();
    let mut server = Process::start(directory.path());
    let mut poller = Poller::connect(&server.url).await;
    let events: Vec<_> = (1..=20)
        .map(|number| {
            let message = json!({ "conversationId": "c1", "senderId": "alice", "message": number.to_string() });
            format!("42{number}{}", json!(["send-message", message]))
        })
        .collect();
    poller.post(&events.join("\u{1e}")).await;
    server.signal("-TERM");
    for number in 1..=20 {
        let answer = poller.packet(&format!("43{number}[")).await;
        assert_eq!(answer[0]["message"]["content"], number.to_string());
    }
    let status = tokio::task::spawn_blocking(move || server.child.wait().unwrap());
    assert!(within(status).await.unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn both_signals_stop_the_server_in_order_under_load() {
    let directory = tempfile::tempdir().unwrap();
    for (round, signal) in ["-TERM", "-INT"].into_iter().enumerate() {
        let mut server = Process::start(directory.path());
        let conversation = format!("round-{round}");
        let writers = (0..10).map(|number| {
            let (url, conversation) = (server.url.clone(), conversation.clone());
            tokio::spawn(async move {
                let mut client = Client::connect(&url).await.unwrap();
                let mut confirmed = Vec::new();
                for message in 0.. {
                    let payload = json!({
                        "conversationId": conversation, "senderId": format!("user-{number}"),
                        "message": message.to_string(),
                    });
                    if client.emit("send-message", payload).await.is_err() {
                        break;
                    }
                    match client.event("message-sent").await {
                        Ok(sent) => confirmed.push(sent["id"].clone()),
                        Err(_) => break,
                    }
                }
                // The transport has ended: clients would not reconnect after a Socket.IO
                // disconnect.
                while let Ok(Some(received)) = client.receive().await {
                    assert_ne!(received, Received::Disconnected);
                }
                confirmed
            })
        });
        let writers: Vec<_> = writers.collect();
        tokio::time::sleep(Duration::from_millis(300)).await;

        let asked_at = Instant::now();
        server.signal(signal);
        let status = server.child.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        // A promise of the contract, not a measurement: it takes a few milliseconds.
        assert!(asked_at.elapsed() < Duration::from_secs(4));
        let mut confirmed = Vec::new();
        for writer in writers {
            confirmed.extend(within(writer).await.unwrap());
        }
        assert!(!confirmed.is_empty());
        let left: Vec<_> =
            std::fs::read_dir(&directory).unwrap().map(|file| file.unwrap().file_name()).collect();
        assert_eq!(left, ["chat.db"], "one file");

        let server = Process::start(directory.path());
        let stored: Vec<_> = history(&server.url, &conversation, "user-0").await;
        let stored: std::collections::HashSet<_> =
            stored.iter().map(|message| message["id"].to_string()).collect();
        assert!(confirmed.iter().all(|id| stored.contains(&id.to_string())));
        server.kill();
    }
}
