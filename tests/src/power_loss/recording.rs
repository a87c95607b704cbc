//! Runs a program under the preload library.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const PACKAGE: &str = "quorate-power-loss-shim";

/// Where a program is recorded. All paths are absolute.
#[derive(Clone, Debug)]
pub struct Recording {
    /// The directory whose contents are recorded. It must exist.
    pub root: PathBuf,
    /// The journal, outside the root and best on another file system, because it grows by all that
    /// is written. It is appended to; processes that record into one journal need disjoint
    /// directories.
    pub journal: PathBuf,
    /// Syncs of this path are ignored, as by a disk that lies, to show that a test can fail.
    pub lie: Option<PathBuf>,
}

/// The preload library.
#[derive(Clone, Debug)]
pub struct Shim {
    library: PathBuf,
}

impl Shim {
    /// Builds the library by Cargo, which reports where it is. Blocks; only briefly if the library
    /// is built already.
    ///
    /// # Errors
    ///
    /// When it does not compile, or Cargo does not report it.
    pub fn build() -> Result<Shim> {
        let output = Command::new(env!("CARGO"))
            .args(["build", "--release", "--package", PACKAGE, "--message-format=json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .context("run cargo")?;
        ensure!(output.status.success(), "cargo could not build {PACKAGE}");
        let messages = String::from_utf8(output.stdout)?;
        let library = messages.lines().find_map(library_in).context("cargo named no library")?;
        Ok(Shim { library })
    }

    /// The library's path.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Records the program that `command` starts, and all that it starts.
    pub fn record(&self, command: &mut Command, recording: &Recording) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("QUORATE_POWER_ROOT", &recording.root)
            .env("QUORATE_POWER_JOURNAL", &recording.journal);
        match &recording.lie {
            Some(lie) => command.env("QUORATE_POWER_LIE", lie),
            None => command.env_remove("QUORATE_POWER_LIE"),
        };
    }
}

/// The library's path in one message of Cargo, if the message is about the library.
fn library_in(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let name = message["target"]["name"].as_str()?;
    if message["reason"] != "compiler-artifact" || name.replace('_', "-") != PACKAGE {
        return None;
    }
    let files = message["filenames"].as_array()?.iter().filter_map(Value::as_str);
    files.map(PathBuf::from).find(|file| file.extension().is_some_and(|end| end == "so"))
}
