//! Runs the document for operators as it stands.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use quorate_tests::process::{BashScript, shell_blocks};

use crate::{PROGRAM, turn};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
const HEADING: &str = "Three processes on one machine";
const BLOCKS_MIN: usize = 5;
const SCRIPT_MAX: Duration = Duration::from_secs(120);

/// Goal: the commands that the document gives work, in its order. Method: its blocks as one script,
/// which ends at the first command that fails, in an empty directory where `quorate` is the program
/// under test. Its ports are taken as they stand.
#[tokio::test(flavor = "multi_thread")]
async fn the_document_can_be_followed() {
    let _turn = turn();
    let document = fs::read_to_string(DOCUMENT).expect("the document is there");
    let blocks = shell_blocks(&document, HEADING)
        .unwrap_or_else(|| panic!("{DOCUMENT} has no heading {HEADING:?}"));
    assert!(blocks.len() >= BLOCKS_MIN, "only {} blocks below {HEADING:?}", blocks.len());

    let directory = tempfile::tempdir().expect("a temporary directory");
    let (programs, work) = (directory.path().join("programs"), directory.path().join("work"));
    fs::create_dir_all(&programs).expect("made");
    fs::create_dir_all(&work).expect("made");
    symlink(Path::new(PROGRAM), programs.join("quorate")).expect("linked");

    // Each block says where it begins, so that a failure can be found in the document.
    let begin = |(place, block): (usize, &String)| {
        format!("echo '== block {} of {}'\n{block}", place + 1, blocks.len())
    };
    let script: String = blocks.iter().enumerate().map(begin).collect();
    let mut running = BashScript::start(&script, &work, &programs);
    let status = running.wait_exit(SCRIPT_MAX).await;
    println!("{}", running.said());
    assert!(status.success(), "{status}: {}", running.said());
    println!("{} blocks were run", blocks.len());
}
