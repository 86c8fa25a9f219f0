//! HashKV, equal to etcd's at equal revision and compacted revision (P8).
//!
//! etcd hashes its `key` bucket: CRC-32C over the bucket's name and then, in order of revision, over each record's key
//! (see [`RecordRevision::wire_key`](crate::RecordRevision::wire_key)) and stored value, up to the revision asked
//! for. Members remove superseded records at their own pace, so records at or below the compacted revision count only
//! if
//!
//! * a key is alive at the revision asked for, and the record is what it holds there; or
//! * no key at all is alive there, and the record is what compaction left: the newest of its key at the compacted
//!   revision.
//!
//! A tombstone at or below the compacted revision never counts.

use rusd_proto::ids::Revision;

use super::kept_hashes::HashKv;
use super::view::ReadView;
use crate::error::{StorageError, StorageResult};
use crate::key_range::KeyRange;
use crate::record::{Fields, tombstone_bytes};
use crate::revision::At;

/// The name of etcd's bucket.
const BUCKET: &[u8] = b"key";
/// How much is read at a time.
const PAGE_BYTES: usize = 1 << 20;

impl ReadView {
    /// HashKV at a revision. Reads the whole history up to there; physical compaction
    /// waits for it. [`Superseded`](StorageError::Superseded) if this view is too old to begin with.
    pub fn hash_kv(&self, at: At) -> StorageResult<HashKv> {
        let through = at.or_newest(self.revision);
        // Below 1 there is nothing to hash, and nothing of it can be compacted: as in etcd.
        if through > Revision(0) && through < self.compacted {
            return Err(StorageError::Compacted);
        }
        if through > self.revision {
            return Err(StorageError::FutureRevision);
        }
        let _pin = self
            .shared
            .pins
            .pin(self.compacted.max(Revision(0)))
            .ok_or(StorageError::Superseded)?;
        self.hash(through, self.kept_at(through))
    }

    /// At which revision the records that were compacted have to be their key's newest to count in a hash through
    /// `through`.
    pub(super) fn kept_at(&self, through: Revision) -> Revision {
        if self
            .index
            .count(&KeyRange::all(), At::from(through), self.revision)
            > 0
        {
            through
        } else {
            self.compacted
        }
    }

    /// Whether a key was deleted at a revision.
    pub(super) fn deletes_at(&self, revision: Revision) -> StorageResult<bool> {
        let (records, _) = self.shared.page(revision, revision, PAGE_BYTES)?;
        Ok(records.iter().any(|record| record.tombstone))
    }

    /// The hash through `through`, which has to be readable: whoever calls has pinned the compacted revision.
    pub(super) fn hash(&self, through: Revision, kept_at: Revision) -> StorageResult<HashKv> {
        let mut hash = crc32c::crc32c(BUCKET);
        let mut from = Revision(1);
        while from <= through {
            let (records, next) = self.shared.page(from, through, PAGE_BYTES)?;
            from = next;
            for record in records {
                let fields = Fields::read(&record.event)?;
                let key = &record.event[fields.key];
                if record.revision.main <= self.compacted {
                    let kept = self
                        .index
                        .get(key, At::from(kept_at))
                        .is_some_and(|meta| meta.mod_revision == record.revision);
                    if record.tombstone || !kept {
                        continue;
                    }
                }
                let (wire_key, length) = record.revision.wire_key(record.tombstone);
                hash = crc32c::crc32c_append(hash, &wire_key[..length]);
                let stored = if record.tombstone {
                    tombstone_bytes(key)
                } else {
                    record.event.len()
                };
                hash = crc32c::crc32c_append(hash, &record.event[..stored]);
            }
        }
        Ok(HashKv {
            hash,
            revision: through,
            compact_revision: self.compacted,
        })
    }
}
