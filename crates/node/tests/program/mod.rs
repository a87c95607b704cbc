//! The program in its own process, under limits that a shell sets before it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use quorate::{ClusterId, NodeId};
use quorate_node::certs::directory::{CertificateDirectory, Existing};
use rustix::process::{Pid, Signal, kill_process};

/// Bounds only a failing test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const DEMO: &str = "demo --nodes 1 --shards 2 --redis-port 0 --admin-port 0";

/// A node in its process.
pub(crate) struct Program {
    child: Child,
    out: BufReader<ChildStdout>,
    pub(crate) redis: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Program {
    /// Starts a demo of one node behind `limits`, lines of a shell.
    pub(crate) fn start_limited(limits: &str) -> Program {
        Program::start(limits, DEMO, "Ctrl-C")
    }

    /// Starts a node by its file behind `limits`, and waits until it is ready.
    pub(crate) fn start_node(limits: &str, config: &Path) -> Program {
        Program::start(limits, &format!("start --config '{}'", config.display()), "is ready")
    }

    fn start(limits: &str, arguments: &str, last_words: &str) -> Program {
        let mut child = shell(limits, arguments).stderr(Stdio::piped()).spawn().expect("a shell");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut greeting = String::new();
        while !greeting.contains(last_words) {
            let read = out.read_line(&mut greeting).expect("a greeting");
            assert!(read > 0, "it ended: {greeting}{}", rest_of(&mut child));
        }
        let after = |word: &str| {
            let (_, rest) = greeting.split_once(word).expect("named in the greeting");
            let address = rest.split([' ', ',', '\n']).find(|text| !text.is_empty());
            address.expect("an address").parse().expect("an address")
        };
        Program { redis: after(" redis "), admin: after("admin http://"), child, out }
    }

    /// Waits until it prints a line with `words`; returns the line.
    pub(crate) fn wait_line(&mut self, words: &str) -> String {
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            let read = self.out.read_line(&mut line).expect("a line");
            assert!(read > 0, "it ended and never said {words:?}: {}", rest_of(&mut self.child));
        }
        line
    }

    /// Asks it to stop; returns its exit code and its standard error.
    pub(crate) fn stop(&mut self) -> (Option<i32>, String) {
        self.signal(Signal::TERM);
        let said = rest_of(&mut self.child);
        (self.child.wait().expect("ended").code(), said)
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("an id");
        kill_process(pid, signal).expect("it runs");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.signal(Signal::KILL);
            drop(self.child.wait());
        }
    }
}

/// Runs a demo behind `limits` until it ends by itself.
pub(crate) fn run_limited(limits: &str) -> (Option<i32>, String) {
    let output = shell(limits, DEMO).output().expect("a shell");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn shell(limits: &str, arguments: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} && exec \"$0\" {arguments}")]);
    command.arg(env!("CARGO_BIN_EXE_quorate")).stdout(Stdio::piped());
    command
}

fn rest_of(child: &mut Child) -> String {
    let mut text = String::new();
    if let Some(pipe) = &mut child.stderr {
        pipe.read_to_string(&mut text).expect("text");
    }
    text
}

/// The whole answer to `GET path`.
pub(crate) fn http(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer in time");
    answer
}

/// Makes certificates and the file of a cluster of one node in `directory`; returns the file.
pub(crate) fn configure(directory: &Path) -> PathBuf {
    let certificates = CertificateDirectory::at(directory.join("certs"));
    let authority = certificates.init(ClusterId(0xC1), Existing::Refuse).expect("an authority");
    certificates.issue(&authority, NodeId(1), Existing::Refuse).expect("a certificate");
    // Held until all are known, so that they differ. The QUIC port may be any TCP's, too.
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    let [address, redis, admin] =
        listeners.each_ref().map(|listener| listener.local_addr().expect("bound"));
    let text = format!(
        "node = 1\ndirectory = \"data\"\n[certificates]\nauthority = \"certs/authority.pem\"\n\
         certificate = \"certs/node-1.pem\"\nkey = \"certs/node-1.key\"\n[[nodes]]\nid = 1\n\
         address = \"{address}\"\nredis = \"{redis}\"\nadmin = \"{admin}\"\n[bootstrap]\nshards = 2\n"
    );
    let file = directory.join("node.toml");
    std::fs::write(&file, text).expect("written");
    file
}
