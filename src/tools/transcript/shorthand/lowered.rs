//! Reads JSON with short forms: rewrites them as JSON, and knows the origin of each place.

use serde_json::Value;

use super::is_word_char;

// While a value is read, its short forms are objects with one of these keys. The control character
// keeps them apart from keys in other JSON texts, which hardly begin with one.
pub const REFERENCE: &str = "\u{1}object";
pub const REPEAT: &str = "\u{1}repeat";
pub const SPREAD: &str = "\u{1}fields";

/// A value with short forms, as JSON.
pub struct Lowered {
    pub json: String,
    /// The end of the value in the text that it was read from.
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

/// The length of the JSON string at the start of `text`; to the end if the string has none.
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
    // Each spread has a key of its own, because one object may have two.
    let key = Value::from(format!("{SPREAD}{count}"));
    Some((format!("{key}:{}", Value::from(&rest[..length])), "...".len() + length))
}
