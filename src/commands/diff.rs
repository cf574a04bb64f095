//! Two transcripts side by side, as a coloured diff of their lines.

use std::fmt;

use anstyle::{AnsiColor, Style};
use similar::{ChangeTag, TextDiff};

const OLD: Style = AnsiColor::Red.on_default();
const NEW: Style = AnsiColor::Green.on_default();
const PLAIN: Style = Style::new();
const FAINT: Style = Style::new().dimmed();

/// The number of unchanged lines around a difference.
const CONTEXT: usize = 3;

/// The lines in which `new` differs from `old`. Line numbers are those of both texts.
pub struct Diff<'a> {
    pub old: &'a str,
    pub new: &'a str,
}

impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let diff = TextDiff::from_lines(self.old, self.new);
        writeln!(f, "{FAINT}────────────┬───────────────────────{FAINT:#}")?;
        for (index, group) in diff.grouped_ops(CONTEXT).iter().enumerate() {
            if index > 0 {
                writeln!(f, "{FAINT}────────────┼───────────────────────{FAINT:#}")?;
            }
            for change in group.iter().flat_map(|operation| diff.iter_inline_changes(operation)) {
                let (sign, style) = match change.tag() {
                    ChangeTag::Delete => ('-', OLD),
                    ChangeTag::Insert => ('+', NEW),
                    ChangeTag::Equal => (' ', PLAIN),
                };
                let number = |index: Option<usize>| {
                    index.map(|index| (index + 1).to_string()).unwrap_or_default()
                };
                let (old, new) = (number(change.old_index()), number(change.new_index()));
                write!(f, "{FAINT}{old:>5} {new:>5} │{FAINT:#}{style}{sign}{style:#}")?;
                for (is_changed, text) in change.iter_strings_lossy() {
                    let style = if is_changed { style.underline() } else { style };
                    write!(f, "{style}{}{style:#}", text.trim_end_matches('\n'))?;
                }
                writeln!(f)?;
            }
        }
        writeln!(f, "{FAINT}────────────┴───────────────────────{FAINT:#}")
    }
}
