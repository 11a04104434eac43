//! Coming back: compares what was written down with what is on the host.
//!
//! **Invariant:** afterwards every container of a live task is in its worker's hands, and nothing on
//! the host belongs to nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longshore_types::Chain;
use sandbox::{Phase as RunPhase, Recovered};
use tracing::{error, info, warn};

use super::held;
use super::state::{ContainerState, ExitState, Phase, TaskState};
use super::step::{Found, Input, step};
use super::{Engine, volumes};
use crate::ports::LocalImage;
use crate::spec::{self, NetworkMode, TaskSpec};
use crate::state_dir::TaskRecord;

/// Until the disk is looked at again.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn recover(engine: &Engine) {
    let context = engine.context();
    // What cannot be looked at is not gone, and to take it for that would end tasks that run.
    let (records, unreadable) = loop {
        match context.dirs.load_tasks() {
            Ok(loaded) => break loaded,
            Err(error) => error!(error = %Chain(&error), "task records not found, trying again"),
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    };
    for error in unreadable {
        error!(error = %Chain(&error), "task record unreadable");
    }
    let found = loop {
        match context.runtime.recover().await {
            Ok(found) => break found,
            Err(error) => error!(error = %Chain(&error), "containers not recovered, trying again"),
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    };
    let mut found: BTreeMap<String, Recovered> =
        found.into_iter().map(|each| (each.id.to_string(), each)).collect();
    let mut tasks = Vec::new();
    for record in records {
        match spec::parse(&record.task) {
            Ok(spec) => tasks.push(take_up(engine, spec, record, &mut found).await),
            Err(invalid) => {
                warn!(task = record.task.arn, reason = %invalid, "task refused");
                if let Ok(arn) = spec::parse_task_arn(&record.task.arn) {
                    let _ = context.dirs.forget_task(arn.id);
                    engine.refuse(arn, invalid.to_string());
                }
            }
        }
    }
    sweep(engine, &tasks, found.into_values().collect()).await;
    if !tasks.is_empty() {
        info!(tasks = tasks.len(), "tasks found again");
    }
    for (spec, record, images) in tasks {
        engine.spawn(spec, &record.task, record.state, images);
    }
}

type TakenUp = (TaskSpec, TaskRecord, BTreeMap<usize, LocalImage>);

/// Brings one record up to date with the host.
async fn take_up(
    engine: &Engine,
    spec: TaskSpec,
    mut record: TaskRecord,
    found: &mut BTreeMap<String, Recovered>,
) -> TakenUp {
    let context = engine.context();
    let now = context.clock.now();
    let state = &mut record.state;
    state.containers.truncate(spec.containers.len());
    let fresh = TaskState::new(&spec, || engine.random());
    let known = state.containers.len();
    state.containers.extend(fresh.containers.into_iter().skip(known));
    let mut images = BTreeMap::new();
    let mut inputs = Vec::new();
    let mut is_anything_left = false;
    for (container, each) in state.containers.iter().enumerate() {
        if let Some(image) = find_image(engine, &spec, container, each).await {
            images.insert(container, image);
        }
        let has_image = images.contains_key(&container);
        // An older run of a restarted container is nobody's.
        let run = found.remove(&each.run_id());
        is_anything_left |= run.is_some();
        match run.as_ref().map(|run| (run.phase, run)) {
            Some((RunPhase::Created, _)) if each.phase == Phase::Created => {}
            Some((RunPhase::Created, run)) => {
                let _ = context.runtime.delete(run.id.clone()).await;
                inputs.push(Input::Missing { container, has_image });
            }
            Some((RunPhase::Running, run)) => {
                let started_at = run.started_at.unwrap_or(now);
                inputs.push(Input::Found { container, found: Found::Running { started_at } });
            }
            Some((RunPhase::Exited, run)) => {
                inputs.push(Input::Found { container, found: exited(run, each, now) });
            }
            None => inputs.push(Input::Missing { container, has_image }),
        }
    }
    // One that ended, as with the machine, is made anew with what the task shares; and so is one that an agent
    // from before there were any never made.
    let holder = held::holder(&spec);
    let is_held = holder.is_none_or(|id| {
        found.remove(id.as_str()).is_some_and(|run| run.phase == RunPhase::Running)
    });
    if !is_anything_left || !is_held {
        inputs.push(Input::Unprepared);
    }
    for input in inputs {
        step(&spec, state, input, now);
    }
    // Whatever is to be created needs what its task shares, and may have outlived it. What is there is
    // found to be there.
    if state.containers.iter().any(|each| each.phase < Phase::Created) {
        step(&spec, state, Input::Unprepared, now);
    }
    (spec, record, images)
}

fn exited(run: &Recovered, known: &ContainerState, now: longshore_types::Timestamp) -> Found {
    let exit = match &run.exit {
        Some(exit) => ExitState::of(exit),
        None => ExitState::plain(None, now),
    };
    let started_at = run.started_at.or(known.started_at).unwrap_or(exit.at);
    Found::Exited { started_at, exit, reason: run.exit.as_ref().and_then(|e| e.reason.clone()) }
}

async fn find_image(
    engine: &Engine,
    spec: &TaskSpec,
    index: usize,
    container: &ContainerState,
) -> Option<LocalImage> {
    if matches!(container.phase, Phase::Waiting | Phase::Stopped) {
        return None;
    }
    let reference = spec.containers[index].image.parse().ok()?;
    engine.context().images.find(reference, container.digest.clone()?).await
}

/// Removes whatever belongs to no task.
async fn sweep(engine: &Engine, tasks: &[TakenUp], strangers: Vec<Recovered>) {
    let context = engine.context();
    let own: BTreeSet<String> = tasks.iter().map(|(spec, ..)| spec.arn.id.to_string()).collect();
    let runs: BTreeSet<String> = tasks
        .iter()
        .flat_map(|(_, record, _)| record.state.containers.iter().map(ContainerState::run_id))
        .collect();
    context.logs.take_up_orphans(&runs, &context.credentials);
    for stranger in strangers {
        warn!(container = %stranger.id, "container belongs to no task");
        super::execute::delete_when_shipped(&engine.context, stranger.id).await;
    }
    let groups = context.runtime.groups().await.unwrap_or_else(|error| {
        warn!(error = %Chain(&error), "groups not listed");
        Vec::new()
    });
    for group in groups.into_iter().filter(|group| !own.contains(group.as_str())) {
        if let Err(error) = context.runtime.remove_group(group).await {
            warn!(error = %Chain(&error), "limits not released");
        }
    }
    let endpoints =
        tasks.iter().filter(|(_, record, _)| !record.state.released).flat_map(endpoints);
    if let Err(error) = context.networks.reconcile(endpoints.collect()).await {
        warn!(error = %error, "networks not reconciled");
    }
    sweep_files(engine, &own, &runs);
}

fn endpoints((spec, record, _): &TakenUp) -> Vec<String> {
    let mut endpoints = Vec::new();
    if spec.eni.is_some() {
        endpoints.push(spec.arn.id.to_string());
    }
    for (container, spec) in record.state.containers.iter().zip(&spec.containers) {
        if spec.network == NetworkMode::Bridge {
            endpoints.push(container.runtime_id.clone());
        }
    }
    endpoints
}

fn sweep_files(engine: &Engine, own: &BTreeSet<String>, runs: &BTreeSet<String>) {
    let dirs = &engine.context().dirs;
    for name in names(&dirs.volumes()).into_iter().filter(|name| !own.contains(name)) {
        volumes::remove_of_task(dirs, &name);
    }
    for name in names(&dirs.containers()).into_iter().filter(|name| !runs.contains(name)) {
        super::launch::remove_files(dirs, &name);
    }
}

fn names(dir: &std::path::Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}
