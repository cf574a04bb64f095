//! The server under load, beside other servers in the same run.
//!
//! `cargo bench --bench load` starts each server fresh, in turns, plays the scenarios in several
//! rounds, and prints medians with ratios to a Node server that stores as durably. The generator
//! speaks raw Engine.IO frames on one thread, so that its own cost does not distort the results. It
//! checks the results: a confirmed message that is missing from history, or arrives out of order,
//! ends the run. The other servers take part if `benches/peers` is installed. Arguments after `--`
//! select scenarios by their names; `LOAD_ROUNDS` and `LOAD_SECONDS` shorten the run. The results
//! go to `target/load.json`, from which `PLOTS=1` draws the pictures in `docs/`.

mod floor;
mod players;
mod plot;
mod report;
mod scenario;
mod server;
mod socket;

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use anyhow::Result;
use report::Report;
use scenario::Scenario;
use server::{Kind, Server};

/// The time limit of one run.
const PATIENCE: Duration = Duration::from_secs(90);

/// The argument that makes this program serve as the floor.
pub const FLOOR: &str = "serve-floor";

thread_local! {
    /// The ids of other servers' messages do not sort.
    static IS_UNORDERED: Cell<bool> = const { Cell::new(false) };
}

pub fn is_unordered() -> bool {
    IS_UNORDERED.get()
}

fn scenarios() -> Vec<(String, Scenario)> {
    let mut all = Vec::new();
    for scale in [1, 2, 4] {
        let users = 100 * scale;
        all.extend([
            (format!("pairs of {users}, 1 in flight"), Scenario::Pairs { users, in_flight: 1 }),
            (format!("pairs of {users}, 8 in flight"), Scenario::Pairs { users, in_flight: 8 }),
        ]);
    }
    for sockets in [200, 400, 1_000] {
        let room = Scenario::Room { sockets, sleeper: false };
        all.push((format!("room of {sockets}, one writes"), room));
    }
    let sleeper = Scenario::Room { sockets: 200, sleeper: true };
    all.push(("room of 200, one writes, one sleeps".into(), sleeper));
    for users in [50, 100, 200] {
        all.push((format!("history of 100 for {users}"), Scenario::History { users }));
    }
    for sockets in [2_500, 5_000, 10_000] {
        all.push((format!("idle, {sockets}"), Scenario::Idle { sockets }));
    }
    for users in [500, 1_000, 2_000] {
        all.push((format!("logins, {users} at once"), Scenario::Logins { users }));
    }
    for users in [250, 500, 1_000] {
        all.push((format!("mixed day, {users}"), Scenario::Day { users }));
    }
    all
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == FLOOR) {
        return floor::serve();
    }
    let wanted: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let rounds = number("LOAD_ROUNDS", 3);
    let measured = Duration::from_secs(number("LOAD_SECONDS", 4));
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut report = Report::default();
        report.machine(floor::syncs_per_second()?);
        let begun = Instant::now();
        for (name, scenario) in scenarios() {
            if !wanted.is_empty() && !wanted.iter().any(|word| name.contains(word.as_str())) {
                continue;
            }
            let kinds = Kind::available();
            let mut runs: Vec<Vec<_>> = kinds.iter().map(|_| Vec::new()).collect();
            for _ in 0..rounds {
                for (kind, runs) in kinds.iter().zip(&mut runs) {
                    IS_UNORDERED.set(*kind != Kind::Ours);
                    let run = tokio::time::timeout(PATIENCE, scenario.run(*kind, measured)).await;
                    match run
                        .unwrap_or_else(|_| Err(anyhow::anyhow!("it does not come to its end")))
                    {
                        Ok(figures) => runs.push(figures),
                        Err(error) if *kind != Kind::Ours => {
                            eprintln!("{name}: {}: {error:#}", kind.name());
                        }
                        Err(error) => return Err(error.context(name)),
                    }
                }
            }
            report.add(&name, kinds.iter().zip(runs));
        }
        if wanted.is_empty() || wanted.iter().any(|word| "start".contains(word.as_str())) {
            report.started_on_a_million(start_on_a_million().await?);
        }
        eprintln!("{:.0} s", begun.elapsed().as_secs_f64());
        report.write()
    })
}

/// The milliseconds from the server's start to the first connection, on a file with a million
/// messages.
async fn start_on_a_million() -> Result<f64> {
    let directory = server::directory()?;
    let server = Server::start_in(Kind::Ours, directory.path()).await?;
    // A server that takes connections has created its file.
    socket::Socket::connect(&server).await?;
    drop(server);
    let file = rusqlite::Connection::open(directory.path().join("chat.db"))?;
    file.execute_batch(
        "BEGIN;
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
        INSERT INTO conversations SELECT 'c' || i, 1, NULL FROM n;
        WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
        INSERT INTO messages SELECT 'c' || (i % 1000), unhex(printf('%08x%016x', 1700000000 + i, i)),
            'user', 'User', NULL, 'A message of a usual length, as people write them when they chat.',
            1700000000000 + i * 1000, NULL FROM n;
        UPDATE conversations SET last_message =
            (SELECT max(id) FROM messages WHERE conversation = conversations.id);
        COMMIT;",
    )?;
    drop(file);
    let mut times = Vec::new();
    for _ in 0..5 {
        let server = Server::start_in(Kind::Ours, directory.path()).await?;
        times.push(server.started_in.as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() / 2])
}
