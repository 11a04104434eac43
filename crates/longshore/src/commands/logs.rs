//! `longshore logs`: what a task's containers wrote, merged in the order of time.
//!
//! The task definition says which group and stream each container writes to. Streams are read to
//! their ends by their forward tokens, so no line is lost or shown twice, however late it arrives.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use ecs_api as ecs;
use logs_api as logs;
use tokio::time::Instant;

use crate::cli::Logs;
use crate::client::{Client, ClientError};
use crate::commands::connect;
use crate::data_dir::DataDir;
use crate::error::Error;
use crate::tasks;

/// How long to wait for more lines.
const POLL: Duration = Duration::from_millis(200);
/// How long a region may be away while its lines are followed.
const AWAY_MAX: Duration = Duration::from_secs(30);
/// Polls between two looks at the task.
const POLLS_PER_LOOK: u32 = 5;

/// Where one container's lines are.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    container: String,
    group: String,
    stream: String,
}

/// A source that is being read.
struct Reader {
    source: Source,
    token: Option<String>,
    lines: VecDeque<(i64, String)>,
    /// Nothing more was there when last asked.
    is_at_end: bool,
}

pub(crate) async fn run(data: &DataDir, args: &Logs) -> Result<(), Error> {
    let client = connect(data)?;
    let task = tasks::find(&client, &args.task).await?;
    let sources = sources_of(&client, &task, args.container.as_deref()).await?;
    let reader = |source| Reader { source, token: None, lines: VecDeque::new(), is_at_end: false };
    let mut readers: Vec<Reader> = sources.into_iter().map(reader).collect();
    let out = Printer::new(&readers);
    let cluster = task.cluster_arn.clone().unwrap_or_default();
    let arns = [task.task_arn.clone().unwrap_or_default()];
    let mut is_stopped = tasks::status(&task) == "STOPPED";
    let mut silent_since = None;
    for poll in 1.. {
        match out.drain(&client, &mut readers).await {
            Ok(None) => return Ok(()), // nobody listens any more
            Ok(Some(())) => silent_since = None,
            // A region that is being started again: the tokens hold, so nothing is lost.
            Err(error) if args.follow && error.is_away() => {
                let since = *silent_since.get_or_insert_with(Instant::now);
                if since.elapsed() > AWAY_MAX {
                    return Err(error);
                }
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error),
        }
        if !args.follow || is_stopped {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
        if poll % POLLS_PER_LOOK == 0 {
            let Ok(now) = tasks::describe(&client, &cluster, &arns).await else { continue };
            // The last line is there before the task is STOPPED: one more turn shows all.
            is_stopped = now.first().is_none_or(|task| tasks::status(task) == "STOPPED");
        }
    }
    Ok(())
}

async fn sources_of(
    client: &Client,
    task: &ecs::Task,
    only: Option<&str>,
) -> Result<Vec<Source>, Error> {
    let input = ecs::DescribeTaskDefinitionRequest {
        task_definition: task.task_definition_arn.clone(),
        ..Default::default()
    };
    let answer: ecs::DescribeTaskDefinitionResponse =
        client.ecs("DescribeTaskDefinition", &input).await?;
    let definition = answer.task_definition.unwrap_or_default();
    let containers = definition.container_definitions.unwrap_or_default();
    let containers =
        containers.iter().filter(|c| only.is_none_or(|only| c.name.as_deref() == Some(only)));
    let sources: Vec<Source> =
        containers.filter_map(|container| source_of(container, task)).collect();
    if sources.is_empty() {
        return Err(Error::message(match only {
            Some(name) => {
                format!("the task has no container {name} that writes to CloudWatch Logs")
            }
            None => {
                "no container of the task writes to CloudWatch Logs (logDriver awslogs)".to_owned()
            }
        }));
    }
    Ok(sources)
}

/// The stream of a container, named as Amazon's agent names it: prefix, container and task, or
/// without a prefix the container's runtime id.
fn source_of(container: &ecs::ContainerDefinition, task: &ecs::Task) -> Option<Source> {
    let configuration = container.log_configuration.as_ref()?;
    if configuration.log_driver.as_ref()?.as_str() != "awslogs" {
        return None;
    }
    let options = configuration.options.as_ref()?;
    let group = options.get("awslogs-group")?.clone();
    let name = container.name.clone()?;
    let stream = match options.get("awslogs-stream-prefix") {
        Some(prefix) => format!("{prefix}/{name}/{}", tasks::id(task)),
        None => {
            let mut started = task.containers.iter().flatten();
            started.find(|started| started.name.as_deref() == Some(&name))?.runtime_id.clone()?
        }
    };
    Some(Source { container: name, group, stream })
}

impl Reader {
    async fn fill(&mut self, client: &Client) -> Result<(), ClientError> {
        let input = logs::GetLogEventsRequest {
            log_group_name: Some(self.source.group.clone()),
            log_stream_name: Some(self.source.stream.clone()),
            start_from_head: Some(true),
            next_token: self.token.clone(),
            ..logs::GetLogEventsRequest::default()
        };
        let page: logs::GetLogEventsResponse = match client.logs("GetLogEvents", &input).await {
            Ok(page) => page,
            // The container has not written yet.
            Err(error) if error.is("ResourceNotFoundException") => {
                self.is_at_end = true;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let events = page.events.unwrap_or_default();
        self.is_at_end = events.is_empty();
        self.token = page.next_forward_token;
        let line = |event: logs::OutputLogEvent| {
            Some((event.timestamp.unwrap_or_default(), event.message?))
        };
        self.lines.extend(events.into_iter().filter_map(line));
        Ok(())
    }
}

/// Prints lines behind their container's name.
struct Printer {
    prefixes: Vec<String>,
}

impl Printer {
    fn new(readers: &[Reader]) -> Self {
        let names = readers.iter().map(|reader| reader.source.container.as_str());
        Self { prefixes: prefixes(&names.collect::<Vec<_>>(), io::stdout().is_terminal()) }
    }

    /// Prints everything up to the present end. `None` if standard output is closed.
    async fn drain(&self, client: &Client, readers: &mut [Reader]) -> Result<Option<()>, Error> {
        readers.iter_mut().for_each(|reader| reader.is_at_end = false);
        loop {
            for reader in readers.iter_mut() {
                if reader.lines.is_empty() && !reader.is_at_end {
                    reader.fill(client).await?;
                }
            }
            let Some(at) = next(readers) else { break };
            let Some((_, line)) = readers[at].lines.pop_front() else { break };
            if writeln!(io::stdout(), "{}{line}", self.prefixes[at]).is_err() {
                return Ok(None);
            }
        }
        Ok(io::stdout().flush().ok())
    }
}

/// The reader whose next line is the earliest.
fn next(readers: &[Reader]) -> Option<usize> {
    let heads = readers.iter().enumerate().filter_map(|(at, reader)| {
        let (ms, _) = reader.lines.front()?;
        Some((*ms, at))
    });
    heads.min().map(|(_, at)| at)
}

/// `name | `, padded and coloured if somebody looks; nothing for a single container.
fn prefixes(names: &[&str], is_coloured: bool) -> Vec<String> {
    const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];
    if names.len() < 2 {
        return vec![String::new(); names.len()];
    }
    let width = names.iter().map(|name| name.len()).max().unwrap_or(0);
    let prefix = |(name, colour): (&&str, &u8)| {
        let text = format!("{name:<width$} | ");
        if is_coloured { format!("\x1b[{colour}m{text}\x1b[0m") } else { text }
    };
    names.iter().zip(COLOURS.iter().cycle()).map(prefix).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(options: &[(&str, &str)]) -> ecs::ContainerDefinition {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ecs::ContainerDefinition {
            name: Some("web".to_owned()),
            log_configuration: Some(ecs::LogConfiguration {
                log_driver: Some("awslogs".into()),
                options: Some(options),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_containers_stream_is_named_as_amazons_agent_names_it() {
        let task = ecs::Task {
            task_arn: Some("arn:aws:ecs:r:0:task/c/0011".to_owned()),
            containers: Some(vec![ecs::Container {
                name: Some("web".to_owned()),
                runtime_id: Some("0011-77".to_owned()),
                ..Default::default()
            }]),
            ..Default::default()
        };
        let with = container(&[("awslogs-group", "/g"), ("awslogs-stream-prefix", "p")]);
        assert_eq!(source_of(&with, &task).unwrap().stream, "p/web/0011");
        let without = container(&[("awslogs-group", "/g")]);
        assert_eq!(source_of(&without, &task).unwrap().stream, "0011-77");
        assert_eq!(source_of(&ecs::ContainerDefinition::default(), &task), None);
    }

    #[test]
    fn lines_come_in_the_order_of_time_whatever_container_wrote_them() {
        let reader = |lines: &[i64]| Reader {
            source: Source {
                container: String::new(),
                group: String::new(),
                stream: String::new(),
            },
            token: None,
            lines: lines.iter().map(|ms| (*ms, String::new())).collect(),
            is_at_end: true,
        };
        let mut readers = vec![reader(&[1, 5]), reader(&[2, 3]), reader(&[])];
        let mut order = Vec::new();
        while let Some(at) = next(&readers) {
            order.extend(readers[at].lines.pop_front().map(|(ms, _)| ms));
        }
        assert_eq!(order, [1, 2, 3, 5]);
    }

    #[test]
    fn a_single_container_has_no_prefix() {
        assert_eq!(prefixes(&["web"], true), [""]);
        assert_eq!(prefixes(&["web", "ticker"], false), ["web    | ", "ticker | "]);
        assert!(prefixes(&["a", "b"], true)[0].contains("\x1b[36m"));
    }
}
