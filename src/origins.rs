//! The rule on origins, for CORS and for refusals: the pages that may talk to the server.

use std::{collections::HashSet, str::FromStr, sync::Arc};

use axum::http::{HeaderMap, header, uri::Authority};
use url::Url;

/// The origins that are allowed besides the server's own.
#[derive(Clone, Debug, PartialEq)]
pub enum Origins {
    /// `localhost`, `127.0.0.1` and `[::1]`, on any port.
    ThisMachine,
    Any,
    Listed(Arc<HashSet<String>>),
}

impl FromStr for Origins {
    /// The entry that is no origin.
    type Err = String;

    /// Reads a comma-separated list. A trailing slash and upper case in the host are corrected.
    fn from_str(text: &str) -> Result<Self, String> {
        let entries = || text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        if entries().any(|entry| entry == "*") {
            return Ok(Self::Any);
        }
        let listed = entries()
            .map(|entry| match parse(entry) {
                Some(url) if url.path() == "/" => Ok(url.origin().ascii_serialization()),
                _ => Err(entry.to_owned()),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self::Listed(Arc::new(listed)))
    }
}

impl Origins {
    /// Whether a request with these headers may be served. A request without an `Origin` comes from
    /// no page.
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        let Some(origin) = headers.get(header::ORIGIN) else { return true };
        let origin = origin.to_str().ok().and_then(parse);
        match (self, origin) {
            (Self::Any, _) => true,
            (_, None) => false,
            (_, Some(origin)) if is_own(&origin, headers) => true,
            (Self::ThisMachine, Some(origin)) => {
                matches!(origin.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"))
            }
            (Self::Listed(listed), Some(origin)) => {
                listed.contains(&origin.origin().ascii_serialization())
            }
        }
    }
}

/// An `http` or `https` URL with a host, and with neither a query nor a fragment.
fn parse(origin: &str) -> Option<Url> {
    let url = Url::parse(origin).ok()?;
    let is_origin = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    is_origin.then_some(url)
}

/// Whether the page came from this server: host and port are equal, whatever the scheme, because
/// TLS may end at a proxy.
fn is_own(origin: &Url, headers: &HeaderMap) -> bool {
    let host =
        headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let Some(host) = host else { return false };
    let default_port = origin.port_or_known_default();
    origin.host_str().is_some_and(|name| name.eq_ignore_ascii_case(host.host()))
        && default_port
            == host.port_u16().or(if origin.port().is_none() { default_port } else { None })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn allowed(origins: &str, origin: &str, host: &str) -> bool {
        let origins =
            if origins.is_empty() { Origins::ThisMachine } else { origins.parse().unwrap() };
        let mut headers = HeaderMap::new();
        headers.insert(header::ORIGIN, origin.parse().unwrap());
        headers.insert(header::HOST, host.parse().unwrap());
        origins.allow(&headers)
    }

    const HOSTS: [&str; 6] = [
        "chat.example.com",
        "CHAT.example.com",
        "evilchat.example.com",
        "chat.example.com.evil.example",
        "api.example.com",
        "localhost",
    ];
    const PORTS: [Option<u16>; 4] = [None, Some(443), Some(80), Some(8443)];

    proptest! {
        #[test]
        fn only_the_listed_origin_and_the_servers_own_are_allowed(
            scheme in select(&["https", "http", "HTTPS", "ftp"][..]),
            (name, own) in (select(&HOSTS[..]), select(&HOSTS[..])),
            (port, own_port) in (select(&PORTS[..]), select(&PORTS[..])),
        ) {
            let with_port = |name: &str, port: Option<u16>| match port {
                Some(port) => format!("{name}:{port}"),
                None => name.to_owned(),
            };
            let origin = format!("{scheme}://{}", with_port(name, port));
            let is_web = !scheme.eq_ignore_ascii_case("ftp");
            let default_port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
            let is_listed = scheme.eq_ignore_ascii_case("https")
                && name.eq_ignore_ascii_case("chat.example.com")
                && port.unwrap_or(443) == 443;
            // TLS may end at a proxy, so two missing ports are the same one.
            let is_default = port.is_none_or(|port| port == default_port);
            let is_own = is_web
                && name.eq_ignore_ascii_case(own)
                && (own_port.map_or(is_default, |own| own == port.unwrap_or(default_port)));
            let is_allowed = allowed("https://chat.example.com", &origin, &with_port(own, own_port));
            prop_assert_eq!(is_allowed, is_listed || is_own, "{} at {}", origin, own);
        }

        #[test]
        fn any_header_is_an_origin_or_none(origin in vec(32_u8..=255, 0..60), host in vec(32_u8..=255, 0..60)) {
            let mut headers = HeaderMap::new();
            for (name, value) in [(header::ORIGIN, origin), (header::HOST, host)] {
                if let Ok(value) = axum::http::HeaderValue::from_bytes(&value) {
                    headers.insert(name, value);
                }
            }
            Origins::ThisMachine.allow(&headers);
        }
    }

    #[test]
    fn unset_allows_the_pages_of_this_machine() {
        for origin in [
            "http://localhost:3000",
            "https://LOCALHOST",
            "http://127.0.0.1:5173",
            "http://[::1]:8080",
        ] {
            assert!(allowed("", origin, "127.0.0.1:3001"), "{origin}");
        }
        for origin in [
            "http://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.2",
            "null",
            "file://",
        ] {
            assert!(!allowed("", origin, "127.0.0.1:3001"), "{origin}");
        }
    }

    #[test]
    fn a_list_allows_its_origins_in_any_case_and_with_a_slash() {
        let list = "https://Chat.Example.com/, http://localhost:3000";
        assert!(allowed(list, "https://chat.example.com", "api.example.com"));
        assert!(allowed(list, "http://localhost:3000", "api.example.com"));
        for origin in [
            "http://chat.example.com",
            "https://chat.example.com:8443",
            "http://localhost:3001",
            "null",
        ] {
            assert!(!allowed(list, origin, "api.example.com"), "{origin}");
        }
    }

    #[test]
    fn a_star_allows_all() {
        assert!(allowed("*", "null", "api.example.com"));
        assert!(allowed("https://a.example,*", "https://b.example", "api.example.com"));
    }

    #[test]
    fn the_servers_own_page_is_always_allowed() {
        let list = "https://other.example";
        assert!(allowed(list, "https://chat.example.com", "chat.example.com"));
        assert!(allowed(list, "https://chat.example.com", "chat.example.com:443"));
        assert!(allowed(list, "http://chat.example.com:3001", "Chat.example.com:3001"));
        assert!(allowed(list, "http://192.168.0.9:3001", "192.168.0.9:3001"));
        assert!(!allowed(list, "http://chat.example.com:3002", "chat.example.com:3001"));
        assert!(!allowed(list, "https://chat.example.com:8443", "chat.example.com"));
    }

    #[test]
    fn the_error_names_the_entry_that_is_no_origin() {
        for (list, entry) in [
            ("https://a.example, chat.example.com", "chat.example.com"),
            ("https://a.example/path", "https://a.example/path"),
            ("ftp://a.example", "ftp://a.example"),
        ] {
            assert_eq!(list.parse::<Origins>(), Err(entry.to_owned()));
        }
    }
}
