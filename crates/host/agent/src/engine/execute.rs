//! The operations: each carries out one action and says, as inputs, what came of it.
//!
//! **Invariant:** every operation may be done again after it was cut short at any point.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use longshore_types::{Chain, Timestamp};
use sandbox::{ContainerId, ExecSpec, Exit, GroupId, GroupLimits, SandboxError};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::context::Context;
use super::failure::Failure;
use super::firelens;
use super::health::{Checks, said_by};
use super::held;
use super::launch;
use super::objects::{self, Objects};
use super::plan::Action;
use super::pull::pull;
use super::secrets;
use super::state::{Binding, ContainerState, ExitState, Phase, Prepared, StopCause, TaskState};
use super::step::{Created, Input};
use super::volumes;
use super::worker::{Message, TaskView, Worker};
use crate::endpoint::docker_name;
use crate::limits::{
    CREATE_MS_MAX, DRAIN_MS_MAX, PREPARE_MS_MAX, RELEASE_MS_MAX, START_MS_MAX, URGENT_DRAIN_MS_MAX,
};
use crate::logdriver::{RunAbout, RunLog, wanted_of_container};
use crate::ports::{Attached, LocalImage, Signal};
use crate::reason;
use crate::spec::{LogDriver, NetworkMode, PortSpec, SecretSpec, SecretTarget, TaskSpec};

/// Until a container is watched again that could not be.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// An operation that is over.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) action: Action,
    pub(super) inputs: Vec<Input>,
    pub(super) image: Option<(usize, LocalImage)>,
}

/// What an operation may look at: the task as it was when the operation was decided on.
#[derive(Clone)]
pub(super) struct ActionContext {
    pub(super) context: Arc<Context>,
    pub(super) spec: Arc<TaskSpec>,
    pub(super) state: Arc<TaskState>,
    images: BTreeMap<usize, LocalImage>,
    pub(super) own: mpsc::WeakSender<Message>,
    /// Whether it is to stop by now.
    is_to_stop: watch::Receiver<bool>,
}

impl ActionContext {
    pub(super) fn container(&self, index: usize) -> &ContainerState {
        &self.state.containers[index]
    }

    pub(super) fn image(&self, index: usize) -> Option<&LocalImage> {
        self.images.get(&index)
    }

    pub(super) fn now(&self) -> Timestamp {
        self.context.clock.now()
    }

    fn run_id(&self, index: usize) -> ContainerId {
        self.container(index).run_id().parse().expect("a run's id is a file name")
    }

    pub(super) fn group_id(&self) -> GroupId {
        self.spec.arn.id.to_string().parse().expect("a task's id is a file name")
    }

    /// The name of the interface that a container uses, if it has one of its own kind.
    fn endpoint(&self, index: usize) -> Option<String> {
        match self.spec.containers[index].network {
            NetworkMode::Bridge => Some(self.container(index).runtime_id.clone()),
            NetworkMode::Awsvpc | NetworkMode::Host | NetworkMode::None => None,
        }
    }

    pub(super) fn run_log(&self, index: usize) -> RunLog {
        let container = &self.spec.containers[index];
        RunLog {
            id: self.container(index).run_id(),
            task: self.spec.arn.clone(),
            container: container.name.clone(),
            runtime_id: self.container(index).runtime_id.clone(),
            spec: container.log.clone(),
            is_tty: container.process.tty,
            secret_options: BTreeMap::new(),
            about: self.about(index),
        }
    }

    /// What lines say of a container whose driver sends it along.
    fn about(&self, index: usize) -> Option<RunAbout> {
        let (container, state) = (&self.spec.containers[index], self.container(index));
        match container.log.driver {
            LogDriver::Awslogs | LogDriver::None => return None,
            LogDriver::JsonFile
            | LogDriver::Syslog
            | LogDriver::Fluentd
            | LogDriver::Gelf
            | LogDriver::Splunk
            | LogDriver::Firelens => {}
        }
        let view = TaskView { spec: Arc::clone(&self.spec), state: Arc::clone(&self.state) };
        let (labels, variables) = (&container.process.labels, &container.environment);
        // Options that cannot be read are refused when the container is to start.
        let extra = wanted_of_container(&container.log.options, labels, variables);
        Some(RunAbout {
            name: docker_name(&view, index),
            image: container.image.clone(),
            image_id: state.digest.clone().unwrap_or_default(),
            command: container.command.clone().unwrap_or_default().join(" "),
            created: state.created_at.map(Timestamp::iso8601).unwrap_or_default(),
            host: host_name(),
            extra: extra.unwrap_or_default(),
        })
    }

    /// With those of the log driver's options that are kept elsewhere.
    async fn full_run_log(&self, index: usize) -> Result<RunLog, Failure> {
        let mut log = self.run_log(index);
        let secrets = &self.spec.containers[index].secrets;
        let of_log: Vec<_> =
            secrets.iter().filter(|it| it.target == SecretTarget::LogDriver).collect();
        // Those of FireLens are the router's.
        let is_routed = self.spec.containers[index].log.driver == LogDriver::Firelens;
        if !of_log.is_empty() && !is_routed {
            let values = secrets::read(&self.context, &self.spec).await?;
            let option = |it: &&SecretSpec| Some((it.name.clone(), values.get(it)?.clone()));
            log.secret_options = of_log.iter().filter_map(option).collect();
        }
        Ok(log)
    }

    /// What is waited for, unless the task is to stop first.
    async fn unless_stopped<T>(&self, waited: impl Future<Output = T>) -> Option<T> {
        let mut is_to_stop = self.is_to_stop.clone();
        let stopped = async {
            // A worker that is gone ends what it had begun.
            if is_to_stop.wait_for(|is_to_stop| *is_to_stop).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            outcome = waited => Some(outcome),
            () = stopped => None,
        }
    }

    pub(super) async fn tell(&self, input: Input) {
        if let Some(own) = self.own.upgrade() {
            let _ = own.send(Message::Input(input)).await;
        }
    }
}

/// The operation for one action.
pub(super) fn begin(worker: &Worker, action: Action) -> impl Future<Output = Done> + Send + use<> {
    let ctx = ActionContext {
        context: Arc::clone(&worker.context),
        spec: Arc::clone(&worker.spec),
        state: Arc::new(worker.state.clone()),
        images: worker.images.clone(),
        own: worker.own.clone(),
        is_to_stop: worker.is_to_stop.subscribe(),
    };
    let operation: BoxFuture<'static, (Vec<Input>, Option<LocalImage>)> = match action {
        Action::Pull(index) => Box::pin(async move { pull(&ctx, index).await }),
        other => Box::pin(async move { (plain(&ctx, other).await, None) }),
    };
    async move {
        let (inputs, image) = operation.await;
        Done { action, inputs, image: action.holds().zip(image) }
    }
}

async fn plain(ctx: &ActionContext, action: Action) -> Vec<Input> {
    match action {
        Action::Prepare => {
            let limit = Duration::from_millis(PREPARE_MS_MAX);
            let late = || Err(Failure::TimedOut { what: "prepared", after: limit });
            let made = async {
                tokio::time::timeout(limit, prepare(ctx)).await.unwrap_or_else(|_| late())
            };
            // For these it waits as long as the region is away, and nothing of what is to stop needs them.
            let values = ctx.unless_stopped(secrets::read(&ctx.context, &ctx.spec));
            let (made, values) = tokio::join!(made, values);
            vec![Input::Prepared(made.and_then(|made| values.transpose().map(|_| made)))]
        }
        Action::OpenLog(container) => {
            let log = match ctx.full_run_log(container).await {
                Ok(log) => log,
                Err(why) => return vec![Input::LogOpened { container, result: Err(why) }],
            };
            let checked = ctx.context.logs.check(&log, &ctx.context.credentials).await;
            let is_fargate = ctx.spec.is_fargate;
            let result = checked.map_err(|why| Failure::Log { is_fargate, why: Arc::new(why) });
            vec![Input::LogOpened { container, result }]
        }
        Action::Create(container) => {
            // For these it waits as long as the region is away.
            let objects = match ctx.unless_stopped(objects::read(ctx, container)).await {
                Some(Ok(objects)) => objects,
                Some(Err(why)) => return vec![Input::Created { container, result: Err(why) }],
                None => return Vec::new(),
            };
            let limit = Duration::from_millis(CREATE_MS_MAX);
            let result = tokio::time::timeout(limit, create(ctx, container, &objects)).await;
            let late = || Err(Failure::TimedOut { what: "created", after: limit });
            vec![Input::Created { container, result: result.unwrap_or_else(|_| late()) }]
        }
        Action::Start(container) => {
            let limit = Duration::from_millis(START_MS_MAX);
            let result = tokio::time::timeout(limit, start(ctx, container)).await;
            let late = || Err(Failure::TimedOut { what: "started", after: limit });
            vec![Input::Started { container, result: result.unwrap_or_else(|_| late()) }]
        }
        Action::Watch { container, restarts } => vec![watch(ctx, container, restarts).await],
        Action::Check { container, restarts } => check(ctx, container, restarts).await,
        Action::Signal(container) => {
            signal(ctx, container, stop_signal(ctx, container)).await;
            vec![Input::Signalled { container, at: ctx.now() }]
        }
        Action::Kill(container) => {
            signal(ctx, container, Signal::KILL).await;
            vec![Input::Killed { container, at: ctx.now() }]
        }
        Action::Discard(container) => {
            delete(ctx, ctx.run_id(container)).await;
            vec![Input::Discarded { container }]
        }
        Action::Drain(container) => {
            // A full disk may be what its output waits for, and its files what the disk is full of.
            let is_urgent = matches!(ctx.state.stop_cause, Some(StopCause::OverLimit { .. }));
            let limit = if is_urgent { URGENT_DRAIN_MS_MAX } else { DRAIN_MS_MAX };
            let limit = Duration::from_millis(limit);
            // An agent that came back may have to read anew what the driver is told.
            let full = tokio::time::timeout(limit, ctx.full_run_log(container)).await;
            let log = full.ok().and_then(Result::ok).unwrap_or_else(|| ctx.run_log(container));
            follow(ctx, &log);
            if firelens::has_router_ended(&ctx.spec, &ctx.state) {
                ctx.context.logs.router_ended(&ctx.spec.arn);
            }
            let last_line = ctx.context.logs.drained(&log.id, limit).await;
            vec![Input::Drained { container, last_line }]
        }
        Action::Release => {
            release_in_time(ctx.clone()).await;
            vec![Input::Released]
        }
        Action::Tell(number) => {
            if let Some(event) = ctx.state.outbox.front() {
                ctx.context.region.tell(ctx.spec.arn.clone(), event.clone()).await;
            }
            vec![Input::Told { number }]
        }
        Action::Pull(_) => Vec::new(),
    }
}

async fn prepare(ctx: &ActionContext) -> Result<Prepared, Failure> {
    let context = &ctx.context;
    let task = ctx.spec.arn.id.to_string();
    let group = async {
        let limits = GroupLimits {
            cpu_quota: ctx.spec.cpu_millis.and_then(|millis| u32::try_from(millis).ok()),
            memory: ctx.spec.memory_bytes,
            pids: Some(context.task_limits.pids_max),
        };
        let made = context.runtime.create_group(ctx.group_id(), limits).await;
        made.map_err(|why| Failure::Group { why: Arc::new(why) })
    };
    let network = async {
        match &ctx.spec.eni {
            None => Ok(None),
            Some(eni) => {
                let attached = context.networks.attach_eni(&task, eni.clone()).await;
                attached.map(Some).map_err(|why| Failure::Network { why: Arc::new(why) })
            }
        }
    };
    let volumes = async {
        if ctx.spec.volumes.is_empty() && firelens::router(&ctx.spec).is_none() {
            return Ok(());
        }
        let (dirs, spec) = (context.dirs.clone(), Arc::clone(&ctx.spec));
        let made = tokio::task::spawn_blocking(move || volumes::prepare(&dirs, &spec)).await;
        let made = made.map_err(|_| Failure::Interrupted)?;
        Ok(made?)
    };
    let ((), attached, ()) = tokio::try_join!(group, network, volumes)?;
    let prepared = match attached {
        Some(Attached { netns, address, nameserver, seen_as }) => {
            Prepared { netns, address: Some(address), nameserver, seen_as }
        }
        None => Prepared::default(),
    };
    held::hold(ctx, &prepared).await?;
    Ok(prepared)
}

async fn create(ctx: &ActionContext, index: usize, objects: &Objects) -> Result<Created, Failure> {
    let _permit = ctx.context.starts.acquire().await.map_err(|_| Failure::Interrupted)?;
    let container = &ctx.spec.containers[index];
    let id = ctx.run_id(index);
    // What a killed agent may have left half made.
    delete(ctx, id.clone()).await;
    let created = connect(ctx, index).await?;
    let secrets = secrets::read(&ctx.context, &ctx.spec).await?;
    let launch = launch::Launch { ctx, index, created: &created, secrets: &secrets, objects };
    let spec = launch.spec(id)?;
    let files = launch.files(&spec);
    let around = launch.surroundings()?;
    let previous = (0 < ctx.container(index).restarts).then(|| {
        let restarts = ctx.container(index).restarts - 1;
        ContainerState { restarts, ..ctx.container(index).clone() }.run_id()
    });
    if let Some(previous) = &previous {
        inherit(ctx, previous, &spec.id).await;
    }
    let copies = launch.copies(&spec);
    let name = container.name.clone();
    let written = tokio::task::spawn_blocking(move || {
        launch::write_files(&files).map_err(|why| Failure::files(&name, why))?;
        volumes::fill(&copies).map_err(|why| Failure::Fill { container: name, why: Arc::new(why) })
    });
    written.await.map_err(|_| Failure::Interrupted)??;
    let made = ctx.context.runtime.create(spec, around).await;
    made.map_err(|why| Failure::Create { why: Arc::new(why) })?;
    Ok(created)
}

/// Gives a container in bridge mode its interface, and every container its ports.
async fn connect(ctx: &ActionContext, index: usize) -> Result<Created, Failure> {
    let container = &ctx.spec.containers[index];
    let same_ports = || {
        let bind = |port: &crate::spec::PortSpec| Binding {
            container_port: port.container_port,
            host_port: port.container_port,
            protocol: port.protocol,
            range: port.range,
        };
        container.ports.iter().map(bind).collect()
    };
    match container.network {
        NetworkMode::Host => Ok(Created { bindings: same_ports(), ..Created::default() }),
        NetworkMode::Awsvpc | NetworkMode::None => Ok(Created::default()),
        NetworkMode::Bridge => {
            let endpoint = ctx.container(index).runtime_id.clone();
            let failed = |why| Failure::ContainerNetwork { why: Arc::new(why) };
            let networks = &ctx.context.networks;
            let attached = networks.attach_bridge(&endpoint).await.map_err(failed)?;
            // Also where it has ports already: those of an endpoint that had to be made anew lead nowhere.
            let ports = ports_as_before(&container.ports, &ctx.container(index).bindings);
            let bindings = if ports.is_empty() {
                Vec::new()
            } else {
                networks.publish(&endpoint, ports).await.map_err(failed)?
            };
            let Attached { netns, address, nameserver, .. } = attached;
            Ok(Created { address: Some(address), netns, nameserver, bindings })
        }
    }
}

/// What is to be published, at the host's ports that the region was told of, if it was told of any.
fn ports_as_before(ports: &[PortSpec], known: &[Binding]) -> Vec<PortSpec> {
    let mut ports = ports.to_vec();
    for (port, binding) in ports.iter_mut().zip(known) {
        if (port.container_port, port.protocol) == (binding.container_port, binding.protocol) {
            port.host_port = binding.host_port;
        }
    }
    ports
}

/// A restarted container finds its files as it left them. A killed agent may have moved them already.
async fn inherit(ctx: &ActionContext, previous: &str, next: &ContainerId) {
    let containers = ctx.context.dirs.containers();
    let (from, to) = (containers.join(previous), containers.join(next.as_str()));
    let (layer, to) = (from.join("layer"), to.join("layer"));
    let moved = tokio::task::spawn_blocking(move || {
        // An agent that was killed here before may have moved them already.
        if to.symlink_metadata().is_ok() && layer.symlink_metadata().is_err() {
            return Ok(());
        }
        to.parent().map_or(Ok(()), files::private::make_dirs)?;
        files::dir::remove_tree(&to)?;
        std::fs::rename(layer, to)
    });
    if let Err(error) = moved.await.map_err(std::io::Error::other).flatten() {
        warn!(container = previous, error = %error, "files of a restarted container are lost");
    }
    if let Ok(id) = previous.parse() {
        delete_when_shipped(&ctx.context, id).await;
    }
    let _ = tokio::fs::remove_dir(from).await;
}

async fn start(ctx: &ActionContext, index: usize) -> Result<Timestamp, Failure> {
    let _permit = ctx.context.starts.acquire().await.map_err(|_| Failure::Interrupted)?;
    follow(ctx, &ctx.full_run_log(index).await?);
    let started = ctx.context.runtime.start(ctx.run_id(index)).await;
    started.map(|started| started.at).map_err(|why| Failure::Start { why: Arc::new(why) })
}

/// Sees to the output of a run; asked twice, it is still seen to once.
fn follow(ctx: &ActionContext, log: &RunLog) {
    ctx.context.logs.follow(log, &ctx.context.credentials);
}

async fn watch(ctx: &ActionContext, index: usize, restarts: u32) -> Input {
    let mut ended = std::pin::pin!(wait(ctx, ctx.run_id(index)));
    // An agent that came back must take up the output as well. What that takes may have to come from a region that is
    // away: an end is seen meanwhile.
    let known = tokio::select! {
        biased;
        () = take_up_output(ctx, index) => None,
        known = &mut ended => Some(known),
    };
    let known = match known {
        Some(known) => known,
        None => ended.await,
    };
    match known {
        Ok(exit) => {
            let state = ExitState::of(&exit);
            Input::Exited { container: index, restarts, exit: state, reason: exit.reason }
        }
        Err(error) => {
            warn!(task = %ctx.spec.arn, error = %Chain(&error), "container lost");
            let exit = ExitState::plain(None, ctx.now());
            let reason = Some(format!("{}: {}", reason::VANISHED, Chain(&error)));
            Input::Exited { container: index, restarts, exit, reason }
        }
    }
}

async fn take_up_output(ctx: &ActionContext, index: usize) {
    match ctx.full_run_log(index).await {
        Ok(log) => follow(ctx, &log),
        Err(error) => {
            warn!(task = %ctx.spec.arn, %error, "output not taken up before the container's end");
        }
    }
}

/// Waits for an end. That it cannot be read just now, as when the disk is full, is no end.
async fn wait(ctx: &ActionContext, id: ContainerId) -> Result<Exit, SandboxError> {
    loop {
        match ctx.context.runtime.wait(id.clone()).await {
            Err(error) if !matches!(error, SandboxError::NotFound { .. }) => {
                warn!(container = %id, error = %Chain(&error), "container cannot be watched");
                tokio::time::sleep(WATCH_PAUSE).await;
            }
            known => return known,
        }
    }
}

async fn check(ctx: &ActionContext, index: usize, restarts: u32) -> Vec<Input> {
    let Some(health) = &ctx.spec.containers[index].health else {
        return std::future::pending().await;
    };
    let started_at = ctx.container(index).started_at.unwrap_or(ctx.now());
    let mut said = ctx.container(index).health;
    let mut checks = Checks::new(started_at, said);
    let argv = if health.by_shell {
        ["/bin/sh", "-c"]
            .into_iter()
            .map(str::to_owned)
            .chain(health.argv.iter().cloned())
            .collect()
    } else {
        health.argv.clone()
    };
    loop {
        let pause = checks.pause_ms(health, ctx.now());
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let exec = ExecSpec::new(argv.clone(), health.timeout_ms);
        let result = ctx.context.runtime.exec(ctx.run_id(index), exec).await;
        let is_success = matches!(&result, Ok(result) if result.exit_code == 0);
        let verdict = checks.take(health, is_success, ctx.now());
        if verdict != said {
            said = verdict;
            let name = &ctx.spec.containers[index].name;
            let said = said_by(result);
            let output = &said.output;
            info!(task = %ctx.spec.arn, container = %name, health = verdict.as_str(), %output, "health changed");
            let container = index;
            ctx.tell(Input::Checked { container, restarts, health: verdict, said }).await;
        }
    }
}

/// As the machine calls itself.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

fn stop_signal(ctx: &ActionContext, index: usize) -> Signal {
    let named = ctx.container(index).stop_signal.as_deref();
    named.and_then(Signal::parse).unwrap_or(Signal::TERM)
}

async fn signal(ctx: &ActionContext, index: usize, signal: Signal) {
    match ctx.context.runtime.signal(ctx.run_id(index), signal).await {
        // It has ended meanwhile; the watch says so.
        Ok(()) | Err(SandboxError::NotRunning { .. } | SandboxError::NotFound { .. }) => {}
        Err(error) => {
            warn!(task = %ctx.spec.arn, error = %Chain(&error), "signal not delivered");
        }
    }
}

async fn delete(ctx: &ActionContext, id: ContainerId) {
    delete_run(&ctx.context, id).await;
}

async fn delete_run(context: &Context, id: ContainerId) {
    match context.runtime.delete(id.clone()).await {
        Ok(()) | Err(SandboxError::NotFound { .. }) => {}
        Err(error) => warn!(container = %id, error = %Chain(&error), "container not deleted"),
    }
}

/// Deletes a run, whose output goes with it: at once, or behind our back if some is still to be sent.
pub(super) async fn delete_when_shipped(context: &Arc<Context>, id: ContainerId) {
    match context.logs.shipped(id.as_str()) {
        None => delete_run(context, id).await,
        Some(shipped) => {
            let context = Arc::clone(context);
            #[expect(
                clippy::disallowed_methods,
                reason = "the run is deleted once its log is shipped; an agent that ends first deletes it at its next start"
            )]
            tokio::spawn(async move {
                shipped.await;
                delete_run(&context, id).await;
            });
        }
    }
}

/// What takes too long goes on behind the STOPPED event's back.
async fn release_in_time(ctx: ActionContext) {
    let task = ctx.spec.arn.clone();
    #[expect(
        clippy::disallowed_methods,
        reason = "a release goes on after its time limit; what it leaves is removed at the next start"
    )]
    let whole = tokio::spawn(async move { release(&ctx).await });
    if tokio::time::timeout(Duration::from_millis(RELEASE_MS_MAX), whole).await.is_err() {
        warn!(%task, "release takes long");
    }
}

/// Removes everything; a failure at one thing keeps no other.
async fn release(ctx: &ActionContext) {
    let context = &ctx.context;
    for (index, container) in ctx.state.containers.iter().enumerate() {
        if container.phase == Phase::Stopped {
            delete_when_shipped(context, ctx.run_id(index)).await;
        }
    }
    if let Some(holder) = held::holder(&ctx.spec) {
        delete(ctx, holder).await;
    }
    let mut endpoints: Vec<String> =
        (0..ctx.state.containers.len()).filter_map(|index| ctx.endpoint(index)).collect();
    if ctx.spec.eni.is_some() {
        endpoints.push(ctx.spec.arn.id.to_string());
    }
    for endpoint in endpoints {
        if let Err(error) = context.networks.detach(&endpoint).await {
            warn!(task = %ctx.spec.arn, endpoint, error = %Chain(&error), "network not released");
        }
    }
    match context.runtime.remove_group(ctx.group_id()).await {
        Ok(()) | Err(SandboxError::NotFound { .. }) => {}
        Err(error) => warn!(task = %ctx.spec.arn, error = %Chain(&error), "limits not released"),
    }
    let (dirs, spec) = (context.dirs.clone(), Arc::clone(&ctx.spec));
    let runs: Vec<String> = ctx.state.containers.iter().map(ContainerState::run_id).collect();
    let removed = tokio::task::spawn_blocking(move || {
        volumes::remove_volumes(&dirs, &spec);
        for run in runs {
            launch::remove_files(&dirs, &run);
        }
    });
    if let Err(error) = removed.await {
        warn!(task = %ctx.spec.arn, error = %Chain(&error), "files not removed");
    }
}
