//! The shell: messages to the core, its requests to the history reader, its numbers to the metrics.

use crate::hub::{Counts, Hub, HubConfig};
use crate::{limits, metrics};
use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler};
use rusd_messages::reader::History;
use rusd_messages::watch::{
    CloseStream, Committed, Compacted, FromStream, HistoryPage, Lagged, OpenStream, SinkReady,
    WakeStreams, WakeThrough, WatchDemand,
};
use rusd_messages::{Port, Refused, Stop, Tick, receive};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Settings of the hub.
#[derive(Clone, Copy, Debug)]
pub struct WatchConfig {
    /// `--watch-progress-notify-interval`.
    pub progress_notify_interval: Duration,
    /// `--watch-ring-bytes`: how much memory the most recent events may take.
    pub ring_bytes: usize,
}

/// No progress interval is shorter (W-15).
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Whom the watch hub tells.
#[derive(Clone, Debug)]
pub struct Links {
    /// The reader of history.
    pub history: Port<History>,
}

/// Messages that may come between a revision and its watchers in a burst that does not end.
const MESSAGES_WAITED_MAX: usize = 64;

/// What the hub receives.
#[derive(Clone, Debug)]
pub struct Ports {
    /// New streams. To be told; a refusal is the client's.
    pub open: Port<OpenStream>,
    /// Requests. To be delivered: the stream's credits bound them.
    pub request: Port<FromStream>,
    /// Streams that have room again. To be delivered: one per stream.
    pub sink_ready: Port<SinkReady>,
    /// Ended streams. To be delivered: one per stream.
    pub close: Port<CloseStream>,
    /// New revisions. To be told; after a refusal, `lagged`.
    pub committed: Port<Committed>,
    /// Revisions that are not told one by one.
    pub lagged: Port<Lagged>,
    /// The compacted revision.
    pub compacted: Port<Compacted>,
    /// Where several streams are woken together. Without it the hub wakes them itself.
    pub wake_through: Port<WakeThrough>,
    /// Time, every 100 ms or more often, which is how exact periodic progress is.
    pub tick: Port<Tick>,
    /// Ends all streams, after what they were sent; the hub stays, and ends those that come later.
    pub stop: Port<Stop>,
    page: Port<HistoryPage>,
}

impl Ports {
    fn new(address: &Addr<Watch>) -> Self {
        Self {
            open: Port::new("watch_open", limits::OPEN_QUEUE, address),
            request: Port::new("watch_request", limits::REQUEST_QUEUE, address),
            sink_ready: Port::new("watch_sink_ready", limits::NOTICE_QUEUE, address),
            close: Port::new("watch_close", limits::NOTICE_QUEUE, address),
            committed: Port::new("watch_committed", limits::COMMITTED_QUEUE, address),
            lagged: Port::new("watch_lagged", limits::NEWS_QUEUE, address),
            compacted: Port::new("watch_compacted", limits::NEWS_QUEUE, address),
            wake_through: Port::new("watch_wake_through", 1, address),
            tick: Port::new("watch_tick", limits::TICK_QUEUE, address),
            stop: Port::new("watch_stop", 1, address),
            page: Port::new("watch_page", 1, address),
        }
    }
}

/// A started hub. What it is told before it is connected waits in its queues, except that history is not read.
#[derive(Debug)]
pub struct Started {
    /// What it receives.
    pub ports: Ports,
    /// What it wants to be told; the state machine reads it.
    pub demand: Arc<WatchDemand>,
    address: Addr<Watch>,
}

impl Started {
    /// Connects it.
    pub fn connect(self, links: Links) -> Ports {
        let page = self.ports.page.clone();
        self.address.do_send(Connect(Connected { links, page }));
        self.ports
    }
}

/// Starts the hub on `arbiter`, which should be its own.
pub fn start(arbiter: &ArbiterHandle, config: WatchConfig) -> Started {
    metrics::init();
    let random = RandomState::new();
    let WatchConfig {
        progress_notify_interval,
        ring_bytes,
    } = config;
    let interval = progress_notify_interval.max(PROGRESS_INTERVAL_MIN);
    let interval_ms = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX / 4);
    let hub = Hub::new(HubConfig {
        ring_bytes,
        ..HubConfig::new(interval_ms.min(u64::MAX / 4), random.hash_one(0_u64))
    });
    let demand = Arc::<WatchDemand>::default();
    let shown = demand.clone();
    let address = Watch::start_in_arbiter(arbiter, move |_| Watch {
        hub,
        demand,
        connected: None,
        wake_through: None,
        random,
        published: Counts::default(),
        continuing: false,
        messages_waited: 0,
        stopped: false,
    });
    Started {
        ports: Ports::new(&address),
        demand: shown,
        address,
    }
}

#[derive(Debug)]
struct Watch {
    hub: Hub,
    demand: Arc<WatchDemand>,
    connected: Option<Connected>,
    wake_through: Option<Port<WakeStreams>>,
    random: RandomState,
    published: Counts,
    /// A [`Continue`] is on its way to this actor.
    continuing: bool,
    /// Messages handled since revisions began to wait for the end of the burst.
    messages_waited: usize,
    stopped: bool,
}

#[derive(Debug)]
struct Connected {
    links: Links,
    page: Port<HistoryPage>,
}

/// Goes on with what is left when the queued messages have had their turn.
struct Continue;

impl actix::Message for Continue {
    type Result = ();
}

struct Connect(Connected);

impl actix::Message for Connect {
    type Result = ();
}

impl Actor for Watch {
    type Context = Context<Self>;
}

impl Watch {
    /// After every message: feeds, flushes, asks, publishes, and comes back if there is more.
    fn turn(&mut self, context: &mut Context<Self>) {
        // Before a client learns that its watch exists: what it does next should find it counted.
        self.demand
            .set(self.hub.streams(), self.hub.previous_wanted());
        if self.hub.has_pending() {
            self.messages_waited += 1;
            if self.messages_waited >= MESSAGES_WAITED_MAX {
                self.hub.pass_on();
            }
        } else {
            self.messages_waited = 0;
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
    Committed => |watch, committed, context| {
        watch.hub.committed(committed.revisions);
        watch.turn(context);
    };
    OpenStream => |watch, open, context| {
        watch.open(open);
        watch.turn(context);
    };
    FromStream => |watch, from, context| {
        watch.hub.request(from.stream, from.request);
        watch.turn(context);
    };
    SinkReady => |watch, ready, context| {
        watch.hub.sink_ready(ready.stream);
        watch.turn(context);
    };
    WakeThrough => |watch, through, context| watch.wake_through = Some(through.port);
    CloseStream => |watch, close, context| {
        watch.hub.close(close.stream);
        watch.turn(context);
    };
    Lagged => |watch, lagged, context| {
        watch.hub.lagged(lagged.through);
        watch.turn(context);
    };
    Compacted => |watch, compacted, context| {
        watch.hub.compacted(compacted.revision);
        watch.turn(context);
    };
    HistoryPage => |watch, page, context| {
        watch.hub.history_page(page.token, page.result);
        watch.turn(context);
    };
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
