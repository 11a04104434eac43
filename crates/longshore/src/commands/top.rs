//! `longshore top`: what the tasks of all hosts use, as the hosts last said.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use longshore_types::{Clock as _, SystemClock, Timestamp};
use region::figures::{ContainerFigures, ListTaskFigures, ListedTaskFigures, TaskFigures};
use serde_json::json;

use crate::cli::{Top, TopSort};
use crate::client::Client;
use crate::commands::connect;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::{signals, table, tasks};

/// Home, and nothing below.
const CLEAR: &str = "\x1b[H\x1b[2J";
/// Rows of a screen.
const ROWS_MAX: usize = 50;

pub(crate) async fn run(data: &DataDir, args: &Top) -> Result<(), Error> {
    let client = connect(data)?;
    let is_live = !args.once && !args.json && std::io::stdout().is_terminal();
    loop {
        let mut listed = list(&client, args).await?;
        sort(&mut listed.tasks, args.sort);
        let now = SystemClock.now();
        if args.json {
            println!("{}", json!({ "tasks": listed.tasks, "leftOff": listed.left_off }));
        } else {
            let rows_max = if is_live { ROWS_MAX } else { usize::MAX };
            let text = render(&listed, now, rows_max);
            print!("{}{text}", if is_live { CLEAR } else { "" });
        }
        std::io::stdout().flush().map_err(Error::io("write"))?;
        if args.once || (!is_live && !args.json) {
            return Ok(());
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(args.interval)) => {}
            () = signals::stop() => return Ok(()),
        }
    }
}

async fn list(client: &Client, args: &Top) -> Result<ListedTaskFigures, Error> {
    let input = ListTaskFigures { cluster: args.cluster.as_ref().map(ToString::to_string) };
    Ok(client.own("ListTaskFigures", &input).await?)
}

/// What a task uses with all its containers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sum {
    cpu: f64,
    memory: f64,
    received: Option<f64>,
    sent: Option<f64>,
}

impl Sum {
    fn of(task: &TaskFigures) -> Self {
        let all = |of: fn(&ContainerFigures) -> f64| task.containers.iter().map(of).sum();
        // Of containers that share an interface one says its rate, or each a part of it; others have one of their own.
        let rates = |of: fn(&ContainerFigures) -> Option<f64>| {
            task.containers.iter().filter_map(of).reduce(|one, other| one + other)
        };
        Self {
            cpu: all(|it| it.cpu_percent),
            memory: all(|it| it.memory_mib),
            received: rates(|it| it.received_bytes_per_second),
            sent: rates(|it| it.sent_bytes_per_second),
        }
    }

    fn key(self, by: TopSort) -> f64 {
        match by {
            TopSort::Cpu => self.cpu,
            TopSort::Memory => self.memory,
            TopSort::Network => self.received.unwrap_or_default() + self.sent.unwrap_or_default(),
        }
    }
}

/// The most first, and among equals by the task.
fn sort(tasks: &mut [TaskFigures], by: TopSort) {
    tasks.sort_by(|one, other| {
        let (first, second) = (Sum::of(one).key(by), Sum::of(other).key(by));
        second.total_cmp(&first).then_with(|| one.task.cmp(&other.task))
    });
}

fn render(listed: &ListedTaskFigures, now: Timestamp, rows_max: usize) -> String {
    if listed.tasks.is_empty() {
        return "no figures: hosts report those of running tasks every 20 seconds\n".to_owned();
    }
    let rows: Vec<Vec<String>> =
        listed.tasks.iter().take(rows_max).map(|task| row(task, now)).collect();
    let header = [
        "CLUSTER",
        "TASK",
        "HOST",
        "DEFINITION",
        "GROUP",
        "CPU%",
        "MEMORY",
        "RECEIVED/S",
        "SENT/S",
        "AGE",
    ];
    let mut text = table::render(&header, &rows);
    let more = listed.tasks.len() - rows.len() + listed.left_off;
    if 0 < more {
        text.push_str(&format!("and {more} more tasks\n"));
    }
    text
}

fn row(task: &TaskFigures, now: Timestamp) -> Vec<String> {
    let sum = Sum::of(task);
    let host = task.host.as_deref().or(task.instance.as_deref().map(tasks::id_of));
    let rate = |rate: Option<f64>| rate.map_or_else(|| "-".to_owned(), bytes);
    vec![
        task.cluster.clone(),
        tasks::id_of(&task.task).to_owned(),
        host.unwrap_or("-").to_owned(),
        task.definition.clone(),
        task.group.clone(),
        format!("{:.1}", sum.cpu),
        bytes(sum.memory * 1_048_576.0),
        rate(sum.received),
        rate(sum.sent),
        format!("{}s", now.since_ms(task.reported_at) / 1000),
    ]
}

/// `1.5 MiB`
fn bytes(count: f64) -> String {
    let (mut left, mut unit) = (count, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if left < 1024.0 {
            break;
        }
        (left, unit) = (left / 1024.0, larger);
    }
    if unit == "B" { format!("{left:.0} B") } else { format!("{left:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, cpu: f64, memory: f64, received: Option<f64>) -> TaskFigures {
        let container = ContainerFigures {
            cpu_percent: cpu,
            memory_mib: memory,
            received_bytes_per_second: received,
            sent_bytes_per_second: received,
            ..ContainerFigures::default()
        };
        TaskFigures {
            task: format!("arn:aws:ecs:eu-north-1:000000000000:task/web/{id}"),
            cluster: "web".to_owned(),
            definition: "web:1".to_owned(),
            group: "family:web".to_owned(),
            instance: None,
            host: Some("one".to_owned()),
            reported_at: Timestamp(1_000),
            containers: vec![container.clone(), container],
        }
    }

    #[test]
    fn a_task_is_the_sum_of_its_containers() {
        // Each has an interface of its own, as bridged ones do.
        let bridged = task("a", 1.5, 10.0, Some(2048.0));
        let expected = Sum { cpu: 3.0, memory: 20.0, received: Some(4096.0), sent: Some(4096.0) };
        assert_eq!(Sum::of(&bridged), expected);
        let row = row(&bridged, Timestamp(8_000));
        assert_eq!(row[5..], ["3.0", "20.0 MiB", "4.0 KiB", "4.0 KiB", "7s"].map(str::to_owned));
        // They share one, which our agent reports with the first.
        let mut shared = bridged;
        let second = shared.containers.last_mut().unwrap();
        (second.received_bytes_per_second, second.sent_bytes_per_second) = (None, None);
        assert_eq!(Sum::of(&shared).received, Some(2048.0));
        assert_eq!(Sum::of(&task("a", 1.5, 10.0, None)).received, None);
    }

    #[test]
    fn the_most_comes_first() {
        let all = || vec![task("a", 1.0, 9.0, None), task("b", 2.0, 1.0, Some(1.0))];
        for (by, first) in [(TopSort::Cpu, "/b"), (TopSort::Memory, "/a"), (TopSort::Network, "/b")]
        {
            let mut tasks = all();
            sort(&mut tasks, by);
            assert!(tasks[0].task.ends_with(first), "{by:?}");
        }
        let listed = ListedTaskFigures { tasks: all(), left_off: 3 };
        let text = render(&listed, Timestamp(1_000), 1);
        assert!(text.ends_with("and 4 more tasks\n"), "{text}");
    }

    #[test]
    fn amounts_have_a_unit_that_people_read() {
        assert_eq!(
            [0.0, 1023.0, 1536.0, 3.5e9].map(bytes),
            ["0 B", "1023 B", "1.5 KiB", "3.3 GiB"]
        );
    }
}
