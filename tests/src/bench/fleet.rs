//! Several hosts on this machine, each a network namespace with a link to the region's, and an image that all of them need.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::Target;
use crate::peers::{docker_save, output, run};
use crate::report::Report;
use crate::world::World;

const HOSTS: usize = 4;
const LAYERS: usize = 5;
const LAYER_BYTES: u64 = 100_000_000;
const NETWORK: &str = "10.99.8";
const PORT: u16 = 4566;
const PATIENCE: Duration = Duration::from_secs(120);
/// After so much silence a host's tasks are replaced: the least that a region takes.
pub(crate) const LOST_S: u32 = 10;

/// A network and a mount namespace, held by a process that sleeps, and what runs in it.
#[derive(Debug)]
struct Machine {
    folder: PathBuf,
    binary: String,
    holder: Child,
    process: Option<Child>,
}

impl Machine {
    fn new(world: &World, folder: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let holder = Command::new("unshare")
            .args(["-n", "-m", "--propagation", "private", "sleep", "infinity"])
            .spawn()?;
        let own = std::fs::read_link("/proc/self/ns/net")?;
        let link = format!("/proc/{}/ns/net", holder.id());
        let begun = Instant::now();
        while std::fs::read_link(&link).is_ok_and(|found| found == own) {
            if begun.elapsed() > Duration::from_secs(5) {
                return Err(io::Error::other("no namespace within 5 s"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let machine = Self { folder, binary: world.binary.clone(), holder, process: None };
        machine.run(&["ip", "link", "set", "lo", "up"])?;
        Ok(machine)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.holder.id().to_string(), "-n", "-m"]).args(words);
        command
    }

    fn run(&self, words: &[&str]) -> io::Result<()> {
        run(&mut self.command(words))
    }

    fn data_dir(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn longshore(&self, words: &[&str]) -> io::Result<String> {
        let mut command = self.command(&[&self.binary]);
        output(command.args(words).args(["--data-dir", &self.data_dir()]))
    }

    fn start(&mut self, words: &[&str]) -> io::Result<()> {
        let log = std::fs::File::create(self.folder.join("log"))?;
        let mut command = self.command(&[&self.binary]);
        command.args(words).args(["--data-dir", &self.data_dir()]).stdin(Stdio::null());
        let errors = log.as_fd().try_clone_to_owned()?;
        self.process = Some(command.stdout(log).stderr(errors).spawn()?);
        Ok(())
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = self.longshore(&["down"]);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A region and hosts that have joined it.
#[derive(Debug)]
pub(crate) struct Fleet {
    /// Before the region: what drops first ends first.
    hosts: Vec<Machine>,
    region: Machine,
    folder: PathBuf,
    /// After all that uses it.
    _kept: tempfile::TempDir,
}

impl Fleet {
    pub(crate) async fn start(
        world: &World,
        clusters: &[String],
        agent: &[&str],
    ) -> io::Result<Self> {
        let kept = tempfile::Builder::new().prefix("lsfleet").tempdir()?;
        let folder = kept.path().to_owned();
        let mut region = Machine::new(world, folder.join("region"))?;
        region.run(&["ip", "link", "add", "br0", "type", "bridge"])?;
        region.run(&["ip", "addr", "add", &format!("{NETWORK}.1/24"), "dev", "br0"])?;
        region.run(&["ip", "link", "set", "br0", "up"])?;
        let listen = format!("{NETWORK}.1:{PORT}");
        let limit = LOST_S.to_string();
        let patience = ["--heartbeat-timeout-seconds", limit.as_str()];
        region.start(
            &[&["region", "--listen", &listen, "--region", "us-east-1"], &patience[..]].concat(),
        )?;
        until("the region", || Ok(region.longshore(&["env"]).is_ok())).await?;
        let mut fleet = Self { hosts: Vec::new(), region, folder, _kept: kept };
        for (at, cluster) in clusters.iter().enumerate() {
            let host = fleet.add(world, at, cluster, agent)?;
            fleet.hosts.push(host);
        }
        until("the hosts", || {
            let told = fleet.region.longshore(&["node", "ls"])?;
            Ok(told
                .lines()
                .filter(|line| line.contains("connected") && !line.contains("disconnected"))
                .count()
                >= clusters.len())
        })
        .await?;
        Ok(fleet)
    }

    fn add(&self, world: &World, at: usize, cluster: &str, agent: &[&str]) -> io::Result<Machine> {
        let mut host = Machine::new(world, self.folder.join(format!("host{at}")))?;
        let (link, holder) = (format!("p{at}"), host.holder.id().to_string());
        let ip = |words: &[&str]| self.region.run(&[&["ip", "link"], words].concat());
        ip(&["add", &link, "type", "veth", "peer", "name", "eth0", "netns", &holder])?;
        ip(&["set", &link, "master", "br0", "up"])?;
        host.run(&["ip", "addr", "add", &format!("{NETWORK}.{}/24", 10 + at), "dev", "eth0"])?;
        host.run(&["ip", "link", "set", "eth0", "up"])?;
        host.run(&["ip", "route", "add", "default", "via", &format!("{NETWORK}.1")])?;
        let token =
            self.region.longshore(&["node", "token", "create", "--quiet", "--cluster", cluster])?;
        let (url, name) = (format!("https://{NETWORK}.1:{PORT}"), format!("host{at}"));
        let join = ["agent", "--join", &url, "--token", token.trim(), "--host-name", &name];
        host.start(&[&join[..], agent].concat())?;
        Ok(host)
    }

    /// Has nothing come from a host any more, and nothing to it.
    pub(crate) fn cut_off(&self, at: usize) -> io::Result<()> {
        self.region.run(&["ip", "link", "set", &format!("p{at}"), "down"])
    }

    /// Moves the calling thread into the region's network.
    pub(crate) fn enter(&self) -> io::Result<()> {
        let network = std::fs::File::open(format!("/proc/{}/ns/net", self.region.holder.id()))?;
        nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).map_err(io::Error::from)
    }

    /// Where the region is within its network, and with which keys it is asked.
    pub(crate) fn target(&self) -> io::Result<Target> {
        let told = self.region.longshore(&["env"])?;
        let value = |name: &str| {
            let line = told.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
            line.map(|text| text.trim_matches(['\'', '"']).to_owned())
                .ok_or_else(|| io::Error::other(format!("env says no {name}")))
        };
        Ok(Target {
            host: format!("{NETWORK}.1:{PORT}"),
            region: value("AWS_REGION")?,
            access_key: value("AWS_ACCESS_KEY_ID")?,
            secret: value("AWS_SECRET_ACCESS_KEY")?,
        })
    }

    /// Loads an image of these layers.
    pub(crate) fn load(&self, family: &str, layers: &[PathBuf]) -> io::Result<()> {
        let archive = self.folder.join(format!("{family}.tar"));
        docker_save(layers, &archive, &format!("{family}:1"), &[])?;
        self.region.longshore(&["image", "load", &archive.display().to_string()])?;
        std::fs::remove_file(&archive)
    }

    /// Runs one task of an image in a cluster, until it is RUNNING.
    fn run_task(&self, family: &str, cluster: &str, definition: &Value) -> io::Result<()> {
        let file = self.folder.join(format!("{family}-{cluster}.json"));
        std::fs::write(&file, definition.to_string())?;
        let file = file.display().to_string();
        self.region
            .longshore(&["task", "run", &file, "--cluster", cluster, "--wait", "300"])
            .map(drop)
    }

    /// What the region's machine has sent to hosts.
    fn sent_bytes(&self) -> io::Result<u64> {
        let mut words = self.region.command(&["ip", "-s", "-j", "link", "show", "br0"]);
        let told: Value = serde_json::from_str(&output(&mut words)?)?;
        told[0]["stats64"]["tx"]["bytes"]
            .as_u64()
            .ok_or_else(|| io::Error::other("no count of bytes"))
    }
}

async fn until(what: &str, mut is_so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if is_so()? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(io::Error::other(format!("{what}: not within {} s", PATIENCE.as_secs())))
}

pub(crate) fn definition(family: &str) -> Value {
    json!({"family": family, "networkMode": "host", "requiresCompatibilities": ["EC2"], "containerDefinitions": [{
        "name": "main", "image": format!("{NETWORK}.1:{PORT}/{family}:1"), "memory": 16, "command": ["/bin/sleep", "600"]}]})
}

/// What 500 MB take to come to four hosts: with layers taken from other hosts, and each plainly from the registry.
pub(crate) async fn image_to_hosts(world: &World, report: &mut Report) -> io::Result<()> {
    let root = world.folder.path().join("rootfs");
    let mut told = Vec::new();
    for agent in [&[][..], &["--share-layers", "no"]] {
        let clusters: Vec<String> = (0..HOSTS).map(|at| format!("host{at}")).collect();
        let fleet = Fleet::start(world, &clusters, agent).await?;
        let mut seen = Vec::new();
        for (family, is_at_once) in [("turns", false), ("together", true)] {
            load_large(&fleet, family, &root)?;
            let (before, begun) = (fleet.sent_bytes()?, Instant::now());
            let wanted = definition(family);
            if is_at_once {
                std::thread::scope(|scope| {
                    let all: Vec<_> = clusters
                        .iter()
                        .map(|cluster| scope.spawn(|| fleet.run_task(family, cluster, &wanted)))
                        .collect();
                    all.into_iter().try_for_each(|each| {
                        each.join().unwrap_or_else(|_| Err(io::Error::other("a run ended early")))
                    })
                })?;
            } else {
                clusters.iter().try_for_each(|cluster| fleet.run_task(family, cluster, &wanted))?;
            }
            let (took, sent) = (begun.elapsed().as_secs_f64(), fleet.sent_bytes()? - before);
            seen.push(format!("{took:.1} s, {} MB from the region", sent / 1_000_000));
        }
        told.push(seen);
    }
    for (at, how) in ["one after the other", "all at once"].into_iter().enumerate() {
        let what = format!("a 500 MB image to {HOSTS} hosts, {how}");
        report.add(what, "–", told[0][at].clone(), format!("four plain pulls: {}", told[1][at]));
    }
    Ok(())
}

/// Loads an image of five layers that cannot be made smaller.
fn load_large(fleet: &Fleet, family: &str, root: &Path) -> io::Result<()> {
    let large = fleet.folder.join("large");
    let mut layers = vec![root.to_owned()];
    for layer in 0..LAYERS {
        let folder = large.join(layer.to_string());
        std::fs::create_dir_all(&folder)?;
        let mut file = std::fs::File::create(folder.join(format!("data{layer}")))?;
        let noise = std::fs::File::open("/dev/urandom")?;
        io::copy(&mut io::Read::take(noise, LAYER_BYTES), &mut file)?;
        layers.push(folder);
    }
    fleet.load(family, &layers)?;
    std::fs::remove_dir_all(&large)
}
