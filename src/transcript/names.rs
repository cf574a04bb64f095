//! Stable names for what changes from run to run: ids that the server makes, and times.

use std::collections::HashSet;

use anyhow::{Result, bail};
use serde_json::Value;

/// The names given so far.
#[derive(Default)]
pub struct Names {
    /// The message ids, in the order in which they were first seen: `<message-1>` is the first.
    messages: Vec<String>,
    /// Texts that a client sent. The server did not make them, whatever they look like.
    sent: HashSet<String>,
}

impl Names {
    /// The JSON of a payload in which names stand for ids, with the ids.
    pub fn resolve(&mut self, payload: &str) -> Result<Value> {
        let mut value = serde_json::from_str(payload)?;
        self.resolve_value(&mut value)?;
        Ok(value)
    }

    /// The JSON of what was received, with names for ids and times.
    pub fn name(&mut self, mut value: Value) -> String {
        for_each_text(&mut value, &mut |text| {
            if is_time(text) {
                *text = "<time>".into();
            } else if is_message_id(text) && !self.sent.contains(text) {
                let known = self.messages.iter().position(|id| id == text);
                let index = known.unwrap_or_else(|| {
                    self.messages.push(text.clone());
                    self.messages.len() - 1
                });
                *text = format!("<message-{}>", index + 1);
            }
            Ok(())
        })
        .expect("naming does not fail");
        value.to_string()
    }

    fn resolve_value(&mut self, value: &mut Value) -> Result<()> {
        let Self { messages, sent } = self;
        for_each_text(value, &mut |text| {
            let name = text.strip_prefix("<message-").and_then(|rest| rest.strip_suffix('>'));
            let Some(number) = name.and_then(|number| number.parse::<usize>().ok()) else {
                sent.insert(text.clone());
                return Ok(());
            };
            match number.checked_sub(1).and_then(|index| messages.get(index)) {
                Some(id) => text.clone_from(id),
                None => bail!("{text} was not seen yet"),
            }
            Ok(())
        })
    }
}

fn for_each_text(
    value: &mut Value,
    change: &mut impl FnMut(&mut String) -> Result<()>,
) -> Result<()> {
    match value {
        Value::String(text) => change(text),
        Value::Array(values) => {
            values.iter_mut().try_for_each(|value| for_each_text(value, change))
        }
        Value::Object(fields) => {
            fields.values_mut().try_for_each(|value| for_each_text(value, change))
        }
        _ => Ok(()),
    }
}

fn is_message_id(text: &str) -> bool {
    text.len() == 24 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether it is a time as the contract writes it, to the millisecond and with a `Z`.
fn is_time(text: &str) -> bool {
    let has_form = text.len() == 24 && text.as_bytes()[19] == b'.' && text.ends_with('Z');
    has_form && text.parse::<jiff::Timestamp>().is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FIRST: &str = "65f0aaaaaaaaaaaaaaaaaaaa";
    const SECOND: &str = "65f0bbbbbbbbbbbbbbbbbbbb";

    #[test]
    fn the_same_id_has_the_same_name_everywhere() {
        let mut names = Names::default();
        assert_eq!(names.name(json!([FIRST, SECOND])), r#"["<message-1>","<message-2>"]"#);
        assert_eq!(names.name(json!({ "id": SECOND })), r#"{"id":"<message-2>"}"#);
        assert_eq!(names.resolve(r#"["<message-2>"]"#).unwrap(), json!([SECOND]));
    }

    #[test]
    fn an_id_that_a_client_sent_stays_as_it_is() {
        let mut names = Names::default();
        names.resolve(&format!("[\"{FIRST}\"]")).unwrap();
        assert_eq!(names.name(json!(FIRST)), format!("\"{FIRST}\""));
    }

    #[test]
    fn only_a_time_of_the_contracts_form_is_one() {
        let mut names = Names::default();
        assert_eq!(names.name(json!("2025-11-11T10:30:00.000Z")), "\"<time>\"");
        for other in
            ["2025-11-11T10:30:00Z", "2025-11-11T10:30:00.0000Z", "2025-13-11T10:30:00.000Z"]
        {
            assert_eq!(names.name(json!(other)), format!("\"{other}\""));
        }
    }

    #[test]
    fn a_name_that_was_not_seen_is_an_error() {
        let error = Names::default().resolve(r#"{"id":"<message-1>"}"#).unwrap_err();
        assert_eq!(error.to_string(), "<message-1> was not seen yet");
    }
}
