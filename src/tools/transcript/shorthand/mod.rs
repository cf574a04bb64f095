//! The short forms of answers, so that a transcript reads like a chat log.
//!
//! Short forms are a matter of text alone: a script holds whole values, whichever form its file
//! has.
//!
//! - `<message-1>` without quotation marks is the object with this `id`, as it was last shown;
//! - `...conversation-history` in an object stands for the fields of the payload of that event,
//!   which the same client has received in the same step, with `but event` for all except `event`;
//! - `"x"*10001` is a text that repeats another one.
//!
//! [`Shown`] holds the values that a reader has seen so far. Writing and reading keep it in the
//! same way, so that a short form is read as it was written.

mod lowered;

use std::{collections::HashMap, fmt::Write};

use serde_json::{Map, Value};

use super::{
    names::is_variable,
    script::{Answer, What},
};
pub(super) use lowered::Lowered;
use lowered::{REFERENCE, REPEAT, SPREAD};

/// Texts that are longer than this are written as repetitions, if they repeat one character.
const LONG_TEXT: usize = 100;

/// The values that a reader has seen: objects by their names, and the events of the present step.
#[derive(Default)]
pub struct Shown {
    objects: HashMap<String, Value>,
    /// Client, event, payload.
    events: Vec<(String, String, Value)>,
}

impl Shown {
    /// Starts another step, to which the answers below belong.
    pub fn next_step(&mut self) {
        self.events.clear();
    }

    /// Writes an answer, without indentation or line end, and notes it.
    pub fn write(&mut self, answer: &Answer) -> String {
        let mut text = answer.head();
        for argument in &answer.arguments {
            text.push(' ');
            self.write_value(&mut text, argument, answer);
        }
        self.note_event(answer);
        text
    }

    /// Notes an answer that stands in its long form.
    pub fn note(&mut self, answer: &Answer) {
        answer.arguments.iter().for_each(|argument| self.note_objects(argument));
        self.note_event(answer);
    }

    /// Notes an event for the acknowledgement that follows it. Its objects are noted while they are
    /// written or read.
    pub fn note_event(&mut self, answer: &Answer) {
        if let (What::Event(name), Some(payload)) = (&answer.what, answer.arguments.first()) {
            self.events.push((answer.client.clone(), name.clone(), payload.clone()));
        }
    }

    fn write_value(&mut self, text: &mut String, value: &Value, answer: &Answer) {
        match value {
            Value::Object(fields) => self.write_object(text, value, fields, answer),
            Value::Array(values) => {
                text.push('[');
                for (index, value) in values.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    self.write_value(text, value, answer);
                }
                text.push(']');
            }
            Value::String(string) => match repeated(string) {
                Some((part, times)) => {
                    let _ = write!(text, "{}*{times}", Value::from(part));
                }
                None => {
                    let _ = write!(text, "{value}");
                }
            },
            scalar => {
                let _ = write!(text, "{scalar}");
            }
        }
    }

    fn write_object(
        &mut self,
        text: &mut String,
        value: &Value,
        fields: &Map<String, Value>,
        answer: &Answer,
    ) {
        if let Some(name) = name_of(fields)
            && self.objects.get(&name) == Some(value)
        {
            text.push_str(&name);
            return fields.values().for_each(|value| self.note_objects(value));
        }
        let spread =
            (answer.what == What::Ack).then(|| self.spread(fields, &answer.client)).flatten();
        text.push('{');
        for (index, (key, field)) in fields.iter().enumerate() {
            let said = spread.as_ref().filter(|spread| spread.covers(index));
            match said {
                Some(spread) => {
                    if spread.start == index {
                        text.push_str(if index > 0 { "," } else { "" });
                        text.push_str(&spread.text);
                    }
                    self.note_objects(field);
                }
                None => {
                    text.push_str(if index > 0 { "," } else { "" });
                    let _ = write!(text, "{}:", Value::from(key.as_str()));
                    self.write_value(text, field, answer);
                }
            }
        }
        text.push('}');
        self.note_object(value);
    }

    /// The part of an acknowledgement's object that an event of this step has shown before.
    fn spread(&self, fields: &Map<String, Value>, client: &str) -> Option<Spread> {
        let events = self.events.iter().rev().filter(|(receiver, ..)| receiver == client);
        events.filter_map(|(_, name, payload)| Some((name, payload.as_object()?))).find_map(
            |(name, payload)| {
                let without = payload.keys().map(|key| Some(key.as_str()));
                std::iter::once(None).chain(without).find_map(|but| {
                    let said: Vec<_> =
                        payload.iter().filter(|(key, _)| but != Some(key.as_str())).collect();
                    let start = start_of(fields, &said).filter(|_| said.len() > 1)?;
                    let but = but.map(|key| format!(" but {key}")).unwrap_or_default();
                    let is_word = |text: &str| text.chars().all(is_word_char);
                    let text = format!("...{name}{but}");
                    (is_word(name) && payload.keys().all(|key| is_word(key))).then_some(Spread {
                        start,
                        length: said.len(),
                        text,
                    })
                })
            },
        )
    }

    /// Notes all objects in a value, the inner ones first.
    fn note_objects(&mut self, value: &Value) {
        match value {
            Value::Array(values) => values.iter().for_each(|value| self.note_objects(value)),
            Value::Object(fields) => {
                fields.values().for_each(|value| self.note_objects(value));
                self.note_object(value);
            }
            _ => {}
        }
    }

    fn note_object(&mut self, value: &Value) {
        if let Some(name) = value.as_object().and_then(name_of) {
            self.objects.insert(name, value.clone());
        }
    }

    /// Replaces short forms in a value by whole values, and notes its objects. The error names a
    /// short form that stands for nothing.
    pub fn expand(&mut self, value: Value, client: &str) -> Result<Value, String> {
        match value {
            Value::Array(values) => {
                values.into_iter().map(|value| self.expand(value, client)).collect()
            }
            Value::Object(fields) => match marked(&fields) {
                Some((REFERENCE, name)) => {
                    let name = name.as_str().unwrap_or_default();
                    let object = self.objects.get(name).cloned();
                    let object = object.ok_or_else(|| format!("{name} was not shown above"))?;
                    self.note_objects(&object);
                    Ok(object)
                }
                Some((REPEAT, repeat)) => expand_repeat(repeat),
                _ => self.expand_fields(fields, client),
            },
            scalar => Ok(scalar),
        }
    }

    fn expand_fields(&mut self, fields: Map<String, Value>, client: &str) -> Result<Value, String> {
        let mut expanded = Map::new();
        for (key, value) in fields {
            if key.starts_with(SPREAD) {
                let text = value.as_str().unwrap_or_default();
                let (name, but) =
                    text.split_once(" but ").map_or((text, None), |(name, but)| (name, Some(but)));
                let is_meant = |(receiver, event, _): &&(String, String, Value)| {
                    receiver == client && event == name
                };
                let event = self.events.iter().rev().find(is_meant);
                let payload = event.and_then(|(_, _, payload)| payload.as_object());
                let payload = payload
                    .ok_or_else(|| format!("{client} has received no {name} in this step above"))?;
                let said = payload.clone().into_iter().filter(|(key, _)| Some(key.as_str()) != but);
                let said: Vec<_> = said.collect();
                said.iter().for_each(|(_, value)| self.note_objects(value));
                expanded.extend(said);
            } else {
                let value = self.expand(value, client)?;
                expanded.insert(key, value);
            }
        }
        let value = Value::Object(expanded);
        self.note_object(&value);
        Ok(value)
    }
}

/// A text as it stands in a step, short if it repeats.
pub(super) fn write_argument(text: &mut String, value: &Value) {
    // A step follows no answers, so only repetitions are short.
    let nobody = Answer { client: String::new(), what: What::Ack, arguments: Vec::new() };
    Shown::default().write_value(text, value, &nobody);
}

/// Fields of an acknowledgement that an event has shown before, and their short form.
struct Spread {
    start: usize,
    length: usize,
    text: String,
}

impl Spread {
    fn covers(&self, index: usize) -> bool {
        (self.start..self.start + self.length).contains(&index)
    }
}

/// The index of `part` in `fields`, if its fields stand there one after the other.
fn start_of(fields: &Map<String, Value>, part: &[(&String, &Value)]) -> Option<usize> {
    let (first, _) = part.first()?;
    let start = fields.keys().position(|key| key == *first)?;
    let there = fields.iter().skip(start).take(part.len());
    (there.clone().count() == part.len() && there.eq(part.iter().copied())).then_some(start)
}

/// The name of an object, from its `id`.
fn name_of(fields: &Map<String, Value>) -> Option<String> {
    let id = fields.get("id")?.as_str().filter(|_| fields.len() > 1)?;
    if is_variable(id) {
        return Some(id.into());
    }
    (!id.is_empty() && id.len() <= 64 && id.chars().all(is_word_char)).then(|| format!("<{id}>"))
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || "-_.@:".contains(c)
}

/// The part and the number of times, of a long text that repeats one character.
fn repeated(text: &str) -> Option<(&str, usize)> {
    let first = text.chars().next()?;
    let is_repeated = text.len() > LONG_TEXT && text.chars().all(|c| c == first);
    is_repeated.then(|| (&text[..first.len_utf8()], text.len() / first.len_utf8()))
}

/// The largest text that a repetition may make, in bytes.
const LONGEST_TEXT: usize = 16 << 20;

fn expand_repeat(repeat: &Value) -> Result<Value, String> {
    let part = repeat[0].as_str().unwrap_or_default();
    let times = repeat[1].as_u64().and_then(|times| usize::try_from(times).ok());
    let times = times.filter(|times| part.len().saturating_mul(*times) <= LONGEST_TEXT);
    let times = times.ok_or_else(|| format!("a text has at most {LONGEST_TEXT} bytes"))?;
    Ok(part.repeat(times).into())
}

fn marked(fields: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (key, value) = fields.iter().next().filter(|_| fields.len() == 1)?;
    matches!(key.as_str(), REFERENCE | REPEAT).then_some((key.as_str(), value))
}

#[cfg(test)]
mod tests;
