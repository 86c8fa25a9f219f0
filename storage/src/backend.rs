//! Engines and logical trees as a plain key-value store.
