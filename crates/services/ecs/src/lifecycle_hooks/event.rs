//! What whoever is asked at a hook is given: the event that ECS gives to functions.

use model::service::{HookCall, Lifecycle, Pause, Share};
use model::{Deployment, View};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::plan::merge;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Asked {
    /// The ARN of the service deployment.
    pub(super) deployment: String,
    event: Value,
}

impl Asked {
    pub(super) fn to_json(&self) -> String {
        self.event.to_string()
    }
}

pub(super) fn event(view: &View, row: &Deployment, pause: &Pause, call: &HookCall) -> Asked {
    let revision = |id| {
        let row = view.revision_of(row.scope.account, &row.service_id(), id);
        row.map(|row| row.arn().to_string())
    };
    let target = revision(row.revision);
    let from = row.shift.as_ref().and_then(|shift| shift.from);
    let mut others = view.deployments_of(row.scope.account, &row.service_id());
    let blue = others.find(|it| Some(it.id) == from).and_then(|it| revision(it.revision));
    let weights = |share: Option<Share>| {
        let mut weights = Map::new();
        if let Some(share) = share {
            let both = [(&blue, share.rest()), (&target, share)];
            for (arn, share) in
                both.into_iter().filter_map(|(arn, share)| Some((arn.clone()?, share)))
            {
                weights.insert(arn, json!(share.percent()));
            }
        }
        Value::Object(weights)
    };
    let (test, production) = shares(row, pause);
    let deployment = row.arn().map(|arn| arn.to_string()).unwrap_or_default();
    let mut event = json!({
        "executionId": execution(row, pause),
        "lifecycleStage": pause.stage.as_str(),
        "resourceArn": deployment,
        "executionDetails": {
            "serviceArn": row.service_arn().to_string(),
            "targetServiceRevisionArn": target,
            "testTrafficWeights": weights(test),
            "productionTrafficWeights": weights(production),
        },
    });
    if let Some(details) = details(row, pause, call) {
        event["hookDetails"] = details;
    }
    Asked { deployment, event }
}

/// What green has of traffic for tests and of production's, in stages that are about that: with the step that is about
/// to be taken, before it is.
fn shares(row: &Deployment, pause: &Pause) -> (Option<Share>, Option<Share>) {
    let Some(shift) = &row.shift else { return (None, None) };
    match pause.stage {
        Lifecycle::TestTrafficShift | Lifecycle::ProductionTrafficShift => {
            (Some(shift.test), Some(shift.production))
        }
        Lifecycle::PreProductionTrafficShift => {
            (Some(shift.test), Some(row.settings.strategy.share(pause.step)))
        }
        Lifecycle::ReconcileService
        | Lifecycle::PreScaleUp
        | Lifecycle::ScaleUp
        | Lifecycle::PostScaleUp
        | Lifecycle::PostTestTrafficShift
        | Lifecycle::PostProductionTrafficShift
        | Lifecycle::BakeTime
        | Lifecycle::CleanUp => (None, None),
    }
}

/// What the hook is configured with, over which goes what it answered to calls before, in this stage and those before it.
fn details(row: &Deployment, pause: &Pause, call: &HookCall) -> Option<Value> {
    let earlier = row.shift.iter().flat_map(|shift| &shift.pauses);
    let mine = earlier.filter(|it| it.hook == pause.hook).filter_map(|it| it.run.as_ref());
    let all = mine.fold(call.details.clone(), |all, run| merge(all, run.details.clone()));
    all.and_then(|text| serde_json::from_str(&text).ok())
}

/// The same for every call at one stage: a UUID in form.
fn execution(row: &Deployment, pause: &Pause) -> String {
    let name = format!("{} {} {} {}", row.id, pause.stage, pause.step, pause.hook);
    let hash = hex::encode(Sha256::digest(name));
    [&hash[..8], &hash[8..12], &hash[12..16], &hash[16..20], &hash[20..32]].join("-")
}
