//! Clears the connections of endpoints that are gone, on a thread of its own: one walk over the kernel's
//! table takes 10 ms however little is in it, so the walks of a burst are made one, and nobody waits.
//!
//! **Invariant:** an address is given to a new endpoint only after its old connections are forgotten.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tracing::warn;

use longshore_types::Chain;

use crate::error::NetworkError;
use crate::limits;
use crate::netlink::Socket;
use crate::netlink::conntrack::Forgotten;

/// Hands addresses to the thread. Dropping it ends the thread.
#[derive(Debug)]
pub(crate) struct Forgetter {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Given up, and perhaps still remembered by the kernel.
    fading: BTreeSet<Ipv4Addr>,
    is_awaited: bool,
    is_over: bool,
}

impl Forgetter {
    pub(crate) fn start() -> Result<Self, NetworkError> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let mut netfilter = Socket::netfilter()?;
        thread::Builder::new()
            .name("forgetter".to_owned())
            .spawn(move || while theirs.walk_once(&mut netfilter) {})
            .map_err(|source| NetworkError::io("start the thread that forgets", source))?;
        Ok(Self { shared })
    }

    pub(crate) fn forget(&self, addresses: impl IntoIterator<Item = Ipv4Addr>) {
        self.shared.lock().fading.extend(addresses);
        self.shared.changed.notify_all();
    }

    /// Waits until the kernel has forgotten `address`, which it nearly always has.
    pub(crate) fn await_forgotten(&self, address: Ipv4Addr) -> Result<(), NetworkError> {
        let mut state = self.shared.lock();
        if !state.fading.contains(&address) {
            return Ok(());
        }
        state.is_awaited = true;
        self.shared.changed.notify_all();
        let (state, waited) = self
            .shared
            .changed
            .wait_timeout_while(state, limits::FORGETTING, |state| state.fading.contains(&address))
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if waited.timed_out() {
            let late = io::Error::from(io::ErrorKind::TimedOut);
            return Err(NetworkError::io(format!("clear old connections of {address}"), late));
        }
        Ok(())
    }
}

impl Drop for Forgetter {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for addresses, and a little longer for more of them, then clears them all in one walk.
    fn walk_once(&self, netfilter: &mut Socket) -> bool {
        let is_idle = |state: &mut State| state.fading.is_empty() && !state.is_over;
        let state =
            self.changed.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        let is_early = |state: &mut State| !state.is_awaited && !state.is_over;
        let (state, _) = self
            .changed
            .wait_timeout_while(state, limits::FORGETTING_PAUSE, is_early)
            .unwrap_or_else(PoisonError::into_inner);
        if state.is_over {
            return false;
        }
        let addresses = state.fading.clone();
        drop(state);

        let forgotten = Forgotten { addresses, udp_ports: BTreeSet::new() };
        if let Err(error) = netfilter.forget_connections(&forgotten) {
            warn!(error = %Chain(&error), "old connections stay in the kernel's table");
        }
        let mut state = self.lock();
        state.is_awaited = false;
        state.fading.retain(|address| !forgotten.addresses.contains(address));
        drop(state);
        self.changed.notify_all();
        true
    }
}
