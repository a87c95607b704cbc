//! Circles of imports: among the entries of each folder, and among all files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::imports::Import;
use crate::sources::Sources;

/// Most files of a crate that may import each other, directly or over others. Two or three are a
/// thing and its parts; of more than that none can be read alone.
pub const CIRCLE_FILES_MAX: usize = 4;

/// Crates with a larger circle, how large it is, and why. Only to be made smaller.
pub const LARGER_CIRCLES: [(&str, usize, &str); 2] = [
    ("raft", 11, "the kernel is one state machine, and each part of it a file that adds to it"),
    ("sim", 10, "the world is one thing, and each part of it a file that adds to it"),
];

/// A rule that a crate breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Entries of one folder import each other in a circle that goes through a folder.
    FoldersInCircle {
        /// The folder whose entries they are; empty for `src` itself.
        folder: String,
        /// The entries.
        entries: Vec<String>,
        /// The imports between them.
        imports: Vec<Import>,
    },
    /// Too many files import each other.
    LargeCircle {
        /// The files.
        files: Vec<String>,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::FoldersInCircle { folder, entries, imports } => {
                let of = if folder.is_empty() { "src" } else { folder };
                writeln!(f, "in {of}: {} import each other:", entries.join(", "))?;
                for Import { from, to } in imports {
                    writeln!(f, "    {from} imports {to}")?;
                }
                write!(f, "    Let one of the directions go, or move what both need below them.")
            }
            Fault::LargeCircle { files } => {
                let count = files.len();
                write!(f, "{count} files import each other, {CIRCLE_FILES_MAX} may: ")?;
                write!(f, "{}", files.join(", "))
            }
        }
    }
}

impl Sources {
    /// The rules that these sources break; empty if they keep to them.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        self.faults_beyond(CIRCLE_FILES_MAX)
    }

    /// As [`Sources::faults`], with circles of up to `circle_files_max` files.
    #[must_use]
    pub fn faults_beyond(&self, circle_files_max: usize) -> Vec<Fault> {
        let imports = self.imports();
        let folders: BTreeSet<String> = self.paths().flat_map(folders_of).collect();
        let mut faults: Vec<Fault> =
            folders.iter().flat_map(|folder| folder_faults(folder, &folders, &imports)).collect();
        let edges = imports.iter().map(|i| (i.from.clone(), i.to.clone())).collect();
        let large = circles(&edges).into_iter().filter(|files| files.len() > circle_files_max);
        faults.extend(large.map(|files| Fault::LargeCircle { files }));
        faults
    }
}

/// The folders that a file lies in, `src` itself as the empty one; each with its slash.
fn folders_of(path: &str) -> Vec<String> {
    let ends = path.match_indices('/').map(|(at, _)| path[..=at].to_owned());
    std::iter::once(String::new()).chain(ends).collect()
}

fn folder_faults(folder: &str, folders: &BTreeSet<String>, imports: &[Import]) -> Vec<Fault> {
    // An entry that is a folder keeps its slash; the file beside a folder of its name is the folder's.
    let entry_of = |path: &str| -> Option<String> {
        let entry = path.strip_prefix(folder)?.split_inclusive('/').next()?;
        let of_folder = entry.strip_suffix(".rs").map(|name| format!("{name}/"));
        let is_folder = |name: &String| folders.contains(&format!("{folder}{name}"));
        Some(of_folder.filter(is_folder).unwrap_or_else(|| entry.to_owned()))
    };
    let mut edges = BTreeSet::new();
    let mut by_edge: BTreeMap<(String, String), Vec<Import>> = BTreeMap::new();
    for import in imports {
        if let (Some(from), Some(to)) = (entry_of(&import.from), entry_of(&import.to))
            && from != to
        {
            edges.insert((from.clone(), to.clone()));
            by_edge.entry((from, to)).or_default().push(import.clone());
        }
    }
    let through_folders =
        circles(&edges).into_iter().filter(|entries| entries.iter().any(|e| e.ends_with('/')));
    through_folders
        .map(|entries| {
            let within = by_edge
                .iter()
                .filter(|((from, to), _)| entries.contains(from) && entries.contains(to));
            let imports = within.flat_map(|(_, imports)| imports.clone()).collect();
            Fault::FoldersInCircle { folder: folder.to_owned(), entries, imports }
        })
        .collect()
}

/// The sets of more than one name that reach each other.
fn circles(edges: &BTreeSet<(String, String)>) -> Vec<Vec<String>> {
    let names: BTreeSet<&str> =
        edges.iter().flat_map(|(from, to)| [from.as_str(), to.as_str()]).collect();
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        names.iter().map(|name| (*name, reached_from(name, edges))).collect();
    let mut found = BTreeSet::new();
    for name in &names {
        let circle: Vec<String> = names
            .iter()
            .filter(|other| reached[name].contains(*other) && reached[*other].contains(name))
            .map(|other| (*other).to_owned())
            .collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    found.into_iter().collect()
}

fn reached_from<'a>(name: &'a str, edges: &'a BTreeSet<(String, String)>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut open = vec![name];
    while let Some(from) = open.pop() {
        for (_, to) in edges.iter().filter(|(edge_from, _)| edge_from == from) {
            if reached.insert(to.as_str()) {
                open.push(to);
            }
        }
    }
    reached
}
