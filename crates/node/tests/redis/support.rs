//! One node behind its Redis port, a blocking client, and the memory of this process.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use quorate::{NodeId, SyncMode};
use quorate_node::demo::{Demo, DemoConfig};
use tokio::runtime::Runtime;

/// Longer than anything takes: a test that hangs fails.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// A demo cluster of one node, on its own runtime; clients run on this thread.
pub(crate) struct OneNode {
    runtime: Runtime,
    demo: Option<Demo>,
}

impl OneNode {
    /// One node of `shards` shards, whose clients are served by `threads` threads.
    pub(crate) fn start(shards: u32, threads: usize) -> OneNode {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(threads).enable_all().build().expect("a runtime");
        let demo = runtime.block_on(async {
            let demo = Demo::start(DemoConfig {
                nodes: 1,
                shards,
                directory: None,
                redis_port: 0,
                admin_port: 0,
                sync: SyncMode::Sync,
            })
            .await
            .expect("started");
            demo.wait_ready(HANG).await.expect("ready");
            demo
        });
        OneNode { runtime, demo: Some(demo) }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.node().redis_address()
    }

    /// Reads that the engine has answered.
    pub(crate) fn reads_served(&self) -> u64 {
        self.runtime.block_on(self.node().engine().status()).counters.reads_served
    }

    /// Room that the replies of all connections take.
    pub(crate) fn reply_bytes(&self) -> usize {
        self.node().redis_statistics().reply_bytes()
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address())
    }

    fn node(&self) -> &quorate_node::node::Node {
        self.demo.as_ref().expect("runs").node(NodeId(1)).expect("runs")
    }
}

impl Drop for OneNode {
    fn drop(&mut self) {
        if let Some(demo) = self.demo.take() {
            self.runtime.block_on(demo.stop()).expect("stopped");
        }
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("connected");
        stream.set_read_timeout(Some(HANG)).expect("set");
        stream.set_nodelay(true).expect("set");
        Client { stream: BufReader::new(stream) }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("sent");
    }

    pub(crate) fn send_words(&mut self, words: &[&[u8]]) {
        self.send(&request(words));
    }

    /// The first line of the next reply, without its end; for a byte string the string itself, for
    /// nothing `nil`, for a list each element after it.
    pub(crate) fn read(&mut self) -> Vec<String> {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("a line");
        let line = line.trim_end().to_owned();
        let Some((kind, rest)) = line.split_at_checked(1) else { panic!("closed") };
        match (kind, rest.parse::<i64>()) {
            ("$", Ok(-1)) => vec!["nil".to_owned()],
            ("$", Ok(length)) => {
                let mut text = vec![0; usize::try_from(length).expect("a length") + 2];
                self.stream.read_exact(&mut text).expect("a string");
                text.truncate(text.len() - 2);
                vec![String::from_utf8_lossy(&text).into_owned()]
            }
            ("*", Ok(count)) => {
                let mut all = vec![line];
                (0..count).for_each(|_| all.extend(self.read()));
                all
            }
            _ => vec![line],
        }
    }

    /// Sends an inline command and reads its reply.
    pub(crate) fn ask(&mut self, line: &str) -> Vec<String> {
        self.send(format!("{line}\r\n").as_bytes());
        self.read()
    }

    /// Sends a command and reads its reply.
    pub(crate) fn ask_words(&mut self, words: &[&[u8]]) -> Vec<String> {
        self.send_words(words);
        self.read()
    }

    /// Reads and discards `bytes` bytes.
    pub(crate) fn skip(&mut self, bytes: usize) {
        let mut left = bytes;
        let mut sink = vec![0; 256 << 10];
        while left > 0 {
            let here = left.min(sink.len());
            self.stream.read_exact(&mut sink[..here]).expect("more");
            left -= here;
        }
    }
}

/// A request's bytes.
pub(crate) fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// Resident memory of this process in bytes: `VmRSS` now, `VmHWM` the most since
/// [`forget_peak`].
pub(crate) fn memory(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with(field)).expect("a known field");
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok());
    kib.expect("a number of KiB") << 10
}

/// Lets `VmHWM` start anew.
pub(crate) fn forget_peak() {
    fs::write("/proc/self/clear_refs", "5").expect("Linux 4.0 or later");
}
