//! What is asked of the region: a cluster, a definition, tasks or a service, and their end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent::client::{Api, Backoff, CallError};
use futures_util::StreamExt as _;
use futures_util::stream::{self, FuturesUnordered};
use longshore_types::{OsIds, TaskArn, TaskId, Uuid};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::agent::MARK;
use super::fleet::{BLOCKED_AFTER, Target};
use super::recorder::Recorder;
use crate::error::Error;

/// The container of the definition.
const CONTAINER: &str = "main";
/// StopTask calls at a time.
const STOPS_AT_ONCE: usize = 64;
/// Tasks of one service at most; more are shared between several.
const SERVICE_TASKS_MAX: usize = 5_000;

/// Who asks for what.
#[derive(Clone, Debug)]
pub(super) struct Load {
    pub(super) cluster: String,
    /// Whether the cluster is ours alone, and goes with us.
    pub(super) is_own_cluster: bool,
    /// The family of the definition, and the mark of our tasks.
    pub(super) name: String,
    pub(super) cpu: u64,
    pub(super) memory_mib: u64,
    pub(super) strategies: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RunTask {
    tasks: Vec<StartedTask>,
    failures: Vec<Failure>,
}

impl RunTask {
    /// Whether all that is missing are agents, which are on their way back to a region that was away.
    fn waits_for_agents(&self) -> bool {
        !self.failures.is_empty() && self.failures.iter().all(|failure| failure.reason == "AGENT")
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StartedTask {
    task_arn: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Failure {
    reason: String,
    detail: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Listed {
    task_arns: Vec<String>,
    next_token: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Services {
    services: Vec<Service>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Service {
    events: Vec<Event>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Event {
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Clusters {
    clusters: Vec<Counts>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Counts {
    running_tasks_count: u64,
}

impl Load {
    pub(super) async fn create_cluster(&self, api: &Api) -> Result<(), CallError> {
        let input = json!({ "clusterName": self.cluster });
        call::<Value>(api, "CreateCluster", &input).await.map(drop)
    }

    pub(super) async fn delete_cluster(&self, api: &Api) -> Result<(), CallError> {
        let input = json!({ "cluster": self.cluster });
        call::<Value>(api, "DeleteCluster", &input).await.map(drop)
    }

    pub(super) async fn register_definition(&self, api: &Api) -> Result<(), CallError> {
        let input = json!({
            "family": self.name, "requiresCompatibilities": ["EC2"], "networkMode": "bridge",
            "containerDefinitions": [{
                "name": CONTAINER, "image": "longshore.invalid/simulated:1", "essential": true,
                "cpu": self.cpu, "memory": self.memory_mib, "command": ["sleep", "infinity"],
            }],
        });
        call::<Value>(api, "RegisterTaskDefinition", &input).await.map(drop)
    }

    pub(super) async fn delete_definition(&self, api: &Api) -> Result<(), CallError> {
        let definition = format!("{}:1", self.name);
        let input = json!({ "taskDefinition": definition });
        call::<Value>(api, "DeregisterTaskDefinition", &input).await?;
        let input = json!({ "taskDefinitions": [definition] });
        call::<Value>(api, "DeleteTaskDefinitions", &input).await.map(drop)
    }

    /// Runs `count` tasks, `per_call` with a call, over `connections` at once.
    pub(super) async fn run_tasks(
        &self,
        target: &Target,
        recorder: &Recorder,
        count: usize,
        per_call: usize,
        connections: usize,
    ) -> Result<(), Error> {
        let left = AtomicUsize::new(count);
        let mut workers: FuturesUnordered<_> = (0..connections)
            .map(|_| self.run_some(target.api(), recorder, &left, per_call))
            .collect();
        while let Some(ended) = workers.next().await {
            ended?;
        }
        Ok(())
    }

    /// One connection: call after call until nothing is left.
    async fn run_some(
        &self,
        api: Api,
        recorder: &Recorder,
        left: &AtomicUsize,
        per_call: usize,
    ) -> Result<(), Error> {
        let mut input = json!({
            "cluster": self.cluster, "taskDefinition": self.name, "launchType": "EC2",
            "startedBy": self.name, "placementStrategy": self.strategies,
            "placementConstraints": self.constraints(),
        });
        let (mut placed_at, mut backoff) = (Instant::now(), Backoff::call());
        loop {
            let take = |left: usize| (left > 0).then(|| left.saturating_sub(per_call));
            let Ok(before) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) else {
                return Ok(());
            };
            let count = before.min(per_call);
            input["count"] = json!(count);
            // As the SDKs do it, so that a call may be made again.
            input["clientToken"] = json!(Uuid::mint(&OsIds).to_string());
            let asked = Instant::now();
            let answer = call(&api, "RunTask", &input).await;
            let answer: RunTask = answer.map_err(Error::other("run tasks"))?;
            let now = Instant::now();
            recorder.called(now - asked);
            for id in answer.tasks.iter().filter_map(|task| id_of(&task.task_arn)) {
                recorder.accepted(id, now);
            }
            let missing = count - answer.tasks.len().min(count);
            if missing == 0 {
                placed_at = now;
            } else if answer.waits_for_agents() && now - placed_at < BLOCKED_AFTER {
                left.fetch_add(missing, Ordering::Relaxed);
                sleep(Duration::from_millis(backoff.next_ms(&OsIds))).await;
            } else {
                return Err(Error::message(refused(&answer, count)));
            }
        }
    }

    /// Asks for `count` tasks as one service, or as several if they are more than one may have.
    pub(super) async fn create_services(&self, api: &Api, count: usize) -> Result<(), CallError> {
        let constraints = self.constraints();
        for (number, tasks) in shares(count).enumerate() {
            let input = json!({
                "cluster": self.cluster, "serviceName": self.service(number), "desiredCount": tasks,
                "taskDefinition": self.name, "launchType": "EC2",
                "placementStrategy": self.strategies, "placementConstraints": constraints,
            });
            call::<Value>(api, "CreateService", &input).await?;
        }
        Ok(())
    }

    /// Nothing is wanted any more: the services of `count` tasks stop them. Those that are not there
    /// are passed over.
    pub(super) async fn delete_services(&self, api: &Api, count: usize) -> Result<(), CallError> {
        for (number, _) in shares(count).enumerate() {
            let service = self.service(number);
            let input = json!({ "cluster": self.cluster, "service": service, "force": true });
            match call::<Value>(api, "DeleteService", &input).await {
                Err(error) if error.code() != "ServiceNotFoundException" => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The newest of the first service's events.
    pub(super) async fn last_event(&self, api: &Api) -> Result<Option<String>, CallError> {
        let input = json!({ "cluster": self.cluster, "services": [self.service(0)] });
        let answer: Services = call(api, "DescribeServices", &input).await?;
        let service = answer.services.into_iter().next();
        Ok(service.and_then(|service| Some(service.events.into_iter().next()?.message)))
    }

    fn service(&self, number: usize) -> String {
        format!("{}-{}", self.name, number + 1)
    }

    /// In a cluster of others, tasks keep to the pretended hosts.
    fn constraints(&self) -> Vec<Value> {
        if self.is_own_cluster {
            return Vec::new();
        }
        let expression = format!("attribute:{MARK} == true");
        vec![json!({ "type": "memberOf", "expression": expression })]
    }

    /// Tasks of the definition that are wanted to run, whoever started them.
    pub(super) async fn running(&self, api: &Api) -> Result<Vec<String>, CallError> {
        let mut arns = Vec::new();
        let mut input = json!({ "cluster": self.cluster, "family": self.name, "maxResults": 100 });
        loop {
            let page: Listed = call(api, "ListTasks", &input).await?;
            arns.extend(page.task_arns);
            match page.next_token {
                Some(token) => input["nextToken"] = json!(token),
                None => return Ok(arns),
            }
        }
    }

    /// Asks for the end of each task. One that has ended by itself meanwhile is no failure.
    pub(super) async fn stop(&self, api: &Api, tasks: Vec<String>) -> Result<(), CallError> {
        let stops = tasks.into_iter().map(|task| async move {
            let input =
                json!({ "cluster": self.cluster, "task": task, "reason": "Simulation over" });
            call::<Value>(api, "StopTask", &input).await
        });
        let mut stops = stream::iter(stops).buffer_unordered(STOPS_AT_ONCE);
        while let Some(stopped) = stops.next().await {
            match stopped {
                Err(error) if error.code() != "InvalidParameterException" => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// How many tasks the region itself says are running in the cluster.
    pub(super) async fn counted(&self, api: &Api) -> Result<u64, CallError> {
        let input = json!({ "clusters": [self.cluster] });
        let answer: Clusters = call(api, "DescribeClusters", &input).await?;
        Ok(answer.clusters.first().map_or(0, |cluster| cluster.running_tasks_count))
    }
}

/// How many tasks each service gets.
pub(super) fn shares(count: usize) -> impl Iterator<Item = usize> {
    (0..count).step_by(SERVICE_TASKS_MAX).map(move |from| (count - from).min(SERVICE_TASKS_MAX))
}

/// Calls, and calls again while the region cannot be reached: it may be starting anew.
async fn call<O: DeserializeOwned>(
    api: &Api,
    operation: &'static str,
    input: &Value,
) -> Result<O, CallError> {
    let (began, mut backoff) = (Instant::now(), Backoff::call());
    loop {
        match api.ecs(operation, input).await {
            Err(error) if error.is_transient() && began.elapsed() < BLOCKED_AFTER => {
                sleep(Duration::from_millis(backoff.next_ms(&OsIds))).await;
            }
            answer => return answer,
        }
    }
}

fn id_of(arn: &str) -> Option<TaskId> {
    arn.parse::<TaskArn>().ok().map(|arn| arn.id)
}

fn refused(answer: &RunTask, wanted: usize) -> String {
    let missing = wanted - answer.tasks.len();
    let why = answer.failures.first().map(|failure| {
        let detail = Some(failure.detail.as_str()).filter(|detail| !detail.is_empty());
        let detail = detail.map(|detail| format!(" ({detail})")).unwrap_or_default();
        format!("{}{detail}", failure.reason)
    });
    format!(
        "the region placed {missing} of {wanted} tasks nowhere: {}",
        why.unwrap_or_else(|| "it did not say why".to_owned())
    )
}

/// A strategy as it is written on the command line: `random`, `binpack=memory`, `spread=FIELD`.
pub(crate) fn strategy(text: &str) -> Result<Value, String> {
    match text.split_once('=') {
        None if text == "random" => Ok(json!({ "type": "random" })),
        Some((kind @ ("spread" | "binpack"), field)) if !field.is_empty() => {
            Ok(json!({ "type": kind, "field": field }))
        }
        _ => Err(format!("'{text}' is none of random, binpack=FIELD and spread=FIELD")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strategies_are_read_as_they_are_written() {
        assert_eq!(strategy("random").unwrap(), json!({ "type": "random" }));
        let zone = strategy("spread=attribute:ecs.availability-zone").unwrap();
        assert_eq!(zone, json!({ "type": "spread", "field": "attribute:ecs.availability-zone" }));
        for bad in ["", "spread", "spread=", "binpack", "first=cpu", "random=1"] {
            assert!(strategy(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn more_tasks_than_a_service_may_have_are_shared_between_several() {
        assert_eq!(shares(20).collect::<Vec<_>>(), [20]);
        assert_eq!(shares(5_000).collect::<Vec<_>>(), [5_000]);
        assert_eq!(shares(12_000).collect::<Vec<_>>(), [5_000, 5_000, 2_000]);
    }

    #[test]
    fn a_refusal_says_how_many_and_why() {
        let failure =
            Failure { reason: "RESOURCE:MEMORY".to_owned(), detail: "3 memory".to_owned() };
        let answer = RunTask { tasks: Vec::new(), failures: vec![failure] };
        let text = refused(&answer, 2);
        assert_eq!(text, "the region placed 2 of 2 tasks nowhere: RESOURCE:MEMORY (3 memory)");
    }
}
