//! Removes expired log events from the disk; they are invisible before that.

use std::sync::Arc;

use ::logs::LogsError;
use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use model::View;
use store::Change;

use crate::CloudWatchLogs;

const PERIOD_MS: u64 = 3_600_000;

#[derive(Debug)]
pub(crate) struct LogSweep {
    pub(crate) logs: Arc<CloudWatchLogs>,
}

impl Reconciler for LogSweep {
    type Key = NowAndThen;
    type Note = ();
    type Error = LogsError;

    fn name(&self) -> &'static str {
        "log-sweep"
    }

    fn wake(&mut self, _view: &View, _change: &Change, _queue: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _view: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _key: &NowAndThen) -> PassFuture<Result<Pass<()>, LogsError>> {
        let logs = Arc::clone(&self.logs);
        Box::pin(async move {
            logs.logs.sweep().await?;
            let again_at = Some(logs.control.clock.now().plus_ms(PERIOD_MS));
            Ok(Pass { again_at, ..Pass::default() })
        })
    }
}
