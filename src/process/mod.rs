//! The process: how it ends when something breaks, how it is told to stop, and what it may use.

mod end;
// Limits and signals of a process are calls of the C library.
#[allow(unsafe_code)]
mod limits;
#[allow(unsafe_code)]
mod signals;

pub use end::{install_panic_hook, storage_is_open};
pub use limits::{open_files_limit, raise_open_files_limit, virtual_memory_limit};
pub use signals::{StopSignal, stop_signal};
