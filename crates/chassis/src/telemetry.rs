//! Log lines: to standard error, one line each, as text or as JSON. Metrics are not made here.

use std::io::{self, IsTerminal as _, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Starts logging for a service. `RUST_LOG` filters (default `info`, without lapin, whose broken
/// connections are told of by whoever rebuilds them), `LOG_FORMAT=json` gives
/// JSON lines. A second call changes nothing.
pub fn init() {
    start("info,lapin=off");
}

/// The same for a command that tells its own story on the terminal: only errors by default.
pub fn init_quiet() {
    start("error,lapin=off");
}

#[expect(
    clippy::disallowed_methods,
    reason = "logging begins before any settings are read, so that their faults can be logged"
)]
fn start(default: &str) {
    let (filter, complaint) = filter(std::env::var("RUST_LOG").ok(), default);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(OneLine(io::stderr));
    // `try_init` fails only where logging already runs, which is what was asked for.
    let first = if std::env::var("LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().flatten_event(true).try_init().is_ok()
    } else {
        builder
            .with_ansi(io::stderr().is_terminal())
            .try_init()
            .is_ok()
    };
    if let Some(complaint) = complaint.filter(|_| first) {
        tracing::warn!("RUST_LOG is not a filter, {default} is used: {complaint}");
    }
}

/// The filter of a text, or the default and what is wrong with the text.
fn filter(text: Option<String>, default: &str) -> (EnvFilter, Option<String>) {
    let default = || EnvFilter::new(default);
    match text.filter(|text| !text.trim().is_empty()) {
        None => (default(), None),
        Some(text) => match EnvFilter::try_new(text) {
            Ok(filter) => (filter, None),
            Err(error) => (default(), Some(error.to_string())),
        },
    }
}

/// Makes writers that keep each event on one line: a line break inside a value becomes `\n`, so
/// that nobody can forge a log line through a field that he controls.
#[derive(Clone, Copy, Debug)]
struct OneLine<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = OneLineWriter<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLineWriter(self.0.make_writer())
    }
}

/// Writes one event per call, as the formatter gives it: whole, with its line end.
struct OneLineWriter<W>(W);

impl<W: Write> Write for OneLineWriter<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
            self.0.write_all(event)?;
            return Ok(event.len());
        }
        let mut line = Vec::with_capacity(event.len() + 16);
        for byte in text {
            match byte {
                b'\n' => line.extend_from_slice(b"\\n"),
                b'\r' => line.extend_from_slice(b"\\r"),
                byte => line.push(*byte),
            }
        }
        line.push(b'\n');
        self.0.write_all(&line)?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    fn written(json: bool, log: impl FnOnce()) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let builder = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(OneLine(move || Sink(Arc::clone(&sink))));
        if json {
            tracing::subscriber::with_default(builder.json().flatten_event(true).finish(), log);
        } else {
            tracing::subscriber::with_default(builder.finish(), log);
        }
        let lines = lines.lock().expect("nobody panicked").clone();
        String::from_utf8(lines).expect("text")
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_stays_one_line_whatever_its_fields_hold() {
        let log = || {
            let hostile = "first\r\nERROR forged";
            tracing::info!(description = %hostile, "told {hostile}");
        };
        for json in [false, true] {
            let text = written(json, log);
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains("forged") && text.ends_with('\n'), "{text}");
        }
    }

    #[test]
    fn a_filter_that_does_not_read_falls_back_and_says_so() {
        assert!(filter(None, "info").1.is_none());
        assert!(
            filter(Some("debug,hyper=warn".to_owned()), "info")
                .1
                .is_none()
        );
        let (fallback, complaint) = filter(Some("a=b=c".to_owned()), "info");
        assert_eq!(fallback.to_string(), "info");
        assert!(complaint.is_some());
    }

    #[test]
    fn a_second_start_is_harmless() {
        init();
        init();
    }
}
