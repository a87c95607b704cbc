//! Reads the `use` lines and paths of a crate's sources and finds out which file imports which.
//!
//! Two rules keep a crate easy to find one's way in:
//!
//! 1. **Folders import one way.** Between the entries of a folder, no circle goes through a folder: if
//!    something in `request/` imports from `worker/`, nothing in `worker/` imports from `request/`.
//! 2. **A circle of files is small**: at most [`CIRCLE_FILES_MAX`] files import each other.
//!
//! Tests are left out: they may look at everything. What a `mod.rs` or `lib.rs` re-exports counts as
//! imported from the file that has it. It is no compiler: macros and names that come by a glob are not
//! followed.
//!
//! ```
//! use quorate_rooms::Sources;
//!
//! let sources = Sources::from([
//!     ("lib.rs", "mod high; mod low;"),
//!     ("high/mod.rs", "pub mod api;"),
//!     ("high/api.rs", "use crate::low::store::Store;"),
//!     ("low/mod.rs", "pub mod store;"),
//!     ("low/store.rs", "use crate::high::api::Api; pub struct Store;"),
//! ]);
//! let faults = sources.faults();
//! assert_eq!(faults.len(), 1);
//! assert!(faults[0].to_string().contains("low/store.rs imports high/api.rs"));
//! ```

mod circles;
mod imports;
mod sources;
mod tokens;

pub use circles::{CIRCLE_FILES_MAX, Fault, LARGER_CIRCLES};
pub use imports::Import;
pub use sources::Sources;
