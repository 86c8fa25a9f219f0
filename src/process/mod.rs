//! The process: how it ends when something breaks, how it is told to stop, and what it may use.

mod end;
mod limits;
mod signals;

pub use end::{install_panic_hook, storage_is_open};
pub use limits::{open_files_limit, raise_open_files_limit, virtual_memory_limit};
pub use signals::{StopSignal, stop_signal};
