//! Goal: the protocol's behaviour is reviewed as a text whose every change shows. Method: each file
//! of `tests/transcripts` is a script with what came of it; the script runs again and the whole text
//! has to come out the same. `UPDATE_TRANSCRIPTS=1` writes it anew, for the diff to be reviewed.

#[path = "support/describe.rs"]
mod describe;
#[path = "support/script.rs"]
mod script;
mod support;

use std::fs;
use std::path::Path;

use script::Script;

/// Runs a transcript's commands (`> ...`) and keeps its comments (`# ...`) and blank lines; every
/// other line is what the commands before it brought about, told anew.
fn replay(text: &str) -> String {
    let mut script = Script::default();
    let mut told = String::new();
    for line in text.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            told.push_str(line);
            told.push('\n');
            told.push_str(&script.run(command));
        } else if line.is_empty() || line.starts_with('#') {
            told.push_str(line);
            told.push('\n');
        }
    }
    told
}

fn first_difference(expected: &str, found: &str) -> String {
    let mut lines = expected.lines().zip(found.lines()).enumerate();
    let differs = lines.find(|(_, (expected, found))| expected != found);
    match differs {
        Some((at, (expected, found))) => {
            format!("line {}\n  expected: {expected}\n  found:    {found}", at + 1)
        }
        None => "one text ends before the other".to_owned(),
    }
}

#[test]
fn transcripts_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let update = std::env::var_os("UPDATE_TRANSCRIPTS").is_some();
    let mut faults = Vec::new();
    let mut count = 0;
    let entries = fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    for path in paths {
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        count += 1;
        println!("{}", path.display());
        let expected = fs::read_to_string(&path).expect("readable");
        let found = replay(&expected);
        if update && found != expected {
            fs::write(&path, &found).expect("writable");
        } else if found != expected {
            faults.push(format!("{}: {}", path.display(), first_difference(&expected, &found)));
        }
    }
    assert!(count > 15, "only {count} transcripts were found");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
