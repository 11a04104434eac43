//! What stands beside our figures in the same run: Docker Engine, runc, docker-registry from Debian.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use crate::report::spread;
use crate::world::World;

/// `docker run -d` of the same command, in a network namespace of its own so that the host's rules stay.
pub(crate) async fn docker_run(world: &World) -> io::Result<String> {
    let folder = world.folder.path().join("docker");
    fs::create_dir_all(&folder)?;
    let namespace = format!("lsbench{}", std::process::id());
    run(Command::new("ip").args(["netns", "add", &namespace]))?;
    let mut daemon = dockerd(&folder, &namespace)?;
    let measured = docker_runs(world, &folder).await;
    // The daemon is ended by its own id, and its containers with it.
    let _ = Command::new("kill").arg(daemon.id().to_string()).status();
    for _ in 0..100 {
        if daemon.try_wait()?.is_some() {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let _ = daemon.kill();
    let _ = daemon.wait();
    let _ = Command::new("ip").args(["netns", "delete", &namespace]).status();
    measured
}

fn dockerd(folder: &Path, namespace: &str) -> io::Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    // Not `ip netns exec`, which hides the control groups.
    Command::new("nsenter")
        .arg(format!("--net=/var/run/netns/{namespace}"))
        .args(["dockerd", "--data-root"])
        .arg(folder.join("data"))
        .arg("--exec-root")
        .arg(folder.join("exec"))
        .arg("--pidfile")
        .arg(folder.join("pid"))
        .arg("-H")
        .arg(format!("unix://{}/sock", folder.display()))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

async fn docker_runs(world: &World, folder: &Path) -> io::Result<String> {
    let host = format!("unix://{}/sock", folder.display());
    let docker = |words: &[&str]| run(Command::new("docker").args(["-H", &host]).args(words));
    let end = Instant::now() + Duration::from_secs(30);
    while docker(&["version"]).is_err() {
        if end < Instant::now() {
            return Err(io::Error::other("absent: dockerd did not start"));
        }
        sleep(Duration::from_millis(200)).await;
    }
    let archive = world.folder.path().join("bench.tar");
    docker(&["load", "-i", &archive.to_string_lossy()])?;
    let mut seconds = Vec::new();
    let mut names = Vec::new();
    for serial in 0..21 {
        let name = format!("b{serial}");
        let begun = Instant::now();
        docker(&["run", "-d", "--name", &name, "-m", "512m", "bench:1", "/bin/sleep", "300"])?;
        if serial > 0 {
            seconds.push(begun.elapsed().as_secs_f64());
        }
        names.push(name);
    }
    let mut remove = vec!["rm", "-f"];
    remove.extend(names.iter().map(String::as_str));
    docker(&remove)?;
    Ok(spread(&mut seconds))
}

/// `runc run -d` of the same command, one after the other.
pub(crate) fn runc_run(world: &World, count: usize) -> io::Result<String> {
    let mut seconds = Vec::new();
    for serial in 0..count {
        let begun = Instant::now();
        runc_start(world, &format!("bench{serial}"))?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    runc_remove(count)?;
    Ok(spread(&mut seconds))
}

/// `runc run -d` from four workers at once.
pub(crate) fn runc_rate(world: &World, count: usize) -> io::Result<String> {
    const WORKERS: usize = 4;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                scope.spawn(move || {
                    (worker..count)
                        .step_by(WORKERS)
                        .try_for_each(|serial| runc_start(world, &format!("bench{serial}")))
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(io::Error::other("a worker ended early")))
        })
    })?;
    let took = begun.elapsed().as_secs_f64();
    runc_remove(count)?;
    #[expect(clippy::cast_precision_loss, reason = "a small count")]
    let rate = count as f64 / took;
    Ok(format!("`runc run -d`, 4 at once: {rate:.0}/s (no address, no image)"))
}

fn runc_start(world: &World, name: &str) -> io::Result<()> {
    let bundle = world.folder.path().join("bundles").join(name);
    fs::create_dir_all(&bundle)?;
    let rootfs = world.folder.path().join("rootfs");
    let namespaces = ["pid", "mount", "uts", "ipc", "network"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {"cwd": "/", "args": ["/bin/sleep", "300"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
                    "noNewPrivileges": true},
        "root": {"path": rootfs, "readonly": true},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}],
        "linux": {"namespaces": namespaces, "cgroupsPath": format!("/lsbench/{name}"),
                  "resources": {"memory": {"limit": 536_870_912_u64}, "cpu": {"quota": 25_000, "period": 100_000}}},
    });
    fs::write(bundle.join("config.json"), config.to_string())?;
    run(Command::new("runc").args(["run", "-d", "--bundle"]).arg(&bundle).arg(name)).map(drop)
}

fn runc_remove(count: usize) -> io::Result<()> {
    for serial in 0..count {
        run(Command::new("runc").args(["delete", "-f", &format!("bench{serial}")]))?;
    }
    Ok(())
}

/// Runs a command to its end; a missing program reads "absent", a failure its standard error.
fn run(command: &mut Command) -> io::Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    // Detached containers would keep a pipe open: files instead.
    let errors = tempfile::tempfile()?;
    let status =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?).status();
    match status {
        Ok(status) if status.success() => {
            Ok(Output { status, stdout: Vec::new(), stderr: Vec::new() })
        }
        Ok(_) => {
            use std::io::{Read, Seek};
            let (mut errors, mut text) = (errors, String::new());
            errors.rewind()?;
            errors.read_to_string(&mut text)?;
            Err(io::Error::other(format!("{program}: {}", text.trim())))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::other(format!("absent: {program}")))
        }
        Err(error) => Err(error),
    }
}

/// Packs a root file system as `docker save` would, with tar from the system.
pub(crate) fn docker_save(root: &Path, archive: &Path, tag: &str) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let layer = folder.path().join("layer.tar");
    run(Command::new("tar")
        .args(["--numeric-owner", "--owner=0", "--group=0", "-cf"])
        .arg(&layer)
        .arg("-C")
        .arg(root)
        .arg("."))?;
    let digest = hex::encode(Sha256::digest(fs::read(&layer)?));
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]}});
    fs::write(folder.path().join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"]}]);
    fs::write(folder.path().join("manifest.json"), manifest.to_string())?;
    run(Command::new("tar").arg("-cf").arg(archive).arg("-C").arg(folder.path()).args([
        "manifest.json",
        "config.json",
        "layer.tar",
    ]))
    .map(drop)
}
