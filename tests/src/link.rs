//! A link between two nodes that a test can cut: datagrams pass through the test's own sockets,
//! which drop them while the link is cut. The nodes notice only silence, as with a broken cable.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Larger than any datagram.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;

/// A link between two nodes, in both directions.
pub struct Link {
    /// Bytes of datagrams that still pass: none if it is cut.
    left: Arc<AtomicU64>,
    /// The address of each node for the other one, in the order of [`Link::between`].
    ends: [SocketAddr; 2],
    /// Ends with the link.
    _tasks: JoinSet<()>,
}

impl Link {
    /// Carries datagrams between the nodes that listen at `first` and `second`.
    ///
    /// # Panics
    /// If the system has no free ports.
    pub async fn between(first: SocketAddr, second: SocketAddr) -> Link {
        let left = Arc::new(AtomicU64::new(u64::MAX));
        let mut tasks = JoinSet::new();
        let mut ends = [first, second];
        for end in &mut ends {
            let front = Arc::new(free_socket().await);
            let target = std::mem::replace(end, front.local_addr().expect("bound"));
            tasks.spawn(carry(front, target, Arc::clone(&left)));
        }
        Link { left, ends, _tasks: tasks }
    }

    /// The address at which the second node reaches the first one.
    #[must_use]
    pub fn first(&self) -> SocketAddr {
        self.ends[0]
    }

    /// The address at which the first node reaches the second one.
    #[must_use]
    pub fn second(&self) -> SocketAddr {
        self.ends[1]
    }

    /// Drops all datagrams from now on.
    pub fn cut(&self) {
        self.left.store(0, Ordering::SeqCst);
    }

    /// Carries datagrams of so many bytes, both directions together, and then is cut.
    pub fn cut_after(&self, bytes: u64) {
        self.left.store(bytes, Ordering::SeqCst);
    }

    /// Whether it carries nothing.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    /// Carries datagrams again.
    pub fn mend(&self) {
        self.left.store(u64::MAX, Ordering::SeqCst);
    }
}

/// Whether a datagram passes; the first that does not cuts the link.
fn passes(left: &AtomicU64, datagram: &[u8]) -> bool {
    let bytes = datagram.len() as u64;
    let taken = |left: u64| Some(left.saturating_sub(bytes));
    let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, taken);
    before.expect("always taken") >= bytes.max(1)
}

async fn free_socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free UDP port")
}

/// Carries datagrams from `front` to `target`, by one socket for each sender, and the answers back.
async fn carry(front: Arc<UdpSocket>, target: SocketAddr, left: Arc<AtomicU64>) {
    let mut senders: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // The error is about an earlier datagram that reached nobody: as good as lost.
        let Ok((length, sender)) = front.recv_from(&mut datagram).await else {
            continue;
        };
        if !passes(&left, &datagram[..length]) {
            continue;
        }
        let socket = match senders.entry(sender) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => {
                let socket = Arc::new(free_socket().await);
                socket.connect(target).await.expect("an address on loopback");
                back.spawn(carry_back(socket.clone(), front.clone(), sender, left.clone()));
                Arc::clone(place.insert(socket))
            }
        };
        let _lost_if_error = socket.send(&datagram[..length]).await;
    }
}

async fn carry_back(
    socket: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    sender: SocketAddr,
    left: Arc<AtomicU64>,
) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok(length) = socket.recv(&mut datagram).await else {
            continue;
        };
        if passes(&left, &datagram[..length]) {
            let _lost_if_error = front.send_to(&datagram[..length], sender).await;
        }
    }
}
