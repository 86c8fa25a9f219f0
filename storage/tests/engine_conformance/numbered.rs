//! Batches that are a function of their number, so that the state after any of
//! them is known.

use bytes::Bytes;
use rusd_storage::engine::{Engine, Tree, WriteBatch};

use super::support::{Model, Random, apply};

fn applied_key() -> Bytes {
    Bytes::from(Tree::Meta.key(b"applied"))
}

/// The batch with a number: records of several trees, and the number.
pub fn numbered_batch(number: u64) -> WriteBatch {
    let mut random = Random::new(number);
    let mut batch = WriteBatch::new();
    let revision = |main: u64| Tree::KvRev.key(&main.to_be_bytes());
    for sub in 0..1 + random.below(20) {
        let len = match random.below(200) {
            0 => 40_000,
            _ => random.below(600) as usize,
        };
        batch.put(revision(number * 100 + sub), random.bytes(len));
    }
    for _ in 0..random.below(6) {
        // An older batch, or none.
        let older = number.saturating_sub(1 + random.below(60));
        (0..20).for_each(|sub| batch.delete(revision(older * 100 + sub)));
    }
    let lease = Tree::Lease.key(&[random.below(16) as u8]);
    batch.put(lease, number.to_be_bytes().to_vec());
    batch.put(applied_key(), number.to_be_bytes().to_vec());
    batch
}

/// The state after the batches `1..=number`.
pub fn state_after(number: u64) -> Model {
    let mut model = Model::new();
    (1..=number).for_each(|number| apply(&mut model, &numbered_batch(number)));
    model
}

/// The number of the last batch in the engine.
pub fn applied(engine: &dyn Engine) -> u64 {
    let value = engine.get(&applied_key()).unwrap();
    value.map_or(0, |value| u64::from_be_bytes(value[..].try_into().unwrap()))
}
