//! The history of all clients is linearizable: every read and every reply to a write is explained by
//! one order of the operations that respects real time.

use super::Broken;
use crate::linearizability::{History, Limits, Verdict};

pub(crate) fn end(history: &History) -> Result<(), Broken> {
    let limits = Limits::default();
    let what = match history.check(&limits) {
        Verdict::Linearizable => return Ok(()),
        // A history too hard to check says nothing about the system, but a world must not make such
        // histories.
        verdict @ (Verdict::Violation { .. } | Verdict::Exhausted { .. }) => verdict.to_string(),
    };
    Err(Broken { property: "reads_linearizable", shard: None, nodes: Vec::new(), what })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::samples::breaks;
    use super::*;
    use crate::linearizability::{ClientId, Operation, Reply};

    fn read_after_set(value: Option<Bytes>) -> History {
        let mut history = History::new();
        let key = Bytes::from("key");
        let set = Operation::Set(Bytes::from("1"));
        let set = history.invoke(ClientId(1), 1, key.clone(), set);
        history.complete(set, 2, Reply::Done);
        let get = history.invoke(ClientId(2), 3, key, Operation::Get);
        history.complete(get, 4, Reply::Value(value));
        history
    }

    #[test]
    fn a_stale_read_is_found() {
        end(&read_after_set(Some(Bytes::from("1")))).expect("it sees the write");
        breaks(end(&read_after_set(None)), "reads_linearizable");
    }
}
