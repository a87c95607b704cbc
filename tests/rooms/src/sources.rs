//! The files of one crate, their modules, and who imports whom.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::{fs, io};

use crate::imports::{Import, Named, named};

/// Re-exports that are followed one after the other.
const HOPS_MAX: usize = 8;

/// The sources of a crate, by their paths below `src`.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    texts: BTreeMap<String, String>,
}

impl<const N: usize> From<[(&str, &str); N]> for Sources {
    fn from(files: [(&str, &str); N]) -> Sources {
        let own = |(path, text): (&str, &str)| (path.to_owned(), text.to_owned());
        Sources { texts: files.into_iter().map(own).collect() }
    }
}

impl Sources {
    /// Reads all sources below `src`, but tests and binaries of their own.
    ///
    /// # Errors
    ///
    /// What reading the files says.
    pub fn read(src: &Path) -> io::Result<Sources> {
        let mut sources = Sources::default();
        sources.read_folder(src, "")?;
        Ok(sources)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = format!("{prefix}{name}");
            if entry.file_type()?.is_dir() {
                if name != "tests" && path != "bin" {
                    self.read_folder(&entry.path(), &format!("{path}/"))?;
                }
            } else if name.ends_with(".rs") && !is_of_tests(&name) {
                self.texts.insert(path, fs::read_to_string(entry.path())?);
            }
        }
        Ok(())
    }

    /// The same with `text` added to the file `path`, which need not exist.
    #[must_use]
    pub fn with(mut self, path: &str, text: &str) -> Sources {
        let whole = self.texts.entry(path.to_owned()).or_default();
        // In front: what comes behind inline tests is not looked at.
        *whole = format!("{text}\n{whole}");
        self
    }

    /// How many files there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// True without any file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    /// Who imports whom, each pair once.
    #[must_use]
    pub fn imports(&self) -> Vec<Import> {
        let modules: BTreeMap<Vec<String>, &str> =
            self.texts.keys().map(|path| (module_of(path), path.as_str())).collect();
        let names: BTreeMap<&str, Vec<Named>> =
            self.texts.iter().map(|(path, text)| (path.as_str(), named(text))).collect();
        let crate_map = CrateMap { modules, names };
        let mut found = BTreeSet::new();
        for (from, named) in &crate_map.names {
            for named in named.iter().filter(|named| !named.is_passed_on) {
                let to = crate_map.file_of(&module_of(from), &named.segments, HOPS_MAX);
                if let Some(to) = to.filter(|to| to != from) {
                    found.insert(Import { from: (*from).to_owned(), to: to.to_owned() });
                }
            }
        }
        found.into_iter().collect()
    }
}

struct CrateMap<'a> {
    modules: BTreeMap<Vec<String>, &'a str>,
    names: BTreeMap<&'a str, Vec<Named>>,
}

impl<'a> CrateMap<'a> {
    /// The file that has what `segments` name in `module`; `None` if it is of another crate.
    fn file_of(&self, module: &[String], segments: &[String], hops: usize) -> Option<&'a str> {
        let mut at = module.to_vec();
        let mut rest = segments;
        let mut is_rooted = false;
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" => at.clear(),
                "self" => {}
                "super" => {
                    at.pop()?;
                }
                _ => break,
            }
            is_rooted = true;
            rest = &rest[1..];
        }
        if !is_rooted && !self.modules.contains_key(&child(&at, rest.first()?)) {
            return None;
        }
        while let Some(first) = rest.first()
            && self.modules.contains_key(&child(&at, first))
        {
            at.push(first.clone());
            rest = &rest[1..];
        }
        let file = *self.modules.get(&at)?;
        let Some(name) = rest.first().filter(|name| *name != "*") else { return Some(file) };
        let passed = self.names[file]
            .iter()
            .find(|named| named.is_passed_on && named.alias.as_ref() == Some(name));
        match passed {
            Some(named) if hops > 0 => self.file_of(&at, &named.segments, hops - 1),
            _ => Some(file),
        }
    }
}

fn child(module: &[String], name: &str) -> Vec<String> {
    module.iter().map(String::as_str).chain([name]).map(str::to_owned).collect()
}

/// The module that a file is: its folders and its name, but for the names that stand for the folder.
fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> =
        path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

fn is_of_tests(name: &str) -> bool {
    name == "tests.rs" || name.ends_with("_tests.rs") || name.starts_with("test_")
}
