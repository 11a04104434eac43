//! Tells the region of flows of interfaces that are logged, as the kernel counted them.
//!
//! What cannot be told now is told later, up to a number of reports; then the oldest are lost, as records of flows may be,
//! and it is said of whose interfaces.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use longshore_types::{Chain, EniId};
use tracing::{debug, warn};
use traffic::flows::{FlowReport, REPORT_FLOWS};

use crate::client::{Api, OWN};
use crate::limits::{
    FLOW_REPORTS_WAITING_MAX, FLOWS_PER_REPORT_MAX, FLOWS_PERIOD_MS, FLOWS_QUIET_PERIODS,
};
use crate::ports::{CountedFlows, Networks};

/// Tells for ever.
pub(crate) async fn watch(networks: Arc<dyn Networks>, api: Api) -> Infallible {
    let mut begun_s = api.clock().now().seconds();
    let mut silence = Silence::default();
    let mut waiting: VecDeque<FlowReport> = VecDeque::new();
    loop {
        tokio::time::sleep(Duration::from_millis(FLOWS_PERIOD_MS)).await;
        let read = match networks.flows().await {
            Ok(read) => read,
            Err(error) => {
                warn!(error = %Chain(&error), "flows cannot be read");
                continue;
            }
        };
        let now_s = api.clock().now().seconds();
        waiting.extend(reports(read, &mut silence, (begun_s, now_s)));
        begun_s = now_s;
        while let Some(report) = waiting.front() {
            let told: Result<serde_json::Value, _> = api.call(OWN, REPORT_FLOWS, report).await;
            match told {
                Err(error) if error.is_transient() => {
                    debug!(error = %Chain(&error), "flows told later");
                    break;
                }
                Err(error) => warn!(error = %Chain(&error), "flows refused"),
                Ok(_) => {}
            }
            waiting.pop_front();
        }
        // Only of what could not be told: who has many flows takes nobody else's place while the region is there.
        forget_oldest(&mut waiting);
    }
}

fn forget_oldest(waiting: &mut VecDeque<FlowReport>) {
    while FLOW_REPORTS_WAITING_MAX < waiting.len() {
        let Some(lost) = waiting.pop_front() else { break };
        let Some(next) = waiting.front_mut() else { break };
        let whose = lost.flows.into_iter().map(|flow| flow.eni).chain(lost.skipped);
        let mut skipped: BTreeSet<EniId> = next.skipped.drain(..).collect();
        skipped.extend(whose);
        next.skipped = skipped.into_iter().collect();
    }
}

/// For how many periods there was nothing of an interface.
#[derive(Debug, Default)]
struct Silence(BTreeMap<EniId, u32>);

impl Silence {
    /// Those that were silent for long enough that it is said.
    fn since(&mut self, logged: &BTreeSet<EniId>, heard: &BTreeSet<&EniId>) -> Vec<EniId> {
        self.0.retain(|eni, _| logged.contains(eni));
        let mut quiet = Vec::new();
        for eni in logged {
            let periods = self.0.entry(eni.clone()).or_default();
            *periods = if heard.contains(eni) { 0 } else { *periods + 1 };
            if *periods == FLOWS_QUIET_PERIODS {
                *periods = 0;
                quiet.push(eni.clone());
            }
        }
        quiet
    }
}

fn reports(
    read: CountedFlows,
    silence: &mut Silence,
    (start_s, end_s): (u64, u64),
) -> Vec<FlowReport> {
    let CountedFlows { flows, logged, skipped } = read;
    let heard: BTreeSet<&EniId> = flows.iter().map(|flow| &flow.eni).collect();
    let quiet = silence.since(&logged, &heard);
    let skipped: Vec<EniId> = skipped.into_iter().collect();
    let of =
        |flows: &[_]| FlowReport { start_s, end_s, flows: flows.to_vec(), ..Default::default() };
    let mut reports: Vec<FlowReport> = flows.chunks(FLOWS_PER_REPORT_MAX).map(of).collect();
    if !(quiet.is_empty() && skipped.is_empty()) {
        match reports.last_mut() {
            Some(last) => (last.quiet, last.skipped) = (quiet, skipped),
            None => reports.push(FlowReport { quiet, skipped, ..of(&[]) }),
        }
    }
    reports
}

#[cfg(test)]
mod tests {
    use traffic::flows::{Count, Flow, FlowKey};

    use super::*;

    fn flow(eni: &str) -> Flow {
        let key = FlowKey {
            source: [10, 0, 0, 4].into(),
            destination: [10, 0, 0, 5].into(),
            protocol: 6,
            source_port: 1,
            destination_port: 2,
        };
        let accepted = Count { packets: 1, bytes: 60 };
        let eni = eni.parse().unwrap();
        Flow { eni, key, is_egress: true, accepted, rejected: Count::default() }
    }

    #[test]
    fn many_flows_are_told_in_parts_and_silence_now_and_then() {
        let (loud, still) = ("eni-00000001", "eni-00000002");
        let logged: BTreeSet<EniId> = [loud, still].map(|id| id.parse().unwrap()).into();
        let mut silence = Silence::default();
        for period in 1..=2 * FLOWS_QUIET_PERIODS {
            let flows = vec![flow(loud); FLOWS_PER_REPORT_MAX + 1];
            let read = CountedFlows { flows, logged: logged.clone(), ..CountedFlows::default() };
            let told = reports(read, &mut silence, (10, 20));
            assert_eq!(
                told.iter().map(|it| it.flows.len()).collect::<Vec<_>>(),
                [FLOWS_PER_REPORT_MAX, 1]
            );
            let quiet = told.iter().flat_map(|it| &it.quiet).count();
            assert_eq!(quiet == 1, period % FLOWS_QUIET_PERIODS == 0, "{period}");
        }
        assert!(reports(CountedFlows::default(), &mut silence, (0, 1)).is_empty());
        let still: EniId = still.parse().unwrap();
        let skipped: BTreeSet<EniId> = [still.clone()].into();
        let full = CountedFlows { logged, skipped, ..CountedFlows::default() };
        let told = reports(full, &mut silence, (0, 1));
        assert_eq!(told[0].skipped, vec![still], "the other's VPC is not full");
    }

    #[test]
    fn it_is_said_of_whose_flows_were_lost() {
        let of = |eni: &str| FlowReport { flows: vec![flow(eni)], ..FlowReport::default() };
        let lost = ["eni-00000001", "eni-00000002", "eni-00000001"].map(of);
        let rest = (0..FLOW_REPORTS_WAITING_MAX).map(|_| of("eni-00000003"));
        let mut waiting: VecDeque<FlowReport> = lost.into_iter().chain(rest).collect();
        forget_oldest(&mut waiting);
        assert_eq!(waiting.len(), FLOW_REPORTS_WAITING_MAX);
        let skipped = ["eni-00000001", "eni-00000002"].map(|id| id.parse::<EniId>().unwrap());
        assert_eq!(waiting[0].skipped, skipped.to_vec());
        assert_eq!(waiting[0].flows.len(), 1);
    }
}
