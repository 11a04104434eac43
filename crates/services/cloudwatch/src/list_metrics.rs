//! ListMetrics.

use aws_wire::{ApiError, Caller};
use cloudwatch_api as api;
use control::Permission;
use longshore_types::Timestamp;
use metrics::MetricId;

use crate::CloudWatch;
use crate::errors::{invalid, token as bad_token, unavailable};
use crate::limits::METRICS_LISTED_MAX;
use crate::{pages, render};

/// `PT3H`.
const RECENTLY_MS: u64 = 3 * 3_600_000;

pub(crate) async fn list_metrics(
    it: &CloudWatch,
    caller: &Caller,
    input: api::ListMetricsInput,
) -> Result<api::ListMetricsOutput, ApiError> {
    it.control.read(caller, &Permission::to("cloudwatch:ListMetrics").on("*"))?;
    if input.include_linked_accounts == Some(true) || input.owning_account.is_some() {
        return Err(unavailable("What concerns other accounts' metrics"));
    }
    let since = match input.recently_active.as_ref().map(api::RecentlyActive::as_str) {
        None => None,
        Some("PT3H") => Some(Timestamp(it.control.clock.now().0.saturating_sub(RECENTLY_MS))),
        Some(other) => {
            return Err(invalid(format!(
                "The value {other} for parameter RecentlyActive is invalid."
            )));
        }
    };
    let after: Option<MetricId> = match input.next_token.as_deref() {
        None => None,
        Some(text) => {
            let read: MetricId =
                serde_json::from_str(&pages::read(text)?).map_err(|_| bad_token())?;
            Some(MetricId { account: caller.account, ..read })
        }
    };
    let filters = input.dimensions.unwrap_or_default();
    let is_asked = |metric: &MetricId| {
        let is_filtered = |filter: &api::DimensionFilter| {
            metric.has(filter.name.as_deref().unwrap_or_default(), filter.value.as_deref())
        };
        input.namespace.as_ref().is_none_or(|namespace| *namespace == metric.namespace)
            && input.metric_name.as_ref().is_none_or(|name| *name == metric.name)
            && filters.iter().all(is_filtered)
    };
    let count = METRICS_LISTED_MAX + 1;
    let mut found = it.metrics.list(caller.account, after.as_ref(), count, is_asked, since);
    let is_more = METRICS_LISTED_MAX < found.len();
    found.truncate(METRICS_LISTED_MAX);
    let last = found.last().filter(|_| is_more);
    let next_token = last.and_then(|last| serde_json::to_string(last).ok());
    Ok(api::ListMetricsOutput {
        metrics: Some(found.iter().map(render::metric).collect()),
        next_token: next_token.map(|key| pages::write(&key)),
        owning_accounts: None,
    })
}
