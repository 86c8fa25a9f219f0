//! The thread that makes ticks: time reaches the actors only as their messages.

use rusd_messages::{Clock, Port, Tick};
use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often it looks: fine enough for the pause between two steps of a compaction.
pub const FINE_TICK: Duration = Duration::from_millis(10);

/// Ticks of actors that count in tenths of seconds.
pub const COARSE_TICK: Duration = Duration::from_millis(100);

/// Ticks each port at its interval, from one thread, until the returned sender is dropped.
pub fn start(
    clock: Clock,
    mut ports: Vec<(Duration, Port<Tick>)>,
) -> io::Result<flume::Sender<()>> {
    let (keep_running, ended) = flume::bounded::<()>(0);
    std::thread::Builder::new()
        .name("clock".to_owned())
        .spawn(move || {
            let mut next_ms: Vec<u64> = ports.iter().map(|_| 0).collect();
            while matches!(
                ended.recv_timeout(FINE_TICK),
                Err(flume::RecvTimeoutError::Timeout)
            ) {
                let now_ms = clock.now_ms();
                for ((interval, port), next_ms) in ports.iter_mut().zip(&mut next_ms) {
                    if now_ms >= *next_ms {
                        *next_ms = now_ms + super::millis(*interval);
                        // A full port has a tick already; a closed one is stopping.
                        let _coalesced = port.tell(Tick { now_ms });
                    }
                }
            }
        })?;
    Ok(keep_running)
}

/// The wall clock, in milliseconds since the epoch; 0 if it is set before that.
pub fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    since_epoch.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
