//! Socket.IO packets as text, the way they stand in an Engine.IO message.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Engine.IO packets, by their first character.
pub mod engine {
    pub const OPEN: char = '0';
    pub const CLOSE: &str = "1";
    pub const PING: &str = "2";
    pub const PONG: &str = "3";
    pub const MESSAGE: char = '4';
    /// The client has changed to its WebSocket.
    pub const UPGRADE: &str = "5";
    pub const NOOP: &str = "6";
    /// Stands between the packets of one polling request.
    pub const SEPARATOR: char = '\u{1e}';
}

/// A Socket.IO packet. Binary attachments are left out: their placeholders stand in the arguments.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// From the client its `auth`, from the server `{ sid }`.
    Connect(Value),
    Disconnect,
    /// `ack` is present if the sender wants an answer.
    Event {
        ack: Option<u64>,
        name: String,
        arguments: Vec<Value>,
    },
    Ack {
        id: u64,
        arguments: Vec<Value>,
    },
    ConnectError(Value),
}

impl Packet {
    /// Reads a packet; `None` if the text is no Socket.IO packet of this namespace. A namespace
    /// other than the main one, which is empty, ends in a comma: `/chat,`.
    pub fn decode(text: &str, namespace: &str) -> Result<Option<Self>> {
        let Some(packet) = text.strip_prefix(engine::MESSAGE) else { return Ok(None) };
        let unexpected = || format!("unexpected packet {text}");
        let kind = packet.chars().next().with_context(unexpected)?;
        let mut rest = &packet[kind.len_utf8()..];
        if let '5' | '6' = kind {
            (_, rest) = rest.split_once('-').with_context(unexpected)?;
        }
        if rest.starts_with('/') {
            let Some(own) = rest.strip_prefix(namespace).filter(|_| !namespace.is_empty()) else {
                return Ok(None);
            };
            rest = own;
        } else if !namespace.is_empty() {
            return Ok(None);
        }
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (id, json) = rest.split_at(digits);
        let id = Some(id).filter(|id| !id.is_empty());
        let id = id.map(str::parse).transpose().with_context(unexpected)?;
        let payload = || match json {
            "" => Ok(Value::Null),
            json => serde_json::from_str(json).with_context(unexpected),
        };
        let arguments = || serde_json::from_str::<Vec<Value>>(json).with_context(unexpected);
        Ok(Some(match kind {
            '0' => Self::Connect(payload()?),
            '1' => Self::Disconnect,
            '2' | '5' => {
                let mut arguments = arguments()?;
                if !arguments.first().is_some_and(Value::is_string) {
                    bail!(unexpected());
                }
                let Value::String(name) = arguments.remove(0) else { unreachable!("just seen") };
                Self::Event { ack: id, name, arguments }
            }
            '3' | '6' => Self::Ack { id: id.with_context(unexpected)?, arguments: arguments()? },
            '4' => Self::ConnectError(payload()?),
            _ => bail!(unexpected()),
        }))
    }

    /// Writes the packet as the Engine.IO message that carries it.
    pub fn encode(&self, namespace: &str) -> String {
        let list = |name: Option<&String>, arguments: &[Value]| {
            let name = name.map(|name| Value::from(name.as_str()));
            Value::from_iter(name.into_iter().chain(arguments.iter().cloned()))
        };
        match self {
            Self::Connect(Value::Null) => format!("40{namespace}"),
            Self::Connect(auth) => format!("40{namespace}{auth}"),
            Self::Disconnect => format!("41{namespace}"),
            Self::Event { ack, name, arguments } => {
                let id = ack.map(|id| id.to_string()).unwrap_or_default();
                format!("42{namespace}{id}{}", list(Some(name), arguments))
            }
            Self::Ack { id, arguments } => format!("43{namespace}{id}{}", list(None, arguments)),
            Self::ConnectError(error) => format!("44{namespace}{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_encoded_packet_decodes_to_itself() {
        let packets = [
            Packet::Connect(Value::Null),
            Packet::Connect(json!({ "token": "t" })),
            Packet::Disconnect,
            Packet::Event { ack: None, name: "a".into(), arguments: vec![] },
            Packet::Event { ack: Some(12), name: "5".into(), arguments: vec![json!(1), json!({})] },
            Packet::Ack { id: 0, arguments: vec![json!([])] },
            Packet::ConnectError(json!({ "message": "no" })),
        ];
        for packet in packets {
            for namespace in ["", "/chat,"] {
                let text = packet.encode(namespace);
                assert_eq!(Packet::decode(&text, namespace).unwrap(), Some(packet.clone()));
                let other = if namespace.is_empty() { "/other," } else { "" };
                assert_eq!(Packet::decode(&text, other).unwrap(), None, "{text}");
            }
        }
    }

    #[test]
    fn attachments_are_left_out() {
        let text = r#"451-["file",{"_placeholder":true,"num":0}]"#;
        let placeholder = json!({ "_placeholder": true, "num": 0 });
        let packet = Packet::Event { ack: None, name: "file".into(), arguments: vec![placeholder] };
        assert_eq!(Packet::decode(text, "").unwrap(), Some(packet));
    }

    #[test]
    fn text_that_is_no_packet_is_refused() {
        for text in [
            "4",
            "4é",
            "42",
            "42[]",
            "42[5]",
            "42{}",
            "43[]",
            "4399999999999999999999[]",
            "49",
            "45[]",
        ] {
            assert!(Packet::decode(text, "").is_err(), "{text}");
        }
        for text in ["", "2", "3probe", "0{}", "42/chat,[\"a\"]"] {
            assert_eq!(Packet::decode(text, "").unwrap(), None, "{text}");
        }
    }
}
