//! The shell: hands messages to the core and performs its effects, and keeps the time that this takes.
#![allow(clippy::disallowed_methods)]

use crate::connection::{Connect, expect_open};
use crate::core::{Core, Effect};
use crate::engine::{EngineReplaced, Work};
use crate::metrics;
use crate::start::MvccConfig;
use actix::{Actor, ActorContext, Context, Handler};
use arc_swap::ArcSwap;
use rusd_messages::mvcc::{Apply, CommittedEntry, CompactStep, Defragment, EngineWrote, LeaseKeys};
use rusd_messages::raft::EnginePersisted;
use rusd_messages::{Heartbeat, Index, Published, Reply, Stop, Tick, fatal, receive};
use rusd_proto::RequestKind;
use rusd_state::Applied;
use rusd_storage::Views;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The actor. See the module.
pub(crate) struct Mvcc {
    config: MvccConfig,
    views: Views,
    applied: watch::Sender<Index>,
    published: Arc<ArcSwap<Published>>,
    connected: Option<Connect>,
    /// Empty between two messages; kept for its memory.
    effects: Vec<Effect>,
}

impl Actor for Mvcc {
    type Context = Context<Self>;
}

impl Handler<Connect> for Mvcc {
    type Result = ();

    fn handle(&mut self, connect: Connect, _: &mut Context<Self>) {
        self.connected = Some(connect);
        self.drive(Core::restored);
    }
}

impl Mvcc {
    pub(crate) fn new(
        config: MvccConfig,
        views: Views,
        applied: watch::Sender<Index>,
        published: Arc<ArcSwap<Published>>,
    ) -> Self {
        Self {
            config,
            views,
            applied,
            published,
            connected: None,
            effects: Vec::new(),
        }
    }

    fn connected(&mut self) -> &mut Connect {
        match &mut self.connected {
            Some(connected) => connected,
            None => fatal(
                "starting",
                &"the state machine got a message before it was connected",
            ),
        }
    }

    /// Gives the core an input and performs what follows from it.
    fn drive(&mut self, input: impl FnOnce(&mut Core, &mut Vec<Effect>)) {
        let mut effects = std::mem::take(&mut self.effects);
        input(&mut self.connected().core, &mut effects);
        for effect in effects.drain(..) {
            self.perform(effect);
        }
        self.effects = effects;
    }

    fn perform(&mut self, effect: Effect) {
        if let Effect::Published { through } = effect {
            metrics::publish(&self.views.peek());
            self.applied.send_replace(through);
            return;
        }
        if let Effect::Members(published) = &effect {
            self.published.store(published.clone());
        }
        self.connected().tell(effect);
    }

    fn apply(&mut self, entries: Vec<CommittedEntry>) {
        let count = entries.len();
        let started = Instant::now();
        let mut entry_started = started;
        // One look at the clock for each entry: where one ends, the next begins.
        let observe = |kind: Option<RequestKind>, applied: Option<&Applied>| {
            let ended = Instant::now();
            if let Some(applied) = applied {
                metrics::applied(kind, applied, ended - entry_started);
            }
            entry_started = ended;
        };
        self.drive(|core, effects| core.apply(entries, observe, effects));
        let took = started.elapsed();
        if took > self.config.warning_apply && !self.config.warning_apply.is_zero() {
            metrics::SLOW_APPLIES.inc();
            tracing::warn!(
                took = ?took,
                "expected-duration" = ?self.config.warning_apply,
                entries = count,
                through = self.applied.borrow().0,
                "apply request took too long"
            );
        }
    }

    fn stop(&mut self, reply: Reply<()>, context: &mut Context<Self>) {
        self.drive(Core::stop);
        self.connected().writer.send(Work::Close { reply });
        context.stop();
    }

    fn engine_replaced(&mut self, replaced: EngineReplaced) {
        let connected = self.connected();
        connected.core.engine_replaced(replaced.engine);
        connected.writer.send(Work::Retire {
            retired: replaced.retired,
        });
    }
}

receive! { Mvcc:
    Apply => |actor, message, _context| actor.apply(message.entries);
    CompactStep => |actor, step, _context|
        actor.drive(|core, effects| core.compact_step(step.max_records, effects));
    EngineWrote => |actor, wrote, _context| actor.drive(|core, effects| core.engine_wrote(wrote.seq, effects));
    EngineReplaced => |actor, replaced, _context| actor.engine_replaced(replaced);
    EnginePersisted => |actor, persisted, _context|
        expect_open(actor.connected().links.engine_persisted.deliver(persisted));
    LeaseKeys => |actor, wanted, _context| wanted.reply.send(actor.connected().core.lease_keys(wanted.lease));
    Defragment => |actor, wanted, _context| actor.connected().writer.send(Work::Defragment { reply: wanted.reply });
    Heartbeat => |actor, heartbeat, _context| heartbeat.reply.send(());
    Tick => |actor, tick, _context| actor.drive(|core, effects| core.tick(tick.now_ms, effects));
    Stop => |actor, stop, context| actor.stop(stop.reply, context);
}
