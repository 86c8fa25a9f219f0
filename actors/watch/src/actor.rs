//! The shell: messages to the core, its requests to the history reader, its numbers to the metrics.

use crate::burst::Burst;
use crate::hub::{Counts, Hub};
use crate::metrics;
use crate::start::Links;
use actix::{Actor, AsyncContext, Context, Handler};
use rusd_messages::reader::History;
use rusd_messages::watch::{
    CloseStream, Committed, Compacted, FromStream, HistoryPage, Lagged, OpenStream, SinkReady,
    WakeStreams, WakeThrough, WatchDemand,
};
use rusd_messages::{Port, Refused, Stop, Tick, receive};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::task::Waker;

/// The actor.
#[derive(Debug)]
pub(crate) struct Watch {
    hub: Hub,
    demand: Arc<WatchDemand>,
    connected: Option<Connected>,
    wake_through: Option<Port<WakeStreams>>,
    random: RandomState,
    published: Counts,
    /// A [`Continue`] is on its way to this actor.
    continuing: bool,
    burst: Burst,
    stopped: bool,
}

/// What the hub is connected to.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) links: Links,
    /// Its own port for the pages that it asks for.
    pub(crate) page: Port<HistoryPage>,
}

/// Goes on with what is left when the queued messages have had their turn.
struct Continue;

impl actix::Message for Continue {
    type Result = ();
}

pub(crate) struct Connect(pub(crate) Connected);

impl actix::Message for Connect {
    type Result = ();
}

impl Actor for Watch {
    type Context = Context<Self>;
}

impl Watch {
    /// An actor that is not connected.
    pub(crate) fn new(hub: Hub, demand: Arc<WatchDemand>, random: RandomState) -> Self {
        Self {
            hub,
            demand,
            connected: None,
            wake_through: None,
            random,
            published: Counts::default(),
            continuing: false,
            burst: Burst::default(),
            stopped: false,
        }
    }

    fn input(&mut self, context: &mut Context<Self>, give: impl FnOnce(&mut Hub)) {
        give(&mut self.hub);
        self.turn(context);
    }

    /// After every message: feeds, flushes, asks, publishes, and comes back if there is more.
    fn turn(&mut self, context: &mut Context<Self>) {
        // Before a client learns that its watch exists: what it does next should find it counted.
        self.demand
            .set(self.hub.streams(), self.hub.previous_wanted());
        if self.burst.message(self.hub.has_pending()) {
            self.hub.pass_on();
        }
        self.hub.turn();
        self.wake_streams();
        self.ask_for_history();
        let counts = self.hub.counts();
        if counts != self.published {
            metrics::publish(&self.published, &counts);
            self.published = counts;
        }
        if !self.continuing && (self.hub.has_pending() || self.hub.has_more()) {
            self.continuing = true;
            context.notify(Continue);
        }
    }

    fn wake_streams(&mut self) {
        let mut wakers = self.hub.wakers();
        if wakers.len() > 1
            && let Some(port) = &self.wake_through
        {
            match port.deliver(WakeStreams { wakers }) {
                Ok(()) => return,
                Err(Refused::Full(unsent) | Refused::Closed(unsent)) => wakers = unsent.wakers,
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn ask_for_history(&mut self) {
        let Some(connected) = &self.connected else {
            return;
        };
        let Some(request) = self.hub.history_request() else {
            return;
        };
        let told = connected.links.history.tell(History {
            token: request.token,
            from_revision: request.from_revision,
            through_revision: request.through_revision,
            max_bytes: request.max_bytes,
            with_previous: request.with_previous,
            reply: connected.page.clone(),
        });
        if let Err(refused) = told {
            tracing::debug!(?refused, "history was not asked for");
            self.hub.history_refused(request.token);
        }
    }
}

impl Handler<Connect> for Watch {
    type Result = ();

    fn handle(&mut self, Connect(connected): Connect, context: &mut Context<Self>) {
        self.connected = Some(connected);
        self.turn(context);
    }
}

impl Handler<Continue> for Watch {
    type Result = ();

    fn handle(&mut self, _: Continue, context: &mut Context<Self>) {
        self.continuing = false;
        self.hub.pass_on();
        self.turn(context);
    }
}

impl Watch {
    fn open(&mut self, OpenStream { stream, sink }: OpenStream) {
        // After the end a sink is dropped at once, which ends its stream.
        if self.stopped {
            return;
        }
        if self.hub.streams() == 0 {
            self.hub.lagged(self.demand.first_stream());
        }
        self.hub.open(stream, sink, self.random.hash_one(stream.0));
    }
}

receive! { Watch:
    // They are passed on when the mailbox is empty, so that a burst is sent together.
    Committed => |watch, committed, context| watch.input(context, |hub| hub.committed(committed.revisions));
    OpenStream => |watch, open, context| {
        watch.open(open);
        watch.turn(context);
    };
    FromStream => |watch, from, context| watch.input(context, |hub| hub.request(from.stream, from.request));
    SinkReady => |watch, ready, context| watch.input(context, |hub| hub.sink_ready(ready.stream));
    WakeThrough => |watch, through, context| watch.wake_through = Some(through.port);
    CloseStream => |watch, close, context| watch.input(context, |hub| hub.close(close.stream));
    Lagged => |watch, lagged, context| watch.input(context, |hub| hub.lagged(lagged.through));
    Compacted => |watch, compacted, context| watch.input(context, |hub| hub.compacted(compacted.revision));
    HistoryPage => |watch, page, context| watch.input(context, |hub| hub.history_page(page.token, page.result));
    Tick => |watch, tick, context| {
        let timer = metrics::PROGRESS_SECONDS.start_timer();
        match watch.hub.tick(tick.now_ms) {
            0 => _ = timer.stop_and_discard(),
            _ => _ = timer.stop_and_record(),
        }
        watch.turn(context);
        metrics::publish_waiting(watch.hub.waiting_events());
    };
    Stop => |watch, stop, context| {
        watch.stopped = true;
        watch.hub.close_all();
        watch.turn(context);
        stop.reply.send(());
    };
}
