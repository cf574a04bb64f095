//! The rate limit of one socket's events.

use std::time::{Duration, Instant};

use governor::{
    RateLimiter,
    clock::MonotonicClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};

use super::Rate;

/// The time for which a socket may stay over the limit.
const PATIENCE: Duration = Duration::from_secs(10);

/// After this time without a refusal, a socket counts as one that respects the limit.
const QUIET: Duration = Duration::from_secs(2);

/// Counts the events of one socket.
pub struct Throttle {
    limiter: RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<Instant>>,
    refused: Option<Refusals>,
}

/// The first and the last refusal of a series.
struct Refusals {
    first: Instant,
    last: Instant,
}

/// An event over the limit.
#[derive(Debug, PartialEq)]
pub enum TooMany {
    /// The time after which the socket may send the next event.
    Wait(Duration),
    /// The socket stayed over the limit for too long.
    Regardless,
}

impl Throttle {
    pub fn new(rate: Rate) -> Self {
        let limiter = RateLimiter::direct_with_clock(rate.quota(), MonotonicClock);
        Self { limiter, refused: None }
    }

    /// Counts one more event, now.
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
