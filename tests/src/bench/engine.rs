//! A Docker Engine of the bench's own, in a network namespace so that the host's rules stay as they are.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use crate::peers::{output, run};

/// A running `dockerd`; [`Engine::stop`] ends it and what it left.
#[derive(Debug)]
pub(crate) struct Engine {
    folder: PathBuf,
    /// The machine's own without one.
    namespace: Option<String>,
    daemon: Child,
}

impl Engine {
    /// Starts it and waits until it answers; an error says why there is none.
    pub(crate) async fn start(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let namespace = format!("lsbench{}{}", std::process::id(), name.unwrap_or_default());
        run(Command::new("ip").args(["netns", "add", &namespace]))?;
        let daemon = match dockerd(&folder, Some(&namespace)) {
            Ok(daemon) => daemon,
            Err(why) => {
                let _ = Command::new("ip").args(["netns", "delete", &namespace]).status();
                return Err(why);
            }
        };
        let inside = format!("--net=/var/run/netns/{namespace}");
        let engine = Self { folder, namespace: Some(namespace), daemon };
        let up = run(Command::new("nsenter").args([&inside, "ip", "link", "set", "lo", "up"]));
        engine.once_ready(up).await
    }

    /// One in the machine's network, of which it changes nothing.
    pub(crate) async fn start_here(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        let daemon = dockerd(&folder, None)?;
        Self { folder, namespace: None, daemon }.once_ready(Ok(())).await
    }

    async fn once_ready(mut self, begun: io::Result<()>) -> io::Result<Self> {
        let outcome = match begun {
            Ok(()) => self.wait_ready().await,
            Err(why) => Err(why),
        };
        if outcome.is_err() {
            self.stop().await;
        }
        outcome.map(|()| self)
    }

    async fn wait_ready(&self) -> io::Result<()> {
        let end = Instant::now() + Duration::from_secs(30);
        while self.docker(&["version"]).is_err() {
            if end < Instant::now() {
                return Err(io::Error::other("absent: dockerd did not start"));
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join("sock")
    }

    /// One command of Docker's command line, to its end.
    pub(crate) fn docker(&self, words: &[&str]) -> io::Result<()> {
        run(&mut self.command(words))
    }

    /// What such a command prints.
    pub(crate) fn docker_says(&self, words: &[&str]) -> io::Result<String> {
        output(&mut self.command(words))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).args(words);
        command
    }

    /// Asks the engine's API itself, which costs less than a command.
    pub(crate) async fn get(&self, path: &str) -> io::Result<Value> {
        let mut stream = UnixStream::connect(self.socket()).await?;
        let request = format!("GET {path} HTTP/1.0\r\nhost: engine\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        let body = body.ok_or_else(|| io::Error::other("the engine's answer has no end"))?;
        Ok(serde_json::from_slice(&answer[body..])?)
    }

    /// Ends the daemon by its own id, and its containers with it.
    pub(crate) async fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        for _ in 0..300 {
            if !matches!(self.daemon.try_wait(), Ok(None)) {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
        if let Some(namespace) = &self.namespace {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
        }
    }
}

/// What keeps an engine from the machine's rules.
const APART: [&str; 5] = [
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--ip-masq=false",
];

fn dockerd(folder: &Path, namespace: Option<&str>) -> io::Result<Child> {
    let log = fs::File::create(folder.join("log"))?;
    let mut command = match namespace {
        Some(namespace) => {
            // Not `ip netns exec`, which hides the control groups.
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/var/run/netns/{namespace}")).arg("dockerd");
            command
        }
        None => {
            let mut command = Command::new("dockerd");
            command.args(APART);
            command
        }
    };
    command
        .arg("--data-root")
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
