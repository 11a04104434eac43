//! One task, the agents that serve it one after the other, and what must be left of them.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use crate::child::Given;
use crate::docker;
use crate::region::Region;

const PAUSE: Duration = Duration::from_millis(5);
/// Pauses within which anything that shall happen has happened.
const PAUSES_MAX: u32 = 24_000;
const ARN: &str = "arn:aws:ecs:eu-north-1:000000000000:task/demo/00112233445566778899aabbccddeeff";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// With an interface of its own.
    EndsByItself,
    /// In bridge mode, with a port of the host.
    IsStopped,
    /// The same two, both in bridge mode, by a Docker Engine.
    EndsByItselfInDocker,
    IsStoppedInDocker,
}

impl Kind {
    pub(crate) fn is_docker(self) -> bool {
        match self {
            Self::EndsByItself | Self::IsStopped => false,
            Self::EndsByItselfInDocker | Self::IsStoppedInDocker => true,
        }
    }

    fn is_stopped(self) -> bool {
        match self {
            Self::EndsByItself | Self::EndsByItselfInDocker => false,
            Self::IsStopped | Self::IsStoppedInDocker => true,
        }
    }

    fn script(self) -> &'static str {
        match self {
            Self::EndsByItself | Self::EndsByItselfInDocker => {
                "echo begun >> /out/ran; echo one; sleep 0.1; echo two; echo ended >> /out/ran; exit 7"
            }
            Self::IsStopped | Self::IsStoppedInDocker => {
                // Stopped once it has said everything, and no line is cut off.
                "trap 'echo ended >> /out/ran; exit 7' TERM; echo begun >> /out/ran; echo one; \
                 echo two; echo all > /out/said; while :; do sleep 0.02; done"
            }
        }
    }

    fn task(self, out: &Path) -> Value {
        let options = json!({ "awslogs-group": "g", "awslogs-stream-prefix": "s" });
        let log = json!({ "LogConfig": { "Type": "awslogs", "Config": options } });
        let mut task = json!({
            "arn": ARN, "family": "crash", "version": "1", "desiredStatus": "RUNNING",
            "volumes": [{ "name": "out", "type": "host", "host": { "sourcePath": out } }],
            "containers": [{
                "name": "main", "image": "box", "essential": true,
                "command": ["sh", "-c", self.script()],
                "mountPoints": [{ "sourceVolume": "out", "containerPath": "/out" }],
                "dockerConfig": { "hostConfig": log.to_string() },
            }],
        });
        match self {
            Self::EndsByItself => {
                task["networkMode"] = "awsvpc".into();
                task["elasticNetworkInterfaces"] = json!([{
                    "ec2Id": "eni-0123456789abcdef0", "macAddress": "0a:00:00:00:00:01",
                    "ipv4Addresses": [{ "privateAddress": "172.31.0.9", "primary": true }],
                    "subnetGatewayIpv4Address": "172.31.0.1/20",
                }]);
            }
            Self::IsStopped | Self::EndsByItselfInDocker | Self::IsStoppedInDocker => {
                task["networkMode"] = "bridge".into();
                task["containers"][0]["portMappings"] =
                    json!([{ "containerPort": 80, "hostPort": 8080 }]);
            }
        }
        task
    }
}

/// An image of busybox.
pub(crate) fn layer(busybox: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "out"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    fs::copy(busybox, dir.path().join("bin/busybox")).unwrap();
    for name in ["sh", "sleep", "echo"] {
        symlink("busybox", dir.path().join("bin").join(name)).unwrap();
    }
    dir
}

/// In the calling thread's network namespace.
pub(crate) fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let done = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

pub(crate) struct World {
    kind: Kind,
    tag: String,
    dir: tempfile::TempDir,
    region: Region,
    docker: Option<PathBuf>,
}

impl World {
    pub(crate) fn new(kind: Kind, lane: u64, layer: &Path, docker: Option<&Path>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let number = lane * 4 + u64::from(kind.is_docker()) * 2 + u64::from(kind.is_stopped());
        let tag = format!("{:07x}{number:x}", std::process::id());
        for name in ["out", "run", "state"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let region = Region::start();
        let given = Given {
            tag: tag.clone(),
            endpoint: format!("http://{}", region.address),
            layer: layer.to_owned(),
            task: kind.task(&dir.path().join("out")),
            docker: docker.map(Path::to_owned),
        };
        fs::write(dir.path().join("given.json"), serde_json::to_vec(&given).unwrap()).unwrap();
        Self { kind, tag, dir, region, docker: docker.map(Path::to_owned) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// One agent's life; true if it was killed.
    pub(crate) fn live(&self, dies_at: u64) -> bool {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        let mut agent = Command::new(std::env::current_exe().unwrap())
            .arg("agent")
            .args([self.dir.path().as_os_str(), dies_at.to_string().as_ref()])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        for _ in 0..PAUSES_MAX {
            if let Some(status) = agent.try_wait().unwrap() {
                let is_killed = status.signal() == Some(9);
                assert!(is_killed || status.success(), "{status}: {}", self.tell(dies_at));
                return is_killed;
            }
            if self.kind.is_stopped() && self.path("out/said").exists() {
                fs::write(self.path("stop"), "").unwrap();
            }
            thread::sleep(PAUSE);
        }
        end(&mut agent);
        panic!("the agent does not end: {}", self.tell(dies_at));
    }

    fn tell(&self, dies_at: u64) -> String {
        format!(
            "{:?}, killed at step {dies_at}: {}log: {}\nran: {:?}\ntold: {:#?}\nfiles: {}",
            self.kind,
            self.read("deaths"),
            self.read("log"),
            self.read("out/ran"),
            self.region.heard(|heard| (heard.events.clone(), heard.lines.clone())),
            run(&format!("find {}/state -type f", self.dir.path().display())),
        )
    }

    /// It ran once and wholly, and that is what the region knows.
    pub(crate) fn check(&self, dies_at: u64) {
        assert_eq!(self.read("out/ran"), "begun\nended\n", "{}", self.tell(dies_at));
        let (mut events, lines) =
            self.region.heard(|heard| (heard.events.clone(), heard.lines.clone()));
        assert_eq!(lines, ["one", "two"], "{}", self.tell(dies_at));
        // An event whose acceptance an agent did not live to note comes once more, as it was.
        events.dedup();
        let status = |event: &Value| event["status"].as_str().unwrap_or_default().to_owned();
        let mut statuses: Vec<String> = events.iter().map(status).collect();
        // Where its task takes long to follow, a container's end is news by itself, of a RUNNING task.
        statuses.dedup();
        let end = statuses.iter().position(|status| status == "RUNNING");
        let end = end.unwrap_or_else(|| panic!("never RUNNING: {}", self.tell(dies_at)));
        assert_eq!(statuses[end..], ["RUNNING", "STOPPED"], "{}", self.tell(dies_at));
        let containers =
            |event: &Value| event["containers"].as_array().cloned().unwrap_or_default();
        let changes: Vec<Value> = events.iter().flat_map(containers).collect();
        let ends = changes.iter().filter(|change| change["status"] == "STOPPED").count();
        assert_eq!(ends, 1, "{}", self.tell(dies_at));
        let container = changes.last().unwrap();
        assert_eq!(container["exitCode"], 7, "{}", self.tell(dies_at));
        assert_eq!(container["reason"].as_str(), None, "{}", self.tell(dies_at));
    }

    /// Nothing of the task is left, and then nothing of the world.
    pub(crate) fn close(self, dies_at: u64) {
        let mut left = self.left();
        for _ in 0..PAUSES_MAX {
            if left.is_empty() {
                break;
            }
            thread::sleep(PAUSE);
            left = self.left();
        }
        assert!(left.is_empty(), "left: {left:?}: {}", self.tell(dies_at));
        match &self.docker {
            // The network has the range that the next world's is to have.
            Some(socket) => docker::remove_network(socket, &format!("longshore-{}", self.tag)),
            None => umount2(&self.path("run/netns"), MntFlags::MNT_DETACH).unwrap(),
        }
        for dir in self.cgroups() {
            let _ = fs::remove_dir(dir.join(".shims"));
            fs::remove_dir(&dir).unwrap();
        }
    }

    fn left(&self) -> Vec<String> {
        let names = |dir: &str| {
            let entries = fs::read_dir(self.path(dir)).into_iter().flatten().flatten();
            entries.map(|entry| entry.path().display().to_string()).collect::<Vec<_>>()
        };
        let dirs = ["tasks", "spool", "containers", "volumes", "sandboxes"];
        let mut left: Vec<String> =
            dirs.iter().flat_map(|dir| names(&format!("state/{dir}"))).collect();
        left.retain(|name| !name.ends_with("/shims.log") && !name.ends_with("/boot-id"));
        for dir in ["run/shims", "run/endpoints", "run/netns"] {
            left.extend(names(dir));
        }
        for group in self.cgroups() {
            let inside = fs::read_dir(&group).into_iter().flatten().flatten();
            let groups = inside.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            let groups = groups.filter(|entry| entry.file_name() != ".shims");
            left.extend(groups.map(|entry| entry.path().display().to_string()));
            let shims = fs::read_to_string(group.join(".shims/cgroup.procs")).unwrap_or_default();
            left.extend(shims.lines().map(|pid| format!("process {pid}")));
        }
        if let Some(socket) = &self.docker {
            left.extend(docker::left(socket));
            return left;
        }
        let links = run("ip -o link");
        let is_ours = |line: &&str| line.contains(&format!("ls{}", self.tag));
        left.extend(links.lines().filter(is_ours).map(str::to_owned));
        left
    }

    fn cgroups(&self) -> Vec<PathBuf> {
        let own = PathBuf::from("longshore").join(&self.tag);
        let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
        let roots = roots.chain([PathBuf::from("/sys/fs/cgroup")]);
        roots.map(|root| root.join(&own)).filter(|dir| dir.is_dir()).collect()
    }
}

fn end(agent: &mut Child) {
    let _ = agent.kill();
    let _ = agent.wait();
}
