//! The commands of one connection that are under way: their order, overlap and room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Context;

use quorate_types::limits;

use super::pipeline::{Footprint, Planned, Work};
use super::room::Room;
use super::shared::Shared;
use crate::process::concurrent::{Started, Task, TaskSet};
use crate::redis::commands::command::{Command, Local, SingleWrite};
use crate::redis::commands::execute::{Executed, execute, write_together};
use crate::redis::commands::reply_size::{Expectation, local_bytes};
use crate::redis::protocol::reply::Reply;

/// Most commands of one connection that are under way or waiting to be written.
const COMMANDS_MAX: usize = 1_024;
/// Most argument bytes of one connection under way; one command may be larger.
const ARGUMENT_BYTES_MAX: usize = 16 << 20;

/// A place in the order of replies.
enum Place {
    Running,
    /// Its reply needs more room than it had, and is read when it is the next to be written.
    Deferred,
    Ready(Reply),
    /// A local command and its expected bytes. It is answered in its turn, so that HELLO changes
    /// only the replies after it.
    Local(Local, usize),
}

/// A command, or merged writes, that runs at a place of the [`TaskSet`].
struct Running {
    footprint: Footprint,
    places: Vec<u64>,
    argument_bytes: usize,
    reply_bytes: usize,
    is_walk: bool,
    reads_values: bool,
}

/// A command whose large reply is read when it is the next to be written.
struct Deferred {
    place: u64,
    footprint: Footprint,
    command: Command,
    reply_bytes: usize,
}

/// The next thing to be written.
pub(super) enum Next {
    Reply(Reply),
    Local(Local),
}

/// The commands of one connection that are under way, in order, and the room of their replies.
pub(super) struct InFlight {
    shared: Arc<Shared>,
    /// Replies in order; the first is number `first_place`.
    waiting: VecDeque<Place>,
    first_place: u64,
    tasks: TaskSet<Executed>,
    running: Vec<Option<Running>>,
    argument_bytes: usize,
    /// Emptied after each use.
    done: Vec<(usize, Executed)>,
    ended: Vec<(Running, Executed)>,
    planned: Vec<Planned>,
    deferred: Vec<Deferred>,
    room: Room,
    /// Bytes that the replies still to come are expected to hold.
    expected_bytes: usize,
    /// Bytes of the replies that are ready and wait for their turn.
    ready_bytes: usize,
    expectation: Expectation,
    /// The place of the large reply that has room of its own.
    head: Option<u64>,
    /// Where in the output that reply ends.
    head_end: Option<u64>,
}

impl InFlight {
    pub(super) fn new(shared: Arc<Shared>) -> InFlight {
        InFlight {
            waiting: VecDeque::new(),
            first_place: 0,
            tasks: TaskSet::default(),
            running: Vec::new(),
            argument_bytes: 0,
            done: Vec::new(),
            ended: Vec::new(),
            planned: Vec::new(),
            deferred: Vec::new(),
            room: Room::new(Arc::clone(&shared.statistics.room)),
            expected_bytes: 0,
            ready_bytes: 0,
            expectation: Expectation::default(),
            head: None,
            head_end: None,
            shared,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if a further command may be under way, as far as its number and arguments go.
    pub(super) fn may_start(&self) -> bool {
        self.waiting.len() < COMMANDS_MAX && self.argument_bytes < ARGUMENT_BYTES_MAX
    }

    /// Collects the outcomes of commands that have ended.
    pub(super) fn collect(&mut self, context: &mut Context<'_>, unwritten: usize) {
        let mut done = std::mem::take(&mut self.done);
        self.tasks.poll_done(context, &mut done);
        // All are taken out before any runs again, because that one may get the place of another.
        let mut ended = std::mem::take(&mut self.ended);
        ended.extend(
            done.drain(..).map(|(at, executed)| {
                (self.running[at].take().expect("a task ends once"), executed)
            }),
        );
        for (running, executed) in ended.drain(..) {
            self.end(running, executed, unwritten);
        }
        (self.done, self.ended) = (done, ended);
    }

    fn end(&mut self, running: Running, executed: Executed, unwritten: usize) {
        self.argument_bytes -= running.argument_bytes;
        self.expected_bytes -= running.reply_bytes;
        match executed {
            Executed::Done(replies) => {
                if running.reads_values {
                    self.expectation.note(replies.iter().map(Reply::len_bytes).sum());
                }
                self.settle(&running.places, replies);
            }
            Executed::Short { command, reply_bytes, value_bytes } => {
                self.expectation.grow(value_bytes);
                let place = running.places[0];
                if self.head == Some(place) {
                    // The reply has grown since its size was read.
                    self.head = None;
                    self.room.end_head();
                }
                let footprint = running.footprint;
                let deferred = Deferred { place, footprint, command, reply_bytes };
                // A reply larger than a connection's share never takes from the shared room.
                let wanted = self.used(unwritten) + reply_bytes;
                if wanted <= limits::CLIENT_CONNECTION_BYTES_MAX && self.room.try_hold(wanted) {
                    self.start_again(deferred);
                } else {
                    *self.at(place) = Place::Deferred;
                    self.deferred.push(deferred);
                }
            }
        }
    }

    fn at(&mut self, place: u64) -> &mut Place {
        let at = usize::try_from(place - self.first_place).expect("a place in memory");
        &mut self.waiting[at]
    }

    fn settle(&mut self, places: &[u64], replies: Vec<Reply>) {
        assert_eq!(places.len(), replies.len(), "each command has one reply");
        for (place, reply) in places.iter().zip(replies) {
            let bytes = reply.len_bytes();
            self.ready_bytes += bytes;
            if self.head == Some(*place) {
                self.room.shrink_head(bytes);
            }
            *self.at(*place) = Place::Ready(reply);
        }
    }

    /// Bytes that this connection's replies hold or will hold.
    fn used(&self, unwritten: usize) -> usize {
        self.expected_bytes + self.ready_bytes + unwritten
    }

    /// True if the connection may hold `more` bytes beside those it holds. A reply that never fits
    /// here is read when it is the next one, with room of its own: no client takes the others'
    /// part.
    fn has_room(&self, more: usize, unwritten: usize) -> bool {
        self.used(unwritten) + more <= limits::CLIENT_CONNECTION_BYTES_MAX
    }

    /// Plans a command, or returns it if it has to wait for room or for an earlier command.
    pub(super) fn admit(
        &mut self,
        context: &mut Context<'_>,
        command: Command,
        unwritten: usize,
    ) -> Option<Command> {
        if !self.deferred.is_empty() {
            // A later command would only take room while the deferred one waits. It leaves the
            // queue, so that it delays no other connection.
            self.room.stop_waiting();
            return Some(command);
        }
        let reply_bytes = match &command {
            // At most the longest argument, or a line for each of all clients: far less than this.
            Command::Local(local) => local_bytes(local, || self.shared.clients_now())
                .min(limits::CLIENT_CONNECTION_BYTES_MAX),
            command => self.expectation.reply_bytes(command),
        };
        if reply_bytes > limits::CLIENT_CONNECTION_BYTES_MAX {
            self.room.stop_waiting();
            return self.defer(command, reply_bytes);
        }
        let wanted = self.used(unwritten) + reply_bytes;
        if !self.has_room(reply_bytes, unwritten) {
            self.room.stop_waiting();
            return Some(command);
        }
        if !self.room.poll_hold(context, wanted) {
            return Some(command);
        }
        match command {
            Command::Local(local) => {
                self.waiting.push_back(Place::Local(local, reply_bytes));
            }
            command => {
                if let Some(command) = self.plan(command, reply_bytes) {
                    return Some(command);
                }
            }
        }
        self.expected_bytes += reply_bytes;
        None
    }

    /// Gives a command its place; it gets its room when its reply is the next to be written.
    fn defer(&mut self, command: Command, reply_bytes: usize) -> Option<Command> {
        let footprint = Footprint::of(&command);
        let is_walk = command.is_walk();
        if self.is_blocked(&footprint, is_walk)
            || self.planned.iter().any(|other| conflict(other, &footprint, is_walk))
        {
            return Some(command);
        }
        let place = self.first_place + self.waiting.len() as u64;
        self.waiting.push_back(Place::Deferred);
        self.deferred.push(Deferred { place, footprint, command, reply_bytes });
        None
    }

    /// True if a running command has to end before one of this footprint begins.
    fn is_blocked(&self, footprint: &Footprint, is_walk: bool) -> bool {
        let mut running = self.running.iter().flatten();
        running.any(|other| other.footprint.conflicts(footprint) || (is_walk && other.is_walk))
    }

    fn plan(&mut self, command: Command, reply_bytes: usize) -> Option<Command> {
        let footprint = Footprint::of(&command);
        let is_walk = command.is_walk();
        if self.is_blocked(&footprint, is_walk) {
            return Some(command);
        }
        let place = self.first_place + self.waiting.len() as u64;
        let earlier = self.planned.iter_mut().find(|other| conflict(other, &footprint, is_walk));
        match earlier {
            None => self.planned.push(Planned::new(command, place, reply_bytes)),
            Some(earlier) => {
                if let Some(command) = earlier.merge(command, place, reply_bytes) {
                    return Some(command);
                }
            }
        }
        self.waiting.push_back(Place::Running);
        None
    }

    /// Polls the planned commands for the first time, in their order: that is the order in which
    /// they enter their shards.
    pub(super) fn start_planned(&mut self, unwritten: usize) {
        let mut planned = std::mem::take(&mut self.planned);
        for Planned { footprint, places, work, reply_bytes } in planned.drain(..) {
            let engine = self.shared.engine.clone();
            let argument_bytes = work_bytes(&work);
            let (is_walk, reads_values) = match &work {
                Work::Command(command) => (command.is_walk(), command.reads_values()),
                Work::Writes(_) => (false, false),
            };
            let task: Task<Executed> = match work {
                Work::Writes(writes) => {
                    Box::pin(async move { Executed::Done(write_together(&engine, writes).await) })
                }
                Work::Command(command) => {
                    Box::pin(async move { execute(&engine, command, reply_bytes).await })
                }
            };
            let running =
                Running { footprint, places, argument_bytes, reply_bytes, is_walk, reads_values };
            self.launch(running, task, unwritten);
        }
        self.planned = planned;
    }

    fn launch(&mut self, running: Running, task: Task<Executed>, unwritten: usize) {
        self.argument_bytes += running.argument_bytes;
        match self.tasks.start(task) {
            Started::Done(executed) => self.end(running, executed, unwritten),
            Started::Running(at) => {
                self.running.resize_with(self.running.len().max(at + 1), || None);
                self.running[at] = Some(running);
            }
        }
    }

    /// Runs a command again, with room for the size that its reply is known to have.
    fn start_again(&mut self, deferred: Deferred) {
        let Deferred { place, footprint, command, reply_bytes } = deferred;
        self.expected_bytes += reply_bytes;
        *self.at(place) = Place::Running;
        let engine = self.shared.engine.clone();
        let running = Running {
            footprint,
            places: vec![place],
            argument_bytes: 0,
            reply_bytes,
            is_walk: command.is_walk(),
            reads_values: command.reads_values(),
        };
        // Not polled here: its room could be too short again at once, and the retries would never
        // end.
        let task = Box::pin(async move {
            tokio::task::yield_now().await;
            execute(&engine, command, reply_bytes).await
        });
        self.launch(running, task, 0);
    }

    /// Starts to read the reply that is the next to be written, if it waits for room.
    pub(super) fn serve_head(&mut self, context: &mut Context<'_>) -> bool {
        if self.head.is_some() || !matches!(self.waiting.front(), Some(Place::Deferred)) {
            return false;
        }
        let first = self.first_place;
        let at = self.deferred.iter().position(|deferred| deferred.place == first);
        let at = at.expect("a deferred place has its command");
        if !self.room.poll_head(context, self.deferred[at].reply_bytes) {
            return false;
        }
        let deferred = self.deferred.swap_remove(at);
        self.head = Some(deferred.place);
        self.start_again(deferred);
        true
    }

    /// Bytes of the node's room that the connection has.
    pub(super) fn room_bytes(&self) -> usize {
        self.room.bytes()
    }

    /// True if the connection has some of the room that others may wait for.
    pub(super) fn has_shared_room(&self) -> bool {
        self.room.has_shared()
    }

    /// The next reply, or the local command to be answered, if its turn has come.
    pub(super) fn take_next(&mut self) -> Option<Next> {
        let next = match self.waiting.pop_front()? {
            Place::Ready(reply) => {
                self.ready_bytes -= reply.len_bytes();
                Next::Reply(reply)
            }
            Place::Local(local, bytes) => {
                self.expected_bytes -= bytes;
                Next::Local(local)
            }
            place @ (Place::Running | Place::Deferred) => {
                self.waiting.push_front(place);
                return None;
            }
        };
        self.first_place += 1;
        Some(next)
    }

    /// Notes that the reply taken last is in the output, up to `end`, with `unwritten` bytes there.
    pub(super) fn note_appended(&mut self, end: u64, unwritten: usize) {
        if self.head.is_some_and(|head| head < self.first_place) && self.head_end.is_none() {
            self.head_end = Some(end);
            self.room.shrink_head(unwritten);
        }
    }

    /// Notes that the output is written up to `written`, with `unwritten` bytes left.
    pub(super) fn note_written(&mut self, written: u64, unwritten: usize) {
        if self.head_end.is_some_and(|end| written >= end) {
            self.head = None;
            self.head_end = None;
            self.room.end_head();
        }
        let used = self.used(unwritten);
        self.room.shrink(used);
    }

    /// Replies taken so far.
    pub(super) fn answered(&self) -> u64 {
        self.first_place
    }
}

fn conflict(earlier: &Planned, footprint: &Footprint, is_walk: bool) -> bool {
    earlier.footprint.conflicts(footprint) || (is_walk && earlier.is_walk())
}

fn work_bytes(work: &Work) -> usize {
    match work {
        Work::Writes(writes) => writes.iter().map(SingleWrite::len_bytes).sum(),
        Work::Command(Command::SetMany(pairs)) => {
            pairs.iter().map(|(key, value)| key.len() + value.len()).sum()
        }
        Work::Command(
            Command::GetMany(keys) | Command::Exists(keys) | Command::DeleteMany(keys),
        ) => keys.iter().map(bytes::Bytes::len).sum(),
        Work::Command(_) => 64,
    }
}
