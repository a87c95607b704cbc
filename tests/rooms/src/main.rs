//! Prints, for the crates named or all of them, who imports whom in a circle.

use std::path::Path;
use std::process::ExitCode;

use quorate_rooms::Sources;

fn main() -> std::io::Result<ExitCode> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let mut names: Vec<String> = std::fs::read_dir(&crates)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, _>>()?;
    names.sort();
    let mut code = ExitCode::SUCCESS;
    for name in names.iter().filter(|name| wanted.is_empty() || wanted.contains(name)) {
        let sources = Sources::read(&crates.join(name).join("src"))?;
        let faults = sources.faults();
        println!("{name}: {} files, {} imports", sources.len(), sources.imports().len());
        for fault in &faults {
            println!("{fault}");
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}
