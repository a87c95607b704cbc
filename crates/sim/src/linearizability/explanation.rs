//! Explains why a key is not linearizable, as data and as a readable timeline.

use std::fmt;

use bytes::Bytes;

use super::history::RecordedOperation;
use super::operation::{Operation, Reply, Value, apply};
use super::stuck::Stuck;

/// Operations of each kind that are displayed: with 8, 8 and 4 of them the timeline has at most
/// 40 columns, one for each time that occurs, and fits a terminal.
const PREFIX_SHOWN_MAX: usize = 8;
const BLOCKED_SHOWN_MAX: usize = 8;
const OPEN_SHOWN_MAX: usize = 4;

/// Bytes of a key or value that are displayed.
const BYTES_SHOWN_MAX: usize = 32;

/// How far a key's operations can be explained, and where the explanation ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The key's completed operations, in all.
    pub completed: usize,
    /// The longest prefix of an order that was found, in that order. It contains operations of
    /// unknown outcome where they explain a later one.
    pub prefix: Vec<RecordedOperation>,
    /// The key's value after the prefix.
    pub value: Value,
    /// The completed operations, one of which must come next; the value explains none of them.
    pub blocked: Vec<RecordedOperation>,
    /// The operations of unknown outcome that could come next, but do not help.
    pub open: Vec<RecordedOperation>,
}

impl Explanation {
    pub(super) fn new(operations: &[&RecordedOperation], stuck: &Stuck) -> Explanation {
        let pick = |positions: &[usize]| -> Vec<RecordedOperation> {
            positions.iter().map(|position| operations[*position].clone()).collect()
        };
        let prefix = pick(&stuck.prefix);
        // Replayed, because the search may have merged values.
        let value =
            prefix.iter().fold(None, |value, recorded| apply(&value, &recorded.operation).0);
        Explanation {
            completed: operations.iter().filter(|recorded| recorded.completion.is_some()).count(),
            prefix,
            value,
            blocked: pick(&stuck.blocked),
            open: pick(&stuck.open),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left_out = self.prefix.len().saturating_sub(PREFIX_SHOWN_MAX);
        let prefix = &self.prefix[left_out..];
        let blocked = &self.blocked[..self.blocked.len().min(BLOCKED_SHOWN_MAX)];
        let open = &self.open[self.open.len().saturating_sub(OPEN_SHOWN_MAX)..];
        let timeline = Timeline::new(&[prefix, blocked, open].concat());

        let fit = self.prefix.iter().filter(|recorded| recorded.completion.is_some()).count();
        writeln!(f, "{fit} of {} operations fit, in this order", self.completed)?;
        if left_out > 0 {
            writeln!(f, "  ... {left_out} before")?;
        }
        for recorded in prefix {
            writeln!(f, "{}", timeline.line(recorded))?;
        }
        let value = ReadableValue(&self.value);
        write!(f, "then its value is {value}, and none of these can come next")?;
        for recorded in blocked {
            let (_, reply) = apply(&self.value, &recorded.operation);
            write!(f, "\n{}  (should be {})", timeline.line(recorded), ReadableReply(&reply))?;
        }
        if self.blocked.len() > blocked.len() {
            write!(f, "\n  ... {} more", self.blocked.len() - blocked.len())?;
        }
        if !open.is_empty() {
            write!(f, "\nnor do these help, whose outcome is unknown")?;
        }
        if self.open.len() > open.len() {
            write!(f, "\n  ... {} before", self.open.len() - open.len())?;
        }
        open.iter().try_for_each(|recorded| write!(f, "\n{}", timeline.line(recorded)))
    }
}

/// One column for each time that occurs: it shows the order of the times, not their distances.
struct Timeline {
    times: Vec<u64>,
    client_width: usize,
    interval_width: usize,
}

impl Timeline {
    fn new(shown: &[RecordedOperation]) -> Timeline {
        let completions = shown.iter().filter_map(|recorded| recorded.completion.as_ref());
        let mut times: Vec<u64> = shown.iter().map(|recorded| recorded.invoked_at).collect();
        times.extend(completions.map(|completion| completion.at));
        times.sort_unstable();
        times.dedup();
        let client = |recorded: &RecordedOperation| recorded.client.0.to_string().len();
        Timeline {
            times,
            client_width: shown.iter().map(client).max().unwrap_or(0),
            interval_width: shown.iter().map(|one| interval(one).len()).max().unwrap_or(0),
        }
    }

    fn column(&self, time: u64) -> usize {
        self.times.binary_search(&time).expect("every time shown has a column")
    }

    fn line(&self, recorded: &RecordedOperation) -> String {
        let start = self.column(recorded.invoked_at);
        let end = recorded.completion.as_ref().map(|completion| self.column(completion.at));
        let mut bar = String::new();
        for column in 0..self.times.len() {
            bar.push(match end {
                _ if column < start => ' ',
                Some(end) if column > end => ' ',
                Some(end) if start == end => '│',
                Some(end) if column == end => '┤',
                _ if column == start => '├',
                Some(_) => '─',
                None => '╌',
            });
        }
        let reply = match &recorded.completion {
            Some(completion) => ReadableReply(&completion.reply).to_string(),
            None => "unknown".to_owned(),
        };
        format!(
            "  client {:<clients$}  |{bar}|  {:<intervals$}  {} -> {reply}",
            recorded.client.0,
            interval(recorded),
            ReadableOperation(&recorded.operation),
            clients = self.client_width,
            intervals = self.interval_width,
        )
    }
}

fn interval(recorded: &RecordedOperation) -> String {
    match &recorded.completion {
        Some(completion) => format!("[{}, {}]", recorded.invoked_at, completion.at),
        None => format!("[{}, ...", recorded.invoked_at),
    }
}

/// Bytes in quotes, escaped and cut.
pub(super) struct Readable<'a>(pub(super) &'a Bytes);

impl fmt::Display for Readable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.0[..self.0.len().min(BYTES_SHOWN_MAX)];
        write!(f, "\"{}\"", shown.escape_ascii())?;
        if shown.len() < self.0.len() {
            write!(f, "... ({} bytes)", self.0.len())?;
        }
        Ok(())
    }
}

struct ReadableValue<'a>(&'a Value);

impl fmt::Display for ReadableValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => Readable(value).fmt(f),
            None => f.write_str("absent"),
        }
    }
}

struct ReadableOperation<'a>(&'a Operation);

impl fmt::Display for ReadableOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Operation::Get => f.write_str("Get"),
            Operation::Set(value) => write!(f, "Set {}", Readable(value)),
            Operation::Delete => f.write_str("Delete"),
            Operation::Increment(by) => write!(f, "Increment {by}"),
            Operation::CompareAndSet { expected, new } => {
                let (expected, new) = (ReadableValue(expected), ReadableValue(new));
                write!(f, "CompareAndSet {expected} to {new}")
            }
        }
    }
}

struct ReadableReply<'a>(&'a Reply);

impl fmt::Display for ReadableReply<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Reply::Value(value) => ReadableValue(value).fmt(f),
            Reply::Done => f.write_str("Done"),
            Reply::Deleted(existed) => write!(f, "Deleted({existed})"),
            Reply::Integer(value) => write!(f, "{value}"),
            Reply::NotAnInteger => f.write_str("NotAnInteger"),
            Reply::Swapped(swapped) => write!(f, "Swapped({swapped})"),
        }
    }
}
