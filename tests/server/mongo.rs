//! A MongoDB server for tests: `MONGODB_TEST_URI`, else `mongod` from the PATH, else the Python
//! package SecantusDB, which speaks MongoDB's wire protocol, in an environment under `target/`.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use mongodb::{Client, Database, bson::doc};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::support::{package, within};

const SECANTUSDB: &str = "SecantusDB==0.7.0b3";

/// The program that can run a server of our own.
enum Program {
    Mongod,
    Secantusd(PathBuf),
}

/// A server in a process of its own, which a test may kill and start again.
pub struct Server {
    program: &'static Program,
    is_replica_set: bool,
    directory: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Server {
    pub async fn start() -> Self {
        Self::start_as(true).await
    }

    /// A server that is no replica set, and knows no transactions.
    pub async fn start_standalone() -> Self {
        Self::start_as(false).await
    }

    async fn start_as(is_replica_set: bool) -> Self {
        static PROGRAM: OnceCell<Program> = OnceCell::const_new();
        let find = async || tokio::task::spawn_blocking(find_program).await.unwrap();
        let program = PROGRAM.get_or_init(find).await;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut server = Self {
            program,
            is_replica_set,
            directory: tempfile::tempdir().unwrap(),
            port,
            child: None,
        };
        server.run().await;
        server
    }

    /// Starts the server again on its data and port, and returns when it answers.
    pub async fn run(&mut self) {
        let mut command = Command::new("sh");
        // The server lives as long as another process holds the other end of its standard input: a
        // server that all tests share ends with their process.
        command.args(["-c", r#""$@" & cat; kill -9 $!; wait"#, "sh"]);
        match self.program {
            Program::Mongod => {
                command.args(["mongod", "--bind_ip", "127.0.0.1", "--dbpath"]);
                command.arg(self.directory.path());
                command
                    .args(self.is_replica_set.then_some(["--replSet", "rs"]).into_iter().flatten());
            }
            Program::Secantusd(program) => {
                command.arg(program).args([
                    "--sync-on-commit",
                    "--cache-size",
                    "64M",
                    "--storage-path",
                ]);
                command.arg(self.directory.path());
                command.args((!self.is_replica_set).then_some("--standalone"));
            }
        }
        command.args(["--port", &self.port.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().unwrap());
        let client = Client::with_uri_str(self.uri("")).await.unwrap();
        let admin = client.database("admin");
        within(async {
            while admin.run_command(doc! { "ping": 1 }).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
        if let (Program::Mongod, true) = (self.program, self.is_replica_set) {
            let host = format!("127.0.0.1:{}", self.port);
            let members = doc! { "_id": "rs", "members": [{ "_id": 0, "host": host }] };
            // A server that was started again has its configuration already.
            let _ = admin.run_command(doc! { "replSetInitiate": members }).await;
        }
    }

    /// Ends the server as a power cut does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn uri(&self, database: &str) -> String {
        format!(
            "mongodb://127.0.0.1:{}/{database}?directConnection=true&serverSelectionTimeoutMS=20000",
            self.port
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A database of its own for a test, on a server that all tests share.
pub struct Shared {
    pub uri: String,
    pub database: Database,
}

impl Shared {
    pub async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("radio-istic-test-{}-{number}", std::process::id());
        let uri = shared_uri(&name).await;
        let client = Client::with_uri_str(&uri).await.unwrap();
        Self { database: client.database(&name), uri }
    }
}

/// The address of a database on the server that all tests share.
pub async fn shared_uri(database: &str) -> String {
    if let Ok(uri) = std::env::var("MONGODB_TEST_URI") {
        let (server, options) = uri.split_once('?').unwrap_or((&uri, ""));
        return format!("{}/{database}?{options}", server.trim_end_matches('/'));
    }
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER.get_or_init(Server::start).await.uri(database)
}

fn find_program() -> Program {
    if Command::new("mongod").arg("--version").output().is_ok() {
        return Program::Mongod;
    }
    let environment = package("target/secantusdb");
    let program = environment.join("bin/secantusd-py");
    assert!(
        program.exists() || install(&environment),
        "there is no MongoDB: it needs MONGODB_TEST_URI, mongod, or Python 3 to install SecantusDB"
    );
    Program::Secantusd(program)
}

/// Installs SecantusDB beside the build, once.
fn install(environment: &Path) -> bool {
    let run = |program: &Path, arguments: &[&str]| {
        let ran = Command::new(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ran.is_ok_and(|status| status.success())
    };
    run(Path::new("python3"), &["-m", "venv", environment.to_str().unwrap()])
        && run(&environment.join("bin/pip"), &["install", "--quiet", SECANTUSDB])
}
