//! What stands beside our figures in the same run: Docker Engine, runc, docker-registry from Debian.

use std::fs;
use std::io::{self, Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::engine::Engine;
use crate::report::spread;
use crate::world::World;

/// `docker run -d` of the same command, one after the other.
pub(crate) async fn docker_run(world: &World) -> io::Result<String> {
    let mut engine = Engine::start(world.folder.path().join("docker")).await?;
    let measured = docker_runs(world, &engine);
    engine.stop().await;
    measured
}

fn docker_runs(world: &World, engine: &Engine) -> io::Result<String> {
    let archive = world.folder.path().join("bench.tar");
    engine.docker(&["load", "-i", &archive.to_string_lossy()])?;
    let mut seconds = Vec::new();
    let mut names = Vec::new();
    for serial in 0..21 {
        let name = format!("b{serial}");
        let begun = Instant::now();
        engine.docker(&[
            "run",
            "-d",
            "--name",
            &name,
            "-m",
            "512m",
            "bench:1",
            "/bin/sleep",
            "300",
        ])?;
        if serial > 0 {
            seconds.push(begun.elapsed().as_secs_f64());
        }
        names.push(name);
    }
    let mut remove = vec!["rm", "-f"];
    remove.extend(names.iter().map(String::as_str));
    engine.docker(&remove)?;
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
    run(Command::new("runc").args(["run", "-d", "--bundle"]).arg(&bundle).arg(name))
}

fn runc_remove(count: usize) -> io::Result<()> {
    for serial in 0..count {
        run(Command::new("runc").args(["delete", "-f", &format!("bench{serial}")]))?;
    }
    Ok(())
}

/// Runs a command to its end; a missing program reads "absent", a failure its standard error.
pub(crate) fn run(command: &mut Command) -> io::Result<()> {
    // Detached containers would keep a pipe open: files instead.
    finish(command.stdout(Stdio::null()))
}

/// What a command prints to its standard output.
pub(crate) fn output(command: &mut Command) -> io::Result<String> {
    let mut printed = tempfile::tempfile()?;
    finish(command.stdout(printed.try_clone()?))?;
    contents(&mut printed)
}

fn finish(command: &mut Command) -> io::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut errors = tempfile::tempfile()?;
    match command.stdin(Stdio::null()).stderr(errors.try_clone()?).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(io::Error::other(format!("{program}: {}", contents(&mut errors)?.trim()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::other(format!("absent: {program}")))
        }
        Err(error) => Err(error),
    }
}

fn contents(file: &mut fs::File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Packs folders as `docker save` would the layers of an image, with tar from the system.
pub(crate) fn docker_save(
    layers: &[PathBuf],
    archive: &Path,
    tag: &str,
    entry_point: &[&str],
) -> io::Result<()> {
    let folder = tempfile::tempdir()?;
    let (mut names, mut digests) = (Vec::new(), Vec::new());
    for (at, root) in layers.iter().enumerate() {
        let name = format!("layer{at}.tar");
        let layer = folder.path().join(&name);
        run(Command::new("tar")
            .args(["--numeric-owner", "--owner=0", "--group=0", "-cf"])
            .arg(&layer)
            .arg("-C")
            .arg(root)
            .arg("."))?;
        digests.push(format!("sha256:{}", hex::encode(Sha256::digest(fs::read(&layer)?))));
        names.push(name);
    }
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin"], "Entrypoint": entry_point},
        "rootfs": {"type": "layers", "diff_ids": digests}});
    fs::write(folder.path().join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]);
    fs::write(folder.path().join("manifest.json"), manifest.to_string())?;
    run(Command::new("tar")
        .arg("-cf")
        .arg(archive)
        .arg("-C")
        .arg(folder.path())
        .args(["manifest.json", "config.json"])
        .args(&names))
}
