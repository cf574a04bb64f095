//! Pages of lists that are read piece by piece.

use serde::{Deserialize, Deserializer, de};

use super::MessageId;

/// The messages of a conversation that a page shows.
#[derive(Clone, Copy, Debug)]
pub enum Window {
    Newest,
    /// The messages right before this one.
    Before(MessageId),
    /// The messages right after this one.
    After(MessageId),
}

impl Window {
    /// The message from which the page counts.
    pub fn cursor(self) -> Option<MessageId> {
        match self {
            Self::Newest => None,
            Self::Before(cursor) | Self::After(cursor) => Some(cursor),
        }
    }
}

/// A page, and whether there are more entries in the direction of the question.
#[derive(Debug)]
pub struct Page<T> {
    pub entries: Vec<T>,
    pub has_more: bool,
    /// The database is away: there may be more entries anywhere.
    pub is_partial: bool,
}

impl<T> Page<T> {
    pub fn empty() -> Self {
        Self { entries: Vec::new(), has_more: false, is_partial: false }
    }
}

/// The number of entries that a page has at most: 1 to 100.
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
