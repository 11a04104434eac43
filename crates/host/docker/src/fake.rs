//! An engine of a test's own words, behind a socket as a real one is.

use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

use crate::{Docker, DockerConfig};

pub(crate) const TAG: &str = "0badcafe";

/// Ends with the test.
pub(crate) struct Fake {
    pub(crate) docker: Docker,
    asked: Arc<Mutex<Vec<String>>>,
    _served: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl Fake {
    /// `answer` makes a status and a body of `GET /images/json`: a method and a path that has no version.
    pub(crate) async fn start(
        answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let (asked, answer) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(answer));
        let log = Arc::clone(&asked);
        let mut served = JoinSet::new();
        served.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
                connections.spawn(async move { serve(stream, &log, &*answer).await });
            }
        });
        let docker = Docker::connect(config(&socket)).await.unwrap();
        Self { docker, asked, _served: served, _dir: dir }
    }

    /// What it was asked, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn config(socket: &Path) -> DockerConfig {
    DockerConfig {
        socket: socket.to_owned(),
        tag: TAG.to_owned(),
        runtime: None,
        cgroup_parent: None,
        volumes: Vec::new(),
    }
}

/// One request a connection.
async fn serve(
    stream: UnixStream,
    log: &Mutex<Vec<String>>,
    answer: &(dyn Fn(&str) -> (u16, String) + Send + Sync),
) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut line, mut length) = (String::new(), String::new(), 0);
    while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) && !line.trim().is_empty() {
        if head.is_empty() {
            head.clone_from(&line);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    if head.is_empty() || stream.read_exact(&mut body).await.is_err() {
        return;
    }
    let mut words = head.split_whitespace();
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    // `/v1.41/images/json`
    let versioned = path.strip_prefix("/v").and_then(|path| path.split_once('/'));
    let path = match versioned {
        Some((version, rest)) if version.starts_with(|first: char| first.is_ascii_digit()) => {
            format!("/{rest}")
        }
        _ => path.to_owned(),
    };
    let asked = format!("{method} {}", path.replace("%3A", ":").replace("%2F", "/"));
    let (status, text) = match asked.as_str() {
        "GET /version" => (200, r#"{"ApiVersion":"1.41"}"#.to_owned()),
        "GET /info" => (200, r#"{"ServerVersion":"20.10","CgroupDriver":"cgroupfs"}"#.to_owned()),
        asked => {
            log.lock().unwrap().push(asked.to_owned());
            answer(asked)
        }
    };
    let length = text.len();
    let answer = format!(
        "HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    );
    let _ = stream.get_mut().write_all(answer.as_bytes()).await;
}
