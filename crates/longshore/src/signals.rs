//! Signals that ask a process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Completes at the first SIGTERM or SIGINT. Where signals cannot be had, never.
pub(crate) async fn stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Completes each time that SIGUSR2 has come, by which a region is told to go on as the program that lies in its place now.
#[derive(Debug)]
pub(crate) struct Replacements(Option<Signal>);

impl Replacements {
    /// From now on the signal ends the process no more.
    pub(crate) fn new() -> Self {
        Self(signal(SignalKind::user_defined2()).ok())
    }

    pub(crate) async fn next(&mut self) {
        match &mut self.0 {
            Some(signals) => drop(signals.recv().await),
            None => std::future::pending().await,
        }
    }
}
