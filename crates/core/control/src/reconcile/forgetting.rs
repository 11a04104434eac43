//! Forgets rows that have had their time.

use std::sync::Arc;

use aws_wire::ApiError;
use longshore_types::Timestamp;
use model::{Key, View};
use store::{Batch, Change};

use super::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use crate::Control;

/// Rows that are forgotten in one commit.
pub const FORGOTTEN_AT_ONCE_MAX: usize = 200;
/// Where there are more, the next ones go after this.
const NEXT_MS: u64 = 1_000;

/// A loop that goes by time alone and deletes rows.
#[derive(Debug)]
pub struct Forgetting {
    pub control: Arc<Control>,
    /// In the field's words, for logs and status.
    pub name: &'static str,
    /// How often it is looked.
    pub period_ms: u64,
    /// The rows that have had their time, as of then: of more than [`FORGOTTEN_AT_ONCE_MAX`] so many.
    pub over: fn(&View, Timestamp) -> Vec<Key>,
}

impl Reconciler for Forgetting {
    type Key = NowAndThen;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        self.name
    }

    fn wake(&mut self, _: &View, _: &Change, _: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (control, over, period_ms) = (Arc::clone(&self.control), self.over, self.period_ms);
        Box::pin(async move {
            let decided = control.decide(|view, now| {
                let mut batch = Batch::on(view);
                for key in over(view, now) {
                    batch.delete(key);
                }
                let is_full = FORGOTTEN_AT_ONCE_MAX <= batch.len();
                let pause_ms = if is_full { NEXT_MS } else { period_ms };
                Ok((batch, (view.seq, now.plus_ms(pause_ms))))
            });
            let (looked_at, again_at) = decided.await?;
            Ok(Pass { looked_at, again_at: Some(again_at), ..Pass::default() })
        })
    }
}
