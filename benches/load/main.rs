//! Messages per second, and what each costs the server, beside a Node server that stores as durably.
//!
//! `cargo bench --bench load` starts each server fresh, in turns, and prints medians of the rounds
//! with ratios to the last one. The generator speaks raw Engine.IO frames on one thread, so
//! that it is not what is measured. Node's server takes part if `benches/peers` is installed.

mod server;
mod socket;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;
use server::{Server, Usage};
use socket::{Frame, Socket};
use tokio::task::JoinSet;

const ROUNDS: usize = 3;
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(4);

/// What one run has shown.
struct Figures {
    /// Confirmations a second, or deliveries where a room hears of each message.
    rate: f64,
    /// Server CPU time for each, in microseconds.
    cpu: f64,
    /// Median and 99th percentile of the time to a confirmation, in milliseconds.
    p50: f64,
    p99: f64,
    /// Resident memory of the server at the end, in MiB.
    resident: f64,
}

#[derive(Clone, Copy)]
enum Scenario {
    /// 100 users who write to each other in pairs.
    Pairs { in_flight: usize },
    /// A room of which one socket writes.
    Room { sockets: usize },
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let scenarios = [
            ("pairs, 1 in flight", Scenario::Pairs { in_flight: 1 }),
            ("pairs, 8 in flight", Scenario::Pairs { in_flight: 8 }),
            ("room of 200, deliveries", Scenario::Room { sockets: 200 }),
        ];
        println!(
            "{:<26}{:<12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>8}{:>8}",
            "", "", "per s", "µs CPU", "p50 ms", "p99 ms", "MiB", "rate", "CPU"
        );
        for (name, scenario) in scenarios {
            compare(name, scenario).await?;
        }
        idle().await
    })
}

async fn compare(name: &str, scenario: Scenario) -> Result<()> {
    let servers = Server::kinds();
    let mut runs: Vec<Vec<Figures>> = servers.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for (kind, runs) in servers.iter().zip(&mut runs) {
            runs.push(run(&Server::start(kind).await?, scenario).await?);
        }
    }
    let median = |runs: &[Figures], figure: fn(&Figures) -> f64| {
        let mut figures: Vec<_> = runs.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let peer = runs.last().map(|runs| (median(runs, |f| f.rate), median(runs, |f| f.cpu)));
    for (kind, runs) in servers.iter().zip(&runs) {
        let (rate, cpu) = (median(runs, |f| f.rate), median(runs, |f| f.cpu));
        let (peer_rate, peer_cpu) = peer.expect("there is a server");
        println!(
            "{name:<26}{:<12}{rate:>10.0}{cpu:>10.1}{:>10.2}{:>10.2}{:>10.1}{:>7.1}x{:>7.2}x",
            kind.name(),
            median(runs, |f| f.p50),
            median(runs, |f| f.p99),
            median(runs, |f| f.resident),
            rate / peer_rate,
            cpu / peer_cpu,
        );
    }
    Ok(())
}

async fn run(server: &Server, scenario: Scenario) -> Result<Figures> {
    let start = Instant::now() + WARM_UP;
    let end = start + MEASURED;
    let mut writers = JoinSet::new();
    let per_message = match scenario {
        Scenario::Pairs { in_flight } => {
            let mut sockets = Vec::new();
            for user in 0..100 {
                sockets.push(Socket::user(server, user).await?);
            }
            for (user, socket) in sockets.into_iter().enumerate() {
                let conversation = format!("pair-{}", user / 2);
                let recipient = Some(format!("user-{}", user ^ 1));
                writers.spawn(write(socket, conversation, recipient, in_flight, start, end));
            }
            1
        }
        Scenario::Room { sockets } => {
            let mut writer = Socket::user(server, 0).await?;
            let first = json!({ "conversationId": "room", "message": "first" });
            writer.ask("send-message", &first).await?;
            writer.ask("join-conversation", &json!({ "conversationId": "room" })).await?;
            for user in 1..sockets {
                let mut reader = Socket::user(server, user).await?;
                reader.ask("join-conversation", &json!({ "conversationId": "room" })).await?;
                writers.spawn(listen(reader, end));
            }
            writers.spawn(write(writer, "room".into(), None, 8, start, end));
            sockets
        }
    };
    tokio::time::sleep_until(start.into()).await;
    let before = server.usage()?;
    tokio::time::sleep_until(end.into()).await;
    let after = server.usage()?;
    let mut latencies = Vec::new();
    while let Some(written) = writers.join_next().await {
        latencies.extend(written??);
    }
    figures(before, after, latencies, per_message)
}

fn figures(
    before: Usage,
    after: Usage,
    mut latencies: Vec<Duration>,
    per_message: usize,
) -> Result<Figures> {
    latencies.sort_unstable();
    let count = (latencies.len() * per_message) as f64;
    let at = |share: f64| -> Result<f64> {
        let index = (latencies.len() as f64 * share) as usize;
        Ok(latencies.get(index).context("nothing was confirmed")?.as_secs_f64() * 1e3)
    };
    Ok(Figures {
        rate: count / MEASURED.as_secs_f64(),
        cpu: (after.cpu - before.cpu).as_secs_f64() * 1e6 / count,
        p50: at(0.5)?,
        p99: at(0.99)?,
        resident: after.resident as f64 / f64::from(1 << 20),
    })
}

/// Keeps messages in flight until `end`. Returns how long each took that was confirmed after `start`.
async fn write(
    mut socket: Socket,
    conversation: String,
    recipient: Option<String>,
    in_flight: usize,
    start: Instant,
    end: Instant,
) -> Result<Vec<Duration>> {
    let message = json!({
        "conversationId": conversation, "recipientId": recipient,
        "message": "A message of a usual length, as people write them when they chat.",
    });
    let frame = Frame::event("send-message", &message);
    let mut sent = std::collections::VecDeque::new();
    let mut latencies = Vec::new();
    for _ in 0..in_flight {
        sent.push_back(Instant::now());
        socket.queue(&frame);
    }
    socket.flush().await?;
    while Instant::now() < end {
        let confirmed = tokio::time::timeout_at(end.into(), socket.count("message-sent")).await;
        let Ok(confirmed) = confirmed else { break };
        let now = Instant::now();
        for _ in 0..confirmed? {
            let sent_at = sent.pop_front().context("confirmed more than was sent")?;
            if now > start {
                latencies.push(now - sent_at);
            }
            sent.push_back(now);
            socket.queue(&frame);
        }
        socket.flush().await?;
    }
    Ok(latencies)
}

/// Receives until `end`.
async fn listen(mut socket: Socket, end: Instant) -> Result<Vec<Duration>> {
    while Instant::now() < end {
        if let Ok(read) = tokio::time::timeout_at(end.into(), socket.count("receive-message")).await
        {
            read?;
        }
    }
    Ok(Vec::new())
}

/// What a connected socket costs that says nothing.
async fn idle() -> Result<()> {
    const SOCKETS: usize = 2_000;
    println!();
    for kind in Server::kinds() {
        let server = Server::start(&kind).await?;
        let before = server.usage()?;
        let mut sockets = Vec::new();
        for _ in 0..SOCKETS {
            sockets.push(Socket::connect(&server).await?);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = server.usage()?;
        println!(
            "idle connection           {:<12}{:>10.1} KiB{:>10.0} µs CPU to connect",
            kind.name(),
            (after.resident - before.resident) as f64 / 1024.0 / SOCKETS as f64,
            (after.cpu - before.cpu).as_secs_f64() * 1e6 / SOCKETS as f64,
        );
    }
    Ok(())
}
