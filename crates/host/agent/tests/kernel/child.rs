//! The agent that dies: a real one, which counts the steps that it comes to.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent::adapters::{DockerHost, HostNetworks, SandboxRuntime};
use agent::engine::Accepted;
use agent::ports::{Images, LocalImage, Networks, Runtime};
use agent::{Agent, AgentConfig, FixedCredentials, Parts};
use aws_wire::sigv4::Credentials;
use docker::{Docker, DockerConfig};
use futures_util::future::BoxFuture;
use image::{Auth, ImageConfig, PullError, Reference};
use longshore_types::{OsIds, Steps, SystemClock, Token};
use network::{Network, NetworkConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox::{SandboxConfig, Sandboxes};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an agent is told by the test that starts it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) tag: String,
    pub(crate) endpoint: String,
    pub(crate) layer: PathBuf,
    pub(crate) task: Value,
    /// The socket of the engine that runs containers, if it is not our own sandbox.
    pub(crate) docker: Option<PathBuf>,
}

/// One image, which is always here.
#[derive(Debug)]
struct OneImage {
    layer: PathBuf,
}

impl OneImage {
    fn image(&self) -> LocalImage {
        LocalImage {
            digest: format!("sha256:{}", "ab".repeat(32)),
            config: ImageConfig::default(),
            layers: vec![self.layer.clone()],
            name: Some(crate::docker::IMAGE.to_owned()),
            lease: Arc::new(()),
        }
    }
}

impl Images for OneImage {
    fn pull(
        &self,
        _image: Reference,
        _login: Auth,
        on_digest: Box<dyn FnOnce(String) + Send>,
    ) -> BoxFuture<'_, Result<LocalImage, Arc<PullError>>> {
        let image = self.image();
        on_digest(image.digest.clone());
        Box::pin(async { Ok(image) })
    }

    fn find(&self, _image: Reference, _digest: String) -> BoxFuture<'_, Option<LocalImage>> {
        Box::pin(async { Some(self.image()) })
    }

    fn collect(&self) -> BoxFuture<'_, usize> {
        Box::pin(async { 0 })
    }
}

/// Kills this process at a step, as nobody could who is not in it.
fn mortal(dir: &Path, dies_at: u64) -> Steps {
    let (count, deaths) = (AtomicU64::new(0), dir.join("deaths"));
    Steps::heard_by(move |name| {
        if count.fetch_add(1, Ordering::SeqCst) == dies_at {
            let mut file = fs::OpenOptions::new().create(true).append(true).open(&deaths).unwrap();
            writeln!(file, "{name}").unwrap();
            kill(Pid::this(), Signal::SIGKILL).unwrap();
        }
        while dies_at <= count.load(Ordering::SeqCst).saturating_sub(1) {
            // It is over, the kernel just has not come round to us.
            std::thread::park();
        }
    })
}

/// Serves the task until nothing of it is left to do.
pub(crate) fn run(dir: &Path, dies_at: u64) -> ! {
    let given: Given = serde_json::from_slice(&fs::read(dir.join("given.json")).unwrap()).unwrap();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let agent = open(dir, &given, mortal(dir, dies_at)).await;
        loop {
            tell_once(&agent, &given.task, &dir.join("acknowledged")).await;
            // The region asks nobody to stop what has stopped.
            if dir.join("stop").exists() && !agent.engine().views().is_empty() {
                let mut stop = given.task.clone();
                stop["desiredStatus"] = "STOPPED".into();
                tell_once(&agent, &stop, &dir.join("stop-acknowledged")).await;
            }
            if agent.engine().views().is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    std::process::exit(0);
}

async fn open(dir: &Path, given: &Given, steps: Steps) -> Agent {
    let endpoint = given.endpoint.parse().unwrap();
    let region = "eu-north-1".parse().unwrap();
    let mut config = AgentConfig::new(endpoint, region, dir.join("state"));
    config.steps = steps.clone();
    let (runtime, networks) = match &given.docker {
        Some(socket) => docker_host(dir, given, socket, steps).await,
        None => native_host(dir, given, steps).await,
    };
    let parts = Parts {
        sharing: None,
        endpoint: None,
        runtime,
        images: Arc::new(OneImage { layer: given.layer.clone() }),
        networks,
        credentials: Arc::new(FixedCredentials(Credentials {
            access_key: "key".into(),
            secret: Token::from_text("secret".into()),
            session_token: None,
        })),
        clock: Arc::new(SystemClock),
        ids: Arc::new(OsIds),
    };
    Agent::open(config, parts).await.unwrap()
}

type Host = (Arc<dyn Runtime>, Arc<dyn Networks>);

async fn docker_host(dir: &Path, given: &Given, socket: &Path, steps: Steps) -> Host {
    let config = DockerConfig {
        socket: socket.to_owned(),
        tag: given.tag.clone(),
        runtime: None,
        cgroup_parent: None,
        volumes: vec![dir.join("state/volumes"), dir.join("state/shared-volumes")],
    };
    let docker = Docker::connect(config).await.unwrap();
    let bridge = docker.bridge("172.30.0.0/24".parse().unwrap()).await.unwrap();
    let host = DockerHost::open(docker, bridge, None, &dir.join("state"), steps).await;
    let host = Arc::new(host.unwrap());
    (Arc::clone(&host) as _, host)
}

async fn native_host(dir: &Path, given: &Given, steps: Steps) -> Host {
    let sandboxes = Sandboxes::open(SandboxConfig {
        run_dir: dir.join("run/shims"),
        state_dir: dir.join("state/sandboxes"),
        cgroup_parent: Path::new("/longshore").join(&given.tag),
        shim_command: vec![std::env::current_exe().unwrap().into(), "shim".into()],
        pool_size: 2,
        boot_id: "this one".into(),
        runtime: None,
        steps: steps.clone(),
    });
    let tag = given.tag.parse().unwrap();
    let vpc = "172.31.0.0/16".parse().unwrap();
    let mut network = NetworkConfig::new(tag, dir.join("run"), vpc);
    network.pool_size = 2;
    network.steps = steps;
    let network = Network::open(network).await.unwrap();
    (Arc::new(SandboxRuntime(sandboxes.unwrap())), Arc::new(HostNetworks(network)))
}

/// Sends the payload until it was acknowledged once, as the region does.
async fn tell_once(agent: &Agent, task: &Value, acknowledged: &Path) {
    if acknowledged.exists() {
        return;
    }
    let is_taken = match agent.engine().accept(task.clone()).await {
        Accepted::Taken(synced) => synced.await.is_ok(),
        Accepted::Known => true,
        Accepted::Invalid => panic!("the task is valid"),
    };
    if is_taken {
        fs::write(acknowledged, "").unwrap();
    }
}
