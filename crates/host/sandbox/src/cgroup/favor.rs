//! Makes moving a process between control groups cheap.
//!
//! Every move takes a lock that is cheap to hold for the many (each fork and exit) and dear for
//! the few: after a pause the first move waits for an RCU grace period, 13 to 17 ms here, which is
//! more than all the rest of a container's start. The kernel has a switch for hosts on which moves
//! are frequent, the mount option `favordynmods`, and it acts on the whole system whichever
//! hierarchy it is given for. So we mount a hierarchy of our own, without controllers, attached to
//! no path: it lives as long as its descriptor, and nothing of the host's configuration changes.

use std::io;
use std::os::fd::OwnedFd;

use crate::sys;

/// Holds the switch on. Where the kernel has no such switch (before 6.0), or refuses, moves are
/// merely slow.
#[derive(Debug)]
pub(crate) struct FavorMoves {
    _mount: Option<OwnedFd>,
}

impl FavorMoves {
    pub(crate) fn on() -> Self {
        Self {
            _mount: mount()
                .inspect_err(|error| {
                    tracing::debug!(%error, "cgroup moves cannot be favoured on this kernel");
                })
                .ok(),
        }
    }
}

fn mount() -> io::Result<OwnedFd> {
    let context = sys::FsContext::open(c"cgroup")?;
    context.flag(c"none")?;
    context.string(c"name", c"longshore")?;
    context.flag(c"favordynmods")?;
    context.create()?;
    context.mount()
}
