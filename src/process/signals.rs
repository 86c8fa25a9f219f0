//! The signals that ask the process to stop.

use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// A signal that asks the process to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopSignal {
    /// SIGTERM, which service managers send.
    Terminate,
    /// SIGINT, which Ctrl-C sends.
    Interrupt,
}

impl StopSignal {
    /// Its name, for the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "terminated",
            Self::Interrupt => "interrupt",
        }
    }

    /// Ends the process by the signal's own default action, so that whoever started it sees which signal it
    /// was. The first process of a container has no default action: it exits with 0.
    pub fn end_process(self) -> ExitCode {
        const INIT: u32 = 1;
        if std::process::id() != INIT {
            let number = match self {
                Self::Terminate => libc::SIGTERM,
                Self::Interrupt => libc::SIGINT,
            };
            // SAFETY: restoring a default action and raising a signal touch no memory of ours.
            unsafe {
                libc::signal(number, libc::SIG_DFL);
                libc::raise(number);
            }
        }
        ExitCode::SUCCESS
    }
}

/// Resolves with the signal that asks the process to stop. Must be called inside a tokio runtime; signals are
/// caught from the first poll on.
pub async fn stop_signal() -> std::io::Result<StopSignal> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        _ = terminate.recv() => StopSignal::Terminate,
        _ = interrupt.recv() => StopSignal::Interrupt,
    })
}
