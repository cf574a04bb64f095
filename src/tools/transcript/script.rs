//! A conversation file: the kinds of its lines, and their written form.

use std::{fmt, time::Duration};

use serde_json::Value;

use super::shorthand;
use crate::tools::client::Options;

/// A conversation file, line by line, so that it can be written as it was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    pub lines: Vec<Line>,
}

/// A line, or several of them if a payload spans them.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The number of its first line, counted from 1.
    pub number: usize,
    /// The line as it was written, without the end of the last line.
    pub text: String,
    pub content: Content,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A comment or an empty line.
    Nothing,
    Setting(ServerSetting),
    Step(ScriptStep),
    Answer(Answer),
}

/// A variable of the configuration for a server of one's own.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSetting {
    pub name: String,
    pub value: String,
}

/// A step of a conversation.
#[derive(Clone, Debug, PartialEq)]
pub enum ScriptStep {
    Client {
        client: String,
        action: Action,
    },
    /// No client acts for a while.
    Pause(Duration),
    /// The server is stopped in order and started again on the same data.
    Restart,
}

/// The action of a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Connect(Box<Options>),
    /// Connects again, with the options of the last time.
    Reconnect,
    /// Disconnects.
    Disconnect,
    /// Breaks the connection without a disconnect.
    Vanish,
    /// Emits an event, with a callback if it asks.
    Emit {
        event: String,
        arguments: Vec<Value>,
        asks: bool,
    },
    /// Waits until an event of this name arrives.
    Await {
        event: String,
        within: Option<Duration>,
    },
    /// No event of this name, or none at all, has arrived since the last step that is no
    /// expectation, nor arrives for a while.
    ExpectNo {
        event: Option<String>,
        within: Option<Duration>,
    },
}

/// An answer that a client received.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub client: String,
    pub what: What,
    pub arguments: Vec<Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum What {
    /// An event, or by the name that the official client gives it, `connect_error` or `disconnect`.
    Event(String),
    Ack,
}

impl Script {
    /// Whether the file has answers of the server.
    pub fn has_answers(&self) -> bool {
        self.lines.iter().any(|line| matches!(line.content, Content::Answer(_)))
    }

    pub fn settings(&self) -> impl Iterator<Item = &ServerSetting> {
        self.lines.iter().filter_map(|line| match &line.content {
            Content::Setting(setting) => Some(setting),
            _ => None,
        })
    }
}

/// Whether a word can be the name of a client: a letter or digit, then also `-`, `_`, `.` and `@`.
pub fn is_client(word: &str) -> bool {
    word.starts_with(char::is_alphanumeric)
        && word.chars().all(|c| c.is_alphanumeric() || "-_.@".contains(c))
        && !RESERVED.contains(&word)
}

/// Words that begin lines of their own.
pub const RESERVED: [&str; 2] = ["pause", "server"];

/// Whether an event's name stands without quotation marks. Others, and an event of the name `ack`,
/// have them.
pub fn is_plain_event(name: &str) -> bool {
    name != "ack"
        && name.starts_with(|c: char| c.is_alphanumeric())
        && name.chars().all(|c| c.is_alphanumeric() || "-_.:/".contains(c))
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{}", line.text))
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Nothing => Ok(()),
            Self::Setting(ServerSetting { name, value }) => {
                write!(f, "server has {name}={value}")
            }
            Self::Step(step) => step.fmt(f),
            Self::Answer(answer) => answer.fmt(f),
        }
    }
}

impl fmt::Display for ScriptStep {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Client { client, action } => write!(f, "{client} {action}"),
            Self::Pause(duration) => write!(f, "pause {}", Written(*duration)),
            Self::Restart => f.write_str("server restarts"),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let within = |f: &mut fmt::Formatter, within: &Option<Duration>| match within {
            Some(duration) => write!(f, " within {}", Written(*duration)),
            None => Ok(()),
        };
        match self {
            Self::Connect(options) if **options == Options::default() => f.write_str("connects"),
            Self::Connect(options) => {
                let options = serde_json::to_string(options).map_err(|_| fmt::Error)?;
                write!(f, "connects {options}")
            }
            Self::Reconnect => f.write_str("reconnects"),
            Self::Disconnect => f.write_str("disconnects"),
            Self::Vanish => f.write_str("vanishes"),
            Self::Emit { event, arguments, asks } => {
                write!(f, "{} {}", if *asks { "?" } else { ">" }, Quoted(event))?;
                write_arguments(f, arguments)
            }
            Self::Await { event, within: limit } => {
                write!(f, "awaits {}", Quoted(event))?;
                within(f, limit)
            }
            Self::ExpectNo { event, within: limit } => {
                match event {
                    Some(event) => write!(f, "expects no {}", Quoted(event))?,
                    None => f.write_str("expects nothing")?,
                }
                within(f, limit)
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "  {}", self.head())?;
        self.arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
    }
}

impl Answer {
    /// The client and the name of the answer, without the arguments.
    pub(super) fn head(&self) -> String {
        match &self.what {
            What::Event(name) => format!("{} < {}", self.client, Quoted(name)),
            What::Ack => format!("{} < ack", self.client),
        }
    }
}

/// The arguments of a step, in which long texts that repeat are short.
fn write_arguments(f: &mut fmt::Formatter, arguments: &[Value]) -> fmt::Result {
    let mut text = String::new();
    for argument in arguments {
        text.push(' ');
        shorthand::write_argument(&mut text, argument);
    }
    f.write_str(&text)
}

/// An event's name as it stands in a line.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        if is_plain_event(self.0) {
            f.write_str(self.0)
        } else {
            write!(f, "{}", Value::from(self.0))
        }
    }
}

/// A duration as it stands in a line: `250ms`, `7s`.
struct Written(Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0.as_millis() {
            milliseconds if milliseconds % 1000 == 0 => write!(f, "{}s", milliseconds / 1000),
            milliseconds => write!(f, "{milliseconds}ms"),
        }
    }
}
