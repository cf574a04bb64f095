//! The rate limit of a transport. It outlives a socket that leaves and connects again over the same
//! transport, so that a reconnect brings no fresh allowance.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::limits::{Limits, Throttle, TooMany};

pub struct Allowance {
    since: Instant,
    throttle: Option<Mutex<Throttle>>,
    has_connected: AtomicBool,
}

impl Allowance {
    pub fn new(limits: &Limits) -> Self {
        let throttle = limits.events.map(|rate| Mutex::new(Throttle::new(rate)));
        Self { since: Instant::now(), throttle, has_connected: AtomicBool::new(false) }
    }

    /// Counts a socket that connects. A reconnect counts as an event.
    pub fn connects(&self) -> Result<(), TooMany> {
        if self.has_connected.swap(true, Ordering::Relaxed) { self.take() } else { Ok(()) }
    }

    /// Counts one more event.
    pub fn take(&self) -> Result<(), TooMany> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        throttle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the transport is older than `age`.
    pub fn is_older_than(&self, age: Duration) -> bool {
        self.since.elapsed() > age
    }
}
