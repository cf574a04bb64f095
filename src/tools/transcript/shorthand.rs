//! The short forms of answers, so that a transcript reads like a chat log.
//!
//! They are a matter of text alone: a script holds whole values, whichever form its file has.
//!
//! - `<message-1>` without quotation marks is the object with this `id`, as it was last shown;
//! - `...conversation-history` in an object stands for the fields of the payload of that event,
//!   which the same client has received in the same step, with `but event` for all except `event`;
//! - `"x"*10001` is a text that repeats another one.
//!
//! [`Shown`] is what a reader has seen so far. Writing and reading keep it in the same way, so that
//! what is written short is read as it was.

use std::{collections::HashMap, fmt::Write};

use serde_json::{Map, Value};

use super::{
    names::is_variable,
    script::{Answer, What},
};

/// Texts are repeated if this makes them much shorter.
const LONG_TEXT: usize = 100;

/// What a reader has seen: objects by their names, and the events of the present step.
#[derive(Default)]
pub struct Shown {
    objects: HashMap<String, Value>,
    /// Client, event, payload.
    events: Vec<(String, String, Value)>,
}

impl Shown {
    /// The answers below belong to another step.
    pub fn next_step(&mut self) {
        self.events.clear();
    }

    /// Writes an answer, without indentation or line end, and takes note of it.
    pub fn write(&mut self, answer: &Answer) -> String {
        let mut text = answer.head();
        for argument in &answer.arguments {
            text.push(' ');
            self.write_value(&mut text, argument, answer);
        }
        self.note_event(answer);
        text
    }

    /// Takes note of an answer that stands in its long form.
    pub fn note(&mut self, answer: &Answer) {
        answer.arguments.iter().for_each(|argument| self.note_objects(argument));
        self.note_event(answer);
    }

    /// Takes note of an event for the acknowledgement that follows it. Its objects are noted while
    /// they are written or read.
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

    /// The part of an acknowledgement's object that an event of this step has said before.
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

    /// Takes note of all objects in a value, the inner ones first.
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

    /// Puts whole values into the place of short forms in a value that was read, and takes note of
    /// its objects. The error says what a short form does not stand for.
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
    // Nothing was shown, so nothing but repetitions is short.
    let nobody = Answer { client: String::new(), what: What::Ack, arguments: Vec::new() };
    Shown::default().write_value(text, value, &nobody);
}

/// Fields of an acknowledgement that an event has said before, and what stands for them.
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

/// Where `part` stands in `fields`, one behind the other.
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

// While a value is read, its short forms are objects with one of these keys. A control character
// that JSON texts of others hardly begin with keeps them apart.
const REFERENCE: &str = "\u{1}object";
const REPEAT: &str = "\u{1}repeat";
const SPREAD: &str = "\u{1}fields";

fn marked(fields: &Map<String, Value>) -> Option<(&str, &Value)> {
    let (key, value) = fields.iter().next().filter(|_| fields.len() == 1)?;
    matches!(key.as_str(), REFERENCE | REPEAT).then_some((key.as_str(), value))
}

/// A value with short forms, as JSON.
pub(super) struct Lowered {
    pub json: String,
    /// Where the value ends in the text that it was read from.
    pub end: usize,
    /// Places in the JSON, and the places in the text from which they come.
    places: Vec<(usize, usize)>,
}

impl Lowered {
    /// Rewrites the value that `text` begins with. `None` if it has no short forms.
    pub fn new(text: &str) -> Option<Self> {
        let mut lowered = Self { json: String::new(), end: 0, places: vec![(0, 0)] };
        let mut has_short_forms = false;
        let mut depth = 0_usize;
        let mut spreads = 0;
        while let Some(next) = text[lowered.end..].chars().next() {
            if depth == 0 && next.is_whitespace() && !lowered.json.is_empty() {
                break;
            }
            let rest = &text[lowered.end..];
            let short = match next {
                '"' => repetition(rest),
                '<' => reference(rest),
                '.' => spread(rest, &mut spreads),
                _ => None,
            };
            has_short_forms |= short.is_some();
            let (json, length) = match short {
                Some(short) => short,
                None if next == '"' => {
                    let length = string_length(rest);
                    (rest[..length].to_owned(), length)
                }
                None => (next.to_string(), next.len_utf8()),
            };
            lowered.json.push_str(&json);
            lowered.end += length;
            lowered.places.push((lowered.json.len(), lowered.end));
            match next {
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(next, '"' | '<' | '}' | ']') {
                break;
            }
        }
        has_short_forms.then_some(lowered)
    }

    /// The place in the text that this place in the JSON comes from.
    pub fn place(&self, at: usize) -> usize {
        let index = self.places.partition_point(|(json, _)| *json <= at);
        self.places[index.saturating_sub(1)].1
    }
}

/// The length of the JSON string that `text` begins with; to the end if it has none.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (index, c) in text.char_indices().skip(1) {
        match c {
            '"' if !is_escaped => return index + 1,
            '\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    text.len()
}

fn repetition(text: &str) -> Option<(String, usize)> {
    let length = string_length(text);
    let times = text[length..].strip_prefix('*')?;
    let digits = times.len() - times.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let times = Some(&times[..digits]).filter(|digits| (1..=9).contains(&digits.len()))?;
    let number: u64 = times.parse().ok()?;
    let key = Value::from(REPEAT);
    Some((format!("{{{key}:[{},{number}]}}", &text[..length]), length + 1 + digits))
}

fn reference(text: &str) -> Option<(String, usize)> {
    let name = &text[..=text.find('>')?];
    let inner = &name[1..name.len() - 1];
    let is_name = !inner.is_empty() && inner.chars().all(is_word_char);
    is_name.then(|| (format!("{{{}:{}}}", Value::from(REFERENCE), Value::from(name)), name.len()))
}

fn spread(text: &str, count: &mut usize) -> Option<(String, usize)> {
    let word = |text: &str| text.len() - text.trim_start_matches(is_word_char).len();
    let rest = text.strip_prefix("...")?;
    let mut length = Some(word(rest)).filter(|length| *length > 0)?;
    if let Some(but) = rest[length..].strip_prefix(" but ") {
        length += " but ".len() + word(but);
    }
    *count += 1;
    // Each has a key of its own, because one object may have two.
    let key = Value::from(format!("{SPREAD}{count}"));
    Some((format!("{key}:{}", Value::from(&rest[..length])), "...".len() + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{super::script::Script, *};

    const TALK: &str = r#"alice connects
bob connects
alice ? send-message {"conversationId":"c1","message":"x"*200}
  alice < message-sent {"id":"<message-1>","content":"x"*200}
  alice < message-delivered {"messageId":"<message-1>"}
  alice < ack {"ok":true,"message":<message-1>}
  bob < receive-message <message-1>
bob ? join-conversation {"conversationId":"c1"}
  bob < conversation-history {"messages":[<message-1>,{"id":"<message-2>","from":{"id":"alice","name":"Alice"}}],"hasMore":false}
  bob < ack {"ok":true,...conversation-history}
bob ? list-conversations {}
  bob < conversation-list {"last":<message-2>,"with":[<alice>]}
  bob < error {"code":"x","message":"y","event":"z"}
  bob < ack {"ok":false,"error":{...error but event}}
"#;

    fn answers(script: &Script) -> Vec<Answer> {
        let answers = script.lines.iter().filter_map(|line| match &line.content {
            super::super::script::Content::Answer(answer) => Some(answer.clone()),
            _ => None,
        });
        answers.collect()
    }

    #[test]
    fn short_forms_stand_for_what_was_shown() {
        let script = Script::parse(TALK).unwrap_or_else(|error| panic!("{error}"));
        let answers = answers(&script);
        let message = json!({ "id": "<message-1>", "content": "x".repeat(200) });
        assert_eq!(answers[2].arguments, [json!({ "ok": true, "message": message })]);
        assert_eq!(answers[3].arguments, std::slice::from_ref(&message));
        let alice = json!({ "id": "alice", "name": "Alice" });
        let second = json!({ "id": "<message-2>", "from": alice });
        let history = json!({ "ok": true, "messages": [message, second], "hasMore": false });
        assert_eq!(answers[5].arguments, [history]);
        assert_eq!(answers[6].arguments, [json!({ "last": second, "with": [alice] })]);
        let error = json!({ "ok": false, "error": { "code": "x", "message": "y" } });
        assert_eq!(answers[8].arguments, [error]);
    }

    #[test]
    fn what_was_read_is_written_as_it_was() {
        let script = Script::parse(TALK).unwrap_or_else(|error| panic!("{error}"));
        let mut shown = Shown::default();
        let mut text = String::new();
        for line in &script.lines {
            match &line.content {
                super::super::script::Content::Answer(answer) => {
                    text.push_str(&format!("  {}\n", shown.write(answer)));
                }
                content => {
                    shown.next_step();
                    text.push_str(&format!("{content}\n"));
                }
            }
        }
        assert_eq!(text, TALK);
    }

    /// Payloads in which the same few objects come again and again, changed or not.
    fn payload() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            (0..3_u8).prop_map(Value::from),
            prop_oneof!["x{150}", "<(message|m)-1>", "[a<>.*\"\\\\ ]{0,4}"].prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let key = prop_oneof![Just("id"), Just("n"), Just("event"), Just("ok")];
            let fields = prop::collection::vec((key.prop_map(String::from), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(Value::from),
                fields.prop_map(|fields| fields.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_written_is_read_as_it_was(
            received in prop::collection::vec((any::<bool>(), payload()), 0..8),
        ) {
            let mut shown = Shown::default();
            let mut text = "a connects\n".to_owned();
            let mut written = Vec::new();
            for (is_event, payload) in received {
                let what = if is_event { What::Event("e".into()) } else { What::Ack };
                let answer = Answer { client: "a".into(), what, arguments: vec![payload] };
                text.push_str(&format!("  {}\n", shown.write(&answer)));
                written.push(answer);
            }
            let script = Script::parse(&text);
            prop_assert_eq!(answers(&script.map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?), written);
        }
    }

    #[test]
    fn an_object_that_changed_is_shown_in_full() {
        let mut shown = Shown::default();
        let mut write = |object| {
            let what = What::Event("e".into());
            shown.write(&Answer { client: "a".into(), what, arguments: vec![object] })
        };
        assert_eq!(write(json!({ "id": "m", "n": 1 })), r#"a < e {"id":"m","n":1}"#);
        assert_eq!(write(json!({ "id": "m", "n": 1 })), "a < e <m>");
        assert_eq!(write(json!({ "id": "m", "n": 2 })), r#"a < e {"id":"m","n":2}"#);
        assert_eq!(write(json!({ "id": "m", "n": 1 })), r#"a < e {"id":"m","n":1}"#);
    }

    #[test]
    fn a_short_form_that_stands_for_nothing_is_named_with_its_place() {
        for (answer, expected) in [
            ("<message-7>", "2:9: <message-7> was not shown above"),
            (r#"{"ok":true,...x}"#, "2:9: a has received no x in this step above"),
            (r#"{"ok":tru,"m":<a>}"#, "2:18: expected JSON: expected ident"),
            (r#""x"*999999999"#, "2:9: a text has at most 16777216 bytes"),
        ] {
            let error = Script::parse(&format!("a connects\n  a < e {answer}")).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error} instead of {expected}");
        }
        let error = Script::parse("a connects\na > e <message-1>").unwrap_err().to_string();
        assert_eq!(error, "2:7: <message-1> was not shown above");
    }
}
