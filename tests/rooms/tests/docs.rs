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

/// Goal: the rooms of the engine are those that the page shows, in its order. Method: the rows of its table
/// against the imports between folders.
#[test]
fn the_engines_rooms_are_as_shown() {
    let root = root();
    let page = std::fs::read_to_string(root.join("docs/ARCHITECTURE.md")).expect("readable");
    let (_, table) = page.split_once("| folder of `engine/src` |").expect("the table is there");
    let rows = table.lines().skip(2).take_while(|row| row.starts_with('|'));
    let rooms: Vec<&str> = rows.filter_map(|row| row.split('`').nth(1)).collect();
    let sources = quorate_rooms::Sources::read(&root.join("crates/engine/src")).expect("readable");
    let row_of = |path: &str| {
        let room = path.split('/').next().expect("a path");
        rooms.iter().position(|shown| *shown == room)
    };
    let imports = sources.imports();
    // What the crate shows is put together in lib.rs, above all rooms.
    for import in imports.iter().filter(|import| import.from != "lib.rs") {
        let rows = (row_of(&import.from), row_of(&import.to));
        let (Some(from), Some(to)) = rows else { panic!("a room is not shown: {import:?}") };
        assert!(from <= to, "against the order that is shown: {import:?}");
    }
    assert!(imports.len() > 200 && rooms.len() > 10, "{rooms:?}");
}
