//! Starts the threads of an engine.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use quorate_transport::panic_text;

use crate::error::{FatalError, OpenFault};
use crate::state::fatal::Fatal;

/// Starts a thread whose panic ends the engine's service: a broken invariant in one thread must
/// not leave the others answering.
pub(crate) fn spawn(
    fatal: &Arc<Fatal>,
    name: String,
    body: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenFault> {
    #[cfg(test)]
    crate::lifecycle::running::tests::refuse_thread(&name)?;
    let fatal = Arc::clone(fatal);
    let thread = name.clone();
    let guarded = move || {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
            fatal.latch(FatalError::Panic { thread, message: panic_text(&*panic) });
        }
    };
    std::thread::Builder::new()
        .name(name.clone())
        .spawn(guarded)
        .map_err(|cause| OpenFault::System { what: format!("starting thread {name}"), cause })
}
