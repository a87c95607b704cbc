//! The task of one connection: it reads, starts commands, and writes replies in order.
//!
//! A client is never refused for being too fast: while too much is under way or unread, its socket
//! is not read, and TCP slows it down.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Sleep;

use super::in_flight::{InFlight, Next};
use super::shared::{Client, Shared};
use super::state::ConnectionState;
use super::transaction::Transaction;
use crate::redis::commands::command::{self, Command, Local};
use crate::redis::protocol::output::Output;
use crate::redis::protocol::parser::{Parser, Request};
use crate::redis::protocol::reply::Reply;
use crate::redis::protocol::slot::KeyMaker;

/// Unwritten bytes after which no further command starts.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Room made in the input before each read.
const READ_BYTES: usize = 16 << 10;
/// Input beyond this is only read to complete a request that has begun.
const INPUT_BYTES_MAX: usize = 256 << 10;
/// While others wait for room, a client has to take [`STALL_BYTES`] of its replies in this time, or
/// all of them: much slower than any line, and soon enough for those that wait.
const STALL: Duration = Duration::from_secs(10);
const STALL_BYTES: u64 = 64 << 10;
/// It also has to take this part of the room that it holds, if that is more, so that all of the room is
/// free again after ten minutes.
const STALL_PARTS: u64 = 60;

pub(super) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    state: ConnectionState,
    parser: Parser,
    transaction: Transaction,
    keys: KeyMaker,
    input: BytesMut,
    output: Output,
    in_flight: InFlight,
    /// Parsed, but has to wait: for room, or for a command under way.
    held: Option<Command>,
    input_ended: bool,
    /// True if the input held no whole request when it was last parsed.
    is_parsed: bool,
    stall: Stall,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>, client: Arc<Client>) -> Connection {
        Connection {
            stream,
            state: ConnectionState::new(Arc::clone(&shared), client),
            in_flight: InFlight::new(Arc::clone(&shared)),
            shared,
            parser: Parser::default(),
            transaction: Transaction::default(),
            keys: KeyMaker::default(),
            input: BytesMut::new(),
            output: Output::default(),
            held: None,
            input_ended: false,
            is_parsed: true,
            stall: Stall::new(STALL),
        }
    }

    /// Serves until the client leaves, the protocol breaks, or `stopping` becomes true.
    pub(super) async fn run(mut self, mut stopping: watch::Receiver<bool>) -> io::Result<()> {
        let mut stop = pin!(stopping.wait_for(|stop| *stop));
        let mut stopped = false;
        poll_fn(|context| {
            if !stopped && stop.as_mut().poll(context).is_ready() {
                // Requests that are not started are dropped, as if they had not arrived.
                stopped = true;
                self.end_input();
            }
            self.poll(context)
        })
        .await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_flight.collect(context, self.output.len());
        loop {
            let served = self.in_flight.serve_head(context);
            let answered = self.write_ready();
            let started = self.start_commands(context);
            let wrote = self.output.flush(context, &mut self.stream)?;
            self.in_flight.note_written(self.output.written(), self.output.len());
            // `is_parsed` is from the last parse: since then, room may have become free for a
            // request that had none.
            let is_idle = self.in_flight.is_empty() && self.held.is_none();
            if self.input_ended && self.is_parsed && is_idle && self.output.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let read = self.fill(context)?;
            if !(served || answered || started || wrote || read) {
                // A connection that holds no shared room delays no other.
                let is_short =
                    self.in_flight.has_shared_room() && self.shared.statistics.room.is_short();
                let held = self.in_flight.room_bytes();
                return match self.stall.poll(context, &self.output, held, is_short) {
                    true => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                    false => Poll::Pending,
                };
            }
        }
    }

    /// Writes the replies whose turn has come into the output; true if there was one.
    fn write_ready(&mut self) -> bool {
        let first = self.in_flight.answered();
        let mut errors = 0;
        while self.output.len() < OUTPUT_BYTES_MAX
            && let Some(next) = self.in_flight.take_next()
        {
            let reply = match next {
                Next::Reply(reply) => reply,
                Next::Local(local) => self.state.answer(local),
            };
            errors += u64::from(matches!(reply, Reply::Error(_)));
            reply.write(self.state.protocol, &mut self.output);
            self.in_flight.note_appended(self.output.appended(), self.output.len());
        }
        let answered = self.in_flight.answered() - first;
        if answered > 0 {
            let statistics = &self.shared.statistics;
            statistics.commands.fetch_add(answered, Ordering::Relaxed);
            if errors > 0 {
                statistics.errors.fetch_add(errors, Ordering::Relaxed);
            }
        }
        answered > 0
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        self.is_parsed = true;
        self.input = BytesMut::new();
    }

    fn may_start(&self) -> bool {
        self.in_flight.may_start() && self.output.len() < OUTPUT_BYTES_MAX
    }

    /// Parses and starts what may start; true if anything was taken from the input.
    fn start_commands(&mut self, context: &mut Context<'_>) -> bool {
        let mut any = false;
        if let Some(command) = self.held.take() {
            any |= self.admit(context, command);
        }
        self.is_parsed = self.input.is_empty();
        while self.held.is_none() && self.may_start() {
            match self.parser.next(&mut self.input) {
                Ok(None) => {
                    self.is_parsed = true;
                    break;
                }
                Ok(Some(request)) => {
                    any = true;
                    self.take_request(context, request);
                }
                Err(error) => {
                    any = true;
                    self.shared.statistics.protocol_errors.fetch_add(1, Ordering::Relaxed);
                    self.end_input();
                    self.refuse(context, Reply::Error(format!("ERR {error}").into()));
                }
            }
        }
        self.in_flight.start_planned(self.output.len());
        any
    }

    fn take_request(&mut self, context: &mut Context<'_>, request: Request) {
        let parsed = match request {
            Request::Command(arguments) if is_of_http(&arguments) => return self.end_http(),
            Request::Command(arguments) => match self.transaction.answer(&arguments) {
                Some(reply) => Err(reply),
                None => command::parse(arguments, &mut self.keys),
            },
            Request::Oversize(why) => Err(Reply::Error(format!("ERR {why}").into())),
        };
        match parsed {
            Ok(command) => {
                if command == Command::Local(Local::Quit) {
                    // Requests after it are neither run nor answered.
                    self.end_input();
                }
                self.admit(context, command);
            }
            Err(reply) => self.refuse(context, reply),
        }
    }

    /// Ends the input: a web page may have sent this through a browser that reaches this port, so
    /// nothing after it is run or answered.
    fn end_http(&mut self) {
        tracing::debug!("an HTTP request came to the Redis port");
        self.shared.statistics.protocol_errors.fetch_add(1, Ordering::Relaxed);
        self.end_input();
    }

    fn refuse(&mut self, context: &mut Context<'_>, reply: Reply) {
        self.admit(context, Command::Local(Local::Answer(reply)));
    }

    /// Plans a command, or holds it back; true if it was planned.
    fn admit(&mut self, context: &mut Context<'_>, command: Command) -> bool {
        self.held = self.in_flight.admit(context, command, self.output.len());
        self.held.is_none()
    }

    /// Reads once, if there is use for more; true if something came.
    fn fill(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        // Requests that wait for their start are backlog enough: then input is read only up to
        // `INPUT_BYTES_MAX`.
        let backlog = self.held.is_some() || !self.may_start();
        if self.input_ended || (backlog && self.input.len() >= INPUT_BYTES_MAX) {
            return Ok(false);
        }
        self.input.reserve(READ_BYTES);
        let read = pin!(self.stream.read_buf(&mut self.input)).poll(context);
        match read {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(0)) => {
                self.input_ended = true;
                Ok(true)
            }
            Poll::Ready(Ok(_)) => Ok(true),
            Poll::Ready(Err(error)) => Err(error),
        }
    }
}

/// True for words that begin lines of an HTTP request and are no command, as in Redis.
fn is_of_http(arguments: &[Bytes]) -> bool {
    let word =
        |word: &Bytes| word.eq_ignore_ascii_case(b"post") || word.eq_ignore_ascii_case(b"host:");
    arguments.first().is_some_and(word)
}

/// Detects a client that does not read while others wait for the room that its replies hold.
struct Stall {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Bytes written when the sleep began.
    written: u64,
}

impl Stall {
    fn new(limit: Duration) -> Stall {
        Stall { limit, sleep: None, written: 0 }
    }

    /// True once the client has taken too little for too long. Only the timer wakes the task for
    /// it.
    fn poll(
        &mut self,
        context: &mut Context<'_>,
        output: &Output,
        held: usize,
        is_short: bool,
    ) -> bool {
        if output.is_empty() {
            self.sleep = None;
            return false;
        }
        loop {
            let sleep = self.sleep.get_or_insert_with(|| {
                self.written = output.written();
                Box::pin(tokio::time::sleep(self.limit))
            });
            if sleep.as_mut().poll(context).is_pending() {
                return false;
            }
            let least = STALL_BYTES.max(held as u64 / STALL_PARTS);
            if is_short && output.written() - self.written < least {
                return true;
            }
            self.sleep = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends when the client counts as stalled; `between` is called before each poll.
    async fn stalled(output: &mut Output, is_short: bool, between: impl FnMut(&mut Output)) {
        stalled_with(output, 0, is_short, between).await;
    }

    /// As `stalled`, for a client that holds room for `held` bytes.
    async fn stalled_with(
        output: &mut Output,
        held: usize,
        is_short: bool,
        mut between: impl FnMut(&mut Output),
    ) {
        let mut stall = Stall::new(Duration::from_millis(1));
        poll_fn(|context| {
            between(output);
            match stall.poll(context, output, held, is_short) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Goal: a client that takes none of its replies is found, but only while others wait for room,
    /// and one that reads is not. Method: a limit of a millisecond, and many of them for what must
    /// not happen.
    #[tokio::test]
    async fn only_who_does_not_read_in_need_is_stalled() {
        const LONG: Duration = Duration::from_millis(50);
        let full = || {
            let mut output = Output::default();
            output.put_slice(&vec![0; 1 << 20]);
            output
        };
        stalled(&mut full(), true, |_| {}).await;
        let mut patient = full();
        let unharmed = tokio::time::timeout(LONG, stalled(&mut patient, false, |_| {})).await;
        assert!(unharmed.is_err(), "nobody waits for its room");
        let mut reading = full();
        let mut takes = |output: &mut Output| {
            let mut sink = tokio::io::sink();
            output
                .flush(&mut Context::from_waker(std::task::Waker::noop()), &mut sink)
                .expect("all");
            output.put_slice(&vec![0; 1 << 20]);
        };
        let unharmed = tokio::time::timeout(LONG, stalled(&mut reading, true, &mut takes)).await;
        assert!(unharmed.is_err(), "it reads");
        // A MiB at a time is little for a client that holds more than any may.
        stalled_with(&mut full(), usize::MAX, true, takes).await;
        let mut empty = Output::default();
        let unharmed = tokio::time::timeout(LONG, stalled(&mut empty, true, |_| {})).await;
        assert!(unharmed.is_err(), "it has read everything");
    }
}
