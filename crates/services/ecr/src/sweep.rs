//! Takes away what no image of the registry needs.

use std::sync::Arc;

use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use model::View;
use store::Change;

use crate::Ecr;

/// How often the registry is looked at.
const PERIOD_MS: u64 = 600_000;

#[derive(Debug)]
pub(crate) struct RegistrySweep {
    pub(crate) ecr: Arc<Ecr>,
}

impl Reconciler for RegistrySweep {
    type Key = NowAndThen;
    type Note = ();
    type Error = registry::RegistryError;

    fn name(&self) -> &'static str {
        "registry-sweep"
    }

    fn wake(&mut self, _view: &View, _change: &Change, _queue: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _view: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _key: &NowAndThen) -> PassFuture<Result<Pass<()>, registry::RegistryError>> {
        let ecr = Arc::clone(&self.ecr);
        Box::pin(async move {
            let swept = ecr.registry.sweep().await?;
            if swept != registry::Swept::default() {
                let registry::Swept { uploads, layers, blobs } = swept;
                tracing::info!(uploads, layers, blobs, "registry swept");
            }
            let again_at = Some(ecr.control.clock.now().plus_ms(PERIOD_MS));
            Ok(Pass { again_at, ..Pass::default() })
        })
    }
}
