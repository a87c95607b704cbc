//! The properties: what has to hold at every moment, whatever fails. One file each.
//!
//! A property sees [`Observation`]s and, where the text of one does not say enough, the living logs
//! through [`Sight`]. It remembers as little as it can and answers at once, so a violation is found
//! at the step that causes it.

use std::fmt;

use quorate_types::{Index, LogId, NodeId, ShardId, Term};

use crate::linearizability::History;
use crate::observation::{Observation, SimTime};

/// The logs of the living replicas, as their kernels have them now.
pub trait Sight {
    /// Term of an entry; `None` before the base, beyond the end, and where no replica lives.
    fn term_at(&self, node: NodeId, shard: ShardId, index: Index) -> Option<Term>;
    /// Last entry of the log.
    fn last(&self, node: NodeId, shard: ShardId) -> Option<LogId>;
    /// The entry before the first of the log.
    fn base(&self, node: NodeId, shard: ShardId) -> Option<LogId>;
}

/// A property does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Its name, that of its file.
    pub property: &'static str,
    /// Where, if it is about one shard.
    pub shard: Option<ShardId>,
    /// Who took part.
    pub nodes: Vec<NodeId>,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

impl std::error::Error for Broken {}

/// All properties of one world.
#[derive(Default)]
pub struct Properties {
    history: History,
}

impl Properties {
    /// Nothing was observed yet.
    #[must_use]
    pub fn new() -> Properties {
        Properties::default()
    }

    /// What the world's clients ask and are told; checked by [`Properties::end`].
    pub fn history_mut(&mut self) -> &mut History {
        &mut self.history
    }

    /// Checks one observation; to be called in the order of time.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn observe(
        &mut self,
        at: SimTime,
        sight: &dyn Sight,
        observation: &Observation<'_>,
    ) -> Result<(), Broken> {
        let _ = (at, sight, observation);
        Ok(())
    }

    /// Checks what can be known at the end only.
    ///
    /// # Errors
    /// The property that does not hold.
    pub fn end(&mut self, at: SimTime, sight: &dyn Sight) -> Result<(), Broken> {
        let _ = (at, sight);
        Ok(())
    }
}
