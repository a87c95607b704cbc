//! A client that tries the next node when one fails, like a client with a list of seeds.

use std::net::SocketAddr;
use std::time::Duration;

use super::redis_client::{Outcome, RedisClient, Request};

/// Holds one connection, to one of several servers.
pub struct AnyPort {
    servers: Vec<SocketAddr>,
    place: usize,
    patience: Duration,
    client: Option<RedisClient>,
}

impl AnyPort {
    /// Begins with the server at `place`, modulo their number.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(servers: &[SocketAddr], place: usize, patience: Duration) -> AnyPort {
        assert!(!servers.is_empty(), "a client needs a server");
        AnyPort { servers: servers.to_vec(), place, patience, client: None }
    }

    /// Sends one request to the current server. After a failure the next call goes to the next one.
    pub async fn call(&mut self, request: Request) -> Outcome {
        if self.client.is_none() {
            let server = self.servers[self.place % self.servers.len()];
            match RedisClient::connect(server, self.patience).await {
                Ok(client) => self.client = Some(client),
                Err(error) => {
                    self.place += 1;
                    return Outcome::DidNotHappen(format!("{server}: not connected: {error}"));
                }
            }
        }
        let client = self.client.as_mut().expect("connected above");
        let outcome = client.call(request).await;
        if client.is_broken() {
            self.client = None;
            self.place += 1;
        }
        outcome
    }
}
