//! ListTaskFigures: what the tasks of an account use, as their hosts last said, for whoever looks at them now.
//!
//! Figures are in memory alone, a report a task; agents send one every twenty seconds, ours as well as Amazon's.

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::Timestamp;
use model::Task;
use model::instance::HOST_ATTRIBUTE;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::nodes;
use crate::region::Region;

/// Tasks of one answer.
const TASKS_MAX: usize = 10_000;

/// Whose figures are wanted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListTaskFigures {
    /// The name of a cluster; without it all of the account.
    #[serde(default)]
    pub cluster: Option<String>,
}

/// What is known of an account's tasks.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedTaskFigures {
    pub tasks: Vec<TaskFigures>,
    /// Tasks that are there and not in the answer.
    pub left_off: usize,
}

/// What a task used between two reports of its host.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TaskFigures {
    pub task: String,
    pub cluster: String,
    /// `web:3`
    pub definition: String,
    /// `service:web`, or `family:web` where it is of none.
    pub group: String,
    /// The container instance; none for Fargate tasks, as in ECS.
    pub instance: Option<String>,
    /// What the host is called, if it has joined.
    pub host: Option<String>,
    pub reported_at: Timestamp,
    pub containers: Vec<ContainerFigures>,
}

/// What a container used. Shares and rates are means over the report's time.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerFigures {
    pub name: String,
    /// Of all processors of its host.
    pub cpu_percent: f64,
    pub memory_mib: f64,
    pub memory_mib_max: f64,
    /// None where the network is the host's or there is none. Of containers that share an interface our agent says all
    /// with the first that runs, and Amazon's a part with each: together they are the task's.
    pub received_bytes_per_second: Option<f64>,
    pub sent_bytes_per_second: Option<f64>,
    pub read_bytes: f64,
    pub written_bytes: f64,
    pub restarts: u64,
}

impl ContainerFigures {
    /// From a report as it came; an agent may leave anything out.
    fn of(said: &Value) -> Self {
        let number = |set: &Value, name: &str| set[name].as_f64().filter(|it| it.is_finite());
        let mean = |set: &Value| {
            let count = number(set, "sampleCount").filter(|count| *count > 0.0)?;
            Some(number(set, "sum")? / count)
        };
        let (memory, network) = (&said["memoryStatsSet"], &said["networkStatsSet"]);
        let disk = |name: &str| number(&said["storageStatsSet"][name], "sum").unwrap_or_default();
        Self {
            name: said["containerName"].as_str().unwrap_or_default().to_owned(),
            cpu_percent: mean(&said["cpuStatsSet"]).unwrap_or_default(),
            memory_mib: mean(memory).unwrap_or_default(),
            memory_mib_max: number(memory, "max").unwrap_or_default(),
            received_bytes_per_second: mean(&network["rxBytesPerSecond"]),
            sent_bytes_per_second: mean(&network["txBytesPerSecond"]),
            read_bytes: disk("readSizeBytes"),
            written_bytes: disk("writeSizeBytes"),
            restarts: said["restartStatsSet"]["restartCount"].as_u64().unwrap_or_default(),
        }
    }
}

impl Region {
    pub(crate) fn list_task_figures(
        &self,
        caller: &Caller,
        body: &[u8],
    ) -> Result<ListedTaskFigures, ApiError> {
        let asked: ListTaskFigures = nodes::read(body)?;
        let permission = Permission::to("longshore:ListTaskFigures").on("*");
        let view = self.control.read(caller, &permission)?;
        let is_asked = |task: &Task| {
            let is_there = asked.cluster.as_ref().is_none_or(|name| *name == task.cluster.as_str());
            task.occupies() && is_there
        };
        let found = view.tasks.of(caller.account).filter(|task| is_asked(task));
        let (mut tasks, mut left_off) = (Vec::new(), 0);
        for task in found {
            let Some((reported_at, said)) = self.sessions.figures(task.id) else { continue };
            if TASKS_MAX <= tasks.len() {
                left_off += 1;
                continue;
            }
            let instance = task.instance.and_then(|id| view.instances.get(caller.account, &id));
            let host = instance.and_then(|row| row.attributes.get(HOST_ATTRIBUTE)?.clone());
            let containers = said.as_array().into_iter().flatten();
            tasks.push(TaskFigures {
                task: task.arn().to_string(),
                cluster: task.cluster.to_string(),
                definition: task.definition.to_string(),
                group: task.group.clone(),
                instance: instance.map(|row| row.arn().to_string()),
                host,
                reported_at,
                containers: containers.map(ContainerFigures::of).collect(),
            });
        }
        Ok(ListedTaskFigures { tasks, left_off })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_read_whatever_it_leaves_out() {
        let set = |sum: f64| json!({"min": 0.0, "max": sum, "sampleCount": 2, "sum": sum});
        let said = json!({
            "containerName": "main", "cpuStatsSet": set(30.0), "memoryStatsSet": set(64.0),
            "networkStatsSet": {"rxBytesPerSecond": set(8.0), "txBytesPerSecond": set(4.0)},
            "storageStatsSet": {"readSizeBytes": {"sum": 5}}, "restartStatsSet": {"restartCount": 3},
        });
        let expected = ContainerFigures {
            name: "main".to_owned(),
            cpu_percent: 15.0,
            memory_mib: 32.0,
            memory_mib_max: 64.0,
            received_bytes_per_second: Some(4.0),
            sent_bytes_per_second: Some(2.0),
            read_bytes: 5.0,
            written_bytes: 0.0,
            restarts: 3,
        };
        assert_eq!(ContainerFigures::of(&said), expected);
        for odd in [json!({}), json!(7), json!({"cpuStatsSet": {"sum": 1, "sampleCount": 0}})] {
            assert_eq!(ContainerFigures::of(&odd), ContainerFigures::default(), "{odd}");
        }
    }
}
