//! The program in a process of its own, under limits that a shell sets before it.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Bounds a failure only.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const DEMO: &str = "demo --nodes 1 --shards 2 --redis-port 0 --admin-port 0";

/// A demo of one node.
pub(crate) struct Program {
    child: Child,
    pub(crate) redis: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Program {
    /// Starts it behind `limits`, lines of a shell.
    pub(crate) fn start_limited(limits: &str) -> Program {
        let mut child = shell(limits, DEMO).stderr(Stdio::piped()).spawn().expect("a shell");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut greeting = String::new();
        while !greeting.contains("Ctrl-C") {
            let read = out.read_line(&mut greeting).expect("a greeting");
            assert!(read > 0, "it ended: {greeting}{}", rest_of(&mut child));
        }
        // What follows the greeting fits a pipe.
        child.stdout = Some(out.into_inner());
        let after = |word: &str| {
            let (_, rest) = greeting.split_once(word).expect("named in the greeting");
            let address = rest.split_whitespace().next().expect("an address");
            address.parse().expect("an address")
        };
        Program { redis: after(" redis "), admin: after("admin http://"), child }
    }

    /// Asks it to stop; gives its exit code and what it said on its standard error.
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
