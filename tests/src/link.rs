//! A link between two nodes that a test can cut: datagrams pass through the test's own sockets,
//! which drop them while the link is cut. The nodes notice only silence, as with a broken cable.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

/// Larger than any datagram.
const DATAGRAM_BYTES_MAX: usize = 1 << 16;

/// A link between two nodes, in both directions.
pub struct Link {
    cut: Arc<AtomicBool>,
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
        let cut = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let mut ends = [first, second];
        for end in &mut ends {
            let front = Arc::new(free_socket().await);
            let target = std::mem::replace(end, front.local_addr().expect("bound"));
            tasks.spawn(carry(front, target, Arc::clone(&cut)));
        }
        Link { cut, ends, _tasks: tasks }
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
        self.cut.store(true, Ordering::SeqCst);
    }

    /// Carries datagrams again.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }
}

async fn free_socket() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free UDP port")
}

/// Carries datagrams from `front` to `target`, by one socket for each sender, and the answers back.
async fn carry(front: Arc<UdpSocket>, target: SocketAddr, cut: Arc<AtomicBool>) {
    let mut senders: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut back = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // The error is about an earlier datagram that reached nobody: as good as lost.
        let Ok((length, sender)) = front.recv_from(&mut datagram).await else {
            continue;
        };
        if cut.load(Ordering::SeqCst) {
            continue;
        }
        let socket = match senders.entry(sender) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(place) => {
                let socket = Arc::new(free_socket().await);
                socket.connect(target).await.expect("an address on loopback");
                back.spawn(carry_back(socket.clone(), front.clone(), sender, cut.clone()));
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
    cut: Arc<AtomicBool>,
) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok(length) = socket.recv(&mut datagram).await else {
            continue;
        };
        if !cut.load(Ordering::SeqCst) {
            let _lost_if_error = front.send_to(&datagram[..length], sender).await;
        }
    }
}
