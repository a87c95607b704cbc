//! Reads back what was written.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::load::Written;
use super::redis_client::{Answer, Outcome, RedisClient, Request};
use super::wait::until;

/// Requests sent at once.
const BATCH: usize = 128;
/// Longest wait for one batch, elections included.
const WITHIN: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(5);

/// Reads everything that was acknowledged through each of `servers`.
///
/// # Panics
/// If something is missing, or a counter is off.
pub async fn read_back(servers: &[SocketAddr], written: &Written) {
    for server in servers {
        let keys: Vec<&Bytes> = written.sets.iter().map(|(key, _)| key).collect();
        let values = get_all(*server, &keys).await;
        for ((key, expected), found) in written.sets.iter().zip(values) {
            assert_eq!(found.as_ref(), Some(expected), "{key:?} by {server}");
        }
        let keys: Vec<&Bytes> = written.counters.iter().map(|counter| &counter.key).collect();
        let values = get_all(*server, &keys).await;
        for (counter, found) in written.counters.iter().zip(values) {
            let text =
                found.map_or_else(|| "0".into(), |v| String::from_utf8_lossy(&v).into_owned());
            let value: i64 = text.parse().expect("a counter is a number");
            let bounds = counter.acknowledged..=counter.acknowledged + counter.unknown;
            assert!(bounds.contains(&value), "{value} by {server}, expected {counter:?}");
        }
    }
}

/// Writes and reads some keys through each of `servers`, to see that the cluster serves.
///
/// # Panics
/// If it does not serve within seconds.
pub async fn assert_serves(servers: &[SocketAddr], label: &str) {
    for (place, server) in servers.iter().enumerate() {
        let key = |number| Bytes::from(format!("{label}-{place}-{number}"));
        let keys: Vec<Bytes> = (0..BATCH).map(key).collect();
        let set = |key: &Bytes| Request::Set(key.clone(), key.clone());
        until(&format!("{server} takes writes"), WITHIN, async || {
            exchange(*server, &keys.iter().map(set).collect::<Vec<_>>()).await
        })
        .await;
        for reader in servers {
            let values = get_all(*reader, &keys.iter().collect::<Vec<_>>()).await;
            assert!(values.iter().flatten().eq(&keys), "written by {server}, read by {reader}");
        }
    }
}

async fn get_all(server: SocketAddr, keys: &[&Bytes]) -> Vec<Option<Bytes>> {
    let mut values = Vec::with_capacity(keys.len());
    for batch in keys.chunks(BATCH) {
        let gets: Vec<Request> = batch.iter().map(|key| Request::Get((*key).clone())).collect();
        let answers = until(&format!("{server} answers reads"), WITHIN, async || {
            exchange(server, &gets).await
        })
        .await;
        values.extend(answers.into_iter().map(|answer| match answer {
            Answer::Value(value) => value,
            other => panic!("{other:?} to GET"),
        }));
    }
    values
}

/// All answers, or the first failure.
async fn exchange(server: SocketAddr, requests: &[Request]) -> Result<Vec<Answer>, String> {
    let client = RedisClient::connect(server, PATIENCE).await;
    let mut client = client.map_err(|error| error.to_string())?;
    let outcomes = client.pipeline(requests).await.into_iter();
    outcomes
        .map(|outcome| match outcome {
            Outcome::Answered(answer) => Ok(answer),
            Outcome::DidNotHappen(text) | Outcome::Unknown(text) => Err(text),
        })
        .collect()
}
