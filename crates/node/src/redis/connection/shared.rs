//! What all connections of one Redis port share: the engine, the totals, and the list of clients.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate::Engine;

use super::room::NodeRoom;

/// Totals of one Redis port since it opened.
#[derive(Debug, Default)]
pub struct RedisStatistics {
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Connections refused because there were too many.
    pub connections_refused: AtomicU64,
    /// Commands answered.
    pub commands: AtomicU64,
    /// Error replies among the answers.
    pub errors: AtomicU64,
    /// Connections ended because their bytes were not the protocol.
    pub protocol_errors: AtomicU64,
    /// The room for the replies of all connections.
    pub(super) room: Arc<NodeRoom>,
}

impl RedisStatistics {
    /// Bytes that the replies of all connections hold, or may hold, until clients have read them.
    #[must_use]
    pub fn reply_bytes(&self) -> usize {
        self.room.taken()
    }
}

/// What all connections of one port share.
pub(super) struct Shared {
    pub(super) engine: Engine,
    pub(super) statistics: Arc<RedisStatistics>,
    pub(super) address: SocketAddr,
    pub(super) clients_max: usize,
    pub(super) started: Instant,
    next_id: AtomicI64,
    clients: Mutex<BTreeMap<i64, Arc<Client>>>,
}

/// One connection, as others see it.
pub(super) struct Client {
    pub(super) id: i64,
    pub(super) address: SocketAddr,
    since: Instant,
    name: Mutex<Bytes>,
}

impl Client {
    pub(super) fn name(&self) -> Bytes {
        self.name.lock().clone()
    }

    pub(super) fn set_name(&self, name: Bytes) {
        *self.name.lock() = name;
    }

    /// The line of CLIENT INFO and CLIENT LIST.
    pub(super) fn line(&self) -> String {
        format!(
            "id={} addr={} name={} age={} db=0",
            self.id,
            self.address,
            String::from_utf8_lossy(&self.name()),
            self.since.elapsed().as_secs()
        )
    }
}

impl Shared {
    /// For a port that listens on `address`, with a place for each of at most `clients_max` connections.
    pub(super) fn new(engine: Engine, address: SocketAddr, clients_max: usize) -> Shared {
        Shared {
            engine,
            statistics: Arc::new(RedisStatistics::default()),
            address,
            clients_max,
            started: Instant::now(),
            next_id: AtomicI64::new(1),
            clients: Mutex::default(),
        }
    }

    pub(super) fn clients_now(&self) -> usize {
        self.clients.lock().len()
    }

    /// The lines of the clients whose ids are wanted.
    pub(super) fn client_lines(&self, wanted: impl Fn(i64) -> bool) -> String {
        let clients = self.clients.lock();
        let wanted = clients.values().filter(|client| wanted(client.id));
        wanted.map(|client| client.line() + "\n").collect()
    }

    /// A place for one more connection; `None` if there are too many.
    pub(super) fn admit(&self, address: SocketAddr) -> Option<Arc<Client>> {
        let mut clients = self.clients.lock();
        if clients.len() >= self.clients_max {
            return None;
        }
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let name = Mutex::default();
        let client = Arc::new(Client { id, address, since: Instant::now(), name });
        clients.insert(id, Arc::clone(&client));
        Some(client)
    }
}

/// Gives a connection's place back when it is dropped, also if its task panics.
pub(super) struct Place {
    shared: Arc<Shared>,
    client: Arc<Client>,
}

impl Place {
    /// The place of `client`, which was admitted.
    pub(super) fn of(client: &Arc<Client>, shared: &Arc<Shared>) -> Place {
        Place { shared: Arc::clone(shared), client: Arc::clone(client) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.clients.lock().remove(&self.client.id);
    }
}
