//! The deeds: each carries out one action and says, as inputs, what came of it.
//!
//! **Invariant:** every deed may be done again after it was cut short at any point.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use image::{Auth, PullError};
use longshore_types::{Chain, Timestamp};
use sandbox::{ContainerId, ExecSpec, Exit, GroupId, GroupLimits, SandboxError};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::context::Context;
use super::failure::Failure;
use super::health::Checks;
use super::launch;
use super::plan::Action;
use super::state::{Binding, ContainerState, ExitState, Phase, Prepared, StopCause, TaskState};
use super::step::{Created, Input, Pulled};
use super::volumes;
use super::worker::{Message, Worker};
use crate::client::Backoff;
use crate::limits::{
    CREATE_MS_MAX, DRAIN_MS_MAX, PREPARE_MS_MAX, PULL_MS_MAX, RELEASE_MS_MAX, START_MS_MAX,
    URGENT_DRAIN_MS_MAX,
};
use crate::logdriver::RunLog;
use crate::reason;
use crate::seams::{Attached, LocalImage, Signal};
use crate::spec::{NetworkMode, PortSpec, RegistryAuth, TaskSpec};

/// Until a container is watched again that could not be.
const WATCH_PAUSE: Duration = Duration::from_secs(1);

/// A deed that is over.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) action: Action,
    pub(super) inputs: Vec<Input>,
    pub(super) image: Option<(usize, LocalImage)>,
}

/// What a deed may look at: the task as it was when the deed was decided on.
#[derive(Clone)]
pub(super) struct Scene {
    pub(super) context: Arc<Context>,
    pub(super) spec: Arc<TaskSpec>,
    pub(super) state: Arc<TaskState>,
    images: BTreeMap<usize, LocalImage>,
    own: mpsc::WeakSender<Message>,
}

impl Scene {
    pub(super) fn container(&self, index: usize) -> &ContainerState {
        &self.state.containers[index]
    }

    pub(super) fn image(&self, index: usize) -> Option<&LocalImage> {
        self.images.get(&index)
    }

    fn now(&self) -> Timestamp {
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
        }
    }

    async fn tell(&self, input: Input) {
        if let Some(own) = self.own.upgrade() {
            let _ = own.send(Message::Input(input)).await;
        }
    }
}

/// The deed for one action.
pub(super) fn begin(worker: &Worker, action: Action) -> impl Future<Output = Done> + Send + use<> {
    let scene = Scene {
        context: Arc::clone(&worker.context),
        spec: Arc::clone(&worker.spec),
        state: Arc::new(worker.state.clone()),
        images: worker.images.clone(),
        own: worker.own.clone(),
    };
    let deed: BoxFuture<'static, (Vec<Input>, Option<LocalImage>)> = match action {
        Action::Pull(index) => Box::pin(async move { pull(&scene, index).await }),
        other => Box::pin(async move { (plain(&scene, other).await, None) }),
    };
    async move {
        let (inputs, image) = deed.await;
        Done { action, inputs, image: action.holds().zip(image) }
    }
}

async fn plain(scene: &Scene, action: Action) -> Vec<Input> {
    match action {
        Action::Prepare => {
            let limit = Duration::from_millis(PREPARE_MS_MAX);
            let result = tokio::time::timeout(limit, prepare(scene)).await;
            let late = || Err(Failure::TimedOut { what: "prepared", after: limit });
            vec![Input::Prepared(result.unwrap_or_else(|_| late()))]
        }
        Action::OpenLog(container) => {
            let log = scene.run_log(container);
            let checked = scene.context.logs.check(&log, &scene.context.credentials).await;
            let is_fargate = scene.spec.is_fargate;
            let result = checked.map_err(|why| Failure::Log { is_fargate, why: Arc::new(why) });
            vec![Input::LogOpened { container, result }]
        }
        Action::Create(container) => {
            let limit = Duration::from_millis(CREATE_MS_MAX);
            let result = tokio::time::timeout(limit, create(scene, container)).await;
            let late = || Err(Failure::TimedOut { what: "created", after: limit });
            vec![Input::Created { container, result: result.unwrap_or_else(|_| late()) }]
        }
        Action::Start(container) => {
            let limit = Duration::from_millis(START_MS_MAX);
            let result = tokio::time::timeout(limit, start(scene, container)).await;
            let late = || Err(Failure::TimedOut { what: "started", after: limit });
            vec![Input::Started { container, result: result.unwrap_or_else(|_| late()) }]
        }
        Action::Watch { container, restarts } => vec![watch(scene, container, restarts).await],
        Action::Check { container, restarts } => check(scene, container, restarts).await,
        Action::Signal(container) => {
            signal(scene, container, stop_signal(scene, container)).await;
            vec![Input::Signalled { container, at: scene.now() }]
        }
        Action::Kill(container) => {
            signal(scene, container, Signal::KILL).await;
            vec![Input::Killed { container, at: scene.now() }]
        }
        Action::Discard(container) => {
            delete(scene, scene.run_id(container)).await;
            vec![Input::Discarded { container }]
        }
        Action::Drain(container) => {
            let log = scene.run_log(container);
            follow(scene, &log);
            // A full disk may be what its output waits for, and its files what the disk is full of.
            let is_urgent = matches!(scene.state.stop_cause, Some(StopCause::OverLimit { .. }));
            let limit = if is_urgent { URGENT_DRAIN_MS_MAX } else { DRAIN_MS_MAX };
            let limit = Duration::from_millis(limit);
            let last_line = scene.context.logs.drained(&log.id, limit).await;
            vec![Input::Drained { container, last_line }]
        }
        Action::Release => {
            release_in_time(scene.clone()).await;
            vec![Input::Released]
        }
        Action::Tell(number) => {
            if let Some(event) = scene.state.outbox.front() {
                scene.context.region.tell(scene.spec.arn.clone(), event.clone()).await;
            }
            vec![Input::Told { number }]
        }
        Action::Pull(_) => Vec::new(),
    }
}

async fn pull(scene: &Scene, index: usize) -> (Vec<Input>, Option<LocalImage>) {
    scene.tell(Input::PullStarted { at: scene.now() }).await;
    let limit = Duration::from_millis(PULL_MS_MAX);
    let result = tokio::time::timeout(limit, pull_image(scene, index)).await;
    let late = || Err(Failure::TimedOut { what: "pulled", after: limit });
    let result = result.unwrap_or_else(|_| late());
    let at = scene.now();
    match result {
        Ok(image) => {
            let container = &scene.spec.containers[index];
            let stop_signal =
                container.process.stop_signal.clone().or(image.config.stop_signal.clone());
            let pulled = Pulled { digest: Some(image.digest.clone()), stop_signal };
            (vec![Input::Pulled { container: index, at, result: Ok(pulled) }], Some(image))
        }
        Err(why) => (vec![Input::Pulled { container: index, at, result: Err(why) }], None),
    }
}

async fn pull_image(scene: &Scene, index: usize) -> Result<LocalImage, Failure> {
    let container = &scene.spec.containers[index];
    let reference: image::Reference = container
        .image
        .parse()
        .map_err(|why| Failure::ImageName { image: container.image.clone(), why })?;
    // Another key would open another account's registry: an agent that came back waits for the task's.
    let held = scene.context.credentials.hold(&scene.spec.arn);
    let role = match &container.registry {
        RegistryAuth::Ecr { execution_role: true, .. } => Some(held.execution().await),
        // A name without a host may mean the account's own image.
        RegistryAuth::None if scene.spec.has_execution_role => Some(held.execution().await),
        RegistryAuth::Ecr { .. } | RegistryAuth::None => None,
    };
    let login = match (&container.registry, role) {
        (RegistryAuth::None, None) => {
            Ok(Auth::none().owned_by(scene.spec.arn.scope.account.to_string()))
        }
        (registry, role) => {
            let account = scene.spec.arn.scope.account;
            scene.context.region.login(account, registry.clone(), role).await
        }
    };
    let image = || container.image.clone();
    let login = login.map_err(|why| Failure::Login { image: image(), why: Arc::new(why) })?;
    let own = scene.own.clone();
    let on_digest = move |digest: String| {
        if let Some(own) = own.upgrade() {
            let input = Input::Resolved { container: index, digest };
            // A full inbox only means that the digest is told together with the image.
            let _ = own.try_send(Message::Input(input));
        }
    };
    pull_patiently(&scene.context, reference, login, on_digest)
        .await
        .map_err(|why| Failure::Pull { why })
}

/// Pulls, and waits for as long as it takes where the region's own registry is out of reach: that it is
/// being started again, or is not to be had over the network for a while, is no fault of the task's.
async fn pull_patiently(
    context: &Context,
    reference: image::Reference,
    login: Auth,
    on_digest: impl Fn(String) + Clone + Send + 'static,
) -> Result<LocalImage, Arc<PullError>> {
    let mut backoff = Backoff::call();
    loop {
        let heard = Box::new(on_digest.clone());
        let error = match context.images.pull(reference.clone(), login.clone(), heard).await {
            Ok(image) => return Ok(image),
            Err(error) => error,
        };
        if !(error.is_away() && error.host().is_some_and(|host| context.region.is_own(host))) {
            return Err(error);
        }
        tracing::debug!(image = %reference, %error, "the region's registry is waited for");
        tokio::time::sleep(Duration::from_millis(backoff.next_ms(&*context.ids))).await;
    }
}

async fn prepare(scene: &Scene) -> Result<Prepared, Failure> {
    let context = &scene.context;
    let task = scene.spec.arn.id.to_string();
    let group = async {
        let limits = GroupLimits {
            cpu_quota: scene.spec.cpu_millis.and_then(|millis| u32::try_from(millis).ok()),
            memory: scene.spec.memory_bytes,
            pids: Some(context.task_limits.pids_max),
        };
        let made = context.runtime.create_group(scene.group_id(), limits).await;
        made.map_err(|why| Failure::Group { why: Arc::new(why) })
    };
    let network = async {
        match &scene.spec.eni {
            None => Ok(None),
            Some(eni) => {
                let attached = context.nets.attach_eni(&task, eni.clone()).await;
                attached.map(Some).map_err(|why| Failure::Network { why: Arc::new(why) })
            }
        }
    };
    let volumes = async {
        if scene.spec.volumes.is_empty() {
            return Ok(());
        }
        let (dirs, spec) = (context.dirs.clone(), Arc::clone(&scene.spec));
        let made = tokio::task::spawn_blocking(move || volumes::prepare(&dirs, &spec)).await;
        let made = made.map_err(|_| Failure::Interrupted)?;
        Ok(made?)
    };
    let ((), attached, ()) = tokio::try_join!(group, network, volumes)?;
    Ok(match attached {
        Some(Attached { netns, address, nameserver }) => {
            Prepared { netns: Some(netns), address: Some(address), nameserver }
        }
        None => Prepared::default(),
    })
}

async fn create(scene: &Scene, index: usize) -> Result<Created, Failure> {
    let _permit = scene.context.starts.acquire().await.map_err(|_| Failure::Interrupted)?;
    let container = &scene.spec.containers[index];
    let id = scene.run_id(index);
    // What a killed agent may have left half made.
    delete(scene, id.clone()).await;
    let created = connect(scene, index).await?;
    let launch = launch::Launch { scene, index, created: &created };
    let spec = launch.spec(id)?;
    let files = launch.files(&spec);
    let previous = (0 < scene.container(index).restarts).then(|| {
        let restarts = scene.container(index).restarts - 1;
        ContainerState { restarts, ..scene.container(index).clone() }.run_id()
    });
    if let Some(previous) = &previous {
        inherit(scene, previous, &spec.id).await;
    }
    let copies = launch.copies(&spec);
    let name = container.name.clone();
    let written = tokio::task::spawn_blocking(move || {
        launch::write_files(&files).map_err(|why| Failure::files(&name, why))?;
        volumes::fill(&copies).map_err(|why| Failure::Fill { container: name, why: Arc::new(why) })
    });
    written.await.map_err(|_| Failure::Interrupted)??;
    let made = scene.context.runtime.create(spec).await;
    made.map_err(|why| Failure::Create { why: Arc::new(why) })?;
    Ok(created)
}

/// Gives a container in bridge mode its interface, and every container its ports.
async fn connect(scene: &Scene, index: usize) -> Result<Created, Failure> {
    let container = &scene.spec.containers[index];
    let same_ports = || {
        let bind = |port: &crate::spec::PortSpec| Binding {
            container_port: port.container_port,
            host_port: port.container_port,
            protocol: port.protocol,
        };
        container.ports.iter().map(bind).collect()
    };
    match container.network {
        NetworkMode::Host => Ok(Created { bindings: same_ports(), ..Created::default() }),
        NetworkMode::Awsvpc | NetworkMode::None => Ok(Created::default()),
        NetworkMode::Bridge => {
            let endpoint = scene.container(index).runtime_id.clone();
            let failed = |why| Failure::ContainerNetwork { why: Arc::new(why) };
            let nets = &scene.context.nets;
            let attached = nets.attach_bridge(&endpoint).await.map_err(failed)?;
            // Also where it has ports already: those of an endpoint that had to be made anew lead nowhere.
            let ports = ports_as_before(&container.ports, &scene.container(index).bindings);
            let bindings = if ports.is_empty() {
                Vec::new()
            } else {
                nets.publish(&endpoint, ports).await.map_err(failed)?
            };
            let Attached { netns, address, nameserver } = attached;
            Ok(Created { address: Some(address), netns: Some(netns), nameserver, bindings })
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
async fn inherit(scene: &Scene, previous: &str, next: &ContainerId) {
    let containers = scene.context.dirs.containers();
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
        delete_when_shipped(&scene.context, id).await;
    }
    let _ = tokio::fs::remove_dir(from).await;
}

async fn start(scene: &Scene, index: usize) -> Result<Timestamp, Failure> {
    let _permit = scene.context.starts.acquire().await.map_err(|_| Failure::Interrupted)?;
    follow(scene, &scene.run_log(index));
    let started = scene.context.runtime.start(scene.run_id(index)).await;
    started.map(|started| started.at).map_err(|why| Failure::Start { why: Arc::new(why) })
}

/// Sees to the output of a run; asked twice, it is still seen to once.
fn follow(scene: &Scene, log: &RunLog) {
    scene.context.logs.follow(log, &scene.context.credentials);
}

async fn watch(scene: &Scene, index: usize, restarts: u32) -> Input {
    // An agent that came back must take up the output as well.
    follow(scene, &scene.run_log(index));
    match wait(scene, scene.run_id(index)).await {
        Ok(exit) => {
            let state = ExitState::of(&exit);
            Input::Exited { container: index, restarts, exit: state, reason: exit.reason }
        }
        Err(error) => {
            warn!(task = %scene.spec.arn, error = %Chain(&error), "container lost");
            let exit = ExitState::plain(None, scene.now());
            let reason = Some(format!("{}: {}", reason::VANISHED, Chain(&error)));
            Input::Exited { container: index, restarts, exit, reason }
        }
    }
}

/// Waits for an end. That it cannot be read just now, as when the disk is full, is no end.
async fn wait(scene: &Scene, id: ContainerId) -> Result<Exit, SandboxError> {
    loop {
        match scene.context.runtime.wait(id.clone()).await {
            Err(error) if !matches!(error, SandboxError::NotFound { .. }) => {
                warn!(container = %id, error = %Chain(&error), "container cannot be watched");
                tokio::time::sleep(WATCH_PAUSE).await;
            }
            known => return known,
        }
    }
}

async fn check(scene: &Scene, index: usize, restarts: u32) -> Vec<Input> {
    let Some(health) = &scene.spec.containers[index].health else {
        return std::future::pending().await;
    };
    let started_at = scene.container(index).started_at.unwrap_or(scene.now());
    let mut said = scene.container(index).health;
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
        let pause = checks.pause_ms(health, scene.now());
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let exec = ExecSpec::new(argv.clone(), health.timeout_ms);
        let result = scene.context.runtime.exec(scene.run_id(index), exec).await;
        let is_success = matches!(&result, Ok(result) if result.exit_code == 0);
        let verdict = checks.take(health, is_success, scene.now());
        if verdict != said {
            said = verdict;
            let name = &scene.spec.containers[index].name;
            let output = result.map(|r| String::from_utf8_lossy(&r.output).into_owned());
            let output = output.unwrap_or_else(|error| Chain(&error).to_string());
            info!(task = %scene.spec.arn, container = %name, health = verdict.as_str(), %output, "health changed");
            scene.tell(Input::Checked { container: index, restarts, health: verdict }).await;
        }
    }
}

fn stop_signal(scene: &Scene, index: usize) -> Signal {
    let named = scene.container(index).stop_signal.as_deref();
    named.and_then(Signal::parse).unwrap_or(Signal::TERM)
}

async fn signal(scene: &Scene, index: usize, signal: Signal) {
    match scene.context.runtime.signal(scene.run_id(index), signal).await {
        // It has ended meanwhile; the watch says so.
        Ok(()) | Err(SandboxError::NotRunning { .. } | SandboxError::NotFound { .. }) => {}
        Err(error) => {
            warn!(task = %scene.spec.arn, error = %Chain(&error), "signal not delivered");
        }
    }
}

async fn delete(scene: &Scene, id: ContainerId) {
    delete_run(&scene.context, id).await;
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
            tokio::spawn(async move {
                shipped.await;
                delete_run(&context, id).await;
            });
        }
    }
}

/// What takes too long goes on behind the STOPPED event's back.
async fn release_in_time(scene: Scene) {
    let task = scene.spec.arn.clone();
    let whole = tokio::spawn(async move { release(&scene).await });
    if tokio::time::timeout(Duration::from_millis(RELEASE_MS_MAX), whole).await.is_err() {
        warn!(%task, "release takes long");
    }
}

/// Removes everything; a failure at one thing keeps no other.
async fn release(scene: &Scene) {
    let context = &scene.context;
    for (index, container) in scene.state.containers.iter().enumerate() {
        if container.phase == Phase::Stopped {
            delete_when_shipped(context, scene.run_id(index)).await;
        }
    }
    let mut endpoints: Vec<String> =
        (0..scene.state.containers.len()).filter_map(|index| scene.endpoint(index)).collect();
    if scene.spec.eni.is_some() {
        endpoints.push(scene.spec.arn.id.to_string());
    }
    for endpoint in endpoints {
        if let Err(error) = context.nets.detach(&endpoint).await {
            warn!(task = %scene.spec.arn, endpoint, error = %Chain(&error), "network not released");
        }
    }
    match context.runtime.remove_group(scene.group_id()).await {
        Ok(()) | Err(SandboxError::NotFound { .. }) => {}
        Err(error) => warn!(task = %scene.spec.arn, error = %Chain(&error), "limits not released"),
    }
    let (dirs, spec) = (context.dirs.clone(), Arc::clone(&scene.spec));
    let runs: Vec<String> = scene.state.containers.iter().map(ContainerState::run_id).collect();
    let removed = tokio::task::spawn_blocking(move || {
        volumes::remove_volumes(&dirs, &spec);
        for run in runs {
            launch::remove_files(&dirs, &run);
        }
    });
    if let Err(error) = removed.await {
        warn!(task = %scene.spec.arn, error = %Chain(&error), "files not removed");
    }
}
