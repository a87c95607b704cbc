//! The same keys, written over and over.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quorate_tests::plot::{Line, svg};
use quorate_tests::process::{ProcessCluster, VALUE_BYTES, assert_filled, fill, numbered_key};

use crate::{CLUSTER, environment, turn};

const KEYS: u64 = 20_000;
/// What no directory may have at any time.
const DIRECTORY_BYTES_MAX: u64 = 1_000_000_000;
/// Unless the environment sets it.
const SECONDS: u64 = 600;
/// Pause between two samples.
const LOOK: Duration = Duration::from_secs(5);

/// One look at one node.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    seconds: f64,
    node: u64,
    log_bytes: u64,
    /// Of the log: the write-ahead log of its RocksDB, with what is allocated ahead.
    wal_bytes: u64,
    data_bytes: u64,
    /// Bytes that its process has sent to the disk.
    written_bytes: u64,
}

/// Goal: however long a fixed set of keys is overwritten, the disk use of every node stays bounded.
/// Method: 20,000 keys of 4 kB through all Redis ports as fast as they take them; the directories are
/// measured every few seconds, and what the processes have written at the end.
///
/// `QUORATE_OVERWRITE_SECONDS` sets how long; `QUORATE_OVERWRITE_OUTPUT` names a directory for
/// `overwrites.csv` and `overwrites.svg`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: scripts/overwrites"]
async fn endless_overwrites_leave_bounded_directories() {
    let _turn = turn();
    let seconds = environment("QUORATE_OVERWRITE_SECONDS").unwrap_or(SECONDS);
    let cluster = ProcessCluster::start(CLUSTER).await;
    let nodes = ProcessCluster::NODES
        .map(|node| (node.0, cluster.process(node).id(), cluster.data_path(node)));
    let stop = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let watching = std::thread::spawn({
        let (stop, nodes) = (Arc::clone(&stop), nodes.clone());
        move || watch(&nodes, began, &stop)
    });
    let mut rounds = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        fill(&cluster.redis(), (0, KEYS), rounds).await;
        rounds += 1;
    }
    let took = began.elapsed();
    stop.store(true, Ordering::Relaxed);
    let samples = watching.join().expect("the sampler does not panic");

    let payload = rounds * KEYS * (numbered_key(0).len() + VALUE_BYTES) as u64;
    let seconds = took.as_secs_f64();
    println!(
        "{rounds} rounds of {KEYS} keys of {VALUE_BYTES} bytes in {seconds:.0} s: {:.1} MB/s",
        payload as f64 / 1e6 / seconds
    );
    if let Some(output) = std::env::var_os("QUORATE_OVERWRITE_OUTPUT") {
        write_files(Path::new(&output), &samples);
    }
    for (node, ..) in &nodes {
        let own = || samples.iter().filter(|sample| sample.node == *node);
        let most = |bytes: fn(&Sample) -> u64| own().map(bytes).max().expect("sampled");
        let whole = most(|it| it.log_bytes + it.data_bytes);
        let written = own().next_back().expect("sampled").written_bytes;
        println!(
            "node {node}: at most {} MB; log {} MB, of it write-ahead log {} MB; data {} MB; {:.2} bytes \
             written per payload byte",
            whole / 1_000_000,
            most(|it| it.log_bytes) / 1_000_000,
            most(|it| it.wal_bytes) / 1_000_000,
            most(|it| it.data_bytes) / 1_000_000,
            written as f64 / payload as f64
        );
        assert!(whole < DIRECTORY_BYTES_MAX, "node {node} has used {whole} bytes");
    }
    let versions = vec![rounds - 1; usize::try_from(KEYS).expect("few")];
    assert_filled(cluster.redis()[0], 0, &versions).await;
}

fn watch(nodes: &[(u64, u32, PathBuf)], began: Instant, stop: &AtomicBool) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        for (node, process, directory) in nodes {
            samples.push(Sample {
                seconds: began.elapsed().as_secs_f64(),
                node: *node,
                log_bytes: bytes_below(&directory.join("log"), ""),
                wal_bytes: bytes_below(&directory.join("log"), ".log"),
                data_bytes: bytes_below(&directory.join("data"), ""),
                written_bytes: written_by(*process),
            });
        }
        if is_last {
            return samples;
        }
        let next = Instant::now() + LOOK;
        while Instant::now() < next && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Bytes that the files below `directory` whose names end so take on the disk. Files may go
/// meanwhile.
fn bytes_below(directory: &Path, end: &str) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let bytes_of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_below(&entry.path(), end),
        Ok(about) if entry.file_name().to_string_lossy().ends_with(end) => about.blocks() * 512,
        Ok(_) | Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(bytes_of).sum()
}

/// What a process has sent to the disk, in bytes.
fn written_by(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/io")).expect("it runs");
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.expect("the kernel counts").parse().expect("a number")
}

fn write_files(output: &Path, samples: &[Sample]) {
    let mut table = "seconds,node,log_bytes,wal_bytes,data_bytes,written_bytes\n".to_owned();
    for sample in samples {
        let Sample { seconds, node, log_bytes, wal_bytes, data_bytes, written_bytes } = sample;
        writeln!(table, "{seconds:.1},{node},{log_bytes},{wal_bytes},{data_bytes},{written_bytes}")
            .expect("a String takes everything");
    }
    let line = |node: u64, name: &str, bytes: fn(&Sample) -> u64| Line {
        name: format!("node {node}, {name}"),
        points: samples
            .iter()
            .filter(|sample| sample.node == node)
            .map(|sample| (sample.seconds, bytes(sample) as f64 / 1e6))
            .collect(),
    };
    let all = |node| line(node, "all", |it| it.log_bytes + it.data_bytes);
    let lines = [
        all(1),
        all(2),
        all(3),
        line(1, "log", |it| it.log_bytes),
        line(1, "WAL", |it| it.wal_bytes),
        line(1, "data", |it| it.data_bytes),
    ];
    let title = "Disk use while 20,000 keys of 4 kB are overwritten";
    fs::create_dir_all(output).expect("made");
    fs::write(output.join("overwrites.csv"), table).expect("written");
    fs::write(output.join("overwrites.svg"), svg(title, "seconds", "MB", &lines)).expect("written");
}
