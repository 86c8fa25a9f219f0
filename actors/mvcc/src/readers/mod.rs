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

pub use history::{history, spawn_history};

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use rusd_messages::LeaseId;
    use rusd_messages::reader::History;
    use rusd_proto::EtcdError;
    use rusd_storage::engine::{Engine, Memory};
    use rusd_storage::{LogPosition, MvccOptions, MvccStore};
    use std::sync::Arc;

    /// A store of one key, which is read from its engine; and a stop has closed that.
    fn closed() -> Views {
        let engine = Arc::new(Memory::new());
        let open = || MvccStore::open(engine.clone(), MvccOptions::default()).unwrap();
        let mut store = open();
        let mut txn = store.begin();
        txn.put(b"k", b"v", LeaseId::NONE);
        txn.end();
        store.seal(LogPosition { index: 1, term: 1 });
        engine.write(&store.take_sealed().unwrap().batch).unwrap();
        let mut store = open();
        store.publish();
        engine.close().unwrap();
        store.views()
    }

    #[test]
    fn a_read_that_a_stop_overtakes_is_no_failure_of_the_disk() {
        let views = closed();
        assert_eq!(hash::hash_kv(&views, 0), Err(EtcdError::Stopped));
        let page = History {
            token: 0,
            from_revision: 2,
            through_revision: 2,
            max_bytes: 1,
            with_previous: false,
            reply: Port::probe(1).0,
        };
        assert!(history::history(&views, &page).is_none());
    }
}
