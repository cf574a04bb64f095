//! What a transport may ask for. It outlives a socket that leaves and connects again over the same
//! transport, so that nobody gets a fresh allowance by coming back.

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

    /// A socket connects. Coming back counts as an event.
    pub fn connects(&self) -> Result<(), TooMany> {
        if self.has_connected.swap(true, Ordering::Relaxed) { self.take() } else { Ok(()) }
    }

    /// One more event.
    pub fn take(&self) -> Result<(), TooMany> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        throttle.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the transport began longer ago.
    pub fn is_older_than(&self, age: Duration) -> bool {
        self.since.elapsed() > age
    }
}
