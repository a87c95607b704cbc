//! Watches of a shard's leader, of a shard's position, and of the map.
//!
//! A watch shows the newest state and skips older ones. It is cheap, needs no polling, does not
//! keep the engine alive, and ends with [`Refusal::Stopped`] when the engine stops.

use std::sync::Arc;

use quorate_types::{Index, ShardId};
use tokio::sync::watch;

use crate::api::engine::Engine;
use crate::cluster::map::{ClusterMap, MapView};
use crate::error::Refusal;
use crate::state::fatal::Fatal;
use crate::state::position::Position;
use crate::state::shards::{Leadership, LocalShard};
use crate::state::shutdown::Shutdown;

impl Engine {
    /// Watches who leads `shard`, which must have a replica here. Does not block.
    ///
    /// # Errors
    /// [`Refusal::NotHere`] names the nodes to ask; [`Refusal::NoShard`]; [`Refusal::Stopped`].
    pub fn watch_leader(&self, shard: ShardId) -> Result<LeaderWatch, Refusal> {
        let dispatch = self.running.dispatch();
        let receiver = dispatch.replica(shard)?.watch_leadership();
        Ok(LeaderWatch { receiver, shutdown: Arc::clone(dispatch.shutdown()) })
    }

    /// Watches the map of the cluster's shards as this node knows it. Does not block.
    #[must_use]
    pub fn watch_map(&self) -> MapWatch {
        let dispatch = self.running.dispatch();
        MapWatch {
            changes: dispatch.map().watch(),
            map: Arc::clone(dispatch.map()),
            shutdown: Arc::clone(dispatch.shutdown()),
        }
    }

    /// Watches the position of `shard`, which must have a replica here. Does not block. While a
    /// shard's position is watched, each of its turns costs a wake-up.
    ///
    /// # Errors
    /// As [`Engine::watch_leader`].
    pub fn watch_position(&self, shard: ShardId) -> Result<PositionWatch, Refusal> {
        let dispatch = self.running.dispatch();
        Ok(PositionWatch::new(
            Arc::clone(dispatch.replica(shard)?),
            Arc::clone(dispatch.shutdown()),
        ))
    }
}

/// Shows who leads one shard. Made by [`Engine::watch_leader`].
#[derive(Clone)]
pub struct LeaderWatch {
    receiver: watch::Receiver<Leadership>,
    shutdown: Arc<Shutdown>,
}

impl LeaderWatch {
    /// The newest state; after the engine's end, the last one. Does not mark it as seen.
    #[must_use]
    pub fn current(&self) -> Leadership {
        *self.receiver.borrow()
    }

    /// Waits until the leadership has changed since this watch was made or last reported a change;
    /// it may have changed back. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Refusal::Stopped`] when the engine ends.
    pub async fn changed(&mut self) -> Result<Leadership, Refusal> {
        self.shutdown.or(self.receiver.changed()).await?.map_err(|_| self.shutdown.refusal())?;
        Ok(*self.receiver.borrow_and_update())
    }
}

/// Shows the map of the cluster's shards. Made by [`Engine::watch_map`].
#[derive(Clone)]
pub struct MapWatch {
    map: Arc<ClusterMap>,
    changes: watch::Receiver<u64>,
    shutdown: Arc<Shutdown>,
}

impl MapWatch {
    /// The newest state; after the engine's end, the last one. Copies every descriptor.
    #[must_use]
    pub fn current(&self) -> MapView {
        self.map.view()
    }

    /// Waits until the map, including its list of nodes, has changed since this watch was made or
    /// last reported a change. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Refusal::Stopped`] when the engine ends.
    pub async fn changed(&mut self) -> Result<MapView, Refusal> {
        self.shutdown.or(self.changes.changed()).await?.map_err(|_| self.shutdown.refusal())?;
        Ok(self.map.view())
    }
}

/// Shows the position of one shard on this node. Made by [`Engine::watch_position`].
pub struct PositionWatch {
    state: Arc<LocalShard>,
    shutdown: Arc<Shutdown>,
    seen: Position,
}

impl PositionWatch {
    pub(crate) fn new(state: Arc<LocalShard>, shutdown: Arc<Shutdown>) -> PositionWatch {
        state.position.register();
        let seen = state.position.get();
        PositionWatch { state, shutdown, seen }
    }

    /// The newest position; after the engine's end, the last one. Does not mark it as seen.
    #[must_use]
    pub fn current(&self) -> Position {
        self.state.position.get()
    }

    /// Waits until the position differs from the last one that this watch has seen, at first the
    /// one when the watch was made. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`Refusal::Stopped`] when the engine ends.
    pub async fn changed(&mut self) -> Result<Position, Refusal> {
        let seen = self.seen;
        self.seen = self.wait_for(|position| position != seen).await?;
        Ok(self.seen)
    }

    /// Waits until everything up to and with `index` is applied here: reads of this node at
    /// [`ReadLevel::Stale`](crate::ReadLevel::Stale) then see it. Does not affect what
    /// [`PositionWatch::changed`] has seen.
    ///
    /// # Errors
    /// [`Refusal::Stopped`] when the engine ends; [`Refusal::NotHere`] once this node has given its
    /// replica up because it is damaged.
    pub async fn wait_applied(&self, index: Index) -> Result<Position, Refusal> {
        self.wait_for(|position| position.applied >= index).await
    }

    /// Waits until everything up to and with `index` is known to be committed here; otherwise as
    /// [`PositionWatch::wait_applied`].
    ///
    /// # Errors
    /// [`Refusal::Stopped`] when the engine ends.
    pub async fn wait_committed(&self, index: Index) -> Result<Position, Refusal> {
        self.wait_for(|position| position.commit >= index).await
    }

    /// Why this watch has ended, once it has.
    pub(crate) fn ended(&self) -> Refusal {
        match self.state.ended() {
            Some(_) => {
                let descriptor = self.state.descriptor();
                let others = descriptor.members.iter().filter(|m| m.replica != self.state.replica);
                let nodes = others.map(|member| member.node).collect();
                Refusal::NotHere { shard: self.state.shard, nodes }
            }
            None => self.shutdown.refusal(),
        }
    }

    /// The latch for panics in reads on behalf of this watch.
    pub(crate) fn fatal(&self) -> Arc<Fatal> {
        self.shutdown.fatal()
    }

    async fn wait_for(&self, wanted: impl Fn(Position) -> bool) -> Result<Position, Refusal> {
        loop {
            // Made before the position is read, so that no later change is missed.
            let moved = self.state.position.moved();
            let position = self.current();
            if wanted(position) {
                return Ok(position);
            }
            if self.state.ended().is_some() {
                return Err(self.ended());
            }
            self.shutdown.or(moved).await?;
        }
    }
}

impl Clone for PositionWatch {
    fn clone(&self) -> PositionWatch {
        let mut watch = PositionWatch::new(Arc::clone(&self.state), Arc::clone(&self.shutdown));
        watch.seen = self.seen;
        watch
    }
}

impl Drop for PositionWatch {
    fn drop(&mut self) {
        self.state.position.unregister();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quorate_router::ShardDescriptor;
    use quorate_types::{Epoch, NodeId, ReplicaId, SpaceId};

    use super::*;

    fn shard() -> (Arc<LocalShard>, Arc<Shutdown>) {
        let descriptor = ShardDescriptor {
            shard: ShardId(1),
            start: Bytes::new(),
            end: None,
            epoch: Epoch { membership: 1, version: 1 },
            members: Vec::new(),
        };
        let state = LocalShard::new(descriptor, ReplicaId(1), SpaceId(1), 0, Index(1));
        (Arc::new(state), Arc::new(Shutdown::new(Arc::new(Fatal::default()))))
    }

    /// Goal: no watch misses a publication, not even one that comes and goes. Method: a thread that
    /// publishes as fast as it can, and watchers that would wait forever for a missed one.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn no_wake_up_is_lost() {
        const LAST: Index = Index(50_000);
        let (state, shutdown) = shard();
        let watch = || PositionWatch::new(Arc::clone(&state), Arc::clone(&shutdown));
        let (mut follower, waiter) = (watch(), watch());
        let publisher = std::thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for index in (2..=LAST.0).map(Index) {
                    state.position.publish_commit(index);
                    state.position.publish_applied(index);
                }
            }
        });
        let following = tokio::spawn(async move {
            // Not the current one: the publisher may have come further since the watch was made.
            let mut last = follower.seen;
            while last.applied < LAST {
                let next = follower.changed().await.expect("running");
                assert!(next != last && next.applied >= last.applied);
                assert!(next.commit >= next.applied, "{next:?}");
                last = next;
            }
        });
        let waiting = tokio::spawn(async move { waiter.wait_applied(LAST).await });
        while state.position.get().applied < LAST {
            let next = state.position.get().commit.next().min(LAST);
            watch().wait_committed(next).await.expect("running");
        }
        following.await.expect("no panic");
        assert_eq!(waiting.await.expect("no panic").map(|end| end.applied), Ok(LAST));
        publisher.join().expect("no panic");
    }

    /// Goal: the leadership watch reports what matters and nothing else, and ends with the engine.
    /// Method: the test sets the roles.
    #[tokio::test]
    async fn leadership_changes_once_per_change() {
        let (state, shutdown) = shard();
        let watch =
            || LeaderWatch { receiver: state.watch_leadership(), shutdown: Arc::clone(&shutdown) };
        let mut before = watch();
        assert_eq!(before.current(), Leadership::default());
        let leads = |serving| Leadership { leader: Some(NodeId(2)), serving };
        state.set_leader(None, false);
        assert!(
            !before.receiver.has_changed().expect("the state lives"),
            "a term without a leader"
        );
        state.set_leader(Some(NodeId(2)), false);
        assert_eq!(before.changed().await, Ok(leads(false)));
        state.set_leader(Some(NodeId(2)), true);
        assert_eq!(before.current(), leads(true));
        assert_eq!(before.changed().await, Ok(leads(true)), "looking does not mark it as seen");
        let late = watch();
        assert_eq!(late.current(), leads(true));
        assert!(!late.receiver.has_changed().expect("the state lives"));
        let waiting = tokio::spawn(async move { before.changed().await });
        shutdown.begin();
        assert_eq!(waiting.await.expect("no panic"), Err(shutdown.refusal()));
    }
}
