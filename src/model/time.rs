//! Moments.

use std::str::FromStr;

use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Parsed;

/// A moment in milliseconds since 1970, on the wire as `2025-11-11T10:30:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

impl Time {
    pub fn now() -> Self {
        Self(jiff::Timestamp::now().as_millisecond())
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));
        let timestamp =
            jiff::Timestamp::from_millisecond(self.0).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&PRINTER.timestamp_to_string(&timestamp))
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.parse::<jiff::Timestamp>()?.as_millisecond()))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed::expecting("a time"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_milliseconds_and_a_z_also_when_they_are_zero() {
        let text = |ms| serde_json::to_string(&Time(ms)).unwrap();
        assert_eq!(text(1_762_857_000_000), r#""2025-11-11T10:30:00.000Z""#);
        assert_eq!(text(1_762_857_000_120), r#""2025-11-11T10:30:00.120Z""#);
    }
}
