//! The shell: messages to the core, its requests to the history reader, its numbers to the metrics.

use crate::hub::{Counts, Hub, HubConfig};
use crate::{limits, metrics};
use actix::{Actor, Addr, AsyncContext, Context, Handler};
use rusd_messages::reader::History;
use rusd_messages::watch::{
    CloseStream, Committed, Compacted, FromStream, HistoryPage, Lagged, OpenStream, Reset,
    SinkReady, WakeStreams, WakeThrough, WatchDemand,
};
use rusd_messages::{Delivery, Port, Refused, Stop, Tick};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

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

/// Whom the hub tells.
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
    /// The state was replaced.
    pub reset: Port<Reset>,
    /// Time, every 100 ms or more often: the grain of periodic progress.
    pub tick: Port<Tick>,
    /// The end: all streams are let go of.
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
            reset: Port::new("watch_reset", limits::NEWS_QUEUE, address),
            wake_through: Port::new("watch_wake_through", 1, address),
            tick: Port::new("watch_tick", limits::TICK_QUEUE, address),
            stop: Port::new("watch_stop", 1, address),
            page: Port::new("watch_page", 1, address),
        }
    }
}

/// The actor.
#[derive(Debug)]
pub struct Watch {
    hub: Hub,
    demand: Arc<WatchDemand>,
    connected: Option<Connected>,
    wake_through: Option<Port<WakeStreams>>,
    random: RandomState,
    published: Counts,
    /// A [`Continue`] is on its way.
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

/// A started hub: its ports, and the way to give it its links.
#[derive(Clone, Debug)]
pub struct Started {
    /// What it receives.
    pub ports: Ports,
    /// What it wants; the state machine reads it.
    pub demand: Arc<WatchDemand>,
    address: Addr<Watch>,
}

impl Started {
    /// Gives the hub its links. What it is told before waits in its own queue, except that history is not read.
    pub fn connect(&self, links: Links) {
        let page = self.ports.page.clone();
        self.address.do_send(Connect(Connected { links, page }));
    }
}

impl Watch {
    /// Starts the hub on an arbiter of its own.
    pub fn start(arbiter: &actix::ArbiterHandle, config: WatchConfig) -> Started {
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
        let address = Self::start_in_arbiter(arbiter, move |_| Self {
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
}

impl Watch {
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

/// Revisions are taken in and passed on when the queue is empty, so that a burst is sent together.
impl Handler<Delivery<Committed>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<Committed>, context: &mut Context<Self>) {
        self.hub.committed(message.open().revisions);
        self.turn(context);
    }
}

impl Handler<Delivery<OpenStream>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<OpenStream>, context: &mut Context<Self>) {
        let OpenStream { stream, sink } = message.open();
        // After the end a sink is dropped at once, which ends its stream.
        if !self.stopped {
            if self.hub.streams() == 0 {
                self.hub.lagged(self.demand.first_stream());
            }
            self.hub.open(stream, sink, self.random.hash_one(stream.0));
            self.turn(context);
        }
    }
}

impl Handler<Delivery<FromStream>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<FromStream>, context: &mut Context<Self>) {
        let FromStream { stream, request } = message.open();
        self.hub.request(stream, request);
        self.turn(context);
    }
}

impl Handler<Delivery<SinkReady>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<SinkReady>, context: &mut Context<Self>) {
        self.hub.sink_ready(message.open().stream);
        self.turn(context);
    }
}

impl Handler<Delivery<WakeThrough>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<WakeThrough>, _: &mut Context<Self>) {
        self.wake_through = Some(message.open().port);
    }
}

impl Handler<Delivery<CloseStream>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<CloseStream>, context: &mut Context<Self>) {
        self.hub.close(message.open().stream);
        self.turn(context);
    }
}

impl Handler<Delivery<Lagged>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<Lagged>, context: &mut Context<Self>) {
        self.hub.lagged(message.open().through);
        self.turn(context);
    }
}

impl Handler<Delivery<Compacted>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<Compacted>, context: &mut Context<Self>) {
        self.hub.compacted(message.open().revision);
        self.turn(context);
    }
}

impl Handler<Delivery<Reset>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<Reset>, context: &mut Context<Self>) {
        let reset = message.open();
        self.hub.reset(reset.revision, reset.compacted_revision);
        self.turn(context);
    }
}

impl Handler<Delivery<HistoryPage>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<HistoryPage>, context: &mut Context<Self>) {
        let page = message.open();
        self.hub.history_page(page.token, page.result);
        self.turn(context);
    }
}

impl Handler<Delivery<Tick>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<Tick>, context: &mut Context<Self>) {
        let started = Instant::now();
        if self.hub.tick(message.open().now_ms) > 0 {
            metrics::PROGRESS_SECONDS.observe(started.elapsed().as_secs_f64());
        }
        self.turn(context);
        metrics::publish_waiting(self.hub.waiting_events());
    }
}

impl Handler<Delivery<Stop>> for Watch {
    type Result = ();

    fn handle(&mut self, message: Delivery<Stop>, context: &mut Context<Self>) {
        self.stopped = true;
        self.hub.close_all();
        self.turn(context);
        message.open().reply.send(());
    }
}
