//! Reads a conversation file. An error names the line, the column and the expected text.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;

use super::{
    names,
    reader::{Reader, Result},
    script::{
        Action, Answer, Content, Line, Script, ScriptStep, ServerSetting, What, is_client,
        is_plain_event,
    },
    shorthand::Shown,
};
use crate::{config::Settings, tools::client::Options};

/// The settings that a conversation may choose: variables of the configuration, and `STORAGE`.
pub fn settings() -> impl Iterator<Item = &'static str> {
    let variables = Settings::ALL.iter().filter(|setting| setting.is_for_conversations);
    std::iter::once("STORAGE").chain(variables.map(|setting| setting.variable))
}

/// The longest wait that a file may ask for.
const LONGEST: Duration = Duration::from_secs(60 * 60);

const STEPS: &str = "a step: CLIENT connects, reconnects, disconnects, vanishes, \
    > EVENT JSON, ? EVENT JSON, awaits EVENT, expects no EVENT or expects nothing; \
    pause TIME; server restarts; server has NAME=value";

/// The verbs of clients' steps.
const VERBS: [&str; 8] =
    ["connects", "reconnects", "disconnects", "vanishes", ">", "?", "awaits", "expects"];

impl Script {
    /// Reads a conversation file. Lines end in `\n` or `\r\n`.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim_start_matches('\u{feff}');
        let lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
        let text = lines.collect::<Vec<_>>().join("\n");
        let mut parser = Parser {
            reader: Reader::new(&text),
            clients: BTreeSet::new(),
            settings: BTreeSet::new(),
            shown: Shown::default(),
        };
        let mut lines = Vec::new();
        while !parser.reader.rest().is_empty() {
            let start = parser.reader.at();
            let content = parser.content(&lines)?;
            let (number, _) = parser.reader.position(start);
            let text = parser.reader.since(start).trim_end().to_owned();
            lines.push(Line { number, text, content });
            parser.reader.next_line();
        }
        Ok(Self { lines })
    }

    /// Reads the bytes of a conversation file.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                let valid = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                Err(Reader::new(&valid).error(valid.len(), "expected UTF-8 text"))
            }
        }
    }
}

struct Parser<'a> {
    reader: Reader<'a>,
    /// The clients that have connected above.
    clients: BTreeSet<&'a str>,
    /// The settings that stand above.
    settings: BTreeSet<&'a str>,
    /// The values that short forms may stand for.
    shown: Shown,
}

impl<'a> Parser<'a> {
    /// Reads the content that begins at the start of a line, up to the end of its last line.
    fn content(&mut self, above: &[Line]) -> Result<Content> {
        let is_indented = self.reader.rest().starts_with([' ', '\t']);
        self.reader.skip_blanks();
        let start = self.reader.at();
        let content = match self.reader.rest().chars().next() {
            None | Some('\n') => Content::Nothing,
            Some('#') if !is_indented => {
                self.reader.rest_of_line();
                Content::Nothing
            }
            Some('#') => return self.error(start, "expected comments to begin at the margin"),
            Some(_) if is_indented => {
                let above = above.last().map(|line| &line.content);
                if !matches!(above, Some(Content::Step(_) | Content::Answer(_))) {
                    let message = "an answer stands directly below the step that brought it \
                                   (steps and comments begin at the margin)";
                    return self.error(start, message);
                }
                Content::Answer(self.answer()?)
            }
            Some(_) => {
                self.shown.next_step();
                self.margin()?
            }
        };
        let is_step = |line: &Line| matches!(line.content, Content::Step(_));
        if matches!(content, Content::Setting(_)) && above.iter().any(is_step) {
            return self.error(start, "settings stand above the first step");
        }
        self.reader.end_of_line()?;
        Ok(content)
    }

    fn answer(&mut self) -> Result<Answer> {
        let start = self.reader.at();
        let client = self.reader.word();
        if !self.clients.contains(client) {
            return self.not_connected(start, client);
        }
        let verb = self.reader.at();
        if self.reader.word() != "<" {
            return self.error(verb, "expected < and what the client received");
        }
        let is_quoted = self.reader.rest().starts_with('"');
        let what = match self.event()? {
            name if name == "ack" && !is_quoted => What::Ack,
            name => What::Event(name),
        };
        let mut arguments = Vec::new();
        while !self.reader.is_at_end_of_line() {
            let start = self.reader.at();
            let value = self.reader.short_json()?;
            let value = self.shown.expand(value, client);
            arguments.push(value.or_else(|message| self.error(start, &message))?);
        }
        let answer = Answer { client: client.into(), what, arguments };
        self.shown.note_event(&answer);
        Ok(answer)
    }

    fn margin(&mut self) -> Result<Content> {
        let start = self.reader.at();
        match self.reader.word() {
            "pause" => Ok(Content::Step(ScriptStep::Pause(self.duration()?))),
            "server" => self.server(),
            client if is_client(client) => {
                let verb_at = self.reader.at();
                let verb = self.reader.word();
                if !VERBS.contains(&verb) {
                    return self.error(verb_at, &format!("expected {STEPS}"));
                }
                if verb == "connects" {
                    self.clients.insert(client);
                } else if !self.clients.contains(client) {
                    return self.not_connected(start, client);
                }
                let action = self.action(verb)?;
                Ok(Content::Step(ScriptStep::Client { client: client.into(), action }))
            }
            _ => self.error(start, &format!("expected {STEPS}, or a # comment")),
        }
    }

    fn server(&mut self) -> Result<Content> {
        let verb = self.reader.at();
        match self.reader.word() {
            "restarts" => Ok(Content::Step(ScriptStep::Restart)),
            "has" => {
                let start = self.reader.at();
                let setting = self.reader.rest_of_line().trim_end();
                match setting.split_once('=') {
                    Some((name, value)) if settings().any(|setting| setting == name) => {
                        let setting = ServerSetting { name: name.into(), value: value.into() };
                        let at = start + name.len() + 1;
                        if !self.settings.insert(name) {
                            return self.error(start, &format!("{name} stands above already"));
                        }
                        setting.check().or_else(|message| self.error(at, &message))?;
                        Ok(Content::Setting(setting))
                    }
                    _ => {
                        let names = settings().collect::<Vec<_>>().join(", ");
                        self.error(start, &format!("expected NAME=value, of {names}"))
                    }
                }
            }
            _ => self.error(verb, "expected: server restarts, or server has NAME=value"),
        }
    }

    /// The action of a client, by one of the [`VERBS`].
    fn action(&mut self, verb: &str) -> Result<Action> {
        Ok(match verb {
            "connects" => Action::Connect(Box::new(self.options()?)),
            "reconnects" => Action::Reconnect,
            "disconnects" => Action::Disconnect,
            "vanishes" => Action::Vanish,
            ">" | "?" => {
                let event = self.event()?;
                Action::Emit { event, arguments: self.sendable()?, asks: verb == "?" }
            }
            "awaits" => Action::Await { event: self.event()?, within: self.within()? },
            "expects" => {
                let start = self.reader.at();
                let event = match self.reader.word() {
                    "no" => Some(self.event()?),
                    "nothing" => None,
                    _ => return self.error(start, "expected: no EVENT, or nothing"),
                };
                Action::ExpectNo { event, within: self.within()? }
            }
            _ => unreachable!("no verb"),
        })
    }

    fn options(&mut self) -> Result<Options> {
        let start = self.reader.at();
        let mut values = self.sendable()?;
        let Some(value) = values.pop() else { return Ok(Options::default()) };
        if !values.is_empty() || !value.is_object() {
            return self.error(start, "expected one object of options");
        }
        serde_path_to_error::deserialize(value).or_else(|error| {
            let path = error.path().to_string();
            let field = if path == "." { String::new() } else { format!("{path}: ") };
            self.error(start, &format!("options of a connection: {field}{}", error.inner()))
        })
    }

    /// JSON values up to the end of a line, without the variables that stand for any value.
    fn sendable(&mut self) -> Result<Vec<Value>> {
        let mut values = Vec::new();
        while !self.reader.is_at_end_of_line() {
            let start = self.reader.at();
            let value = self.reader.short_json()?;
            // Repetitions are the only short forms that can be sent.
            let value = Shown::default().expand(value, "");
            let value = value.or_else(|message| self.error(start, &message))?;
            names::check_sendable(&value).or_else(|message| self.error(start, &message))?;
            values.push(value);
        }
        Ok(values)
    }

    /// The name of an event: a word, or a JSON string.
    fn event(&mut self) -> Result<String> {
        let start = self.reader.at();
        if self.reader.rest().starts_with('"') {
            return self.reader.json();
        }
        match self.reader.word() {
            word if is_plain_event(word) || word == "ack" => Ok(word.into()),
            _ => self.error(
                start,
                "expected the name of an event (others than words in quotation marks)",
            ),
        }
    }

    fn within(&mut self) -> Result<Option<Duration>> {
        let start = self.reader.at();
        match self.reader.word() {
            "" => Ok(None),
            "within" => self.duration().map(Some),
            _ => self.error(start, "expected within and a time, or the end of the line"),
        }
    }

    fn duration(&mut self) -> Result<Duration> {
        let start = self.reader.at();
        parse_duration(self.reader.word()).or_else(|message| self.error(start, &message))
    }

    fn not_connected<T>(&self, at: usize, word: &str) -> Result<T> {
        let known: Vec<_> = self.clients.iter().copied().collect();
        let known = match known[..] {
            [] => "nor has anybody else".to_owned(),
            _ => format!("expected {}", known.join(", ")),
        };
        self.error(at, &format!("{word:?} has not connected, {known}"))
    }

    fn error<T>(&self, at: usize, message: &str) -> Result<T> {
        Err(self.reader.error(at, message))
    }
}

/// Whether an answer, as it stands in a file, has no short forms.
pub(super) fn is_long(answer: &str) -> bool {
    let mut reader = Reader::new(answer);
    reader.skip_blanks();
    let _client_and_verb = (reader.word(), reader.word());
    let is_named = match reader.rest().starts_with('"') {
        true => reader.json::<Value>().is_ok(),
        false => !reader.word().is_empty(),
    };
    while is_named && !reader.is_at_end_of_line() {
        if reader.json::<Value>().is_err() {
            return false;
        }
    }
    is_named
}

/// Reads a time in whole milliseconds such as `250ms`, `7s` or `1m30s`.
pub fn parse_duration(text: &str) -> std::result::Result<Duration, String> {
    let duration = text.parse::<jiff::SignedDuration>().ok();
    let duration = duration.filter(|_| text.starts_with(|c: char| c.is_ascii_digit()));
    let duration = duration.and_then(|duration| Duration::try_from(duration).ok());
    duration
        .filter(|duration| duration.subsec_nanos() % 1_000_000 == 0 && *duration <= LONGEST)
        .ok_or_else(|| {
            format!("expected a time such as 250ms, 7s or 1m30s, up to 1h, not {text:?}")
        })
}

#[cfg(test)]
mod tests;
