//! The decoding of an event: its name, its payload, and the reason why a payload is invalid.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

use super::Refusal;
use crate::model::{Id, Parsed};

/// An event's name and its payload, as they arrived. Further arguments are ignored.
pub struct Incoming<'a> {
    pub name: &'a str,
    pub payload: Option<&'a RawValue>,
}

impl<'de> Deserialize<'de> for Incoming<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Arguments;

        impl<'de> de::Visitor<'de> for Arguments {
            type Value = Incoming<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array that begins with the event's name")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(
                self,
                mut arguments: A,
            ) -> Result<Self::Value, A::Error> {
                let name = arguments.next_element()?.ok_or(de::Error::invalid_length(0, &self))?;
                let payload = arguments.next_element()?;
                while arguments.next_element::<de::IgnoredAny>()?.is_some() {}
                Ok(Incoming { name, payload })
            }
        }

        deserializer.deserialize_seq(Arguments)
    }
}

/// The name under which an event arrived, for the answer and for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventName {
    /// An event of the contract.
    Known(&'static str),
    /// Any other name, cut to the length of an id.
    Unknown(Box<str>),
}

impl EventName {
    pub fn unknown(name: &str) -> Self {
        Self::Unknown(name.chars().take(Id::MAX_BYTES).collect())
    }

    pub fn as_str(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Unknown(name) => name,
        }
    }

    /// The name as a metric label, of which there is a fixed set.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Known(name) => name,
            Self::Unknown(_) => "unknown",
        }
    }
}

/// The payload of a client's event. An optional field may be left out or `null`.
pub trait Payload: for<'de> Deserialize<'de> {
    /// Checks the rules that the types of the fields do not express.
    fn check(&self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Reads a payload. The refusal names the invalid field.
pub fn read<T: Payload>(payload: Option<&RawValue>) -> Result<T, Refusal> {
    // A payload that was left out has no fields.
    let payload = payload.map(RawValue::get).filter(|json| *json != "null").unwrap_or("{}");
    if !payload.starts_with('{') {
        // Serde would take an array for an object, field by field.
        return Err(Refusal::InvalidPayload("The payload must be an object.".into()));
    }
    let event: T = serde_json::from_str(payload).map_err(|_| {
        // Finding the path costs time, so only invalid payloads pay for it.
        let mut json = serde_json::Deserializer::from_str(payload);
        let error = serde_path_to_error::deserialize::<_, T>(&mut json).err();
        Refusal::InvalidPayload(error.as_ref().map_or_else(String::new, describe))
    })?;
    event.check()?;
    Ok(event)
}

/// The invalid field and the reason, as `field: reason`, of bounded length for any input.
fn describe(error: &serde_path_to_error::Error<serde_json::Error>) -> String {
    const LONGEST: usize = 200;

    let reason = error.inner().to_string();
    let reason = reason.rsplit_once(" at line ").map_or(&*reason, |(reason, _)| reason);
    let path = error.path().to_string();
    let text = if path == "." { reason.into() } else { format!("{path}: {reason}") };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// A text of at most `MAX` Unicode code points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(Arc<str>);

impl<const MAX: usize> Text<MAX> {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A code point has at least a byte, so only a long text has to be counted.
        if text.len() > MAX && text.chars().count() > MAX {
            return Err(format!("at most {MAX} characters are allowed"));
        }
        Ok(Self(text.into()))
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for Text<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed::expecting("a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_code_points() {
        assert!("é".repeat(256).parse::<Text<256>>().is_ok());
        assert!("é".repeat(257).parse::<Text<256>>().is_err());
    }
}
