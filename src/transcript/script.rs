//! Reads a conversation file into its steps.

use anyhow::{Context, Result, bail};

/// A conversation file, line by line.
#[derive(Debug)]
pub struct Script {
    pub lines: Vec<Line>,
}

/// A line at the margin, as it was written, and the step that it is. Comments and empty lines are
/// none.
#[derive(Debug)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    pub text: String,
    pub step: Option<Step>,
}

/// One thing that a client does.
#[derive(Debug)]
pub struct Step {
    pub client: String,
    pub action: Action,
}

#[derive(Debug)]
pub enum Action {
    Connect,
    /// Says goodbye.
    Disconnect,
    /// Breaks the connection without a word.
    Vanish,
    /// Waits until an event of this name arrives.
    Await(String),
    /// Emits an event, with a callback if it asks. The payload is JSON, with names in it.
    Emit {
        event: String,
        payload: Option<String>,
        asks: bool,
    },
}

impl Script {
    /// Reads a conversation file. An error names the line and what is expected there.
    pub fn parse(text: &str) -> Result<Self> {
        let at_margin = text.lines().enumerate().filter(|(_, line)| !line.starts_with([' ', '\t']));
        let lines = at_margin.map(|(index, line)| {
            let number = index + 1;
            let step = parse_line(line).with_context(|| format!("line {number}"))?;
            Ok(Line { number, text: line.trim_end().into(), step })
        });
        Ok(Self { lines: lines.collect::<Result<_>>()? })
    }
}

fn parse_line(line: &str) -> Result<Option<Step>> {
    if line.trim().is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (client, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (verb, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let action = match (verb, rest.trim()) {
        ("connects", "") => Action::Connect,
        ("disconnects", "") => Action::Disconnect,
        ("vanishes", "") => Action::Vanish,
        ("awaits", event) if !event.is_empty() => Action::Await(event.into()),
        (">" | "?", emission) if !emission.is_empty() => {
            let (event, payload) = emission.split_once(' ').unwrap_or((emission, ""));
            let payload = Some(payload.trim()).filter(|payload| !payload.is_empty());
            Action::Emit {
                event: event.into(),
                payload: payload.map(Into::into),
                asks: verb == "?",
            }
        }
        _ => bail!(
            "expected a client's name and what it does: connects, disconnects, vanishes, \
             awaits EVENT, > EVENT PAYLOAD or ? EVENT PAYLOAD"
        ),
    };
    Ok(Some(Step { client: client.into(), action }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_is_read_as_its_script() {
        let script =
            Script::parse("# Hello.\na connects\na > x {\"y\": 1}\n  a < z 1\n\nb ? x\n").unwrap();
        let texts: Vec<_> = script.lines.iter().map(|line| &*line.text).collect();
        assert_eq!(texts, ["# Hello.", "a connects", "a > x {\"y\": 1}", "", "b ? x"]);
        let Some(Step { action: Action::Emit { event, payload, asks }, .. }) =
            &script.lines[2].step
        else {
            panic!("not an emission");
        };
        assert_eq!((event.as_str(), payload.as_deref(), *asks), ("x", Some("{\"y\": 1}"), false));
        assert!(script.lines[0].step.is_none());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = Script::parse("a connects\na shouts").unwrap_err();
        assert!(format!("{error:#}").starts_with("line 2: expected a client's name"), "{error:#}");
    }
}
