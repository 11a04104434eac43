//! The named steps of a piece of work that another process may have to go on with.
//!
//! Whoever does such work says which step it has come to. In a running system nobody listens; a test
//! ends the process at each of them, and looks whether the next one goes on rightly.

use std::fmt;
use std::sync::Arc;

type Listener = dyn Fn(&'static str) + Send + Sync;

/// Who hears of steps, if anybody does. Cheap to clone.
#[derive(Clone, Default)]
pub struct Steps(Option<Arc<Listener>>);

impl Steps {
    /// `listener` is called on whatever thread comes to a step, and may never return.
    pub fn heard_by(listener: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(listener)))
    }

    /// The step called `name` is done, and the next not begun.
    pub fn reached(&self, name: &'static str) {
        if let Some(listener) = &self.0 {
            listener(name);
        }
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Steps(heard)" } else { "Steps" })
    }
}
