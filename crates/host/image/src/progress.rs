//! Who is told how a transfer gets on.

use std::sync::Arc;

use longshore_types::Digest;

/// What happens during a pull. Bytes are totals, so a lost event costs nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// What the name means, and the layers with their compressed sizes.
    Resolved {
        digest: Digest,
        layers: Vec<(Digest, u64)>,
    },
    /// The layer is here already.
    Present {
        layer: Digest,
    },
    Fetched {
        layer: Digest,
        bytes: u64,
    },
    /// Of a push.
    Sent {
        layer: Digest,
        bytes: u64,
    },
    Unpacking {
        layer: Digest,
    },
    Done {
        layer: Digest,
    },
}

/// Who is told how a pull gets on.
#[derive(Clone)]
pub struct Progress(Arc<dyn Fn(Event) + Send + Sync>);

impl Progress {
    pub fn new(tell: impl Fn(Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    /// Nobody.
    pub fn none() -> Self {
        Self::new(|_| {})
    }

    pub(crate) fn tell(&self, event: Event) {
        (self.0)(event);
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Progress")
    }
}
