//! Figures for Prometheus: the counters, their names, and their output.
//!
//! The figures are the process's, not a server's. Other modules count through the functions here,
//! so that a name stands in one place.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const CONNECTIONS: &str = "radio_istic_connections";
const USERS_ONLINE: &str = "radio_istic_users_online";
const EVENTS: &str = "radio_istic_events_total";
const CONFIRMATION: &str = "radio_istic_confirmation_seconds";
const BATCH_SIZE: &str = "radio_istic_commit_batch_size";
const COMMIT: &str = "radio_istic_commit_seconds";
const STORAGE_ERRORS: &str = "radio_istic_storage_errors_total";
const OUTBOX_PENDING: &str = "radio_istic_outbox_pending";
const OUTBOX_REJECTED: &str = "radio_istic_outbox_rejected";
const DISCONNECTED: &str = "radio_istic_sockets_put_out_total";
const REFUSED: &str = "radio_istic_connections_refused_total";

const SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The interval at which histograms are folded together.
const UPKEEP: Duration = Duration::from_secs(5);

static PROMETHEUS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The figures of one server, kept by delivery for `/health` and `/metrics`.
pub struct Gauges {
    started: Instant,
    /// Sockets that are connected.
    connections: AtomicUsize,
    /// Users with at least one authenticated socket.
    users_online: AtomicUsize,
}

impl Gauges {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            connections: AtomicUsize::new(0),
            users_online: AtomicUsize::new(0),
        }
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub fn users_online(&self) -> usize {
        self.users_online.load(Ordering::Relaxed)
    }

    pub fn set_connections(&self, count: usize) {
        self.connections.store(count, Ordering::Relaxed);
    }

    pub fn set_users_online(&self, count: usize) {
        self.users_online.store(count, Ordering::Relaxed);
    }
}

/// Starts to count. Before, and without it, counting has no effect and no cost.
pub fn start() {
    PROMETHEUS.get_or_init(|| {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Full(BATCH_SIZE.into()), &SIZES)
            .and_then(|builder| builder.set_buckets(&SECONDS));
        // The recorder of a program that embeds the server stays in place.
        let handle = builder.and_then(PrometheusBuilder::install_recorder).ok();
        describe();
        handle
    });
}

fn describe() {
    describe_gauge!(CONNECTIONS, "Sockets that are connected");
    describe_gauge!(USERS_ONLINE, "Users with an authenticated socket");
    describe_counter!(
        EVENTS,
        "Events of clients, by name and by what they came to: ok or an error code"
    );
    describe_histogram!(CONFIRMATION, "From a message's arrival to its confirmation, in seconds");
    describe_histogram!(BATCH_SIZE, "Events that are decided and written at once");
    describe_histogram!(COMMIT, "How long that takes, in seconds");
    describe_counter!(STORAGE_ERRORS, "Events that could not be stored, and reads that failed");
    describe_gauge!(OUTBOX_PENDING, "Changes that wait for MongoDB");
    describe_gauge!(OUTBOX_REJECTED, "Changes that MongoDB has refused for good");
    describe_counter!(DISCONNECTED, "Sockets whose connection the server has ended, by reason");
    describe_counter!(REFUSED, "Connections that were refused, by reason");
}

/// Folds histograms together regularly: else they keep all values until the next scrape.
pub async fn keep_up() {
    loop {
        tokio::time::sleep(UPKEEP).await;
        if let Some(Some(handle)) = PROMETHEUS.get() {
            handle.run_upkeep();
        }
    }
}

/// All figures in Prometheus' text format, with the number of changes that wait for the database
/// and of those that it refused. `None` if nothing is counted.
pub fn render(gauges: &Gauges, pending: u64, rejected: u64) -> Option<String> {
    let handle = PROMETHEUS.get()?.as_ref()?;
    gauge!(CONNECTIONS).set(gauges.connections() as f64);
    gauge!(USERS_ONLINE).set(gauges.users_online() as f64);
    gauge!(OUTBOX_PENDING).set(pending as f64);
    gauge!(OUTBOX_REJECTED).set(rejected as f64);
    handle.run_upkeep();
    Some(handle.render())
}

/// Counts an answered event: `ok`, or an error code. Its name is one of the contract's, or
/// `unknown`.
pub fn event(name: &'static str, outcome: &'static str) {
    counter!(EVENTS, "event" => name, "outcome" => outcome).increment(1);
}

pub fn confirmed(arrived: Instant) {
    histogram!(CONFIRMATION).record(arrived.elapsed().as_secs_f64());
}

pub fn committed(events: usize, took: Duration) {
    histogram!(BATCH_SIZE).record(events as f64);
    histogram!(COMMIT).record(took.as_secs_f64());
}

pub fn storage_failed() {
    counter!(STORAGE_ERRORS).increment(1);
}

pub fn disconnected(reason: &'static str) {
    counter!(DISCONNECTED, "reason" => reason).increment(1);
}

pub fn refused(reason: &'static str) {
    counter!(REFUSED, "reason" => reason).increment(1);
}
