//! The share of a poll's answer that an [`Outlet`](super::Outlet) has handed over.
//!
//! Engine.IO puts heartbeats and Socket.IO's own packets into the same answers. If these counted
//! too, a reader would seem to have fetched packets that it has not.

/// The size of the events and acknowledgements in the answer to a poll, in bytes.
pub fn event_bytes(body: &[u8], is_version_3: bool) -> u64 {
    let Ok(text) = std::str::from_utf8(body) else { return body.len() as u64 };
    let is_event = |packet: &&str| packet.starts_with("42") || packet.starts_with("43");
    packets(text, is_version_3).filter(is_event).map(|packet| packet.len() as u64).sum()
}

/// The number of packets in a polling request, and the number of CONNECTs among them. A body that
/// is no text has as many packets as it has bytes: only version 3 may send one, and no client of
/// this server does.
pub fn count_packets(body: &[u8], is_version_3: bool) -> (usize, usize) {
    let Ok(text) = std::str::from_utf8(body) else { return (body.len(), 0) };
    packets(text, is_version_3).fold((0, 0), |(packets, connects), packet| {
        (packets + 1, connects + usize::from(packet.starts_with("40")))
    })
}

fn packets(text: &str, is_version_3: bool) -> Box<dyn Iterator<Item = &str> + '_> {
    if is_version_3 { Box::new(Counted(text)) } else { Box::new(text.split('\u{1e}')) }
}

/// The packets of version 3: each after its length in UTF-16 units and a colon.
struct Counted<'a>(&'a str);

impl<'a> Iterator for Counted<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let (length, rest) = self.0.split_once(':')?;
        let mut left: usize = length.parse().ok()?;
        let end = rest.char_indices().find(|(_, c)| {
            let is_over = left == 0;
            left = left.saturating_sub(c.len_utf16());
            is_over
        });
        let (packet, rest) = rest.split_at(end.map_or(rest.len(), |(end, _)| end));
        self.0 = rest;
        Some(packet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_and_acknowledgements_count() {
        let body = "2\u{1e}42[\"a\",1]\u{1e}40{\"sid\":\"x\"}\u{1e}430[{}]\u{1e}6";
        assert_eq!(event_bytes(body.as_bytes(), false), 9 + 7);
        assert_eq!(event_bytes(b"", false), 0);
    }

    #[test]
    fn every_packet_counts_and_connects_apart() {
        assert_eq!(count_packets("40\u{1e}42[\"a\"]\u{1e}3\u{1e}40/x".as_bytes(), false), (4, 2));
        assert_eq!(count_packets(b"2:401:39:42[\"a\",1]", true), (3, 1));
        assert_eq!(count_packets(&[0xff; 7], true), (7, 0));
    }

    #[test]
    fn version_3_counts_units_of_utf_16() {
        let body = "1:39:42[\"🎉é\"]7:430[{}]";
        assert_eq!(event_bytes(body.as_bytes(), true), 12 + 7);
        assert_eq!(event_bytes(b"x", true), 0);
    }
}
