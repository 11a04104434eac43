//! Figures of rules in CloudWatch, as `AWS/Events`.

use std::collections::BTreeMap;
use std::sync::Arc;

use longshore_types::{AccountId, StatisticSet};
use metrics::{Datum, MetricId};

use crate::EventBridge;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    MatchedEvents,
    TriggeredRules,
    Invocations,
    /// Of targets that were given up.
    FailedInvocations,
    RetryInvocationAttempts,
}

impl Figure {
    const fn name(self) -> &'static str {
        match self {
            Self::MatchedEvents => "MatchedEvents",
            Self::TriggeredRules => "TriggeredRules",
            Self::Invocations => "Invocations",
            Self::FailedInvocations => "FailedInvocations",
            Self::RetryInvocationAttempts => "RetryInvocationAttempts",
        }
    }
}

impl EventBridge {
    /// Counts what happened, of a rule and of all together.
    pub(crate) async fn count(
        &self,
        account: AccountId,
        rule: Option<&str>,
        counted: &[(Figure, u32)],
    ) {
        let at = self.control.clock.now();
        let namespace = "AWS/Events";
        let one = |figure: Figure, count: u32, dimensions| Datum {
            metric: MetricId {
                account,
                namespace: namespace.to_owned(),
                name: figure.name().to_owned(),
                dimensions,
            },
            unit: "Count".to_owned(),
            at,
            set: StatisticSet::one(f64::from(count)),
            is_fine: false,
        };
        let mut data = Vec::new();
        for (figure, count) in counted.iter().filter(|(_, count)| 0 < *count) {
            data.push(one(*figure, *count, BTreeMap::new()));
            if let Some(rule) = rule {
                let dimensions = BTreeMap::from([("RuleName".to_owned(), rule.to_owned())]);
                data.push(one(*figure, *count, dimensions));
            }
        }
        if data.is_empty() {
            return;
        }
        let metrics = Arc::clone(&self.metrics);
        let done = tokio::task::spawn_blocking(move || metrics.note(data)).await;
        if let Ok(Err(why)) = done {
            tracing::warn!(%why, "failed to count what rules did");
        }
    }
}
