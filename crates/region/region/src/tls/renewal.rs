//! Renews the listener's certificate before it ends, and reads files again that were given once they change.

use std::sync::Arc;

use control::reconcile::{NowAndThen, Pass, PassFuture, Queue, Reconciler};
use model::View;
use store::Change;

use super::{Tls, TlsError};

/// Goes by time alone.
#[derive(Debug)]
pub(crate) struct Renewal(pub(crate) Arc<Tls>);

impl Reconciler for Renewal {
    type Key = NowAndThen;
    type Note = ();
    type Error = TlsError;

    fn name(&self) -> &'static str {
        "tls-certificate"
    }

    fn wake(&mut self, _: &View, _: &Change, _: &mut Queue<NowAndThen>) {}

    fn keys(&mut self, _: &View) -> Vec<NowAndThen> {
        vec![NowAndThen]
    }

    fn pass(&self, _: &NowAndThen) -> PassFuture<Result<Pass<()>, TlsError>> {
        let tls = Arc::clone(&self.0);
        Box::pin(async move {
            let again_at = tls.renew()?;
            Ok(Pass { again_at: Some(again_at), ..Pass::default() })
        })
    }
}
