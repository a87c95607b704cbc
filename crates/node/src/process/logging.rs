//! The program's log, its complaints and its panics, all on the standard error.
//!
//! They go through an [`Outlet`], so that no task of a node ever waits for their reader, or fails
//! when the reader does.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::time::Duration;

use crate::process::outlet::Outlet;

/// What is logged unless `RUST_LOG` says something else.
const FILTER: &str = "warn";
/// How long the end of the program, or of a thread that panics, waits for the reader.
const LAST_WORDS: Duration = Duration::from_millis(500);

static ERROR: OnceLock<Outlet> = OnceLock::new();
static OUT: OnceLock<Outlet> = OnceLock::new();

/// Sends log and panics to the standard error; `RUST_LOG` chooses what is logged.
///
/// # Errors
/// The system's, if it has no descriptor or no thread left.
///
/// # Panics
/// If logging was set up before: it is called once in a process.
pub(crate) fn start() -> io::Result<()> {
    let outlet = Outlet::to_standard(io::stderr())?;
    let writer = outlet.clone();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(FILTER));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || writer.clone())
        .with_ansi(io::stderr().is_terminal())
        // The subscriber would print its complaints itself, and panic if that fails.
        .log_internal_errors(false)
        .init();
    let words = outlet.clone();
    std::panic::set_hook(Box::new(move |panic| {
        words.say(panic_lines(panic).into_bytes());
        words.flush(LAST_WORDS);
    }));
    assert!(ERROR.set(outlet).is_ok(), "logging was set up before");
    Ok(())
}

/// The report of a panic, worded as the standard library does.
fn panic_lines(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("<unnamed>").to_owned();
    let place = panic.location().map_or_else(|| "?".to_owned(), ToString::to_string);
    let words = panic.payload_as_str().unwrap_or("without a message");
    let backtrace = Backtrace::capture();
    let trace = match backtrace.status() {
        BacktraceStatus::Captured => format!("stack backtrace:\n{backtrace}"),
        _ => String::new(),
    };
    format!("thread '{name}' panicked at {place}:\n{words}\n{trace}")
}

/// Writes a line to the standard error, past the log's filter. Does not wait.
pub(crate) fn complain(text: &str) {
    let line = format!("{text}\n");
    match ERROR.get() {
        Some(outlet) => outlet.say(line.into_bytes()),
        // Only a test of a single command has set nothing up.
        None => eprint!("{line}"),
    }
}

/// Writes `text` to the standard output. Does not wait: for the lines of a node that serves.
///
/// # Errors
/// The system's, if it has no descriptor or no thread left.
pub(crate) fn say(text: &str) -> io::Result<()> {
    let outlet = match OUT.get() {
        Some(outlet) => outlet,
        None => {
            let outlet = Outlet::to_standard(io::stdout())?;
            OUT.get_or_init(|| outlet)
        }
    };
    outlet.say(text.as_bytes());
    Ok(())
}

/// Waits a short time for the readers, at the end of the program.
pub(crate) fn finish() {
    [&OUT, &ERROR].into_iter().filter_map(OnceLock::get).for_each(|o| o.flush(LAST_WORDS));
}

/// How many lines, of the log and of the output, had no room or no reader.
pub(crate) fn lines_dropped() -> u64 {
    [&OUT, &ERROR].into_iter().filter_map(OnceLock::get).map(Outlet::dropped).sum()
}
