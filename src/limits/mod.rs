//! The limits of a client: the events of a socket, and the connections of an address.

mod addresses;
mod reason;
mod throttle;

use std::{num::NonZeroU32, str::FromStr, time::Duration};

use axum::http::HeaderName;
use governor::Quota;

pub use addresses::{Addresses, Permit, forwarded_address};
pub use reason::{Disconnect, Reject};
pub use throttle::{Throttle, TooMany};

/// The limits that an operator sets.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Events of one socket. `None` for no limit.
    pub events: Option<Rate>,
    /// Connections of one address. `None` for no limit.
    pub connections: Option<ConnectionLimit>,
    /// The header in which the proxy in front writes a client's address.
    pub trusted_proxy: Option<HeaderName>,
    /// The time for which a socket may have no user, if tokens are required.
    pub authenticate_within: Duration,
}

/// A number per second, and a number at once after a silence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

/// The rate of new connections, and the number of open ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionLimit {
    rate: Rate,
    open: usize,
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

    /// `50/s,burst=500,open=2000`; a missing part has its default.
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::http::HeaderMap;

    use super::*;

    #[test]
    fn limits_are_read_as_they_are_documented() {
        let number = |number| NonZeroU32::new(number).unwrap();
        let rate =
            |per_second, burst| Rate { per_second: number(per_second), burst: number(burst) };
        assert_eq!("20/s,burst=40".parse(), Ok(rate(20, 40)));
        let limit = ConnectionLimit { rate: rate(50, 500), open: 2_000 };
        assert_eq!("50/s, burst=500, open=2000".parse(), Ok(limit));
        assert_eq!("50/s,burst=500".parse(), Ok(limit));
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
    fn an_event_after_a_burst_has_to_wait() {
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
    fn only_the_proxys_own_entry_of_a_forwarded_address_counts() {
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
