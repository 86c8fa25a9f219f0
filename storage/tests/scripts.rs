//! Golden scripts of the store: `scripts/` holds one per behaviour, named after its row of the contract.
//!
//! Commands: `put KEY VALUE [lease=N]`, `del KEY [END]`, between `begin` and `end` (or `drop`) as one transaction;
//! `get KEY`, `range KEY [END]`, `count KEY [END]`, all with `rev=N` and on the latest view with `view=true`;
//! `history FROM [through=N] [max=BYTES]`, `hash [rev=N]`, `compact N`, `step RECORDS`, `pin N`, `unpin`, `publish`,
//! `seal`, `write`, `restart`, `sizes`. `END` is `range_end` of a request, `inf` standing for "\0" (every key from
//! `KEY` on).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::error::Error;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::Arc;

use goldenscript::{ArgumentConsumer, Command, Context};
use rusd_proto::ids::{LeaseId, Revision};
use rusd_storage::engine::{Engine, Memory};
use rusd_storage::{
    At, Change, ChangeKind, KeyRange, LogPosition, MvccOptions, MvccStore, ReadAt, ReadGuard,
    Record, WriteTxn,
};

enum Op {
    Put {
        key: String,
        value: String,
        lease: i64,
    },
    Delete(KeyRange),
}

struct Runner {
    engine: Arc<Memory>,
    store: MvccStore,
    /// The operations of a transaction under way.
    txn: Option<Vec<Op>>,
    pin: Option<ReadGuard>,
}

fn open(engine: &Arc<Memory>) -> MvccStore {
    MvccStore::open(engine.clone(), MvccOptions::default()).unwrap()
}

fn range(args: &mut ArgumentConsumer<'_>) -> Result<KeyRange, Box<dyn Error>> {
    let key = args.next_pos().ok_or("a key is missing")?.to_owned();
    let end = match args.next_pos() {
        None => String::new(),
        Some("inf") => "\0".to_owned(),
        Some(end) => end.to_owned(),
    };
    Ok(KeyRange::from_wire(key.into(), end.into()))
}

fn number(text: Option<&str>, default: i64) -> Result<i64, Box<dyn Error>> {
    Ok(text.map(str::parse).transpose()?.unwrap_or(default))
}

fn show_change(change: &Change) -> String {
    let previous = change
        .previous
        .map_or(String::new(), |previous| format!(" previous={previous}"));
    let kv = Record {
        bytes: change.record.clone(),
    }
    .decode()
    .unwrap();
    assert_eq!(kv.key, change.key);
    let key = String::from_utf8_lossy(&kv.key).into_owned();
    let place = change.revision;
    match change.kind {
        ChangeKind::Delete => format!("{place} delete {key} mod={}{previous}", kv.mod_revision),
        ChangeKind::Put => {
            let lease = if kv.lease == 0 {
                String::new()
            } else {
                format!(" lease={}", kv.lease)
            };
            let value = String::from_utf8_lossy(&kv.value).into_owned();
            format!(
                "{place} put {key}={value} create={} version={}{lease}{previous}",
                kv.create_revision, kv.version
            )
        }
    }
}

fn show_keys(reader: &impl ReadAt, range: &KeyRange, at: At) -> Result<String, Box<dyn Error>> {
    let mut output = String::new();
    let mut found = Vec::new();
    reader.walk(range, at, &mut |key, meta| {
        found.push((String::from_utf8_lossy(key).into_owned(), *meta));
        ControlFlow::Continue(())
    })?;
    for (key, meta) in found {
        let record = reader.record(meta.mod_revision, at)?;
        let value = String::from_utf8_lossy(&record.value()?).into_owned();
        let (revision, create, version) = (meta.mod_revision, meta.create_revision, meta.version);
        writeln!(
            output,
            "{key}={value} at {revision} create={create} version={version}"
        )?;
    }
    Ok(output)
}

fn apply(txn: &mut WriteTxn<'_>, op: &Op) -> Result<(), Box<dyn Error>> {
    match op {
        Op::Put { key, value, lease } => drop(
            txn.put(key.as_bytes(), value.as_bytes(), LeaseId(*lease))
                .clone(),
        ),
        Op::Delete(range) => drop(txn.delete(range)?.to_vec()),
    }
    Ok(())
}

impl Runner {
    fn new() -> Self {
        let engine = Arc::new(Memory::new());
        Self {
            store: open(&engine),
            engine,
            txn: None,
            pin: None,
        }
    }

    fn op(&mut self, op: Op) -> Result<String, Box<dyn Error>> {
        match &mut self.txn {
            Some(ops) => {
                ops.push(op);
                Ok(String::new())
            }
            None => self.txn(&[op], true),
        }
    }

    fn txn(&mut self, ops: &[Op], ends: bool) -> Result<String, Box<dyn Error>> {
        let mut txn = self.store.begin();
        for op in ops {
            apply(&mut txn, op)?;
        }
        if !ends {
            return Ok(format!("{} changes taken back\n", txn.changes().len()));
        }
        let end = txn.end();
        let mut output: String = end
            .changes
            .iter()
            .map(|change| show_change(change) + "\n")
            .collect();
        if end.revision.is_none() {
            writeln!(
                output,
                "nothing changed, revision {}",
                self.store.revision()
            )?;
        }
        Ok(output)
    }

    fn read(
        &mut self,
        name: &str,
        args: &mut ArgumentConsumer<'_>,
    ) -> Result<String, Box<dyn Error>> {
        let at = At::from_wire(number(args.take_key("rev"), 0)?);
        let view = args
            .take_key("view")
            .is_some()
            .then(|| self.store.views().load());
        let range = range(args)?;
        Ok(match (name, view) {
            ("count", Some(view)) => format!("{}\n", view.count(&range, at)?),
            ("count", None) => format!("{}\n", self.store.count(&range, at)?),
            (_, Some(view)) => show_keys(view.as_ref(), &range, at)?,
            (_, None) => show_keys(&self.store, &range, at)?,
        })
    }

    fn history(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String, Box<dyn Error>> {
        let through = Revision(number(args.take_key("through"), i64::MAX)?);
        let max_bytes = number(args.take_key("max"), 1 << 20)? as usize;
        let from = Revision(number(args.next_pos(), 1)?);
        let page = self
            .store
            .views()
            .load()
            .history(from, through, max_bytes, true)?;
        let changes = page.changes.iter().flat_map(|(_, changes)| changes);
        let shown: String = changes.map(|change| show_change(change) + "\n").collect();
        Ok(format!("{shown}next {}\n", page.next_revision))
    }
}

impl goldenscript::Runner for Runner {
    type Command = Command;

    fn run(&mut self, command: &Command, _: &Context) -> Result<String, Box<dyn Error>> {
        let mut args = command.consume_args();
        let output = match command.name.as_str() {
            "put" => {
                let lease = number(args.take_key("lease"), 0)?;
                let key = args.next_pos().ok_or("a key is missing")?.to_owned();
                let value = args.next_pos().unwrap_or_default().to_owned();
                self.op(Op::Put { key, value, lease })?
            }
            "del" => {
                let range = range(&mut args)?;
                self.op(Op::Delete(range))?
            }
            "begin" => {
                self.txn = Some(Vec::new());
                String::new()
            }
            name @ ("end" | "drop") => {
                let ops = self.txn.take().ok_or("no transaction")?;
                self.txn(&ops, name == "end")?
            }
            name @ ("get" | "range" | "count") => self.read(name, &mut args)?,
            "history" => self.history(&mut args)?,
            "hash" => {
                let hash = self
                    .store
                    .views()
                    .hash_kv(At::from_wire(number(args.take_key("rev"), 0)?))?;
                format!(
                    "{:08x} at {} compacted {}\n",
                    hash.hash, hash.revision, hash.compact_revision
                )
            }
            "compact" => {
                self.store.compact(Revision(number(args.next_pos(), 0)?))?;
                String::new()
            }
            "step" => {
                let step = self
                    .store
                    .compact_step(number(args.next_pos(), 1)? as usize)?;
                format!(
                    "removed {} finished {} blocked {}\n",
                    step.removed, step.finished, step.blocked
                )
            }
            "pin" => {
                self.pin = Some(
                    self.store
                        .views()
                        .load()
                        .register(At::from_wire(number(args.next_pos(), 0)?))?,
                );
                String::new()
            }
            "unpin" => {
                self.pin = None;
                String::new()
            }
            "publish" => {
                self.store.publish();
                String::new()
            }
            "seal" => {
                self.store.seal(LogPosition {
                    index: self.store.applied().index + 1,
                    term: 1,
                });
                String::new()
            }
            "write" => {
                let Some(sealed) = self.store.take_sealed() else {
                    return Ok("nothing sealed\n".into());
                };
                self.engine.write(&sealed.batch)?;
                self.store.wrote(sealed.seq);
                format!("{} operations\n", sealed.batch.len())
            }
            "restart" => {
                self.pin = None;
                self.store = open(&self.engine);
                let (revision, compacted) =
                    (self.store.revision(), self.store.compacted_revision());
                let pending = self.store.compaction_pending().map(|revision| revision.0);
                format!(
                    "revision {revision} compacted {compacted} pending {pending:?} applied {}\n",
                    self.store.applied().index
                )
            }
            "sizes" => {
                let sizes = self.store.sizes();
                format!(
                    "logical {} live {} keys {} records {}\n",
                    sizes.logical_bytes, sizes.live_bytes, sizes.keys, sizes.records
                )
            }
            name => return Err(format!("unknown command {name}").into()),
        };
        args.reject_next()?;
        self.store.check();
        Ok(output)
    }
}

rusd_kit::run_dir!("tests/scripts", Runner::new(), [
    kv_c01_compaction_bounds
    kv_c02_what_compaction_keeps
    kv_c05_compaction_waits_for_readers
    kv_c05_interrupted_compaction_resumes
    kv_d01_one_revision_in_key_order
    kv_p01_versions_and_generations
    kv_r03_bounds_of_the_revision
    kv_t06_txn_shares_one_revision
    p2_restart_at_a_sealed_batch
    p8_hash_covers_the_logical_history
    pr_10_sizes_are_logical
    w_07_history_and_compaction
    w_10_previous_is_absent_once_compacted
    w_12_history_pages_are_whole_revisions
]);
