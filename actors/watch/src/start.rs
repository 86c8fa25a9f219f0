//! How the watch hub is started and connected, and what it receives.

use crate::actor::{Connect, Connected, Watch};
use crate::hub::{Hub, HubConfig};
use crate::{limits, metrics};
use actix::{Actor, Addr, ArbiterHandle};
use rusd_messages::reader::History;
use rusd_messages::watch::{
    CloseStream, Committed, Compacted, FromStream, HistoryPage, Lagged, OpenStream, SinkReady,
    WakeThrough, WatchDemand,
};
use rusd_messages::{Port, Stop, Tick};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

/// Settings of the hub.
#[derive(Clone, Copy, Debug)]
pub struct WatchConfig {
    /// How often a watch without events is told its progress (`--watch-progress-notify-interval`).
    pub progress_notify_interval: Duration,
    /// `--watch-ring-bytes`: how much memory the most recent events may take.
    pub ring_bytes: usize,
}

/// No progress interval is shorter (W-15).
const PROGRESS_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// What the watch hub sends to.
#[derive(Clone, Debug)]
pub struct Links {
    /// The reader of history.
    pub history: Port<History>,
}

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
    /// The compacted revision moved. To be delivered: rare.
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
    /// Usable at once.
    pub ports: Ports,
    /// What it wants to be told; the state machine reads it.
    pub demand: Arc<WatchDemand>,
    address: Addr<Watch>,
}

impl Started {
    /// Connects it: it begins to read history.
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
    let address = Watch::start_in_arbiter(arbiter, move |_| Watch::new(hub, demand, random));
    Started {
        ports: Ports::new(&address),
        demand: shown,
        address,
    }
}
