//! A Docker Engine of the test's own, with directories and a network namespace that nobody else has.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What [`Engine::start`] makes of the layer.
pub(crate) const IMAGE: &str = "box:1";
const PAUSE: Duration = Duration::from_millis(50);
const PAUSES_MAX: u32 = 1_200;

/// Ends with the test.
pub(crate) struct Engine {
    dir: tempfile::TempDir,
    process: Child,
}

impl Engine {
    /// `None` where there is no such program.
    pub(crate) fn start(layer: &Path) -> Option<Self> {
        let program = ["/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd"];
        let program = program.map(PathBuf::from).into_iter().find(|path| path.exists())?;
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let log = fs::File::create(at("log")).unwrap();
        // It leaves the machine's own rules and settings alone.
        let quiet =
            ["--iptables=false", "--ip6tables=false", "--ip-forward=false", "--ip-masq=false"];
        let process = Command::new(program)
            .args(quiet)
            .arg("--bridge=none")
            .arg("--data-root")
            .arg(at("data"))
            .arg("--exec-root")
            .arg(at("exec"))
            .arg("--pidfile")
            .arg(at("pid"))
            .arg(format!("--host=unix://{}", at("socket").display()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self { dir, process };
        for _ in 0..PAUSES_MAX {
            if engine.socket().exists() && ask(&engine.socket(), "GET /_ping", &[]).ends_with("OK")
            {
                engine.import(layer);
                return Some(engine);
            }
            thread::sleep(PAUSE);
        }
        panic!(
            "dockerd does not start: {}",
            fs::read_to_string(engine.dir.path().join("log")).unwrap()
        );
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    fn import(&self, layer: &Path) {
        let tar = Command::new("tar").arg("-C").arg(layer).args(["-c", "."]).output().unwrap();
        assert!(tar.status.success());
        let (name, tag) = IMAGE.split_once(':').unwrap();
        let request = format!("POST /images/create?fromSrc=-&repo={name}&tag={tag}");
        let said = ask(&self.socket(), &request, &tar.stdout);
        assert!(said.contains("sha256:"), "{said}");
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.process.wait();
        // What it mounted below its directories stays, and keeps them.
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let own = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for path in own.filter(|path| Path::new(path).starts_with(self.dir.path())) {
            let _ = umount2(Path::new(path), MntFlags::MNT_DETACH);
        }
    }
}

/// Containers and volumes that are there.
pub(crate) fn left(socket: &Path) -> Vec<String> {
    let containers = ask(socket, "GET /containers/json?all=1", &[]);
    let volumes = ask(socket, "GET /volumes", &[]);
    let is_left = |text: &str| text.contains("longshore-");
    [containers, volumes].into_iter().filter(|text| is_left(text)).collect()
}

pub(crate) fn remove_network(socket: &Path, name: &str) {
    let said = ask(socket, &format!("DELETE /networks/{name}"), &[]);
    assert!(said.starts_with("HTTP/1.0 204") || said.starts_with("HTTP/1.1 204"), "{said}");
}

/// The whole answer to one request.
fn ask(socket: &Path, request: &str, body: &[u8]) -> String {
    let answer = || -> std::io::Result<String> {
        let mut stream = UnixStream::connect(socket)?;
        let head = format!(
            "{request} HTTP/1.0\r\nHost: docker\r\nContent-Type: application/x-tar\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    answer().unwrap_or_default()
}
