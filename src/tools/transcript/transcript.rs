//! A conversation that was played: its script, and the answers that each client received.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::{
    compare::{Difference, DifferenceKind, fields, pairs},
    parse::is_long,
    script::{Answer, Content, Script},
    shorthand::Shown,
};

/// The result of a script. Its text is the script's, with the answers below each step.
#[derive(Clone, Debug)]
pub struct Transcript {
    pub(super) script: Script,
    /// The answers by the index of the step's line. Steps that were not played have none.
    pub(super) answers: BTreeMap<usize, Vec<Answer>>,
    pub(super) stop: Option<Stop>,
    pub(super) ignores_order: bool,
}

/// The reason why the conversation did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stop {
    /// The line of the step.
    pub line: usize,
    pub reason: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl Script {
    /// The answers that stand below the step at this index.
    pub(super) fn answers_below(&self, step: usize) -> Vec<&Answer> {
        self.lines_below(step).map(|(_, _, answer)| answer).collect()
    }

    /// The answers below a step, with the number and the text of each line.
    fn lines_below(&self, step: usize) -> impl Iterator<Item = (usize, &str, &Answer)> {
        self.lines[step + 1..].iter().map_while(|line| match &line.content {
            Content::Answer(answer) => Some((line.number, line.text.as_str(), answer)),
            _ => None,
        })
    }
}

impl Transcript {
    /// The script that was played, with the answers that it had.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The reason why the conversation did not come to its end, if it did not.
    pub fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// From now on, comparisons ignore the order of fields, for servers that order theirs
    /// differently.
    pub fn ignore_order(&mut self) {
        self.ignores_order = true;
    }

    fn is_same(&self, expected: &Answer, actual: &Answer) -> bool {
        let mut kinds = fields(&expected.arguments, &actual.arguments);
        kinds.retain(|kind| self.counts(kind));
        kinds.is_empty()
    }

    fn counts(&self, kind: &DifferenceKind) -> bool {
        !(self.ignores_order && matches!(kind, DifferenceKind::Order { .. }))
    }

    /// The file as far as the conversation went, written as [`Transcript`] writes it, so that the
    /// two differ only where their meaning does.
    pub fn expected(&self) -> String {
        let stopped_at = self.stop.as_ref().map_or(usize::MAX, |stop| stop.line);
        let mut text = String::new();
        let mut shown = Shown::default();
        for line in &self.script.lines {
            let written = match &line.content {
                Content::Answer(answer) => write_answer(&mut shown, answer, Some(&line.text)),
                _ if line.number > stopped_at => continue,
                content => {
                    if let Content::Step(_) = content {
                        shown.next_step();
                    }
                    line.text.clone()
                }
            };
            text.push_str(&written);
            text.push('\n');
        }
        text
    }

    /// The differences between the server's answers and the file, as far as the conversation went.
    pub fn differences(&self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (&step, actual) in &self.answers {
            let lines: Vec<_> = self.script.lines_below(step).collect();
            let expected: Vec<_> = lines.iter().map(|(.., answer)| *answer).collect();
            for pair in pairs(&expected, actual).iter() {
                match pair {
                    (Some(old), Some(new)) => {
                        let kinds = fields(&expected[old].arguments, &actual[new].arguments);
                        for kind in kinds.into_iter().filter(|kind| self.counts(kind)) {
                            // The differences of an object that was shown above are reported there.
                            let is_told = |other: &Difference| kind.repeats(&other.kind);
                            if is_long(lines[old].1) || !differences.iter().any(is_told) {
                                differ(&mut differences, lines[old].0, expected[old], kind);
                            }
                        }
                    }
                    (Some(old), None) => differ(
                        &mut differences,
                        lines[old].0,
                        expected[old],
                        DifferenceKind::Missing,
                    ),
                    (None, Some(new)) => {
                        let arguments = actual[new].arguments.clone();
                        let line = self.script.lines[step].number;
                        let kind = DifferenceKind::Unexpected { arguments };
                        differ(&mut differences, line, &actual[new], kind);
                    }
                    (None, None) => {}
                }
            }
        }
        differences
    }

    /// The answers below a step. Answers that match the file keep their format.
    fn write_answers(&self, f: &mut fmt::Formatter, step: usize, shown: &mut Shown) -> fmt::Result {
        let Some(actual) = self.answers.get(&step) else { return Ok(()) };
        let lines: Vec<_> = self.script.lines_below(step).collect();
        let expected: Vec<_> = lines.iter().map(|(.., answer)| *answer).collect();
        let texts: BTreeMap<_, _> = pairs(&expected, actual)
            .both()
            .filter(|&(old, new)| self.is_same(expected[old], &actual[new]))
            .map(|(old, new)| (new, lines[old].1))
            .collect();
        for (index, answer) in actual.iter().enumerate() {
            writeln!(f, "{}", write_answer(shown, answer, texts.get(&index).copied()))?;
        }
        Ok(())
    }
}

fn differ(differences: &mut Vec<Difference>, line: usize, answer: &Answer, kind: DifferenceKind) {
    let (client, what) = (answer.client.clone(), answer.what.to_string());
    differences.push(Difference { line, client, what, kind });
}

/// Writes an answer in its short form, or as a person has formatted it by hand.
fn write_answer(shown: &mut Shown, answer: &Answer, text: Option<&str>) -> String {
    // A program writes an answer on one line.
    let by_hand = text.filter(|text| text.contains('\n') && is_long(text));
    match by_hand {
        Some(text) => {
            shown.note(answer);
            text.into()
        }
        None => format!("  {}", shown.write(answer)),
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut shown = Shown::default();
        for (index, line) in self.script.lines.iter().enumerate() {
            if let Content::Answer(_) = line.content {
                continue;
            }
            writeln!(f, "{}", line.text)?;
            if let Content::Step(_) = line.content {
                shown.next_step();
            }
            self.write_answers(f, index, &mut shown)?;
            if self.stop.as_ref().is_some_and(|stop| stop.line == line.number) {
                break;
            }
        }
        Ok(())
    }
}
