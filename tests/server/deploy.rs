//! The files that operators deploy with: the proxies in front of a real server, and a check that
//! the other files name existing things.

use std::{
    collections::BTreeSet,
    fs,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use radio_istic::client::{Client, ConnectError, Options, TransportKind};
use regex_lite::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    javascript::node,
    process::{BINARY, Process},
    support::{package, within},
};

/// The metrics of `/metrics`. Of a histogram, a dashboard reads the buckets.
const METRICS: [&str; 11] = [
    "radio_istic_connections",
    "radio_istic_users_online",
    "radio_istic_events_total",
    "radio_istic_confirmation_seconds_bucket",
    "radio_istic_commit_batch_size_bucket",
    "radio_istic_commit_seconds_bucket",
    "radio_istic_storage_errors_total",
    "radio_istic_outbox_pending",
    "radio_istic_outbox_rejected",
    "radio_istic_sockets_put_out_total",
    "radio_istic_connections_refused_total",
];

const TRANSPORTS: [TransportKind; 2] = [TransportKind::Websocket, TransportKind::Polling];

fn read(path: &str) -> String {
    fs::read_to_string(package(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A proxy in front of a server, as `deploy/` configures it. Only the ports and the name differ.
struct Proxy {
    url: String,
    child: Child,
    _directory: TempDir,
}

impl Proxy {
    async fn start(program: &str, server: &Process) -> Self {
        // Each program knows one of the arguments and refuses the other, which is an answer too.
        assert!(Command::new(program).arg("-v").output().is_ok(), "{program} is missing");
        let directory = tempfile::tempdir().unwrap();
        // The proxy cannot choose a port itself; `answers` finds out whether the answer is the
        // proxy's.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let behind = server.url.strip_prefix("http://").unwrap();
        let mut command = match program {
            "nginx" => nginx(directory.path(), port, behind),
            _ => caddy(directory.path(), port, behind),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap();
        let proxy = Self { url: format!("http://127.0.0.1:{port}"), child, _directory: directory };
        within(async {
            while !proxy.answers(program).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        proxy
    }

    async fn answers(&self, program: &str) -> bool {
        let Ok(response) = reqwest::get(format!("{}/health", self.url)).await else { return false };
        let server = response.headers().get("server").and_then(|server| server.to_str().ok());
        server.is_some_and(|server| server.to_lowercase().starts_with(program))
    }

    async fn connect(
        &self,
        transport: TransportKind,
        headers: &[(&str, &str)],
    ) -> Result<Client, ConnectError> {
        within(Client::connect_with(&self.url, &options(transport, headers))).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn options(transport: TransportKind, headers: &[(&str, &str)]) -> Options {
    let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Options {
        extra_headers: headers.collect(),
        transports: Some([transport]),
        ..Options::default()
    }
}

fn replace_once(text: &str, what: &str, with: &str) -> String {
    assert_eq!(text.matches(what).count(), 1, "{what:?}");
    text.replace(what, with)
}

fn nginx(directory: &Path, port: u16, behind: &str) -> Command {
    let server = read("deploy/nginx.conf");
    let listen = format!("listen 127.0.0.1:{port};");
    let server = replace_once(&server, "listen 80;\n    listen [::]:80;", &listen);
    let server = replace_once(&server, "127.0.0.1:3001", behind);
    // The proxy is one process, so that a kill ends it, and uses no path outside of the directory.
    let config = format!(
        "daemon off; master_process off; pid nginx.pid; events {{}}\n\
         http {{\naccess_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
         fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n{server}}}\n"
    );
    fs::write(directory.join("nginx.conf"), config).unwrap();
    let mut command = Command::new("nginx");
    command.arg("-p").arg(directory).args(["-c", "nginx.conf", "-e", "stderr"]);
    command
}

fn caddy(directory: &Path, port: u16, behind: &str) -> Command {
    let server = read("deploy/Caddyfile");
    let server = replace_once(&server, "chat.example.com", &format!("http://127.0.0.1:{port}"));
    let server = replace_once(&server, "127.0.0.1:3001", behind);
    let path = directory.join("Caddyfile");
    fs::write(&path, format!("{{\n\tadmin off\n}}\n{server}")).unwrap();
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(path).env("HOME", directory);
    command.env("XDG_DATA_HOME", directory).env("XDG_CONFIG_HOME", directory);
    command
}

async fn chat_through(program: &str) {
    let directory = tempfile::tempdir().unwrap();
    // The page comes from the server itself: no other origin is allowed.
    let settings =
        [("TRUSTED_PROXY", "X-Forwarded-For"), ("ALLOWED_ORIGINS", "https://other.example")];
    let server = Process::start_with(directory.path(), &settings);
    let proxy = Proxy::start(program, &server).await;
    let mut node = node();
    node.args(["talk.js", &proxy.url, "socket.io-client", "polling,websocket"]);
    let output = tokio::task::spawn_blocking(move || node.output().unwrap());
    let output = within(output).await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let [mut alice, mut bob] = [None, None];
    let origin = [("Origin", proxy.url.as_str())];
    for (user, client, transport) in
        [("alice", &mut alice, TRANSPORTS[0]), ("bob", &mut bob, TRANSPORTS[1])]
    {
        let client = client.insert(proxy.connect(transport, &origin).await.unwrap());
        let answer = within(client.ask("authenticate", json!({ "id": user }))).await.unwrap();
        assert_eq!(answer["ok"], true, "{answer}");
    }
    let (mut alice, mut bob) = (alice.unwrap(), bob.unwrap());
    for round in 0..20 {
        let text = format!("Hello {round}");
        let message = json!({ "conversationId": "c2", "recipientId": "bob", "message": text });
        assert_eq!(within(alice.ask("send-message", message)).await.unwrap()["ok"], true);
        assert_eq!(within(bob.event("receive-message")).await.unwrap()["content"], text);
        let message = json!({ "conversationId": "c2", "recipientId": "alice", "message": text });
        assert_eq!(within(bob.ask("send-message", message)).await.unwrap()["ok"], true);
        assert_eq!(within(alice.event("receive-message")).await.unwrap()["content"], text);
    }

    for transport in TRANSPORTS {
        let foreign = proxy.connect(transport, &[("Origin", "https://foreign.example")]).await;
        assert!(matches!(foreign, Err(ConnectError::Status(status)) if status == 403));
    }
    let metrics = reqwest::get(format!("{}/metrics", proxy.url)).await.unwrap();
    assert_eq!(metrics.status(), 404, "they are nobody else's business");
}

async fn addresses_are_told_by(program: &str) {
    let directory = tempfile::tempdir().unwrap();
    let settings = [("TRUSTED_PROXY", "X-Forwarded-For"), ("CONNECTION_LIMIT", "100/s,open=1")];
    let server = Process::start_with(directory.path(), &settings);
    let proxy = Proxy::start(program, &server).await;
    let forged = [("X-Forwarded-For", "203.0.113.9")];
    let _first = proxy.connect(TransportKind::Websocket, &[]).await.unwrap();
    for transport in TRANSPORTS {
        for headers in [&[][..], &forged] {
            let refused = proxy.connect(transport, headers).await;
            assert!(matches!(refused, Err(ConnectError::Status(status)) if status == 429));
        }
    }
    // A client that bypasses the proxy is believed.
    let options = options(TransportKind::Websocket, &forged);
    within(Client::connect_with(&server.url, &options)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: starts a proxy"]
async fn people_chat_through_nginx() {
    chat_through("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: starts a proxy"]
async fn people_chat_through_caddy() {
    chat_through("caddy").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: starts a proxy"]
async fn nobody_pretends_to_be_another_address_behind_nginx() {
    addresses_are_told_by("nginx").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "slow: starts a proxy"]
async fn nobody_pretends_to_be_another_address_behind_caddy() {
    addresses_are_told_by("caddy").await;
}

/// The settings of a simple TOML file: `section.name = value`.
fn toml(path: &str) -> BTreeSet<String> {
    let text = read(path);
    let mut section = String::new();
    let mut settings = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.trim_matches(['[', ']']) {
            name if name != line => section = format!("{name}."),
            setting => assert!(settings.insert(format!("{section}{setting}")), "{path}: {line}"),
        }
    }
    settings
}

#[test]
fn fly_gives_the_server_its_volume_its_time_and_its_clients_addresses() {
    for (path, kill_timeout) in [("fly.toml", 5), ("deploy/fly-litestream.toml", 15)] {
        let settings = toml(path);
        let kill_timeout = format!("kill_timeout = {kill_timeout}");
        for wanted in [
            r#"primary_region = "fra""#,
            r#"kill_signal = "SIGTERM""#,
            kill_timeout.as_str(),
            r#"env.SQLITE_PATH = "/data/radio-istic.db""#,
            r#"env.TRUSTED_PROXY = "Fly-Client-IP""#,
            r#"mounts.destination = "/data""#,
            "http_service.internal_port = 3001",
            "http_service.force_https = true",
            "http_service.auto_stop_machines = false",
            "http_service.min_machines_running = 1",
            r#"http_service.checks.path = "/health""#,
            "metrics.port = 3001",
            r#"metrics.path = "/metrics""#,
        ] {
            assert!(settings.contains(wanted), "{path}: {wanted}");
        }
    }
}

#[test]
fn render_asks_for_secrets_and_checks_the_health() {
    let blueprint = read("render.yaml");
    for wanted in [
        "runtime: rust",
        "region: frankfurt",
        "plan: free",
        "buildCommand: cargo build --release --locked",
        "startCommand: ./target/release/radio-istic",
        "healthCheckPath: /health",
        "- key: TRUSTED_PROXY\n        value: CF-Connecting-IP",
    ] {
        assert!(blueprint.contains(&format!(" {wanted}\n")), "{wanted}");
    }
    for secret in ["MONGODB_URI", "ALLOWED_ORIGINS", "JWT_SECRET"] {
        assert!(blueprint.contains(&format!("- key: {secret}\n        sync: false\n")), "{secret}");
    }
}

#[test]
fn every_variable_that_is_set_for_the_server_is_one_of_its_settings() {
    let help = Command::new(BINARY).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    // The help does not show this accepted variable.
    let settings = format!("{help} [env: NODE_ENV=]");
    let mut variables = BTreeSet::new();
    for (path, line, name) in [
        ("fly.toml", r"\[env\]\n(?:.+\n)+", r"(?m)^([A-Z_]+) ="),
        ("deploy/fly-litestream.toml", r"\[env\]\n(?:.+\n)+", r"(?m)^([A-Z_]+) ="),
        ("render.yaml", r"- key: .+\n", r"key: (.+)"),
        ("Dockerfile", r"(?m)^ENV .+$", r" ([A-Z_]+)="),
        ("deploy/fly-litestream.Dockerfile", r"(?m)^ENV .+$", r" ([A-Z_]+)="),
        ("deploy/radio-istic.service", r"(?m)^Environment=.+$", r"[= ]([A-Z_]+)="),
    ] {
        let text = read(path);
        let (lines, name) = (Regex::new(line).unwrap(), Regex::new(name).unwrap());
        let before = variables.len();
        for line in lines.find_iter(&text) {
            let names = name.captures_iter(line.as_str()).map(|name| (path, name[1].to_owned()));
            variables.extend(names);
        }
        assert!(variables.len() > before, "{path} sets none");
    }
    for (path, variable) in variables {
        let is_known =
            ["=", "]"].iter().any(|end| settings.contains(&format!("[env: {variable}{end}")));
        assert!(is_known, "{path}: {variable}");
    }
}

#[test]
fn the_images_have_every_file_that_the_source_includes() {
    fn look_into(directory: &Path, found: &mut BTreeSet<String>) {
        let included = Regex::new(r#"include_(?:str|bytes)!\("(\.\./[^"]+)"\)"#).unwrap();
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                look_into(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                for included in included.captures_iter(&fs::read_to_string(&path).unwrap()) {
                    let file = directory.join(&included[1]).canonicalize().unwrap();
                    let file = file.strip_prefix(package("").canonicalize().unwrap()).unwrap();
                    found.insert(file.to_str().unwrap().to_owned());
                }
            }
        }
    }

    let mut included = BTreeSet::new();
    look_into(&package("src"), &mut included);
    included.retain(|path| !path.starts_with("src/"));
    assert!(!included.is_empty());
    let ignored = read(".dockerignore");
    for dockerfile in ["Dockerfile", "deploy/fly-litestream.Dockerfile"] {
        let text = read(dockerfile);
        let copied: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix("COPY "))
            .filter(|arguments| !arguments.starts_with("--"))
            .flat_map(|arguments| arguments.rsplit_once(' ').unwrap().0.split(' '))
            .collect();
        for path in &included {
            assert!(copied.contains(&path.as_str()), "{dockerfile}: {path}");
        }
        for path in copied {
            assert!(
                ignored.lines().any(|line| line == format!("!{path}")),
                ".dockerignore: {path}"
            );
        }
    }
}

#[test]
fn both_images_are_built_in_the_same_way() {
    let builder = |path| {
        let text = read(path);
        let begin = text.find("FROM rust:").unwrap();
        let end = text[begin..].find("\n\n").unwrap();
        text[begin..begin + end].to_owned()
    };
    assert_eq!(builder("Dockerfile"), builder("deploy/fly-litestream.Dockerfile"));
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana-dashboard.json")).unwrap();
    let metric = Regex::new("radio_istic_[a-z_]+").unwrap();
    let mut shown = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            shown.extend(metric.find_iter(expression).map(|name| name.as_str().to_owned()));
        }
    }
    assert_eq!(shown, METRICS.map(str::to_owned).into());
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["type"] == "datasource"));
}
