//! Fetches images that the region wants to be here before a task asks for them.
//!
//! One at a time, so that tasks have the network to themselves but for one. What fails is tried a few times and then left to
//! the first task that needs it, which says why.

use std::sync::Arc;
use std::time::Duration;

use acs::message::PrePull;
use longshore_types::{AccountId, Chain};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::context::Context;
use super::failure::Failure;
use super::pull::pull_ahead;
use crate::client::Backoff;
use crate::limits::PULL_MS_MAX;

/// Messages that wait.
const WAITING_MAX: usize = 256;
const TRIES_MAX: usize = 3;

/// Where wishes go.
#[derive(Clone, Debug)]
pub(super) struct PrePulls(mpsc::Sender<PrePull>);

impl PrePulls {
    pub(super) fn begin(context: &Arc<Context>) -> Self {
        let (wishes, waiting) = mpsc::channel(WAITING_MAX);
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with the engine that wishes come from"
        )]
        tokio::spawn(serve(Arc::clone(context), waiting));
        Self(wishes)
    }

    pub(super) fn add(&self, wanted: PrePull) {
        if self.0.try_send(wanted).is_err() {
            warn!("too much is to be fetched ahead: this is left to its tasks");
        }
    }
}

async fn serve(context: Arc<Context>, mut waiting: mpsc::Receiver<PrePull>) {
    while let Some(wanted) = waiting.recv().await {
        let Ok(account) = wanted.account.parse::<AccountId>() else {
            warn!(account = wanted.account, "images of no account are to be fetched ahead");
            continue;
        };
        for named in &wanted.images {
            let mut backoff = Backoff::call();
            for left in (0..TRIES_MAX).rev() {
                let role = wanted.execution_role_credentials.clone();
                let pull = pull_ahead(&context, account, named, role);
                let limit = Duration::from_millis(PULL_MS_MAX);
                let late = || Err(Failure::TimedOut { what: "pulled", after: limit });
                match tokio::time::timeout(limit, pull).await.unwrap_or_else(|_| late()) {
                    Ok(image) => {
                        info!(image = named.image, digest = image.digest, "image fetched ahead");
                        break;
                    }
                    Err(why) if left == 0 => {
                        warn!(image = named.image, error = %Chain(&why), "image not fetched ahead");
                    }
                    Err(_) => {
                        let pause = backoff.next_ms(&*context.ids);
                        tokio::time::sleep(Duration::from_millis(pause)).await;
                    }
                }
            }
        }
    }
}
