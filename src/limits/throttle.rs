//! The rate limit of one socket's events.

use std::time::{Duration, Instant};

use governor::{
    RateLimiter,
    clock::MonotonicClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::Rate;

/// How long a socket may go on after it was told that it sends too much.
const PATIENCE: Duration = Duration::from_secs(10);

/// After so long without a refusal a socket counts as one that has understood.
const QUIET: Duration = Duration::from_secs(2);

/// Counts the events of one socket.
pub struct Throttle {
    limiter: RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<Instant>>,
    refused: Option<Refusals>,
}

/// Since when, and when last, events were too many.
struct Refusals {
    first: Instant,
    last: Instant,
}

/// An event too many.
#[derive(Debug, PartialEq)]
pub enum TooMany {
    /// Good after so long.
    Wait(Duration),
    /// The socket was told long enough.
    Regardless,
}

impl Throttle {
    pub fn new(rate: Rate) -> Self {
        let limiter = RateLimiter::direct_with_clock(rate.quota(), MonotonicClock);
        Self { limiter, refused: None }
    }

    /// One more event, now.
    pub fn take(&mut self) -> Result<(), TooMany> {
        let Err(not_until) = self.limiter.check() else { return Ok(()) };
        let now = Instant::now();
        let refused = match &mut self.refused {
            Some(refused) if now - refused.last < QUIET => refused,
            refused => refused.insert(Refusals { first: now, last: now }),
        };
        refused.last = now;
        if now - refused.first >= PATIENCE {
            return Err(TooMany::Regardless);
        }
        Err(TooMany::Wait(not_until.wait_time_from(now)))
    }
}
