//! All watchers of the world: properties, timeline, marks and report.

use std::fmt;

use quorate_types::{Index, LogId, NodeId, ShardId, Term};

use super::node::{Node, number_of};
use crate::mark_finder::MarkFinder;
use crate::marks::Marks;
use crate::observation::{Observation, SimTime};
use crate::properties::{Broken, Properties, Sight};
use crate::report::{Report, Reporter};
use crate::timeline::Timeline;

/// Events of the timeline that a failure shows.
const TIMELINE_EVENTS: usize = 150;

/// A seed that broke no property.
#[derive(Clone, Debug)]
pub struct Finished {
    /// What happened.
    pub report: Report,
    /// Which rare paths it reached.
    pub marks: Marks,
}

/// A seed that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed, which fails again when it is replayed.
    pub seed: u64,
    /// The command that runs a seed, from the world's configuration.
    pub replay: &'static str,
    /// When it failed, in true time.
    pub at: SimTime,
    /// The property that does not hold.
    pub broken: Broken,
    /// The events before the failure, for people to read.
    pub timeline: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} failed at {}: {}", self.seed, self.at, self.broken)?;
        writeln!(f, "replay: {} {}", self.replay, self.seed)?;
        write!(f, "{}", self.timeline)
    }
}

impl std::error::Error for Failure {}

/// The logs of all running processes.
struct Logs<'a>(&'a [Node]);

impl Logs<'_> {
    fn host(&self, node: NodeId) -> Option<&quorate_host::Host> {
        self.0[number_of(node)].process.as_ref().map(|process| &process.host)
    }
}

impl Sight for Logs<'_> {
    fn term_at(&self, node: NodeId, shard: ShardId, index: Index) -> Option<Term> {
        self.host(node)?.term_at(shard, index)
    }

    fn last(&self, node: NodeId, shard: ShardId) -> Option<LogId> {
        self.host(node)?.view(shard).map(|view| view.last)
    }

    fn base(&self, node: NodeId, shard: ShardId) -> Option<LogId> {
        self.host(node)?.view(shard).map(|view| view.base)
    }
}

/// All watchers of one world, and the first broken property that they found.
pub(crate) struct Watch {
    seed: u64,
    replay: &'static str,
    pub(crate) properties: Properties,
    timeline: Timeline,
    marks: MarkFinder,
    reporter: Reporter,
    broken: Option<Broken>,
}

impl Watch {
    pub(crate) fn new(seed: u64, replay: &'static str) -> Watch {
        Watch {
            seed,
            replay,
            properties: Properties::new(),
            timeline: Timeline::new(),
            marks: MarkFinder::new(),
            reporter: Reporter::new(),
            broken: None,
        }
    }

    pub(crate) fn observe(&mut self, now: u64, nodes: &[Node], observation: &Observation<'_>) {
        if self.broken.is_some() {
            return;
        }
        let at = SimTime(now);
        self.timeline.observe(at, observation);
        self.marks.observe(at, observation);
        self.reporter.observe(at, observation);
        self.broken = self.properties.observe(at, &Logs(nodes), observation).err();
    }

    /// Checks the properties that can be judged only at the end.
    pub(crate) fn end(&mut self, now: u64, nodes: &[Node]) {
        if self.broken.is_none() {
            self.broken = self.properties.end(SimTime(now), &Logs(nodes)).err();
        }
    }

    pub(crate) fn fail(&mut self, property: &'static str, shard: Option<ShardId>, what: String) {
        let nodes = Vec::new();
        self.broken.get_or_insert(Broken { property, shard, nodes, what });
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// The failure, if there is one.
    pub(crate) fn failure(&self, now: u64) -> Result<(), Box<Failure>> {
        let Some(broken) = self.broken.clone() else { return Ok(()) };
        let timeline = self.timeline.render(broken.shard, TIMELINE_EVENTS);
        Err(Box::new(Failure {
            seed: self.seed,
            replay: self.replay,
            at: SimTime(now),
            broken,
            timeline,
        }))
    }

    /// What happened, once the world has ended.
    pub(crate) fn finish(mut self, history: u64) -> Finished {
        self.reporter.stir(history);
        Finished { report: *self.reporter.report(), marks: *self.marks.marks() }
    }
}
