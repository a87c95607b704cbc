//! One connection: a task that reads, starts commands, and writes replies in order.
//!
//! Nothing is ever refused for being too fast: while too much is under way or unread, the socket is
//! not read, and TCP tells the client.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::command::{self, Command};
use super::execute::{execute, write_together};
use super::parser::{Arguments, Parser, Request};
use super::pipeline::{Footprint, Planned, Work};
use super::reply::Reply;
use super::server::{Client, Shared};
use super::session::Session;
use super::slot::KeyMaker;
use crate::concurrent::{Started, Task, TaskSet};

/// Commands of one connection under way or waiting to be written.
const COMMANDS_MAX: usize = 1_024;
/// Bytes of arguments of one connection under way; one command may be larger.
const ARGUMENT_BYTES_MAX: usize = 16 << 20;
/// Unwritten bytes after which no further command starts.
const OUTPUT_BYTES_MAX: usize = 1 << 20;
/// Room made in the input before each read.
const READ_BYTES: usize = 16 << 10;
/// Input beyond this is only read to complete a request that has begun.
const INPUT_BYTES_MAX: usize = 256 << 10;
/// An output buffer larger than this is given back once it is empty.
const OUTPUT_KEPT_BYTES: usize = 256 << 10;

/// What a started command ends with: one reply for each of its places.
type Replies = Vec<Reply>;

/// A place in the order of replies.
enum Waiting {
    Running,
    Ready(Reply),
    /// A local command: answered when its turn comes, so that HELLO changes the replies behind it
    /// and none before.
    Local(command::Local),
}

/// What runs at a place of the [`TaskSet`].
struct Running {
    footprint: Footprint,
    places: Vec<u64>,
    bytes: usize,
}

pub(super) struct Connection {
    stream: TcpStream,
    shared: Arc<Shared>,
    session: Session,
    parser: Parser,
    keys: KeyMaker,
    input: BytesMut,
    output: BytesMut,
    /// Replies in order; the first is number `first_place`.
    waiting: VecDeque<Waiting>,
    first_place: u64,
    tasks: TaskSet<Replies>,
    running: Vec<Option<Running>>,
    running_bytes: usize,
    done: Vec<(usize, Replies)>,
    planned: Vec<Planned>,
    /// Parsed, but has to wait for a command under way.
    held: Option<Command>,
    /// Bytes of the largest reply so far: reads that may each give as much must not all run.
    reply_bytes_max: usize,
    input_ended: bool,
}

impl Connection {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>, client: Arc<Client>) -> Connection {
        Connection {
            stream,
            session: Session::new(Arc::clone(&shared), client),
            shared,
            parser: Parser::default(),
            keys: KeyMaker::default(),
            input: BytesMut::new(),
            output: BytesMut::new(),
            waiting: VecDeque::new(),
            first_place: 0,
            tasks: TaskSet::default(),
            running: Vec::new(),
            running_bytes: 0,
            done: Vec::new(),
            planned: Vec::new(),
            held: None,
            reply_bytes_max: 0,
            input_ended: false,
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
        self.collect(context);
        loop {
            let answered = self.write_ready();
            let started = self.start_commands();
            let wrote = self.flush(context)?;
            let finished = self.input_ended && self.waiting.is_empty() && self.held.is_none();
            if finished && self.output.is_empty() && !self.has_requests() {
                return Poll::Ready(Ok(()));
            }
            let read = self.fill(context)?;
            if !(answered || started || wrote || read) {
                return Poll::Pending;
            }
        }
    }

    /// Takes in what the engine has answered.
    fn collect(&mut self, context: &mut Context<'_>) {
        let mut done = std::mem::take(&mut self.done);
        self.tasks.poll_done(context, &mut done);
        for (place, replies) in done.drain(..) {
            let running = self.running[place].take().expect("a task ends once");
            self.running_bytes -= running.bytes;
            self.settle(&running.places, replies);
        }
        self.done = done;
    }

    fn settle(&mut self, places: &[u64], replies: Replies) {
        assert_eq!(places.len(), replies.len(), "each command has one reply");
        for (place, reply) in places.iter().zip(replies) {
            let at = usize::try_from(place - self.first_place).expect("a place in memory");
            self.waiting[at] = Waiting::Ready(reply);
        }
    }

    /// Writes the replies whose turn has come into the output; true if there was one.
    fn write_ready(&mut self) -> bool {
        let mut any = false;
        let mut errors = 0;
        let first = self.first_place;
        while self.output.len() < OUTPUT_BYTES_MAX
            && let Some(next) = self.waiting.pop_front()
        {
            let reply = match next {
                Waiting::Running => {
                    self.waiting.push_front(Waiting::Running);
                    break;
                }
                Waiting::Ready(reply) => reply,
                Waiting::Local(local) => self.session.answer(local),
            };
            self.reply_bytes_max = self.reply_bytes_max.max(reply.len_bytes());
            errors += u64::from(matches!(reply, Reply::Error(_)));
            reply.write(self.session.protocol, &mut self.output);
            self.first_place += 1;
            any = true;
        }
        if any {
            let statistics = &self.shared.statistics;
            statistics.commands.fetch_add(self.first_place - first, Ordering::Relaxed);
            if errors > 0 {
                statistics.errors.fetch_add(errors, Ordering::Relaxed);
            }
        }
        any
    }

    fn end_input(&mut self) {
        self.input_ended = true;
        self.input = BytesMut::new();
    }

    /// True while whole requests may be in the input.
    fn has_requests(&self) -> bool {
        !self.input.is_empty() && !self.may_start()
    }

    fn may_start(&self) -> bool {
        let replies = OUTPUT_BYTES_MAX * 16 / self.reply_bytes_max.max(1);
        self.waiting.len() < COMMANDS_MAX.min(replies.max(1))
            && self.running_bytes < ARGUMENT_BYTES_MAX
            && self.output.len() < OUTPUT_BYTES_MAX
    }

    /// Parses and starts what may start; true if anything was taken from the input.
    fn start_commands(&mut self) -> bool {
        let mut any = false;
        if let Some(command) = self.held.take() {
            any |= self.admit(command);
        }
        while self.held.is_none() && self.may_start() {
            match self.parser.next(&mut self.input) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    any = true;
                    self.take_request(request);
                }
                Err(error) => {
                    any = true;
                    self.shared.statistics.protocol_errors.fetch_add(1, Ordering::Relaxed);
                    let reply = Reply::Error(format!("ERR {error}").into());
                    self.waiting.push_back(Waiting::Ready(reply));
                    self.end_input();
                    break;
                }
            }
        }
        self.start_planned();
        any
    }

    fn take_request(&mut self, request: Request) {
        let parsed = match request {
            Request::Command(arguments) => self.parse(arguments),
            Request::Oversize(why) => Err(Reply::Error(format!("ERR {why}").into())),
        };
        match parsed {
            Ok(Command::Local(local)) => {
                if local == command::Local::Quit {
                    // What comes behind it is neither run nor answered.
                    self.end_input();
                }
                self.waiting.push_back(Waiting::Local(local));
            }
            Ok(command) => {
                self.admit(command);
            }
            Err(reply) => self.waiting.push_back(Waiting::Ready(reply)),
        }
    }

    fn parse(&mut self, arguments: Arguments) -> Result<Command, Reply> {
        command::parse(arguments, &mut self.keys)
    }

    /// Plans a command, or holds it back behind what it must follow; true if it was planned.
    fn admit(&mut self, command: Command) -> bool {
        let footprint = Footprint::of(&command);
        let blocked =
            self.running.iter().flatten().any(|other| other.footprint.conflicts(&footprint));
        if blocked {
            self.held = Some(command);
            return false;
        }
        let place = self.first_place + self.waiting.len() as u64;
        let conflict = self.planned.iter_mut().find(|other| other.footprint.conflicts(&footprint));
        match conflict {
            None => self.planned.push(Planned::new(command, place)),
            Some(earlier) => {
                if let Some(command) = earlier.merge(command, place) {
                    self.held = Some(command);
                    return false;
                }
            }
        }
        self.waiting.push_back(Waiting::Running);
        true
    }

    /// Polls the planned commands for the first time, in their order: that is the order in which
    /// they enter their shards.
    fn start_planned(&mut self) {
        let mut planned = std::mem::take(&mut self.planned);
        for Planned { footprint, places, work } in planned.drain(..) {
            let engine = self.shared.engine.clone();
            let bytes = work_bytes(&work);
            let task: Task<Replies> = match work {
                Work::Writes(writes) => {
                    Box::pin(async move { write_together(&engine, writes).await })
                }
                Work::Command(command) => {
                    Box::pin(async move { vec![execute(&engine, command).await] })
                }
            };
            match self.tasks.start(task) {
                Started::Done(replies) => self.settle(&places, replies),
                Started::Running(at) => {
                    self.running_bytes += bytes;
                    self.running.resize_with(self.running.len().max(at + 1), || None);
                    self.running[at] = Some(Running { footprint, places, bytes });
                }
            }
        }
        self.planned = planned;
    }

    /// Hands the output to the socket; true if all of it went and there was some.
    fn flush(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        let mut any = false;
        while !self.output.is_empty() {
            match Pin::new(&mut self.stream).poll_write(context, &self.output) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(written)) => {
                    self.output.advance(written);
                    any = true;
                }
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
        if any && self.output.capacity() > OUTPUT_KEPT_BYTES {
            self.output = BytesMut::new();
        }
        Ok(any)
    }

    /// Reads once, if there is use for more; true if something came.
    fn fill(&mut self, context: &mut Context<'_>) -> io::Result<bool> {
        // Whole requests that may not start yet are backlog enough; without room to start there is
        // nothing to read for.
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

fn work_bytes(work: &Work) -> usize {
    match work {
        Work::Writes(writes) => writes.iter().map(command::SingleWrite::len_bytes).sum(),
        Work::Command(Command::SetMany(pairs)) => {
            pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
        }
        Work::Command(
            Command::GetMany(keys) | Command::Exists(keys) | Command::DeleteMany(keys),
        ) => keys.iter().map(bytes::Bytes::len).sum(),
        Work::Command(_) => 64,
    }
}
