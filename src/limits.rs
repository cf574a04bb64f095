//! How much a client may ask for: the events of a socket, the connections of an address, and
//! whose address that is.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, HeaderName};
use governor::{
    Quota, RateLimiter,
    clock::MonotonicClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed, keyed::DashMapStateStore},
};

/// How long a socket may go on after it was told that it sends too much.
const PATIENCE: Duration = Duration::from_secs(10);

/// After so long without a refusal a socket counts as one that has understood.
const QUIET: Duration = Duration::from_secs(2);

/// Addresses are forgotten that need not be remembered when there are this many.
const SWEEP_AT: usize = 10_000;

/// The limits that an operator sets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Events of one socket. `None` for no limit.
    pub events: Option<Rate>,
    /// Connections of one address. `None` for no limit.
    pub connections: Option<ConnectionLimit>,
    /// The header that the proxy in front writes a client's address into.
    pub trusted_proxy: Option<HeaderName>,
    /// How long a socket may be nobody's, where tokens are needed.
    pub authenticate_within: Duration,
}

/// So many a second, and so many at once after a silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

/// How many connections may begin, and how many may be open.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionLimit {
    rate: Rate,
    open: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let rate = |per_second, burst| Rate {
            per_second: NonZeroU32::new(per_second).expect("not 0"),
            burst: NonZeroU32::new(burst).expect("not 0"),
        };
        Self {
            events: Some(rate(20, 40)),
            // A campus or an office stands behind one address.
            connections: Some(ConnectionLimit { rate: rate(50, 500), open: 2_000 }),
            trusted_proxy: None,
            authenticate_within: Duration::from_secs(60),
        }
    }
}

impl Rate {
    fn quota(self) -> Quota {
        Quota::per_second(self.per_second).allow_burst(self.burst)
    }
}

impl FromStr for Rate {
    type Err = ();

    /// `20/s` or `20/s,burst=40`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let Parts { rate, open: None } = text.parse()? else { return Err(()) };
        Ok(rate)
    }
}

impl FromStr for ConnectionLimit {
    type Err = ();

    /// `50/s,burst=500,open=2000`; what is left out has its default.
    fn from_str(text: &str) -> Result<Self, ()> {
        let Parts { rate, open } = text.parse()?;
        Ok(Self { rate, open: open.unwrap_or(2_000) })
    }
}

struct Parts {
    rate: Rate,
    open: Option<usize>,
}

impl FromStr for Parts {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(',').map(str::trim);
        let per_second = parts.next().and_then(|part| part.strip_suffix("/s")).ok_or(())?;
        let per_second = per_second.trim().parse().map_err(|_| ())?;
        let mut limits = Self { rate: Rate { per_second, burst: per_second }, open: None };
        for part in parts {
            match part.split_once('=') {
                Some(("burst", burst)) => limits.rate.burst = burst.parse().map_err(|_| ())?,
                Some(("open", open)) => limits.open = Some(open.parse().map_err(|_| ())?),
                _ => return Err(()),
            }
        }
        Ok(limits)
    }
}

/// Counts the events of one socket.
pub struct Throttle {
    limiter: RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<Instant>>,
    refused: Option<Refused>,
}

/// Since when, and when last, events were too many.
struct Refused {
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
            refused => refused.insert(Refused { first: now, last: now }),
        };
        refused.last = now;
        if now - refused.first >= PATIENCE {
            return Err(TooMany::Regardless);
        }
        Err(TooMany::Wait(not_until.wait_time_from(now)))
    }
}

/// The connections of each address.
#[derive(Debug)]
pub struct Addresses {
    limit: ConnectionLimit,
    begun: RateLimiter<IpAddr, DashMapStateStore<IpAddr>, MonotonicClock, NoOpMiddleware<Instant>>,
    open: Mutex<HashMap<IpAddr, usize>>,
}

/// Counts as an open connection of its address as long as it lives.
#[derive(Debug)]
pub struct Permit {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    pub fn new(limit: ConnectionLimit) -> Arc<Self> {
        let store = DashMapStateStore::default();
        let begun = RateLimiter::new(limit.rate.quota(), store, MonotonicClock);
        Arc::new(Self { limit, begun, open: Mutex::default() })
    }

    /// One more connection from this address. An error says what there is too much of.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, &'static str> {
        let address = network(address);
        if self.begun.len() >= SWEEP_AT {
            self.begun.retain_recent();
        }
        if self.begun.check_key(&address).is_err() {
            return Err("too many connections at once from this address");
        }
        self.hold(address)
    }

    /// The same, however fast they come.
    pub fn hold(self: &Arc<Self>, address: IpAddr) -> Result<Permit, &'static str> {
        let address = network(address);
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(address).or_default();
        if *open >= self.limit.open {
            return Err("too many open connections from this address");
        }
        *open += 1;
        Ok(Permit { addresses: self.clone(), address })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut all = self.addresses.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = all.get_mut(&self.address) {
            *open -= 1;
            if *open == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// Whoever has one IPv6 address has all of its /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        address => address,
    }
}

/// The client's address as the trusted proxy tells it: the last entry, which the proxy itself has
/// written. What stands before it, anybody may have sent.
pub fn forwarded_address(headers: &HeaderMap, header: &HeaderName) -> Option<IpAddr> {
    let value = headers.get_all(header).iter().next_back()?.to_str().ok()?;
    let entry = value.rsplit(',').next()?.trim();
    // Some proxies add the port.
    let address: Option<std::net::SocketAddr> = entry.parse().ok();
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    address.map(|address| address.ip()).or_else(|| bare.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_they_are_documented() {
        let limits = Limits::default();
        assert_eq!("20/s,burst=40".parse(), Ok(limits.events.unwrap()));
        assert_eq!("50/s, burst=500, open=2000".parse(), Ok(limits.connections.unwrap()));
        for text in ["", "20", "0/s", "20/m", "20/s,burst=0", "20/s,burst", "20/s,x=1", "-1/s"] {
            assert_eq!(text.parse::<Rate>(), Err(()), "{text}");
        }
        assert_eq!("20/s,open=1".parse::<Rate>(), Err(()));
    }

    proptest::proptest! {
        #[test]
        fn any_header_of_a_proxy_is_an_address_or_none(value in proptest::collection::vec(32_u8..=255, 0..60)) {
            let header = HeaderName::from_static("x-forwarded-for");
            let mut headers = HeaderMap::new();
            if let Ok(value) = axum::http::HeaderValue::from_bytes(&value) {
                headers.insert(&header, value);
            }
            forwarded_address(&headers, &header);
        }

        #[test]
        fn any_text_is_a_limit_or_none(text in "[0-9/s,burst=open -]*") {
            let _ = (text.parse::<Rate>(), text.parse::<ConnectionLimit>());
        }
    }

    #[test]
    fn what_comes_after_a_burst_has_to_wait() {
        let mut throttle = Throttle::new("1/s,burst=2".parse().unwrap());
        assert_eq!((throttle.take(), throttle.take()), (Ok(()), Ok(())));
        let Err(TooMany::Wait(wait)) = throttle.take() else { panic!("not limited") };
        assert!(wait <= Duration::from_secs(1));
    }

    #[test]
    fn an_address_has_only_so_many_connections_open() {
        let addresses = Addresses::new("100/s,open=2".parse().unwrap());
        let (one, other): (IpAddr, IpAddr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let first = addresses.admit(one).ok().unwrap();
        let _second = addresses.admit(other).ok().unwrap();
        assert!(addresses.admit(one).is_err(), "the two are of one network");
        assert!(addresses.admit("192.0.2.1".parse().unwrap()).is_ok());
        drop(first);
        assert!(addresses.admit(one).is_ok());
    }

    #[test]
    fn of_an_address_that_a_proxy_tells_only_its_own_entry_counts() {
        let header = HeaderName::from_static("x-forwarded-for");
        let told = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            values.iter().for_each(|value| {
                headers.append(&header, value.parse().unwrap());
            });
            forwarded_address(&headers, &header).map(|address| address.to_string())
        };
        assert_eq!(told(&["6.6.6.6, 192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(told(&["6.6.6.6", "192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(told(&["192.0.2.1:5678"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(told(&["[2001:db8::1]:443"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(told(&["2001:db8::1"]).as_deref(), Some("2001:db8::1"));
        assert_eq!(told(&["somebody"]), None);
        assert_eq!(told(&[]), None);
    }
}
