//! One process of the program, whose output goes to files.

use std::fs::{self, File};
use std::io::PipeReader;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::wait::until;

/// A process; killed when dropped, however the test ends.
pub struct NodeProcess {
    name: String,
    child: Child,
    output: PathBuf,
}

impl NodeProcess {
    /// Runs `program start --config configuration`. Its output is appended to the file `output`.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start(name: &str, program: &str, configuration: &Path, output: &Path) -> NodeProcess {
        NodeProcess::spawn(name, command(program, configuration), output)
    }

    /// Runs `program` with other arguments than those of a start.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn run(name: &str, program: &str, words: &[&str], output: &Path) -> NodeProcess {
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null());
        NodeProcess::spawn(name, command, output)
    }

    fn spawn(name: &str, mut command: Command, output: &Path) -> NodeProcess {
        let open = || File::options().create(true).append(true).open(output).expect("a log file");
        let child = command.stdout(open()).stderr(open()).spawn();
        let child = child.expect("the test's program can be run");
        NodeProcess { name: name.to_owned(), child, output: output.to_owned() }
    }

    /// As [`NodeProcess::start`], logging what `filter` selects (as in `RUST_LOG`) into a pipe,
    /// whose reader is returned: to be dropped, or left unread. Nothing goes to `output`.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start_piped(
        name: &str,
        program: &str,
        configuration: &Path,
        output: &Path,
        filter: &str,
    ) -> (NodeProcess, PipeReader) {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = command(program, configuration);
        command.env("RUST_LOG", filter).stdout(writer.try_clone().expect("doubled")).stderr(writer);
        let child = command.spawn().expect("the test's program can be run");
        (NodeProcess { name: name.to_owned(), child, output: output.to_owned() }, reader)
    }

    /// The id that the system gave it.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills it as a power cut would, except that the page cache survives.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn kill(&mut self) {
        self.child.kill().expect("a child can be killed");
        self.child.wait().expect("a child can be waited for");
    }

    /// Pauses it: sockets stay open, nothing answers.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it continue after a pause.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to stop, waits until it ends and returns the exit code.
    ///
    /// # Panics
    /// If it does not end within `within`.
    pub async fn stop(&mut self, within: Duration) -> Option<i32> {
        self.signal(Signal::TERM);
        self.wait_exit(within).await
    }

    /// Waits until it ends by itself; returns the exit code, none if a signal ended it.
    ///
    /// # Panics
    /// If it does not end within `within`; shows its output.
    pub async fn wait_exit(&mut self, within: Duration) -> Option<i32> {
        let what = format!("{} exits", self.name);
        until(&what, within, async || self.exited().ok_or_else(|| self.said_last())).await.code()
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If the system refuses.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for")
    }

    /// Waits until it has said `words`; returns all its output.
    ///
    /// # Panics
    /// If it has not within `within`.
    pub async fn wait_said(&self, words: &str, within: Duration) -> String {
        let what = format!("{} says {words:?}", self.name);
        until(&what, within, async || {
            let said = self.said();
            if said.contains(words) { Ok(said) } else { Err(self.said_last()) }
        })
        .await
    }

    /// All output of this process, and of those before it with the same file.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_else(|error| error.to_string())
    }

    /// The end of the output, for a person to read.
    #[must_use]
    pub fn said_last(&self) -> String {
        const LINES: usize = 25;
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        let last = &lines[lines.len().saturating_sub(LINES)..];
        format!("-- {} said last:\n{}\n", self.name, last.join("\n"))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the child runs");
    }
}

/// Runs `program start --config configuration`.
fn command(program: &str, configuration: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("start").arg("--config").arg(configuration).stdin(Stdio::null());
    command
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.said_last());
        }
        // Either fails only if the process has ended already, which is what is wanted.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
