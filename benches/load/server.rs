//! The servers that are measured, each in a process of its own.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// The kind of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ours,
    /// Socket.IO on Node, each message durable in SQLite.
    NodeSqlite,
    /// Socket.IO on Node, without any storage.
    NodeMemory,
    /// Socket.IO on Bun with Bun's own engine, without any storage.
    BunMemory,
    /// Socketioxide alone, which relays events and stores nothing: the floor.
    Floor,
}

impl Kind {
    /// The servers that are installed here.
    pub fn available() -> Vec<Self> {
        let installed = |path: &str| peers().join("node_modules").join(path).exists();
        let mut kinds = vec![Self::Ours];
        if installed("better-sqlite3") {
            kinds.extend([Self::NodeSqlite, Self::NodeMemory]);
        }
        if installed(".bin/bun") {
            kinds.push(Self::BunMemory);
        }
        kinds.push(Self::Floor);
        kinds
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "radio-istic",
            Self::NodeSqlite => "node + sqlite",
            Self::NodeMemory => "node, no storage",
            Self::BunMemory => "bun, no storage",
            Self::Floor => "socketioxide alone",
        }
    }

    fn command(self) -> Result<Command> {
        let script = |runtime: PathBuf, script: &str| {
            let mut command = Command::new(runtime);
            command.arg(peers().join(script));
            command
        };
        Ok(match self {
            Self::Ours => Command::new(env!("CARGO_BIN_EXE_radio-istic")),
            Self::NodeSqlite => script("node".into(), "node-sqlite.js"),
            Self::NodeMemory => script("node".into(), "node-memory.js"),
            Self::BunMemory => script(peers().join("node_modules/.bin/bun"), "bun-memory.js"),
            Self::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg(crate::FLOOR);
                command
            }
        })
    }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

pub struct Server {
    pub kind: Kind,
    pub port: u16,
    /// The time from the start to the first accepted connection.
    pub started_in: Duration,
    child: Child,
    _directory: Option<tempfile::TempDir>,
}

/// The resources that a process has used so far.
#[derive(Clone, Copy)]
pub struct Usage {
    pub cpu: Duration,
    /// Bytes.
    pub resident: u64,
}

/// A directory beside the build, on a real disk: a temporary directory may be in memory.
pub fn directory() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

impl Server {
    pub async fn start(kind: Kind) -> Result<Self> {
        let directory = directory()?;
        let mut server = Self::start_in(kind, directory.path()).await?;
        server._directory = Some(directory);
        Ok(server)
    }

    /// Starts on the file in a directory.
    pub async fn start_in(kind: Kind, directory: &Path) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = kind.command()?;
        let started = Instant::now();
        let child = command
            .current_dir(directory)
            .env("PORT", port.to_string())
            .env("SQLITE_PATH", directory.join("chat.db"))
            .env("RUST_LOG", "error")
            // The generator sends faster than people.
            .env("RATE_LIMIT", "off")
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            anyhow::ensure!(
                started.elapsed() < Duration::from_secs(20),
                "{command:?} does not start"
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let started_in = started.elapsed();
        Ok(Self { kind, port, started_in, child, _directory: None })
    }

    /// Reads `/proc` (proc_pid_stat(5)), with all children: a package's launcher may run the
    /// server.
    pub fn usage(&self) -> Result<Usage> {
        const TICKS_PER_SECOND: u64 = 100;
        const PAGE: u64 = 4_096;

        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name in parentheses may hold spaces. The first field after it is the third one.
        let fields: Vec<&str> =
            stat.rsplit_once(')').context("odd stat")?.1.split_whitespace().collect();
        let field = |number: usize| fields[number - 3].parse::<u64>();
        let ticks = field(14)? + field(15)?;
        Ok(Usage {
            cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND),
            resident: field(24)? * PAGE,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
