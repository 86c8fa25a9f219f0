//! What a write costs in this room: appending to the log on disk, going through the core, and both through the
//! actor with a number of callers. The log is on the file system of the temporary directory; every append is synced.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use actix::{Arbiter, System};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use raft::eraftpb::Entry;
use rusd_messages::mvcc::{Apply, EntryKind};
use rusd_messages::raft::{Applied, ConfApplied, Propose};
use rusd_messages::{ClusterId, Delivery, Index, MemberId, Port, RaftStatus, Reply, RequestId};
use rusd_proto::etcdserverpb::{InternalRaftRequest, Member, PutRequest};
use rusd_proto::{ApplyReply, request};
use rusd_raft::core::Effect;
use rusd_raft::log::{Append, Truncated, Vote};
use rusd_raft::{Bootstrap, Core, CoreConfig, Identity, Links, Log, LogConfig, Ports, RaftConfig};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MEMBER: MemberId = MemberId(0xa1);
const VALUE_BYTES: usize = 256;

fn new_log(dir: &Path) -> Log {
    let mut log = Log::open(LogConfig::new(dir)).unwrap();
    let member = Member {
        id: MEMBER.0,
        ..Member::default()
    };
    let identity = Identity {
        cluster: ClusterId(1),
        member: MEMBER,
    };
    log.bootstrap(&Bootstrap {
        identity,
        members: vec![member],
    })
    .unwrap();
    log
}

fn new_core(log: Log) -> Core {
    let config = CoreConfig {
        member: MEMBER,
        applied: Index(0),
        heartbeat_ms: 100,
        election_ms: 1_000,
        pre_vote: true,
        incarnation: 1,
        priority_requests: false,
    };
    Core::new(config, log.into_tail(), Arc::new(RaftStatus::default())).unwrap()
}

fn put(id: RequestId) -> Bytes {
    let put = PutRequest {
        key: Bytes::from(format!("/registry/pods/default/{:016x}", id.0)),
        value: Bytes::from(vec![7; VALUE_BYTES]),
        ..PutRequest::default()
    };
    request::encode(
        id,
        InternalRaftRequest {
            put: Some(put),
            ..InternalRaftRequest::default()
        },
    )
}

/// One synced batch, with truncation every now and then as in a server.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append_synced_300B");
    for count in [1u64, 16, 64, 256] {
        let dir = tempfile::tempdir().unwrap();
        let log = new_log(dir.path());
        let mut writer = log.writer();
        let mut next = 2;
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_batched(
                || {
                    let entries: Vec<Entry> = (next..next + count)
                        .map(|index| Entry {
                            index,
                            term: 2,
                            data: vec![9; 300].into(),
                            ..Entry::default()
                        })
                        .collect();
                    let vote = Vote {
                        term: 2,
                        vote: 1,
                        commit: next - 1,
                        last_conf_change: 1,
                    };
                    let truncated = Truncated {
                        index: next - 1,
                        term: 2,
                    };
                    let truncate = (next / count % 4_096 == 0).then_some(truncated);
                    next += count;
                    Append {
                        entries,
                        vote: Some(vote),
                        truncate,
                        must_sync: true,
                        ..Append::default()
                    }
                },
                |append| {
                    writer.write(&append).unwrap();
                    if append.truncate.is_some() {
                        writer.purge().unwrap();
                    }
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Proposed to committed and handed on, without a disk: the CPU that raft-rs and the core take.
fn core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core_propose_to_apply");
    for count in [1u64, 16, 64, 256] {
        let dir = tempfile::tempdir().unwrap();
        let mut core = new_core(new_log(dir.path()));
        let mut effects = Vec::new();
        let settle = |core: &mut Core, effects: &mut Vec<Effect>| {
            loop {
                core.drive(effects);
                if effects.is_empty() {
                    break;
                }
                for effect in effects.drain(..) {
                    match effect {
                        Effect::Append(append) => core.persisted(append.ready),
                        Effect::Apply(apply) => {
                            let last = apply.entries.last().unwrap();
                            if last.kind == EntryKind::ConfChange {
                                core.conf_applied(last.index, false);
                            }
                            core.applied(last.index);
                        }
                        _ => {}
                    }
                }
            }
        };
        settle(&mut core, &mut effects);
        let mut id = 0;
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter_batched(
                || {
                    let proposals: Vec<Propose> = (0..count)
                        .map(|_| {
                            id += 1;
                            let id = RequestId(id);
                            Propose {
                                id,
                                data: put(id),
                                reply: Reply::channel().0,
                            }
                        })
                        .collect();
                    proposals
                },
                |proposals| {
                    for proposal in proposals {
                        core.propose(proposal);
                    }
                    settle(&mut core, &mut effects);
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// Callers that each propose, wait until it is applied, and propose again; through the actor, a state
/// machine that only answers, and a synced log. One iteration is one proposal.
fn actor(criterion: &mut Criterion) {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runner = System::new();
        sender.send(System::current()).unwrap();
        runner.run().unwrap();
    });
    System::set_current(receiver.recv().unwrap());
    let mut group = criterion.benchmark_group("actor_closed_loop");
    group
        .measurement_time(Duration::from_secs(4))
        .sample_size(10);
    for callers in [1u64, 16, 64, 256, 1000] {
        group.bench_function(BenchmarkId::from_parameter(callers), |bencher| {
            bencher.iter_custom(|iterations| closed_loop(callers, iterations));
        });
    }
    group.finish();
}

/// A state machine that answers everything.
fn apply_all(ports: Ports, applies: flume::Receiver<Delivery<Apply>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for delivery in applies {
            let apply = delivery.open();
            let through = apply.entries.last().unwrap().index;
            for entry in apply.entries {
                if entry.kind == EntryKind::ConfChange {
                    let _ = ports.conf_applied.tell(ConfApplied {
                        index: entry.index,
                        rejected: false,
                    });
                }
                if let Some(reply) = entry.reply {
                    reply.send(Ok(ApplyReply::Done));
                }
            }
            let _ = ports.applied.tell(Applied { through });
        }
    })
}

fn closed_loop(callers: u64, iterations: u64) -> Duration {
    let dir = tempfile::tempdir().unwrap();
    let log = new_log(dir.path());
    let writer = log.writer();
    let arbiter = Arbiter::new();
    let (apply, applies) = Port::<Apply>::to_thread("bench_apply", 1 << 20);
    let started = rusd_raft::start(
        &arbiter.handle(),
        new_core(log),
        writer,
        RaftConfig::default(),
    )
    .unwrap();
    let ports = started.connect(Links {
        apply,
        role_changed: Vec::new(),
    });
    let machine = apply_all(ports.clone(), applies);
    let next = Arc::new(AtomicU64::new(1));
    // Callers are tasks of one runtime thread, as in a server.
    let runtime = actix_rt::Runtime::new().unwrap();
    let elapsed = runtime.block_on(async {
        let one = |id: u64| {
            let (reply, pending) = Reply::channel();
            let id = RequestId(id);
            ports
                .propose
                .tell(Propose {
                    id,
                    data: put(id),
                    reply,
                })
                .unwrap();
            pending
        };
        one(u64::MAX).await.unwrap().unwrap();
        let started = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let (next, ports) = (next.clone(), ports.clone());
                actix_rt::spawn(async move {
                    loop {
                        let id = next.fetch_add(1, Ordering::Relaxed);
                        if id > iterations {
                            break;
                        }
                        let (reply, pending) = Reply::channel();
                        let id = RequestId(id);
                        ports
                            .propose
                            .tell(Propose {
                                id,
                                data: put(id),
                                reply,
                            })
                            .unwrap();
                        pending.await.unwrap().unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        started.elapsed()
    });
    let (reply, stopped) = Reply::channel();
    ports.stop.tell(rusd_messages::Stop { reply }).unwrap();
    stopped.wait().unwrap();
    arbiter.stop();
    arbiter.join().unwrap();
    drop(ports);
    drop(machine);
    elapsed
}

criterion_group!(benches, append, core, actor);
criterion_main!(benches);
