//! How much finding out may cost.

use std::cell::Cell;

/// What may still be spent on asking patterns about an event: it grows with how often parts of the two are compared, and
/// with their length. A million is well under a second.
#[derive(Debug)]
pub struct Effort {
    left: Cell<usize>,
}

/// The effort is spent, and what was asked is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it takes too long to find out whether patterns match the event")]
pub struct Exhausted;

impl Effort {
    /// So many steps.
    pub const fn of(steps: usize) -> Self {
        Self { left: Cell::new(steps) }
    }

    pub(crate) fn spend(&self, steps: usize) -> Result<(), Exhausted> {
        let left = self.left.get().checked_sub(steps);
        self.left.set(left.unwrap_or(0));
        left.map(drop).ok_or(Exhausted)
    }
}
