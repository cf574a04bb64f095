//! The connections of each address, and the address of a client behind a proxy.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use axum::http::{HeaderMap, HeaderName};
use governor::{
    RateLimiter, clock::MonotonicClock, middleware::NoOpMiddleware, state::keyed::DashMapStateStore,
};

use super::{ConnectionLimit, Reject};

/// The number of addresses at which the ones without recent connections are forgotten.
const SWEEP_AT: usize = 10_000;

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

    /// Counts one more connection from this address.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Reject> {
        let address = network(address);
        if self.begun.len() >= SWEEP_AT {
            self.begun.retain_recent();
        }
        if self.begun.check_key(&address).is_err() {
            return Err(Reject::ConnectionRate);
        }
        self.hold(address)
    }

    /// Counts one more open connection from this address, whatever the rate.
    pub fn hold(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Reject> {
        let address = network(address);
        let mut all = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let open = all.entry(address).or_default();
        if *open >= self.limit.open {
            return Err(Reject::OpenConnections);
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

/// One IPv6 client has a whole /64, so the /64 counts as its address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let prefix = address.to_bits() & (u128::MAX << 64);
            IpAddr::V6(Ipv6Addr::from_bits(prefix))
        }
        address => address,
    }
}

/// The client's address from the trusted proxy: the last entry, which the proxy itself has written.
/// Any client can send the entries before it.
pub fn forwarded_address(headers: &HeaderMap, header: &HeaderName) -> Option<IpAddr> {
    let value = headers.get_all(header).iter().next_back()?.to_str().ok()?;
    let entry = value.rsplit(',').next()?.trim();
    // Some proxies add the port.
    let address: Option<std::net::SocketAddr> = entry.parse().ok();
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    address.map(|address| address.ip()).or_else(|| bare.parse().ok())
}
