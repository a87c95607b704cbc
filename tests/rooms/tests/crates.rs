//! Goal: the folders of every crate import one way, and no circle of files is large. Method: the
//! sources as they are, and sources with an import planted that goes back up.

use std::path::{Path, PathBuf};

use quorate_rooms::{CIRCLE_FILES_MAX, Fault, LARGER_CIRCLES, Sources};

fn crates() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let entries = std::fs::read_dir(folder).expect("the workspace is here");
    entries.map(|entry| entry.expect("readable").path()).collect()
}

fn name(path: &Path) -> String {
    path.file_name().expect("a folder").to_string_lossy().into_owned()
}

#[test]
fn every_crate_keeps_its_rooms_apart() {
    let mut said = Vec::new();
    for path in crates() {
        let sources = Sources::read(&path.join("src")).expect("readable");
        assert!(!sources.is_empty(), "{}: no sources", path.display());
        let known = LARGER_CIRCLES.iter().find(|(of, ..)| *of == name(&path));
        let files_max = known.map_or(CIRCLE_FILES_MAX, |(_, files, _)| *files);
        let faults = sources.faults_beyond(files_max);
        said.extend(faults.iter().map(|fault| format!("crate {}: {fault}", name(&path))));
    }
    assert!(said.is_empty(), "\n{}", said.join("\n"));
}

/// Goal: an exception that is no longer needed goes.
#[test]
fn exceptions_are_as_small_as_they_can_be() {
    for (of, files, _) in LARGER_CIRCLES {
        let path = crates().into_iter().find(|path| name(path) == of).expect("there is the crate");
        let sources = Sources::read(&path.join("src")).expect("readable");
        let smaller = sources.faults_beyond(files - 1);
        assert!(!smaller.is_empty(), "crate {of} has no circle of {files} files any more");
    }
}

/// Goal: the check finds what it is for. Method: the engine's own sources, to which the lowest room is
/// given an import of the highest, and to which a circle of files is added.
#[test]
fn planted_faults_are_found() {
    let engine = crates().into_iter().find(|path| name(path) == "engine").expect("it is here");
    let sound = Sources::read(&engine.join("src")).expect("readable");
    let planted = sound.clone().with("state/fatal.rs", "use crate::api::engine::Engine;");
    let faults = planted.faults();
    let upward = faults.iter().find(|fault| matches!(fault, Fault::FoldersInCircle { .. }));
    let text = upward.expect("an import that goes back up").to_string();
    assert!(text.contains("state/fatal.rs imports api/engine.rs"), "{text}");

    let circle = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a")];
    let planted = circle.iter().fold(sound, |sources, (from, to)| {
        sources.with(&format!("{from}.rs"), &format!("use crate::{to}::Thing;"))
    });
    let large = planted.faults().into_iter().find_map(|fault| match fault {
        Fault::LargeCircle { files } => Some(files),
        Fault::FoldersInCircle { .. } => None,
    });
    assert_eq!(large, Some(["a.rs", "b.rs", "c.rs", "d.rs", "e.rs"].map(String::from).to_vec()));
}
