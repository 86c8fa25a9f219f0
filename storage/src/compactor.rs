//! Compaction policies for the embedded store.
