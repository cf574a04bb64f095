//! The log, on standard error: one line for each entry, whatever text it contains.

use std::io::{self, Stderr, Write};

use radio_istic::config::LogConfig;

/// Starts the log.
pub fn start(config: LogConfig) {
    let logging = tracing_subscriber::fmt().with_env_filter(config.filter);
    if config.json {
        logging.with_writer(io::stderr).json().flatten_event(true).init();
    } else {
        logging.with_writer(|| OneLine(io::stderr())).init();
    }
}

/// Writes each entry on one line, so that a line end in a logged text cannot forge an entry. The
/// formatter has escaped other control characters.
struct OneLine<W = Stderr>(W);

impl<W: Write> Write for OneLine<W> {
    /// An entry arrives in one call.
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.write_all(entry)?;
        Ok(entry.len())
    }

    fn write_all(&mut self, entry: &[u8]) -> io::Result<()> {
        let (text, end) = match entry.strip_suffix(b"\n") {
            Some(text) => (text, &b"\n"[..]),
            None => (entry, &b""[..]),
        };
        if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            return self.0.write_all(entry);
        }
        let mut line = Vec::with_capacity(entry.len() + 8);
        for byte in text {
            match byte {
                b'\n' => line.extend(b"\\n"),
                b'\r' => line.extend(b"\\r"),
                byte => line.push(*byte),
            }
        }
        line.extend(end);
        self.0.write_all(&line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_stays_on_its_line() {
        let mut written = Vec::new();
        let mut log = OneLine(&mut written);
        log.write_all(b"refused: a\r\nERROR forged\n").unwrap();
        log.write_all(b"plain\n").unwrap();
        assert_eq!(written, b"refused: a\\r\\nERROR forged\nplain\n");
    }
}
