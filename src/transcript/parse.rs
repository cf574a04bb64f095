//! Reads a conversation file. What cannot be read is told by line, column and what was expected
//! there.

use std::{collections::BTreeSet, fmt, time::Duration};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    names,
    script::{Action, Answer, Content, Line, Script, Setting, Step, What, is_client},
};
use crate::client::Options;

/// The settings that a conversation may ask for: variables of the configuration, and `STORAGE`.
pub const SETTINGS: [&str; 6] =
    ["STORAGE", "ALLOWED_ORIGINS", "JWT_SECRET", "RATE_LIMIT", "CONNECTION_LIMIT", "TRUSTED_PROXY"];

const STEPS: &str = "a step: CLIENT connects, reconnects, disconnects, vanishes, \
    > EVENT JSON, ? EVENT JSON, awaits EVENT, expects no EVENT or expects nothing; \
    pause TIME; server restarts; server has NAME=value";

/// What is wrong with a conversation file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    pub message: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for Unreadable {}

type Result<T> = std::result::Result<T, Unreadable>;

impl Script {
    /// Reads a conversation file. Lines end in `\n` or `\r\n`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        let lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let text = lines.collect::<Vec<_>>().join("\n");
        let mut reader = Reader { text: &text, at: 0 };
        let mut script = Self::default();
        let mut clients = BTreeSet::new();
        while !reader.rest().is_empty() {
            let start = reader.at;
            let content =
                reader.content(script.lines.last().map(|line| &line.content), &clients)?;
            if let Content::Step(Step::Client { client, .. }) = &content {
                clients.insert(client.clone());
            }
            let is_later_setting = matches!(content, Content::Setting(_))
                && script.lines.iter().any(|line| matches!(line.content, Content::Step(_)));
            if is_later_setting {
                return Err(reader.error(start, "settings stand above the first step"));
            }
            let (number, _) = reader.position(start);
            let text = text[start..reader.at].trim_end().to_owned();
            script.lines.push(Line { number, text, content });
            reader.skip("\n");
        }
        Ok(script)
    }

    /// Reads the bytes of a conversation file.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                let reader = Reader { text: &valid, at: 0 };
                Err(reader.error(valid.len(), "expected UTF-8 text"))
            }
        }
    }
}

/// Reads one line after the other. `at` is a byte's index.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Reads what begins at the start of a line, up to the end of its last one.
    fn content(&mut self, above: Option<&Content>, clients: &BTreeSet<String>) -> Result<Content> {
        let is_indented = self.rest().starts_with([' ', '\t']);
        self.skip_blanks();
        let start = self.at;
        let content = match self.rest().chars().next() {
            None | Some('\n') => Content::Nothing,
            Some('#') if !is_indented => {
                self.take_while(|c| c != '\n');
                Content::Nothing
            }
            Some('#') => return Err(self.error(start, "expected comments to begin at the margin")),
            Some(_) if is_indented => {
                if !matches!(above, Some(Content::Step(_) | Content::Answer(_))) {
                    let message = "an answer stands directly below the step that brought it \
                                   (steps and comments begin at the margin)";
                    return Err(self.error(start, message));
                }
                Content::Answer(self.answer(clients)?)
            }
            Some(_) => self.margin(clients)?,
        };
        self.end_of_line()?;
        Ok(content)
    }

    fn answer(&mut self, clients: &BTreeSet<String>) -> Result<Answer> {
        let client = self.known_client(clients)?;
        let verb = self.at;
        if self.word() != "<" {
            return Err(self.error(verb, "expected < and what the client received"));
        }
        let what = match self.rest() {
            rest if rest.starts_with('"') => What::Event(self.event()?),
            _ => match self.event()? {
                name if name == "ack" => What::Ack,
                name => What::Event(name),
            },
        };
        let arguments = self.arguments(|value| names::check(value, true))?;
        Ok(Answer { client, what, arguments })
    }

    fn margin(&mut self, clients: &BTreeSet<String>) -> Result<Content> {
        let start = self.at;
        match self.word() {
            "pause" => Ok(Content::Step(Step::Pause(self.duration()?))),
            "server" => self.server(),
            word if is_client(word) => {
                let verb_at = self.at;
                let verb = self.word();
                if verb != "connects" && !verb.is_empty() && !clients.contains(word) {
                    return Err(self.error(start, &not_connected(word, clients)));
                }
                let action = self.action(verb, verb_at)?;
                Ok(Content::Step(Step::Client { client: word.into(), action }))
            }
            _ => Err(self.error(start, &format!("expected {STEPS}, or a # comment"))),
        }
    }

    fn server(&mut self) -> Result<Content> {
        let verb = self.at;
        match self.word() {
            "restarts" => Ok(Content::Step(Step::Restart)),
            "has" => {
                let start = self.at;
                let setting = self.take_while(|c| c != '\n').trim_end();
                match setting.split_once('=') {
                    Some((name, value)) if SETTINGS.contains(&name) => {
                        Ok(Content::Setting(Setting { name: name.into(), value: value.into() }))
                    }
                    _ => {
                        let message = format!("expected NAME=value, of {}", SETTINGS.join(", "));
                        Err(self.error(start, &message))
                    }
                }
            }
            _ => Err(self.error(verb, "expected: server restarts, or server has NAME=value")),
        }
    }

    fn action(&mut self, verb: &str, verb_at: usize) -> Result<Action> {
        Ok(match verb {
            "connects" => Action::Connect(self.options()?),
            "reconnects" => Action::Reconnect,
            "disconnects" => Action::Disconnect,
            "vanishes" => Action::Vanish,
            ">" | "?" => Action::Emit {
                event: self.event()?,
                arguments: self.arguments(|value| names::check(value, false))?,
                asks: verb == "?",
            },
            "awaits" => Action::Await { event: self.event()?, within: self.within()? },
            "expects" => {
                let start = self.at;
                let event = match self.word() {
                    "no" => Some(self.event()?),
                    "nothing" => None,
                    _ => return Err(self.error(start, "expected: no EVENT, or nothing")),
                };
                Action::ExpectNo { event, within: self.within()? }
            }
            _ => return Err(self.error(verb_at, &format!("expected {STEPS}"))),
        })
    }

    fn known_client(&mut self, clients: &BTreeSet<String>) -> Result<String> {
        let start = self.at;
        let word = self.word();
        if clients.contains(word) {
            return Ok(word.into());
        }
        Err(self.error(start, &not_connected(word, clients)))
    }

    fn options(&mut self) -> Result<Options> {
        if self.is_at_end_of_line() {
            return Ok(Options::default());
        }
        let start = self.at;
        let value: Value = self.json()?;
        names::check(&value, false).map_err(|message| self.error(start, &message))?;
        let options: Options = serde_path_to_error::deserialize(value).map_err(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { format!("{path}: ") };
            self.error(start, &format!("options of a connection: {field}{}", error.inner()))
        })?;
        Ok(options)
    }

    /// The name of an event: a word, or a JSON string.
    fn event(&mut self) -> Result<String> {
        let start = self.at;
        if self.rest().starts_with('"') {
            return self.json();
        }
        match self.word() {
            "" => Err(self.error(start, "expected the name of an event")),
            word => Ok(word.into()),
        }
    }

    fn arguments(
        &mut self,
        check: impl Fn(&Value) -> std::result::Result<(), String>,
    ) -> Result<Vec<Value>> {
        let mut arguments = Vec::new();
        while !self.is_at_end_of_line() {
            let start = self.at;
            let value = self.json()?;
            check(&value).map_err(|message| self.error(start, &message))?;
            arguments.push(value);
        }
        Ok(arguments)
    }

    fn within(&mut self) -> Result<Option<Duration>> {
        if self.is_at_end_of_line() {
            return Ok(None);
        }
        let start = self.at;
        match self.word() {
            "within" => self.duration().map(Some),
            _ => Err(self.error(start, "expected within and a time, or the end of the line")),
        }
    }

    fn duration(&mut self) -> Result<Duration> {
        let start = self.at;
        parse_duration(self.word()).map_err(|message| self.error(start, &message))
    }

    /// A JSON value, which may go on over the end of the line.
    fn json<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut values = serde_json::Deserializer::from_str(self.rest()).into_iter();
        let value = values.next().unwrap_or_else(|| serde_json::from_str(""));
        let read = values.byte_offset();
        match value {
            Ok(value) => {
                self.at += read;
                if !self.rest().is_empty() && !self.rest().starts_with([' ', '\t', '\n']) {
                    return Err(self.error(self.at, "expected white space behind the JSON value"));
                }
                self.skip_blanks();
                Ok(value)
            }
            Err(error) => Err(self.json_error(&error)),
        }
    }

    fn json_error(&self, error: &serde_json::Error) -> Unreadable {
        // Its position counts from here, lines from 1, and columns in bytes up to the culprit.
        let lines = self.rest().split_inclusive('\n');
        let above: usize = lines.take(error.line().saturating_sub(1)).map(str::len).sum();
        let mut at = self.at + above + error.column().saturating_sub(1);
        at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let message = error.to_string();
        let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
        self.error(at, &format!("expected JSON: {message}"))
    }

    /// The next word of the line, nothing at its end. The blanks behind it are skipped.
    fn word(&mut self) -> &'a str {
        let word = self.take_while(|c| !c.is_whitespace());
        self.skip_blanks();
        word
    }

    fn end_of_line(&mut self) -> Result<()> {
        self.skip_blanks();
        if self.is_at_end_of_line() {
            return Ok(());
        }
        Err(self.error(self.at, "expected the end of the line"))
    }

    fn is_at_end_of_line(&self) -> bool {
        self.rest().is_empty() || self.rest().starts_with('\n')
    }

    fn skip_blanks(&mut self) {
        self.take_while(|c| c.is_whitespace() && c != '\n');
    }

    fn skip(&mut self, text: &str) {
        if self.rest().starts_with(text) {
            self.at += text.len();
        }
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let taken = &rest[..rest.len() - rest.trim_start_matches(&wanted).len()];
        self.at += taken.len();
        taken
    }

    /// The line and the column of a byte.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    fn error(&self, at: usize, message: &str) -> Unreadable {
        let (line, column) = self.position(at);
        Unreadable { line, column, message: message.into() }
    }
}

fn not_connected(word: &str, clients: &BTreeSet<String>) -> String {
    match clients.iter().map(String::as_str).collect::<Vec<_>>() {
        known if known.is_empty() => format!("{word:?} has not connected, nor has anybody else"),
        known => format!("{word:?} has not connected; expected {}", known.join(", ")),
    }
}

/// Reads a time such as `250ms`, `7s` or `1m30s`.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>().ok();
    let duration = duration.filter(|_| text.starts_with(|c: char| c.is_ascii_digit()));
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    // Files are written in milliseconds.
    let duration = duration.filter(|duration| duration.subsec_nanos() % 1_000_000 == 0);
    duration.filter(|duration| *duration <= LONGEST).ok_or_else(|| {
        format!("expected a time such as 250ms, 7s or 1m30s, up to 1h, not {text:?}")
    })
}

/// The longest wait that a file may ask for.
const LONGEST: Duration = Duration::from_secs(60 * 60);
