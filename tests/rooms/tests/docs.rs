//! Goal: a page that sends its reader to a file names one that is there. Method: every path of a source
//! file that the pages name, against the files of the workspace.

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("the workspace")
}

/// Paths below `folder`, from the root on, but for what builds leave.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        let name = path.file_name().expect("an entry").to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, found);
            }
        } else {
            found.push(path.display().to_string());
        }
    }
}

/// What stands between backticks and ends like a source file.
fn named(page: &str) -> impl Iterator<Item = &str> {
    let spans = page.split('`').skip(1).step_by(2);
    spans.filter(|span| span.ends_with(".rs") && !span.contains([' ', '*', '<']))
}

#[test]
fn pages_name_files_that_exist() {
    let root = root();
    let mut all = Vec::new();
    files(&root, &mut all);
    let pages = all.iter().filter(|path| path.ends_with(".md"));
    let mut missing = Vec::new();
    let mut count = 0;
    for page in pages {
        let text = std::fs::read_to_string(page).expect("readable");
        for path in named(&text) {
            count += 1;
            if !all.iter().any(|file| file.ends_with(&format!("/{path}"))) {
                missing.push(format!("{page}: {path}"));
            }
        }
    }
    assert!(count > 50, "the pages name many files; {count} were found");
    assert!(missing.is_empty(), "\n{}", missing.join("\n"));
}
