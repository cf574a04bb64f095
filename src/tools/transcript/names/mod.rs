//! Variables: stable names for values that change from one run to the next.
//!
//! A text that is `<kind-N>` as a whole is a variable. It stands for one text, from where it is
//! first seen on. `<time>` and `<milliseconds>` stand for any time. A text that only looks like a
//! variable is written with one more `<`.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

/// Ids of 24 hexadecimal digits, as this server and MongoDB make them.
const MESSAGE: &str = "message";
const UUID: &str = "uuid";
/// The ids of the sockets, in the order in which they connected.
const SOCKET: &str = "socket";
/// Times that a client sends back.
const SENT_BACK: &str = "time";

const TIME: &str = "<time>";
const MILLISECONDS: &str = "<milliseconds>";

/// The names given so far.
#[derive(Clone, Default)]
pub struct Names {
    name_of: HashMap<String, String>,
    text_of: HashMap<String, String>,
    /// Texts and numbers that a client sent. The server did not make them, whatever they look like.
    sent: HashSet<String>,
    /// Times that were received. A client that sends one back has not made it.
    times: HashSet<String>,
    /// Times that will be sent back, and so need names.
    sent_back: HashSet<String>,
    /// For each kind, the number from which on a name may be free.
    free_from: HashMap<&'static str, usize>,
}

impl Names {
    /// Replaces the variables by their texts, for sending. The error names one that stands for
    /// nothing yet.
    pub fn resolve(&mut self, value: &mut Value) -> Result<(), String> {
        for_each_scalar(value, &mut |scalar| {
            let Value::String(text) = scalar else {
                self.sent.insert(scalar.to_string());
                return Ok(());
            };
            if is_variable(text) {
                let known = self.text_of.get(text);
                text.clone_from(known.ok_or_else(|| format!("{text} was not seen yet"))?);
            } else {
                unescape(text);
                self.sent.insert(text.clone());
            }
            Ok(())
        })
    }

    /// Notes times that a client is going to send: these get names when they are received.
    pub fn will_be_sent(&mut self, value: &Value) {
        let noted = for_each_scalar(&mut value.clone(), &mut |scalar| {
            if let Value::String(text) = scalar
                && is_time(text)
            {
                self.sent_back.insert(text.clone());
            }
            Ok(())
        });
        noted.expect("noting does not fail");
    }

    /// The reverse of [`Self::resolve`], for values that a client was seen to send.
    pub fn name_sent(&mut self, value: &mut Value) {
        self.name_each(value, |names, scalar| {
            let text = text_of(scalar);
            if !names.times.contains(&text) {
                names.sent.insert(text);
            }
        });
    }

    /// Binds the variables of `expected` that stand for nothing yet to the values in their place in
    /// `actual`.
    pub fn bind(&mut self, expected: &Value, actual: &Value) {
        match (expected, actual) {
            (Value::Array(expected), Value::Array(actual)) => {
                expected
                    .iter()
                    .zip(actual)
                    .for_each(|(expected, actual)| self.bind(expected, actual));
            }
            (Value::Object(expected), Value::Object(actual)) => {
                for ((name, expected), (key, at_its_place)) in expected.iter().zip(actual) {
                    if is_variable(name) {
                        self.bind(&name.as_str().into(), &key.as_str().into());
                        self.bind(expected, at_its_place);
                    } else if let Some(actual) = actual.get(name) {
                        self.bind(expected, actual);
                    }
                }
            }
            (Value::String(name), Value::String(text)) if is_variable(name) => {
                let has_form = match kind_of(name) {
                    kind @ (MESSAGE | UUID) => self.kind_made(text) == Some(kind),
                    kind => kind != SOCKET,
                };
                if self.text_of.contains_key(name) {
                    return;
                }
                if has_form {
                    self.give(name.clone(), text);
                } else {
                    // The text is shown as it is, and sent where the variable stands.
                    self.text_of.insert(name.clone(), text.clone());
                }
            }
            _ => {}
        }
    }

    /// Names the socket that has connected.
    pub fn socket(&mut self, id: &str) {
        if !id.is_empty() {
            let name = self.free_name(SOCKET);
            self.give(name, id);
        }
    }

    /// Replaces ids and times in received values by names.
    pub fn name(&mut self, value: &mut Value) {
        self.name_each(value, |names, scalar| {
            let as_text = text_of(scalar);
            if names.sent.contains(&as_text) {
                return;
            }
            match scalar {
                Value::String(text) if is_time(text) => {
                    names.times.insert(as_text);
                    if names.sent_back.contains(text) {
                        let name = names.free_name(SENT_BACK);
                        names.give(name.clone(), text);
                        *text = name;
                    } else {
                        *scalar = TIME.into();
                    }
                }
                Value::String(text) => {
                    if let Some(kind) = names.kind_made(text) {
                        let name = names.free_name(kind);
                        names.give(name.clone(), text);
                        *text = name;
                    }
                }
                Value::Number(number) if is_milliseconds(number) => {
                    names.times.insert(as_text);
                    *scalar = MILLISECONDS.into();
                }
                _ => {}
            }
        });
    }

    /// Replaces values that have a name, passes the others to `otherwise`, and escapes the rest.
    fn name_each(&mut self, value: &mut Value, mut otherwise: impl FnMut(&mut Self, &mut Value)) {
        let named = for_each_scalar(value, &mut |scalar| {
            if let Value::String(text) = scalar
                && let Some(name) = self.name_of.get(text)
            {
                text.clone_from(name);
                return Ok(());
            }
            let before = scalar.clone();
            otherwise(self, scalar);
            if *scalar == before
                && let Value::String(text) = scalar
            {
                escape(text);
            }
            Ok(())
        });
        named.expect("naming does not fail");
    }

    /// The kind of an id that the server seems to have made.
    fn kind_made(&self, text: &str) -> Option<&'static str> {
        if self.sent.contains(text) {
            None
        } else if is_message_id(text) {
            Some(MESSAGE)
        } else {
            is_uuid(text).then_some(UUID)
        }
    }

    fn free_name(&mut self, kind: &'static str) -> String {
        let number = self.free_from.entry(kind).or_insert(1);
        loop {
            let name = format!("<{kind}-{number}>");
            if !self.text_of.contains_key(&name) {
                return name;
            }
            *number += 1;
        }
    }

    fn give(&mut self, name: String, text: &str) {
        if !self.name_of.contains_key(text) {
            self.name_of.insert(text.into(), name.clone());
            self.text_of.insert(name, text.into());
        }
    }
}

/// Whether all variables in `value` can be sent. The error gives the reason why not.
pub fn check_sendable(value: &Value) -> Result<(), String> {
    for_each_scalar(&mut value.clone(), &mut |scalar| match scalar {
        Value::String(text) if text == TIME || text == MILLISECONDS => {
            Err(format!("{text} stands for any time and cannot be sent; <{text} is this very text"))
        }
        _ => Ok(()),
    })
}

/// Visits every value that is no array and no object, and the keys of objects.
fn for_each_scalar(
    value: &mut Value,
    change: &mut impl FnMut(&mut Value) -> Result<(), String>,
) -> Result<(), String> {
    match value {
        Value::Array(values) => {
            values.iter_mut().try_for_each(|value| for_each_scalar(value, change))
        }
        Value::Object(fields) => {
            let rename = |(key, mut value): (String, Value)| {
                let mut name = Value::String(key.clone());
                change(&mut name)?;
                for_each_scalar(&mut value, change)?;
                // Two keys that are times would be one field.
                let name = name.as_str().filter(|name| *name != TIME).unwrap_or(&key).to_owned();
                Ok::<_, String>((name, value))
            };
            *fields = std::mem::take(fields).into_iter().map(rename).collect::<Result<_, _>>()?;
            Ok(())
        }
        scalar => change(scalar),
    }
}

fn text_of(scalar: &Value) -> String {
    scalar.as_str().map_or_else(|| scalar.to_string(), Into::into)
}

/// Whether a text is `<kind-N>`: small letters, and a number from 1 on.
pub(super) fn is_variable(text: &str) -> bool {
    let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    inner.and_then(|inner| inner.split_once('-')).is_some_and(|(kind, number)| {
        !kind.is_empty()
            && kind.bytes().all(|byte| byte.is_ascii_lowercase())
            && (1..=6).contains(&number.len())
            && number.bytes().all(|byte| byte.is_ascii_digit())
            && !number.starts_with('0')
    })
}

fn kind_of(variable: &str) -> &str {
    variable[1..].split_once('-').map_or("", |(kind, _)| kind)
}

/// Whether a text has the form of a variable once its first `<`s are taken for one.
fn looks_like_variable(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('<') else { return false };
    let core = format!("<{}", rest.trim_start_matches('<'));
    is_variable(&core) || core == TIME || core == MILLISECONDS
}

fn escape(text: &mut String) {
    if looks_like_variable(text) {
        text.insert(0, '<');
    }
}

fn unescape(text: &mut String) {
    if text.starts_with("<<") && looks_like_variable(text) {
        text.remove(0);
    }
}

fn is_message_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_uuid(text: &str) -> bool {
    let groups = text.split('-').map(str::len);
    text.len() == 36
        && groups.eq([8, 4, 4, 4, 12])
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

/// Whether a text is a time as the contract writes it, to the millisecond and with a `Z`.
fn is_time(text: &str) -> bool {
    let has_form = text.len() == 24 && text.as_bytes()[19] == b'.' && text.ends_with('Z');
    has_form && text.parse::<jiff::Timestamp>().is_ok()
}

/// Whether a number is a time as `Date.now()` returns it: milliseconds since 1970, of the years
/// 2001 to 2286.
fn is_milliseconds(number: &serde_json::Number) -> bool {
    number.as_u64().is_some_and(|number| (1_000_000_000_000..10_000_000_000_000).contains(&number))
}

#[cfg(test)]
mod tests;
