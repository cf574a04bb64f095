//! The figures of `/health`, kept by those who know them.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize},
    time::Instant,
};

pub struct Vitals {
    pub started: Instant,
    /// Sockets that are connected.
    pub connections: AtomicUsize,
    /// Users with at least one authenticated socket.
    pub online_users: AtomicUsize,
    /// Whether the last write succeeded.
    pub storage_works: AtomicBool,
}

impl Vitals {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            connections: AtomicUsize::new(0),
            online_users: AtomicUsize::new(0),
            storage_works: AtomicBool::new(true),
        }
    }
}
