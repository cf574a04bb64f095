//! The comparison of expected and received answers.

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use super::script::{Answer, What};

/// Pairs of expected and received answers of a step, by their indices.
pub(super) struct Pairs {
    pairs: Vec<(Option<usize>, Option<usize>)>,
}

impl Pairs {
    /// The pairs with both an expected and a received answer.
    pub fn both(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.pairs.iter().filter_map(|(expected, actual)| (*expected).zip(*actual))
    }

    pub fn iter(&self) -> impl Iterator<Item = (Option<usize>, Option<usize>)> + '_ {
        self.pairs.iter().copied()
    }
}

/// Pairs answers of the same client and name, in their order.
pub(super) fn pairs(expected: &[&Answer], actual: &[Answer]) -> Pairs {
    let expected: Vec<_> = expected.iter().map(|answer| (&answer.client, &answer.what)).collect();
    let actual: Vec<_> = actual.iter().map(|answer| (&answer.client, &answer.what)).collect();
    let mut pairs = Vec::new();
    for operation in capture_diff_slices(Algorithm::Patience, &expected, &actual) {
        let (old, new) = (operation.old_range(), operation.new_range());
        match operation {
            DiffOp::Equal { .. } => {
                pairs.extend(old.zip(new).map(|(old, new)| (Some(old), Some(new))))
            }
            _ => {
                pairs.extend(old.map(|old| (Some(old), None)));
                pairs.extend(new.map(|new| (None, Some(new))));
            }
        }
    }
    Pairs { pairs }
}

/// One difference between the expected and the received answers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The line of the file: that of the answer, or that of the step before an unexpected one.
    pub line: usize,
    pub client: String,
    /// The name of the event, or `ack`.
    pub what: String,
    #[serde(flatten)]
    pub kind: DifferenceKind,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "difference", rename_all = "kebab-case")]
pub enum DifferenceKind {
    /// The answer did not come.
    Missing,
    /// The file does not expect the answer.
    Unexpected { arguments: Vec<Value> },
    /// A field has another value. The field is named by its path, such as `message.readBy[0]`; a
    /// missing field has no value.
    Field {
        field: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        expected: Option<Value>,
        #[serde(skip_serializing_if = "Option::is_none")]
        actual: Option<Value>,
    },
    /// The fields of an object, which is named by its path, have another order.
    Order { field: String, expected: Vec<String>, actual: Vec<String> },
}

impl DifferenceKind {
    /// Whether the difference is the same as another one, of a field that stands deeper in the
    /// payload.
    pub(super) fn repeats(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Field { field, expected, actual },
                Self::Field { field: told, expected: told_expected, actual: told_actual },
            ) => field.ends_with(told) && expected == told_expected && actual == told_actual,
            _ => false,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { line, client, what, kind } = self;
        write!(f, "line {line}: {client} < {what}")?;
        let whole =
            |field: &str| if field.is_empty() { "the payload".into() } else { field.to_owned() };
        match kind {
            DifferenceKind::Missing => f.write_str(" did not come"),
            DifferenceKind::Unexpected { arguments } => {
                f.write_str(" was not expected:")?;
                arguments.iter().try_for_each(|argument| write!(f, " {argument}"))
            }
            DifferenceKind::Field { field, expected: Some(expected), actual: Some(actual) } => {
                write!(f, ": {} is {actual}, expected {expected}", whole(field))
            }
            DifferenceKind::Field { field, expected: Some(expected), .. } => {
                write!(f, ": {} is missing, expected {expected}", whole(field))
            }
            DifferenceKind::Field { field, actual, .. } => {
                let actual = actual.clone().unwrap_or_default();
                write!(f, ": {} is {actual}, expected none", whole(field))
            }
            DifferenceKind::Order { field, expected, actual } => write!(
                f,
                ": the fields of {} are in the order {}, expected {}",
                whole(field),
                actual.join(", "),
                expected.join(", ")
            ),
        }
    }
}

/// The differences between the arguments of an answer, field by field.
pub(super) fn fields(expected: &[Value], actual: &[Value]) -> Vec<DifferenceKind> {
    let mut differences = Vec::new();
    for index in 0..expected.len().max(actual.len()) {
        // Nearly always there is one argument, and a field's name is enough.
        let path = if index == 0 { String::new() } else { format!("argument {}", index + 1) };
        compare(&path, expected.get(index), actual.get(index), &mut differences);
    }
    differences
}

fn compare(
    path: &str,
    expected: Option<&Value>,
    actual: Option<&Value>,
    differences: &mut Vec<DifferenceKind>,
) {
    match (expected, actual) {
        (Some(Value::Object(old)), Some(Value::Object(new))) => {
            let before = differences.len();
            let added = new.keys().filter(|key| !old.contains_key(*key));
            for key in old.keys().chain(added) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                compare(&path, old.get(key), new.get(key), differences);
            }
            if differences.len() == before && !old.keys().eq(new.keys()) {
                let expected = old.keys().cloned().collect();
                let actual = new.keys().cloned().collect();
                differences.push(DifferenceKind::Order { field: path.into(), expected, actual });
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) => {
            for index in 0..old.len().max(new.len()) {
                compare(&format!("{path}[{index}]"), old.get(index), new.get(index), differences);
            }
        }
        (old, new) if old == new => {}
        (old, new) => differences.push(DifferenceKind::Field {
            field: path.into(),
            expected: old.cloned(),
            actual: new.cloned(),
        }),
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Event(name) => f.write_str(name),
            Self::Ack => f.write_str("ack"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_difference_names_the_field() {
        let expected = json!({ "a": { "b": [1, 2], "c": "x" }, "gone": null, "same": 1 });
        let actual = json!({ "a": { "b": [1, 3, 4], "c": "x" }, "new": true, "same": 1 });
        let told = |kind| {
            let difference =
                Difference { line: 7, client: "bob".into(), what: "message".into(), kind };
            difference.to_string()
        };
        let differences: Vec<_> = fields(&[expected], &[actual]).into_iter().map(told).collect();
        assert_eq!(
            differences,
            [
                "line 7: bob < message: a.b[1] is 3, expected 2",
                "line 7: bob < message: a.b[2] is 4, expected none",
                "line 7: bob < message: gone is missing, expected null",
                "line 7: bob < message: new is true, expected none",
            ]
        );
        let order = fields(&[json!({ "a": 1, "b": 2 })], &[json!({ "b": 2, "a": 1 })]);
        assert_eq!(
            order.into_iter().map(told).collect::<Vec<_>>(),
            [
                "line 7: bob < message: the fields of the payload are in the order b, a, expected a, b"
            ]
        );
    }
}
