//! A place for containers: a root of busybox, a control group, and a check that all of it is gone.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sandbox::{
    ContainerId, ContainerSpec, ExecSpec, Exit, GroupId, GroupLimits, LogItem, LogSink,
    NamedRuntime, Position, Rootfs, SandboxConfig, Sandboxes, Stream,
};
use tokio::time::Instant;

/// Whatever should happen soon must have happened by then.
pub(crate) const SOON: Duration = Duration::from_secs(20);

static WORLDS: AtomicU32 = AtomicU32::new(0);

/// The image that every test's containers share: busybox under all its names.
static LAYER: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("longshore-layer-{}", std::process::id()));
    fs::create_dir_all(dir.join("bin")).unwrap();
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|p| Path::new(p).exists());
    let busybox = busybox.expect("busybox-static is installed for these tests");
    fs::copy(busybox, dir.join("bin/busybox")).unwrap();
    let list = std::process::Command::new(busybox).arg("--list").output().unwrap();
    for name in String::from_utf8(list.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        let _ = symlink("busybox", dir.join("bin").join(name));
    }
    for name in ["etc", "proc", "sys", "dev", "tmp", "root"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/home/web:/bin/sh\n";
    fs::write(dir.join("etc/passwd"), passwd).unwrap();
    fs::write(dir.join("etc/group"), "root:x:0:\nweb:x:102:\naudio:x:29:web\n").unwrap();
    dir
});

/// Says why if these tests cannot run here.
pub(crate) fn can_run() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    let has_busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().any(|p| Path::new(p).exists());
    if !is_root {
        eprintln!("skipped: containers need root");
    } else if !has_busybox {
        eprintln!("skipped: there is no busybox (Debian: busybox-static)");
    }
    is_root && has_busybox
}

pub(crate) struct World {
    pub(crate) sandboxes: Sandboxes,
    pub(crate) group: GroupId,
    pub(crate) tag: String,
    pub(crate) dir: tempfile::TempDir,
    next: AtomicU32,
}

impl World {
    pub(crate) fn open() -> Option<Self> {
        can_run().then(|| {
            let number = WORLDS.fetch_add(1, Ordering::SeqCst);
            let tag = format!("test-{}-{number}", std::process::id());
            let dir = tempfile::tempdir().unwrap();
            let sandboxes = Sandboxes::open(config(dir.path(), &tag)).unwrap();
            Self { sandboxes, group: "task".parse().unwrap(), tag, dir, next: AtomicU32::new(0) }
        })
    }

    /// As a new agent sees it.
    pub(crate) fn reopen(&mut self) {
        self.sandboxes = Sandboxes::open(config(self.dir.path(), &self.tag)).unwrap();
    }

    /// As an agent sees it after the machine has started anew.
    pub(crate) fn reopen_after_reboot(&mut self) {
        let config = config(self.dir.path(), &self.tag);
        let config = SandboxConfig { boot_id: "another one".into(), ..config };
        self.sandboxes = Sandboxes::open(config).unwrap();
    }

    pub(crate) async fn limit(&self, limits: GroupLimits) {
        self.sandboxes.create_group(&self.group, limits).await.unwrap();
    }

    /// A container that runs `script` in a shell.
    pub(crate) fn shell(&self, script: &str) -> ContainerSpec {
        self.spec(&["/bin/sh", "-c", script])
    }

    pub(crate) fn spec(&self, args: &[&str]) -> ContainerSpec {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let id: ContainerId = format!("c{number}").parse().unwrap();
        let scratch = self.dir.path().join("scratch").join(id.as_str());
        let rootfs = Rootfs { lower: vec![LAYER.clone()], scratch, readonly: false };
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let mut spec = ContainerSpec::new(id.clone(), self.group.clone(), rootfs, args);
        spec.log = LogSink::Spool {
            dir: self.spool(&id),
            segment_bytes_max: 1 << 20,
            total_bytes_max: 8 << 20,
        };
        spec
    }

    pub(crate) fn spool(&self, id: &ContainerId) -> PathBuf {
        self.dir.path().join("spool").join(id.as_str())
    }

    pub(crate) async fn start(&self, spec: ContainerSpec) -> ContainerId {
        let id = spec.id.clone();
        self.sandboxes.create(spec).await.unwrap_or_else(|error| panic!("create: {error}"));
        self.sandboxes.start(&id).await.unwrap_or_else(|error| panic!("start: {error}"));
        id
    }

    pub(crate) async fn wait(&self, id: &ContainerId) -> Exit {
        let waited = tokio::time::timeout(SOON, self.sandboxes.wait(id)).await;
        waited.unwrap_or_else(|_| panic!("{id} did not end")).unwrap()
    }

    /// Runs to the end: how it ended, and what it printed.
    pub(crate) async fn run(&self, spec: ContainerSpec) -> (Exit, String) {
        let id = self.start(spec).await;
        let exit = self.wait(&id).await;
        let printed = self.printed(&id).await;
        self.sandboxes.delete(&id).await.unwrap();
        (exit, printed)
    }

    /// What it printed on both streams until its end.
    pub(crate) async fn printed(&self, id: &ContainerId) -> String {
        let lines = self.lines(id).await;
        lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
    }

    pub(crate) async fn lines(&self, id: &ContainerId) -> Vec<(Stream, String)> {
        let mut reader = self.sandboxes.logs(&self.spool(id), Position::default()).unwrap();
        let mut lines = Vec::new();
        let mut half = String::new();
        loop {
            let next = tokio::time::timeout(SOON, reader.next()).await;
            match next.unwrap_or_else(|_| panic!("the output of {id} does not end")).unwrap() {
                LogItem::Record(record) => {
                    half.push_str(&String::from_utf8_lossy(&record.bytes));
                    if !record.partial {
                        lines.push((record.stream, std::mem::take(&mut half)));
                    }
                }
                LogItem::Dropped { .. } => {}
                LogItem::End => {
                    if !half.is_empty() {
                        lines.push((Stream::Stdout, half));
                    }
                    return lines;
                }
            }
        }
    }

    pub(crate) async fn exec(&self, id: &ContainerId, script: &str) -> (i32, String) {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let result = self.sandboxes.exec(id, ExecSpec::new(argv, 10_000)).await.unwrap();
        (result.exit_code, String::from_utf8(result.output).unwrap().trim_end().to_owned())
    }

    /// Removes the group and finds that nothing of this world is left.
    pub(crate) async fn close(self) {
        self.sandboxes.remove_group(&self.group).await.unwrap();
        assert_eq!(self.sandboxes.recover().await.unwrap(), [], "left behind");
        let Self { sandboxes, dir, tag, .. } = self;
        drop(sandboxes);
        let deadline = Instant::now() + SOON;
        while !leftovers(dir.path(), &tag).is_empty() {
            let left = leftovers(dir.path(), &tag);
            assert!(Instant::now() < deadline, "left behind: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for dir in cgroup_dirs(&tag) {
            // A spare shim that was just being started leaves its groups one after the other.
            loop {
                let _ = fs::remove_dir(dir.join(".shims"));
                match fs::remove_dir(&dir) {
                    Ok(()) => break,
                    Err(error) => {
                        assert!(Instant::now() < deadline, "{}: {error}", dir.display());
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        }
    }
}

/// Mounts, directories, groups, processes and complaints that are of this world.
fn leftovers(dir: &Path, tag: &str) -> Vec<String> {
    let here = dir.display().to_string();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut found: Vec<String> =
        mounts.lines().filter(|line| line.contains(&here)).map(str::to_owned).collect();
    for part in ["scratch", "spool", "state", "run"] {
        for entry in fs::read_dir(dir.join(part)).into_iter().flatten().flatten() {
            if !["shims.log", "boot-id"].iter().any(|name| entry.file_name() == *name) {
                found.push(entry.path().display().to_string());
            }
        }
    }
    let log = fs::read_to_string(dir.join("state/shims.log")).unwrap_or_default();
    found.extend(log.lines().map(str::to_owned));
    for dir in cgroup_dirs(tag) {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir && entry.file_name() != ".shims" {
                found.push(entry.path().display().to_string());
            }
        }
        let procs = fs::read_to_string(dir.join(".shims/cgroup.procs")).unwrap_or_default();
        found.extend(procs.lines().map(|pid| format!("process {pid}")));
    }
    found
}

pub(crate) fn config(dir: &Path, tag: &str) -> SandboxConfig {
    SandboxConfig {
        run_dir: dir.join("run"),
        state_dir: dir.join("state"),
        cgroup_parent: PathBuf::from("/longshore").join(tag),
        shim_command: vec![env!("CARGO_BIN_EXE_longshore-shim").into()],
        pool_size: 1,
        boot_id: "this one".into(),
        runtime: runtime(),
        steps: longshore_types::Steps::default(),
    }
}

/// What makes the containers of these tests: `LONGSHORE_TEST_RUNTIME=/usr/sbin/runc`, or nothing for libcontainer.
#[expect(clippy::disallowed_methods, reason = "told by whoever runs the tests")]
pub(crate) fn runtime() -> Option<NamedRuntime> {
    let path = PathBuf::from(std::env::var_os("LONGSHORE_TEST_RUNTIME")?);
    let name = path.file_name().unwrap().to_str().unwrap().to_owned();
    Some(NamedRuntime { name, path })
}

/// The directories of `tag` in every hierarchy.
pub(crate) fn cgroup_dirs(tag: &str) -> Vec<PathBuf> {
    let own = PathBuf::from("longshore").join(tag);
    let roots = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let roots = roots.chain([PathBuf::from("/sys/fs/cgroup")]);
    roots.map(|root| root.join(&own)).filter(|dir| dir.is_dir()).collect()
}
