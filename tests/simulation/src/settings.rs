//! What differs from seed to seed besides the order of things: sizes small enough that every bound is met.

use crate::random::Random;
use rusd_compactor::AutoMode;
use rusd_compactor::pacing::Pace;
use rusd_messages::watch::SinkLimits;
use rusd_mvcc::PersistPolicy;
use rusd_storage::MvccOptions;
use rusd_watch::HubConfig;
use std::time::Duration;

/// See the module.
pub struct Settings {
    /// What clients do in all.
    pub actions: u64,
    /// How long they pause between two actions, at most.
    pub action_us: u64,
    /// How often the process dies.
    pub crashes: u64,
    /// What a hop between threads usually takes at most.
    pub hop_us: u64,
    /// What a synced write of the log, or a write of the engine, usually takes at most.
    pub disk_us: u64,
    /// What a persist of the engine usually takes at most.
    pub persist_us: u64,
    pub store: MvccOptions,
    pub persist: PersistPolicy,
    /// How old a checkpoint gets; None if none are kept.
    pub checkpoints: Option<Duration>,
    pub hub: HubConfig,
    /// Messages that the hub's queues take.
    pub hub_queue: usize,
    pub sink: SinkLimits,
    pub lease_checkpoint_ms: Option<u64>,
    pub auto_compaction: AutoMode,
    pub pace: Pace,
    /// Values of some writes.
    pub large_value_bytes: usize,
    /// What a copy of the engine takes at a time.
    pub page_bytes: usize,
}

impl Settings {
    /// Draws them.
    pub fn draw(random: &mut Random) -> Self {
        let mut hub = HubConfig::new(random.within(500..3_000), random.within(0..1 << 32));
        hub.batch_revisions = random.size(1..8);
        hub.apart_revisions = random.size(0..4);
        hub.page_bytes = random.pick(&[1, 100, 1_000]);
        hub.ring_bytes = random.pick(&[0, 1_000, 100_000]);
        hub.ring_revisions = random.size(0..12);
        let often = random.percent(50);
        Self {
            actions: random.within(200..500),
            action_us: random.pick(&[5_000, 30_000, 120_000]),
            crashes: random.within(1..6),
            hop_us: random.pick(&[50, 500, 5_000, 50_000]),
            disk_us: random.pick(&[200, 2_000, 20_000]),
            persist_us: random.pick(&[2_000, 50_000, 500_000]),
            store: MvccOptions {
                ring_bytes: random.pick(&[0, 64, 4_096]),
                births_max: random.size(1..50),
            },
            persist: PersistPolicy {
                bytes: random.pick(&[1, 1_000, 100_000]),
                interval: Duration::from_millis(random.within(50..2_000)),
            },
            checkpoints: (!random.percent(20))
                .then(|| Duration::from_millis(random.within(200..3_000))),
            hub,
            hub_queue: random.size(1..4),
            sink: SinkLimits {
                responses: random.size(1..8),
                bytes: random.pick(&[1, 200, 10_000]),
                requests: 1_000,
            },
            lease_checkpoint_ms: often.then(|| random.within(500..2_000)),
            auto_compaction: match random.within(0..3) {
                0 => AutoMode::Periodic {
                    retention_ms: random.within(500..5_000),
                },
                _ => AutoMode::Off,
            },
            pace: Pace {
                step_records: random.size(3..30),
                pause_ms: random.within(1..100),
            },
            large_value_bytes: if random.percent(10) { 300 << 10 } else { 200 },
            page_bytes: random.pick(&[100, 1_000, 1 << 20]),
        }
    }
}
