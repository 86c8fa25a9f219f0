//! Readers: threads that answer what would occupy a gRPC thread for too long.
//!
//! ```text
//!   Read (a large Range, HashKV) --one queue--> reader-0, reader-1, ...   range, hash
//!   History (of the watch hub) ---------------> history
//!   a compaction to be hashed ----------------> compaction-hash
//! ```
//!
//! The readers take from one queue, so that one long read delays nobody while another thread is free. History has a
//! thread of its own, as a HashKV over everything must not hold up watchers. All but history have a lower
//! priority than other threads.
#![allow(clippy::disallowed_methods)]

pub(crate) mod compaction_hash;
mod hash;
mod history;
#[allow(unsafe_code)] // Setting the priority of a thread is a call of the C library.
mod priority;
mod range;

pub use history::spawn_history;

use rusd_messages::reader::Read;
use rusd_messages::{Delivery, Port};
use rusd_storage::Views;
use std::io;

/// Large reads that may wait; a handler that finds the queue full answers `too many requests`.
const READ_QUEUE: usize = 1024;

/// Starts so many readers. An error if the operating system gives no thread.
pub fn spawn_readers(views: &Views, threads: usize) -> io::Result<Port<Read>> {
    let (port, queue) = Port::<Read>::to_thread("reader", READ_QUEUE);
    for n in 0..threads {
        let views = views.clone();
        let queue = queue.clone();
        std::thread::Builder::new()
            .name(format!("reader-{n}"))
            .spawn(move || {
                priority::lower_priority();
                for read in queue {
                    answer(&views, Delivery::open(read));
                }
            })?;
    }
    Ok(port)
}

fn answer(views: &Views, read: Read) {
    match read {
        Read::Range(large) => range::answer(views, large),
        Read::HashKv(hash) => hash::answer(views, hash),
    }
}
