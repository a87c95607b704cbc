//! Runs the commands of a document as a person would.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::wait::until;

/// The blocks marked `sh` below the heading `heading` of a Markdown text and below its subheadings,
/// in order. None if there is no such heading.
#[must_use]
pub fn shell_blocks(markdown: &str, heading: &str) -> Option<Vec<String>> {
    let mut section_level = None;
    let mut fence: Option<(&str, bool)> = None;
    let mut blocks = Vec::new();
    for line in markdown.lines() {
        let text = line.trim();
        if let Some((mark, is_wanted)) = fence {
            // A fence ends with at least as many marks as it began with, and nothing else.
            if text.starts_with(mark) && text.trim_start_matches(&mark[..1]).is_empty() {
                fence = None;
            } else if is_wanted && let Some(block) = blocks.last_mut() {
                *block += line;
                *block += "\n";
            }
            continue;
        }
        if let Some((mark, information)) = fence_of(text) {
            let is_wanted = section_level.is_some() && information == "sh";
            fence = Some((mark, is_wanted));
            if is_wanted {
                blocks.push(String::new());
            }
            continue;
        }
        let Some((level, title)) = heading_of(line) else {
            continue;
        };
        match section_level {
            None if title == heading => section_level = Some(level),
            Some(own) if level <= own => break,
            _ => {}
        }
    }
    section_level.map(|_| blocks)
}

/// The marks that open a fence, and the text after them.
fn fence_of(text: &str) -> Option<(&str, &str)> {
    let mark = text.chars().next().filter(|mark| "`~".contains(*mark))?;
    let information = text.trim_start_matches(mark);
    let marks = &text[..text.len() - information.len()];
    (marks.len() >= 3).then_some((marks, information.trim()))
}

fn heading_of(line: &str) -> Option<(usize, &str)> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    ((1..=6).contains(&level) && title.starts_with(' ')).then_some((level, title.trim()))
}

/// A bash script with all that it starts; everything is killed when it is dropped.
pub struct BashScript {
    child: Child,
    output: PathBuf,
}

impl BashScript {
    /// Runs `script` in `directory`, with `programs` first in the search path. The first command
    /// that fails ends it.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start(script: &str, directory: &Path, programs: &Path) -> BashScript {
        let (file, output) = (directory.join("script.sh"), directory.join("script.txt"));
        fs::write(&file, script).expect("a temporary directory takes a file");
        // A file and no pipe: processes left in the background must not hold up the reader.
        let open = || File::options().create(true).append(true).open(&output).expect("a log file");
        let path = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("bash")
            .args(["-euo", "pipefail"])
            .arg(&file)
            .current_dir(directory)
            .env("PATH", format!("{}:{path}", programs.display()))
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .process_group(0)
            .spawn()
            .expect("bash can be run");
        BashScript { child, output }
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// If it does not end within `within`.
    pub async fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        until("the script ends", within, async || {
            let exited = self.child.try_wait().expect("a child can be asked for");
            exited.ok_or_else(|| self.said())
        })
        .await
    }

    /// The output of the script and of all that it started.
    #[must_use]
    pub fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_else(|error| error.to_string())
    }
}

impl Drop for BashScript {
    fn drop(&mut self) {
        // This fails only if nothing of the group is left, which is the aim.
        let _killed = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _reaped = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only the blocks of one section and its subsections, whatever else the document holds.
    #[test]
    fn blocks_are_found_below_their_heading() {
        let markdown = "# Top\n```sh\nbefore\n```\n## The one\n```sh\none\n# no heading\n```\n\
                        ```toml\n## The one\n```\n### Below\n~~~ sh\ntwo\n```\n\n~~~\n\
                        ```sh no\nother\n```\n## Next\n```sh\nafter\n```\n";
        let expected = vec!["one\n# no heading\n".to_owned(), "two\n```\n\n".to_owned()];
        assert_eq!(shell_blocks(markdown, "The one"), Some(expected));
        assert_eq!(shell_blocks(markdown, "Another"), None);
        assert_eq!(shell_blocks("## The one", "The one"), Some(Vec::new()));
    }
}
