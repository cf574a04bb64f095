//! Reads a text word by word, and knows its position.

use std::{cell::Cell, fmt};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::shorthand::Lowered;

/// The place and the defect of an unreadable conversation file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for Unreadable {}

pub(super) type Result<T> = std::result::Result<T, Unreadable>;

/// A place in a text. Reading methods move it to the end of the text that they have read.
pub(super) struct Reader<'a> {
    text: &'a str,
    /// The place, as a byte's index.
    at: usize,
    /// The start of the last line that a caller asked for, and its number less one. Files are read
    /// from their beginning to their end, and so need not be counted from there each time.
    counted: Cell<(usize, usize)>,
}

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0, counted: Cell::default() }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// The text that was read since the place `start`.
    pub fn since(&self, start: usize) -> &'a str {
        &self.text[start..self.at]
    }

    /// The next word of the line, nothing at its end. The blanks after it are skipped.
    pub fn word(&mut self) -> &'a str {
        let word = self.take_while(|c| !c.is_whitespace());
        self.skip_blanks();
        word
    }

    /// A JSON value, which may go on over the end of the line, and the blanks after it.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter();
        let value = values.next().unwrap_or_else(|| serde_json::from_str(""));
        let read = values.byte_offset();
        let value = value.map_err(|error| self.json_error(&error))?;
        self.at += read;
        if !self.rest().is_empty() && !self.rest().starts_with(char::is_whitespace) {
            return Err(self.error(self.at, "expected white space behind the JSON value"));
        }
        self.skip_blanks();
        Ok(value)
    }

    /// A JSON value that may have short forms, which stand in it as marks for `Shown::expand`.
    pub fn short_json(&mut self) -> Result<Value> {
        let start = self.at;
        let error = match self.json() {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        self.at = start;
        let Some(lowered) = Lowered::new(self.rest()) else { return Err(error) };
        let mut json = Reader::new(&lowered.json);
        let value = json.json().map_err(|error| {
            let at = json.place(&error).map_or(0, |at| lowered.place(at));
            self.error(start + at, &error.message)
        })?;
        self.at += lowered.end;
        self.skip_blanks();
        Ok(value)
    }

    /// The byte at the line and column of an error.
    fn place(&self, error: &Unreadable) -> Option<usize> {
        let line: usize = self.text.split_inclusive('\n').take(error.line - 1).map(str::len).sum();
        let column = self.text[line..].char_indices().nth(error.column - 1);
        Some(line + column?.0)
    }

    pub fn is_at_end_of_line(&self) -> bool {
        self.rest().is_empty() || self.rest().starts_with('\n')
    }

    pub fn skip_blanks(&mut self) {
        self.take_while(|c| c.is_whitespace() && c != '\n');
    }

    pub fn rest_of_line(&mut self) -> &'a str {
        self.take_while(|c| c != '\n')
    }

    pub fn end_of_line(&mut self) -> Result<()> {
        self.skip_blanks();
        if !self.is_at_end_of_line() {
            return Err(self.error(self.at, "expected the end of the line"));
        }
        Ok(())
    }

    pub fn next_line(&mut self) {
        self.at = (self.at + 1).min(self.text.len());
    }

    /// The line and the column of a byte.
    pub fn position(&self, at: usize) -> (usize, usize) {
        let (start, lines) = self.counted.get();
        let (start, lines) = if start <= at { (start, lines) } else { (0, 0) };
        let between = &self.text[start..at];
        let lines = lines + between.matches('\n').count();
        let start = between.rfind('\n').map_or(start, |newline| start + newline + 1);
        self.counted.set((start, lines));
        (lines + 1, self.text[start..at].chars().count() + 1)
    }

    pub fn error(&self, at: usize, message: &str) -> Unreadable {
        let (line, column) = self.position(at);
        Unreadable { line, column, message: message.into() }
    }

    fn json_error(&self, error: &serde_json::Error) -> Unreadable {
        // The error counts from here, lines from 1, and columns in bytes up to the culprit.
        let lines = self.rest().split_inclusive('\n');
        let above: usize = lines.take(error.line().saturating_sub(1)).map(str::len).sum();
        let at = self.at + above + error.column().saturating_sub(1);
        let at = self.text.floor_char_boundary(at.min(self.text.len()));
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
        self.error(at, &format!("expected JSON: {message}"))
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.len() - rest.trim_start_matches(&wanted).len()];
        self.at += taken.len();
        taken
    }
}
