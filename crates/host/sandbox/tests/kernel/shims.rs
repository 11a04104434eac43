//! Shims without a container, whose agent leaves at a bad moment.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::time::Instant;

use crate::world::{SOON, can_run, cgroup_dirs};

/// A template of shims, and the agent's end of the conversation with it.
struct ShimTemplate {
    process: Child,
    agent: Option<UnixStream>,
    dir: tempfile::TempDir,
    tag: String,
}

impl ShimTemplate {
    fn start(name: &str) -> Option<Self> {
        can_run().then(|| {
            let dir = tempfile::tempdir().unwrap();
            let (ours, theirs) = UnixStream::pair().unwrap();
            let log = std::fs::File::create(dir.path().join("log")).unwrap();
            let process = Command::new(env!("CARGO_BIN_EXE_longshore-shim"))
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stderr(Stdio::from(log))
                .spawn()
                .unwrap();
            let tag = format!("{name}-{}", std::process::id());
            Self { process, agent: Some(ours), dir, tag }
        })
    }

    fn spares_at(&self) -> PathBuf {
        self.dir.path().join("spares")
    }

    fn ask_for_spares(&mut self) {
        let parent = Path::new("/longshore").join(&self.tag);
        let text = format!(
            r#"{{"Nurse":{{"cgroup_parent":"{}","spares_at":"{}"}}}}"#,
            parent.display(),
            self.spares_at().display()
        );
        send(self.agent.as_mut().unwrap(), &text);
    }

    /// The agent goes, and with it the template, which has nothing to complain of.
    fn end(mut self) {
        self.agent = None;
        let status = self.process.wait().unwrap();
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        assert_eq!((status.code(), log.as_str()), (Some(0), ""));
        assert!(!self.spares_at().exists());
        let deadline = Instant::now() + SOON;
        for dir in cgroup_dirs(&self.tag) {
            while std::fs::remove_dir(dir.join(".shims")).is_err() && dir.join(".shims").exists() {
                assert!(Instant::now() < deadline, "shims stay in {}", dir.display());
                std::thread::sleep(Duration::from_millis(5));
            }
            std::fs::remove_dir(&dir).unwrap();
        }
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        assert_eq!(log, "", "by now every shim has ended");
    }
}

fn send(stream: &mut UnixStream, text: &str) {
    let length = u32::try_from(text.len()).unwrap();
    stream.write_all(&length.to_le_bytes()).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
}

fn wait_for_answer(stream: &UnixStream) {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(SOON).unwrap();
    assert_eq!(poll(&mut polled, limit).unwrap(), 1, "no answer");
}

#[test]
fn an_agent_that_left_without_reading_its_answer_is_one_that_left() {
    let Some(mut template) = ShimTemplate::start("unread") else { return };
    template.ask_for_spares();
    wait_for_answer(template.agent.as_ref().unwrap());
    let mut spare = UnixStream::connect(template.spares_at()).unwrap();
    send(&mut spare, "\"Ready\"");
    wait_for_answer(&spare);
    // Closing it with something unread resets the other side's connection.
    drop(spare);
    template.end();
}

#[test]
fn an_agent_that_is_gone_before_the_answer_is_one_that_left() {
    let Some(mut template) = ShimTemplate::start("unheard") else { return };
    template.ask_for_spares();
    wait_for_answer(template.agent.as_ref().unwrap());
    for _ in 0..20 {
        let mut spare = UnixStream::connect(template.spares_at()).unwrap();
        send(&mut spare, "\"Ready\"");
        // It is not even forked by now, or just about to be.
        drop(spare);
    }
    template.end();
    let Some(mut template) = ShimTemplate::start("unheard") else { return };
    template.ask_for_spares();
    template.agent = None;
    let _ = template.process.wait();
    let log = std::fs::read_to_string(template.dir.path().join("log")).unwrap();
    assert_eq!(log, "");
    cgroup_dirs(&template.tag).iter().for_each(|dir| {
        let _ = std::fs::remove_dir(dir.join(".shims"));
        std::fs::remove_dir(dir).unwrap();
    });
}
