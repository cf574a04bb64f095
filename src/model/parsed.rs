//! Reads a string through its `FromStr`, without a copy in between.

use std::{fmt, marker::PhantomData, str::FromStr};

use serde::de;

/// A serde visitor for types that are strings on the wire and check themselves in `FromStr`.
pub struct Parsed<T> {
    expected: &'static str,
    parsed: PhantomData<T>,
}

impl<T> Parsed<T> {
    /// `expected` completes the sentence "invalid type: integer `1`, expected …".
    pub fn expecting(expected: &'static str) -> Self {
        Self { expected, parsed: PhantomData }
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
