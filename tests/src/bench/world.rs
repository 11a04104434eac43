//! The region under measurement, in a temporary directory, and what the kernel says of its processes.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::{Connection, Target};
use crate::report::Report;

/// Of a container: small enough that all of a burst find room by what they ask for, as Fargate's smallest tasks would not.
pub(crate) const MEMORY_MIB: u32 = 64;

/// A region of the bench's own, and a busybox image in its registry.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) binary: String,
    pub(crate) hello: String,
    pub(crate) target: Target,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) subnet: String,
    pub(crate) image: String,
    supervisor: Child,
    ready: Duration,
}

/// What the figures were seen under, for the head of the table.
pub(crate) fn conditions() -> Vec<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = read("/proc/sys/kernel/osrelease").trim().to_owned();
    let memory = read("/proc/meminfo");
    let total = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let gib = total.and_then(|text| text.parse::<u64>().ok()).unwrap_or(0) >> 20;
    let cgroups = if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { "v2" } else { "v1" };
    vec![format!(
        "{cores} cores, {gib} GiB, Linux {kernel}, cgroup {cgroups}; load generator on the same machine"
    )]
}

impl World {
    pub(crate) async fn start(binary: &str, hello: &str) -> io::Result<Self> {
        Self::start_with(binary, hello, &[]).await
    }

    /// With more words for `longshore up`.
    pub(crate) async fn start_with(binary: &str, hello: &str, more: &[&str]) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("lsbench").tempdir()?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let host = format!("127.0.0.1:{port}");
        let log = std::fs::File::create(folder.path().join("up.log"))?;
        let begun = Instant::now();
        let supervisor = Command::new(binary)
            .args([
                "up",
                "--listen",
                &host,
                "--region",
                "us-east-1",
                "--cluster",
                "bench",
                "--data-dir",
            ])
            .arg(data_dir(&folder))
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        wait_healthy(&host).await?;
        let ready = begun.elapsed();
        let target = target(binary, &folder, &host)?;
        let mut world = Self {
            binary: binary.to_owned(),
            hello: hello.to_owned(),
            image: format!("{host}/bench:1"),
            target,
            folder,
            subnet: String::new(),
            supervisor,
            ready,
        };
        world.load_busybox()?;
        world.load_hello(Path::new(hello))?;
        world.subnet = world.find_subnet().await?;
        let mut connection = Connection::open(&world.target).await?;
        connection.ecs("CreateCluster", &json!({"clusterName": "bench"})).await?;
        world.wait_for_agent(&mut connection).await?;
        Ok(world)
    }

    /// Stops tasks, agent and region.
    pub(crate) async fn stop(&mut self) {
        let down = Command::new(&self.binary)
            .arg("down")
            .arg("--data-dir")
            .arg(data_dir(&self.folder))
            .status();
        if !down.is_ok_and(|status| status.success()) {
            let _ = self.supervisor.kill();
        }
        for _ in 0..300 {
            if self.supervisor.try_wait().ok().flatten().is_some() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }

    pub(crate) fn report_ready(&self, report: &mut Report) {
        let ms = self.ready.as_secs_f64() * 1e3;
        report.add(
            "`longshore up` to the first 200 of /health, first start",
            "< 300 ms",
            format!("{ms:.0} ms"),
            "–".into(),
        );
    }

    /// Memory and CPU of region and agent together while nothing happens.
    pub(crate) async fn report_idle(&self, report: &mut Report) -> io::Result<()> {
        const SECONDS: u32 = 20;
        sleep(Duration::from_secs(3)).await;
        let (_, before) = self.usage();
        sleep(Duration::from_secs(u64::from(SECONDS))).await;
        let (resident_kib, after) = self.usage();
        let share = (after - before) / f64::from(SECONDS) * 100.0;
        let text =
            format!("{:.1} MB resident, {share:.2} % of a core", resident_kib * 1024.0 / 1e6);
        report.add(
            "idle region + agent (supervisor and shims included)",
            "≤ 60 MB, < 0.5 %",
            text,
            "–".into(),
        );
        Ok(())
    }

    /// Resident KiB and CPU seconds of the supervisor and everything below it.
    fn usage(&self) -> (f64, f64) {
        let mut sum = (0.0, 0.0);
        for pid in family(self.supervisor.id(), &self.folder) {
            let kib = proportional_kib(pid);
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<&str> =
                stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
            let ticks =
                |at: usize| fields.get(at).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
            sum.0 += kib;
            sum.1 += (ticks(11) + ticks(12)) / 100.0;
        }
        sum
    }

    /// Makes an image of Debian's static busybox and loads it as users do.
    fn load_busybox(&self) -> io::Result<()> {
        let root = self.folder.path().join("rootfs");
        std::fs::create_dir_all(root.join("bin"))?;
        for name in ["tmp", "etc", "proc", "sys", "dev"] {
            std::fs::create_dir_all(root.join(name))?;
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox"))?;
        for applet in ["sh", "sleep", "true"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
        }
        self.load(&root, "bench", &[])
    }

    /// The same of the sample.
    fn load_hello(&self, hello: &Path) -> io::Result<()> {
        let root = self.folder.path().join("hello");
        std::fs::create_dir_all(&root)?;
        std::fs::copy(hello, root.join("hello"))?;
        self.load(&root, "hello", &["/hello"])
    }

    fn load(&self, root: &Path, name: &str, entry_point: &[&str]) -> io::Result<()> {
        let archive = self.folder.path().join(format!("{name}.tar"));
        crate::peers::docker_save(&[root.to_owned()], &archive, &format!("{name}:1"), entry_point)?;
        crate::peers::run(
            Command::new(&self.binary)
                .args(["image", "load"])
                .arg(&archive)
                .arg("--data-dir")
                .arg(data_dir(&self.folder)),
        )
    }

    async fn find_subnet(&self) -> io::Result<String> {
        self.subnets().await?.pop().ok_or_else(|| io::Error::other("the region has no subnet"))
    }

    /// The default VPC's subnets.
    pub(crate) async fn subnets(&self) -> io::Result<Vec<String>> {
        self.of_subnets("subnetId").await
    }

    /// The default VPC's id.
    pub(crate) async fn vpc(&self) -> io::Result<String> {
        let mut ids = self.of_subnets("vpcId").await?;
        ids.pop().ok_or_else(|| io::Error::other("the region has no subnet"))
    }

    async fn of_subnets(&self, element: &str) -> io::Result<Vec<String>> {
        let mut connection = Connection::open(&self.target).await?;
        let answer = connection.ec2("DescribeSubnets").await?;
        let tag = format!("<{element}>");
        let after = answer.split(&tag).skip(1);
        let texts = after.filter_map(|rest| rest.split_once("</"));
        Ok(texts.map(|(text, _)| text.to_owned()).collect())
    }

    /// The supervisor's processes whose command begins with a word.
    pub(crate) fn pids_of(&self, word: &str) -> Vec<u32> {
        let is_it = |pid: &u32| {
            let command =
                std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.split('\0').nth(1) == Some(word)
        };
        family(self.supervisor.id(), &self.folder).into_iter().filter(is_it).collect()
    }

    /// A process and those below it.
    pub(crate) fn descendants(&self, pid: u32) -> Vec<u32> {
        below(pid)
    }

    /// What processes take of memory, shared pages by their share.
    pub(crate) fn resident_kib(&self, pids: &[u32]) -> f64 {
        pids.iter().map(|pid| proportional_kib(*pid)).sum()
    }

    async fn wait_for_agent(&self, connection: &mut Connection) -> io::Result<()> {
        for _ in 0..600 {
            let listed =
                connection.ecs("ListContainerInstances", &json!({"cluster": "bench"})).await;
            if listed.is_ok_and(|answer| {
                !answer["containerInstanceArns"].as_array().is_none_or(Vec::is_empty)
            }) {
                return Ok(());
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(io::Error::other("no agent registered within 30 s"))
    }

    /// Registers a definition that runs `command`; its ARN.
    pub(crate) async fn define(&self, family: &str, command: &[&str]) -> io::Result<String> {
        let mut connection = Connection::open(&self.target).await?;
        let answer = connection
            .ecs("RegisterTaskDefinition", &json!({
                "family": family, "networkMode": "awsvpc",
                "containerDefinitions": [{"name": "main", "image": self.image, "command": command, "memory": MEMORY_MIB,
                                          "stopTimeout": 2}]}))
            .await?;
        Ok(answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap_or_default().to_owned())
    }

    /// The same without a network, which every driver has.
    pub(crate) async fn define_apart(&self, family: &str, command: &[&str]) -> io::Result<String> {
        let mut connection = Connection::open(&self.target).await?;
        let answer = connection
            .ecs("RegisterTaskDefinition", &json!({
                "family": family, "networkMode": "none",
                "containerDefinitions": [{"name": "main", "image": self.image, "command": command, "memory": MEMORY_MIB,
                                          "stopTimeout": 2}]}))
            .await?;
        Ok(answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap_or_default().to_owned())
    }

    /// Registers a definition of the sample; its ARN.
    pub(crate) async fn define_hello(&self, family: &str, revision: &str) -> io::Result<String> {
        self.define_sample(family, revision, &["serve"], MEMORY_MIB).await
    }

    /// The same that keeps connections, with a thread for each, and says nothing of requests.
    pub(crate) async fn define_quiet(
        &self,
        family: &str,
        revision: &str,
        memory_mib: u32,
    ) -> io::Result<String> {
        self.define_sample(family, revision, &["serve", "quiet"], memory_mib).await
    }

    async fn define_sample(
        &self,
        family: &str,
        revision: &str,
        command: &[&str],
        memory_mib: u32,
    ) -> io::Result<String> {
        let mut connection = Connection::open(&self.target).await?;
        let image = format!("{}/hello:1", self.target.host);
        let answer = connection
            .ecs("RegisterTaskDefinition", &json!({
                "family": family, "networkMode": "awsvpc",
                "containerDefinitions": [{"name": "web", "image": image, "command": command, "memory": memory_mib,
                                          "stopTimeout": 10,
                                          "portMappings": [{"containerPort": 8080}],
                                          "environment": [{"name": "REVISION", "value": revision}]}]}))
            .await?;
        Ok(answer["taskDefinition"]["taskDefinitionArn"].as_str().unwrap_or_default().to_owned())
    }

    /// The request that runs `count` tasks of `definition`.
    pub(crate) fn run_request(&self, definition: &str, count: usize) -> Value {
        json!({"cluster": "bench", "taskDefinition": definition, "launchType": "EC2", "count": count,
               "networkConfiguration": {"awsvpcConfiguration": {"subnets": [self.subnet]}}})
    }
}

fn data_dir(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("data")
}

async fn wait_healthy(host: &str) -> io::Result<()> {
    let request = format!("GET /health HTTP/1.1\r\nhost: {host}\r\n\r\n");
    let anyone = Target {
        host: host.to_owned(),
        region: String::new(),
        access_key: String::new(),
        secret: String::new(),
    };
    for _ in 0..6000 {
        if let Ok(mut connection) = Connection::open(&anyone).await
            && matches!(connection.raw(&request, b"").await, Ok((200, _)))
        {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
    Err(io::Error::other("the region was not healthy within 30 s"))
}

/// Reads what `longshore env` prints.
fn target(binary: &str, folder: &tempfile::TempDir, host: &str) -> io::Result<Target> {
    let printed =
        Command::new(binary).arg("env").arg("--data-dir").arg(data_dir(folder)).output()?;
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    let value = |name: &str| {
        let line = printed
            .lines()
            .find_map(|line| line.strip_prefix("export ")?.strip_prefix(name)?.strip_prefix('='));
        line.map(|text| text.trim_matches(['\'', '"']).to_owned()).unwrap_or_default()
    };
    Ok(Target {
        host: host.to_owned(),
        region: value("AWS_DEFAULT_REGION"),
        access_key: value("AWS_ACCESS_KEY_ID"),
        secret: value("AWS_SECRET_ACCESS_KEY"),
    })
}

fn proportional_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let pss = status.lines().find_map(|line| line.strip_prefix("Pss:"));
    pss.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}

/// The supervisor, its descendants, and the shims that name this data directory.
fn family(root: u32, folder: &tempfile::TempDir) -> Vec<u32> {
    let needle = folder.path().to_string_lossy().into_owned();
    let own = std::process::id();
    let mut found = below(root);
    for pid in all_pids().filter(|pid| *pid != own) {
        let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if command.contains(&needle) {
            found.push(pid);
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// A process and its descendants.
fn below(root: u32) -> Vec<u32> {
    let parent_of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse::<u32>();
        fields.ok()
    };
    let parents: Vec<(u32, Option<u32>)> = all_pids().map(|pid| (pid, parent_of(pid))).collect();
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&next) = found.get(at) {
        let children = parents.iter().filter(|(pid, parent)| *parent == Some(next) && *pid != next);
        let fresh: Vec<u32> =
            children.map(|(pid, _)| *pid).filter(|pid| !found.contains(pid)).collect();
        found.extend(fresh);
        at += 1;
    }
    found
}

fn all_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
