//! Goal: a task that dies is not silent: its engine ends its service and says which task died and
//! why, whatever the cause. Method: three engines, and a log that panics, as one does that writes
//! to a closed pipe. A package of its own, because a process has one log.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quorate_tests::cluster::{ClusterSpec, close};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// A log whose reader is gone.
struct Broken;

impl<S: Subscriber> Layer<S> for Broken {
    fn on_event(&self, _event: &Event<'_>, _context: Context<'_, S>) {
        assert!(!READER_IS_GONE.load(Ordering::SeqCst), "the log can't be written");
    }
}

#[tokio::test]
async fn a_task_that_dies_ends_the_service_by_name() {
    tracing_subscriber::registry().with(Broken).with(LevelFilter::INFO).init();
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut engines = ClusterSpec::new(directory.path(), 2).open_all().await;
    let third = engines.pop().expect("three engines");
    READER_IS_GONE.store(true, Ordering::SeqCst);
    // The end of its connections is logged by the tasks that would make new ones.
    third.shutdown().await;
    for engine in &engines {
        let fatal = tokio::time::timeout(Duration::from_secs(20), engine.wait_fatal()).await;
        let said = fatal.expect("the engine must not go on without its links").to_string();
        assert!(said.contains("task `transport: "), "it names the task: {said}");
        assert!(said.contains("the log can't be written"), "and the reason: {said}");
    }
    READER_IS_GONE.store(false, Ordering::SeqCst);
    close(engines).await;
}
