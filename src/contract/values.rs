//! The values that payloads are made of: ids, times, bounded texts, page limits.
//!
//! Each checks itself when it is read, so that what holds one is right.

use std::{fmt, str::FromStr, sync::Arc};

use bson::oid::ObjectId;
use jiff::fmt::temporal::DateTimePrinter;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A user's or a conversation's id: a string of 1 to 128 bytes without control characters.
/// Cloning shares the text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct Id(Arc<str>);

impl Id {
    pub const MAX_BYTES: usize = 128;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Id {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > Self::MAX_BYTES || text.chars().any(char::is_control) {
            return Err("an id has 1 to 128 bytes and no control characters");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed::expecting("an id"))
    }
}

/// A message's id: 24 lower-case hex digits on the wire. The server makes them so that they sort
/// in the order in which it accepted the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(ObjectId);

impl MessageId {
    pub fn bytes(self) -> [u8; 12] {
        self.0.bytes()
    }

    /// An id for a message made at `time` that is greater than `last`. An ObjectId begins with
    /// its second, followed by what tells its maker from others (`origin`), and a number. Within a
    /// second, or when the clock stands or goes back, counting on from `last` keeps the order.
    pub fn following(last: Option<Self>, time: Time, origin: [u8; 5]) -> Self {
        let second = u32::try_from(time.0 / 1000).unwrap_or(0).to_be_bytes();
        match last {
            Some(last) if second[..] <= last.bytes()[..4] => {
                let mut next = last.bytes();
                for byte in next.iter_mut().rev() {
                    *byte = byte.wrapping_add(1);
                    if *byte != 0 {
                        break;
                    }
                }
                Self::from(next)
            }
            _ => {
                let mut bytes = [0; 12];
                bytes[..4].copy_from_slice(&second);
                bytes[4..9].copy_from_slice(&origin);
                Self::from(bytes)
            }
        }
    }
}

impl From<[u8; 12]> for MessageId {
    fn from(bytes: [u8; 12]) -> Self {
        Self(ObjectId::from_bytes(bytes))
    }
}

impl FromStr for MessageId {
    type Err = &'static str;

    /// Only the form in which the server writes an id is one: upper-case digits are not.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = "a message id has 24 lower-case hex digits";
        if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(malformed);
        }
        ObjectId::parse_str(text).map(Self).map_err(|_| malformed)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for MessageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Parsed::expecting("a message id"))
    }
}

impl Serialize for MessageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A moment, in milliseconds since 1970, on the wire as `2025-11-11T10:30:00.000Z`.
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

/// A text of at most `MAX` Unicode code points.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text<const MAX: usize>(Arc<str>);

impl<const MAX: usize> Text<MAX> {
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

impl<const MAX: usize> FromStr for Text<MAX> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // A code point has at least a byte: only a long text has to be counted.
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

/// How many entries of a page are asked for: 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageLimit(u8);

impl PageLimit {
    pub const fn new(limit: u8) -> Self {
        assert!(limit >= 1 && limit <= 100);
        Self(limit)
    }

    pub fn get(self) -> usize {
        self.0.into()
    }
}

impl<'de> Deserialize<'de> for PageLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let expected = "an integer from 1 to 100";
        let number = serde_json::Number::deserialize(deserializer)
            .map_err(|_| de::Error::custom(format!("expected {expected}")))?;
        match number.as_u64() {
            Some(limit @ 1..=100) => Ok(Self(limit as u8)),
            _ => Err(de::Error::custom(format!("{number} is not {expected}"))),
        }
    }
}

/// Reads a string into a `T` without copying it first.
struct Parsed<T> {
    expected: &'static str,
    parsed: std::marker::PhantomData<T>,
}

impl<T> Parsed<T> {
    fn expecting(expected: &'static str) -> Self {
        Self { expected, parsed: std::marker::PhantomData }
    }
}

impl<T: FromStr<Err: fmt::Display>> de::Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_made_within_a_second_or_by_a_clock_that_goes_back_still_sort_by_creation() {
        let mut last = None;
        for time in [5_000, 5_001, 5_999, 6_000, 3_000, 6_001, 9_000].map(Time) {
            for _ in 0..1_000 {
                let next = MessageId::following(last, time, [7; 5]);
                assert!(last < Some(next), "{last:?} at {time:?}");
                last = Some(next);
            }
        }
    }

    #[test]
    fn an_id_counts_on_over_the_end_of_its_last_byte() {
        let last = MessageId::from([0, 0, 0, 9, 1, 1, 1, 1, 1, 7, 255, 255]);
        let next = MessageId::following(Some(last), Time(9_000), [7; 5]);
        assert_eq!(next.bytes(), [0, 0, 0, 9, 1, 1, 1, 1, 1, 8, 0, 0]);
    }

    #[test]
    fn a_time_has_milliseconds_and_a_z_also_when_they_are_zero() {
        let text = |ms| serde_json::to_string(&Time(ms)).unwrap();
        assert_eq!(text(1_762_857_000_000), r#""2025-11-11T10:30:00.000Z""#);
        assert_eq!(text(1_762_857_000_120), r#""2025-11-11T10:30:00.120Z""#);
    }

    #[test]
    fn characters_are_code_points() {
        assert!("é".repeat(256).parse::<Text<256>>().is_ok());
        assert!("é".repeat(257).parse::<Text<256>>().is_err());
    }
}
