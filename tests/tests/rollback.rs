//! A directory that is restored from a copy of the life that ran last.

use std::time::Duration;

use quorate::{Engine, FatalError, NodeId, OpenFault, ReadLevel};
use quorate_tests::cluster::{ClusterSpec, READY, close, copy_directory, introduce, key};

async fn write_and_read_everywhere(engines: &[Engine], value: &'static str) {
    for number in 0..40 {
        engines[0].put(key(number), value).await.expect("up");
    }
    for engine in engines {
        for number in 0..40 {
            let read = engine.get(&key(number), ReadLevel::Linearizable).await.expect("up");
            assert_eq!(read.as_deref(), Some(value.as_bytes()));
        }
    }
}

/// Goal: a copy that was taken while the newest life ran is not known to any peer by its name, but
/// a leader that stays finds it out: the node ends, says of which shard it lost what, and never
/// starts again on that directory (RULES 5 and 17). Method: node 3 leads nothing; its directory is
/// copied while it runs, it acknowledges more, and continues from the copy.
#[tokio::test]
async fn a_copy_of_the_running_life_is_found_by_a_leader_that_stays() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let spec = ClusterSpec::new(directory.path(), 8);
    let (third, copy) = (directory.path().join("node-3"), directory.path().join("copy"));
    let mut engines = spec.open_all().await;
    write_and_read_everywhere(&engines, "old").await;
    engines[2].drain(Duration::from_secs(5)).await;
    // The data first: what is applied there is then in the log for certain.
    copy_directory(&third.join("data"), &copy.join("data"));
    copy_directory(&third.join("log"), &copy.join("log"));
    write_and_read_everywhere(&engines, "new").await;
    engines.remove(2).shutdown().await;
    std::fs::remove_dir_all(&third).expect("it was there");
    copy_directory(&copy, &third);

    engines.push(spec.open(NodeId(3)).expect("a copy of the newest life opens"));
    introduce(&engines);
    let fatal = tokio::time::timeout(READY, engines[2].wait_fatal()).await.expect("found in time");
    let FatalError::RolledBack { shard, loss } = &fatal else { panic!("ended by {fatal}") };
    let text = fatal.to_string();
    let words = [
        format!("shard {shard}"),
        format!("entries through {}", loss.acknowledged),
        format!("ends at {}", loss.last),
        "a node id that was never used".to_owned(),
    ];
    for word in words {
        assert!(text.contains(&word), "{word} is missing in: {text}");
    }
    engines.remove(2).shutdown().await;
    for _ in 0..2 {
        let refused = spec.open(NodeId(3)).map(drop).expect_err("the directory is known to be old");
        let is_known = |fault: &OpenFault| matches!(fault, OpenFault::Ended { reason } if reason.contains(&loss.to_string()));
        assert!(refused.faults.iter().any(is_known), "{refused}");
    }
    for number in 0..40 {
        let value = engines[0].get(&key(number), ReadLevel::Linearizable).await.expect("two serve");
        assert_eq!(value.as_deref(), Some(&b"new"[..]));
    }
    close(engines).await;
}
