//! An OCI runtime of the host, which makes containers in libcontainer's place: `runc`, or one of its kind.
//!
//! It is run as containerd's shims run it: `create`, `start`, `exec`, `kill` and `delete`, each a process that
//! ends at once. What it made is left to the shim that called it, as to the nearest subreaper, so that the shim
//! learns of the container's end by waiting for a child, and its streams are the shim's pipes. The runtime keeps
//! what it knows in the container's directory, which only root may enter and which is usually in memory.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Doing, SandboxError};
use crate::files::Files;
use crate::ids::ContainerId;
use crate::launch::forget_signal_settings;
use crate::sys;

/// Where programs are looked for when the environment does not say, and what a runtime is told.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where an init is that needs nothing of an image, as Docker has it.
const INITS: [&str; 4] = [
    "/usr/bin/docker-init",
    "/usr/local/bin/docker-init",
    "/usr/libexec/docker/docker-init",
    "/usr/bin/tini-static",
];
/// What a runtime may take for one call; less than an agent waits for a shim.
const CALL_MAX: Duration = Duration::from_secs(45);
/// What it may take to tell its version.
const VERSION_MAX: Duration = Duration::from_secs(10);
/// What is read of what it says.
const SAID_BYTES_MAX: u64 = 64 << 10;
/// And what is told of that.
const REASON_CHARS_MAX: usize = 2_000;
const NAME_CHARS_MAX: usize = 128;

/// A runtime that was found on this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRuntime {
    /// What people call it: `runc`, `crun`, `runsc`.
    pub name: String,
    pub path: PathBuf,
}

impl NamedRuntime {
    /// Finds `NAME`, or `NAME=/PATH`, where programs are, and has it tell its version. An error is a sentence.
    pub async fn find(text: &str, search_path: Option<&OsStr>) -> Result<Self, String> {
        let (name, given) = parse(text)?;
        let path = match given {
            Some(path) => path,
            None => look_up(name, search_path.unwrap_or(OsStr::new(SEARCH_PATH)))?,
        };
        let runtime = Self { name: name.to_owned(), path };
        runtime.check().await.map(|()| runtime)
    }

    async fn check(&self) -> Result<(), String> {
        let Self { name, path } = self;
        let at = path.display();
        let mut command = tokio::process::Command::new(path);
        command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
        let output = match tokio::time::timeout(VERSION_MAX, command.output()).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                return Err(format!("the runtime {name} cannot be run: {at}: {error}"));
            }
            Err(_) => {
                return Err(format!(
                    "the runtime {name} does not answer: {at} --version took too long"
                ));
            }
        };
        match output.status.success() {
            true => Ok(()),
            false => {
                let why = String::from_utf8_lossy(&output.stderr);
                let why = why.lines().next().unwrap_or_default();
                Err(format!(
                    "{at} is no OCI runtime: {at} --version failed ({}): {why}",
                    output.status
                ))
            }
        }
    }

    /// Makes the container's first process, which waits to be started, and returns its pid. The streams are the
    /// container's; with a console there are none.
    pub(crate) fn create(
        &self,
        id: &ContainerId,
        files: &Files,
        streams: [Stdio; 3],
        console: Option<&Path>,
    ) -> Result<i32, SandboxError> {
        let pid_file = files.pid();
        let mut words: Vec<OsString> = ["create", "--bundle"].map(OsString::from).to_vec();
        words.extend([files.bundle().into(), "--pid-file".into(), pid_file.clone().into()]);
        words.extend(console.into_iter().flat_map(|at| ["--console-socket".into(), at.into()]));
        words.push(id.as_str().into());
        self.call("create the container", files, words, Handed::ToApplication(streams))?;
        read_pid(&pid_file)
    }

    /// Lets the application run.
    pub(crate) fn start(&self, id: &ContainerId, files: &Files) -> Result<(), SandboxError> {
        let words = ["start", id.as_str()].map(OsString::from).to_vec();
        self.call("start the container", files, words, Handed::Nothing)
    }

    /// Runs another process beside the application, as the file `process` describes it.
    pub(crate) fn exec(
        &self,
        id: &ContainerId,
        files: &Files,
        process: &Path,
        streams: [Stdio; 3],
    ) -> Result<i32, SandboxError> {
        let pid_file = process.with_extension("pid");
        let words: Vec<OsString> = vec![
            "exec".into(),
            "--process".into(),
            process.into(),
            "--detach".into(),
            "--pid-file".into(),
            pid_file.clone().into(),
            id.as_str().into(),
        ];
        let called = self.call("run the command", files, words, Handed::ToApplication(streams));
        let pid = called.and_then(|()| read_pid(&pid_file));
        let _ = fs::remove_file(&pid_file);
        pid
    }

    /// Sends a signal to the application.
    pub(crate) fn signal(
        &self,
        id: &ContainerId,
        files: &Files,
        number: i32,
    ) -> Result<(), SandboxError> {
        let words = ["kill", id.as_str(), &number.to_string()].map(OsString::from).to_vec();
        self.call("signal the container", files, words, Handed::Nothing)
    }

    /// Ends the container if it runs, and has the runtime forget it. One that it does not know is fine.
    pub(crate) fn delete(&self, id: &ContainerId, files: &Files) -> Result<(), SandboxError> {
        let is_known = fs::read_dir(files.runtime()).is_ok_and(|mut its| its.next().is_some());
        if !is_known {
            return Ok(());
        }
        let words = ["delete", "--force", id.as_str()].map(OsString::from).to_vec();
        self.call("delete the container", files, words, Handed::Nothing)
    }

    fn call(
        &self,
        doing: &str,
        files: &Files,
        words: Vec<OsString>,
        handed: Handed,
    ) -> Result<(), SandboxError> {
        let log = files.runtime_log();
        // What an earlier call said is not what this one says.
        let _ = fs::remove_file(&log);
        let failed = |why: String| {
            let doing = format!("{doing} ({})", self.name);
            SandboxError::Runtime { doing, why }
        };
        let mut command = Command::new(&self.path);
        command
            .arg("--root")
            .arg(files.runtime())
            .arg("--log")
            .arg(&log)
            .args(["--log-format", "json"])
            .args(words)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .current_dir("/");
        handed.to(&mut command);
        let mut child =
            command.spawn().map_err(|error| failed(format!("{}: {error}", self.path.display())))?;
        let has_ended = sys::wait_for_end(child.id(), CALL_MAX).doing("wait for the runtime")?;
        if !has_ended {
            let _ = child.kill();
        }
        let status = child.wait().doing("wait for the runtime")?;
        match (has_ended, status.success()) {
            (true, true) => Ok(()),
            (true, false) => Err(failed(said(&log).unwrap_or_else(|| status.to_string()))),
            (false, _) => Err(failed(format!("it took longer than {} s", CALL_MAX.as_secs()))),
        }
    }
}

/// The host's own init for containers, if there is one.
pub(crate) fn init_program() -> Option<PathBuf> {
    INITS.iter().find_map(|path| fs::canonicalize(path).ok())
}

/// What a call hands on.
enum Handed {
    Nothing,
    /// To the application that the call makes a process for, which has the runtime's streams and signal settings.
    ToApplication([Stdio; 3]),
}

impl Handed {
    fn to(self, command: &mut Command) {
        match self {
            Self::Nothing => {
                command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            }
            Self::ToApplication([stdin, stdout, stderr]) => {
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                let reset = || forget_signal_settings().map_err(io::Error::from);
                // JUSTIFICATION: what the shim or whoever started it ignores survives into the application.
                // SAFETY: system calls alone, and only a shim is here, which has a single thread.
                unsafe { command.pre_exec(reset) };
            }
        }
    }
}

/// The name, and where it is if that is said.
fn parse(text: &str) -> Result<(&str, Option<PathBuf>), String> {
    let (name, path) = match text.split_once('=') {
        Some((name, path)) => (name, Some(PathBuf::from(path))),
        None => (text, None),
    };
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || NAME_CHARS_MAX < name.len() || !name.chars().all(is_word) {
        return Err(format!(
            "{name:?} is no name of a runtime: write NAME or NAME=/PATH, such as runc or runsc=/opt/bin/runsc"
        ));
    }
    match path {
        Some(path) if !path.is_absolute() => {
            Err(format!("the runtime {name} is at an absolute path, which {path:?} is not"))
        }
        path => Ok((name, path)),
    }
}

fn look_up(name: &str, search_path: &OsStr) -> Result<PathBuf, String> {
    let found = std::env::split_paths(search_path)
        .map(|dir| dir.join(name))
        .find(|path| path.is_absolute() && path.is_file());
    found.ok_or_else(|| {
        format!(
            "there is no program {name} in {}: install it, or say where it is by {name}=/PATH",
            search_path.display()
        )
    })
}

fn read_pid(file: &Path) -> Result<i32, SandboxError> {
    let text = fs::read_to_string(file).doing_at("read", file)?;
    let pid = text.trim().parse::<i32>().ok().filter(|pid| 0 < *pid);
    pid.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)).doing_at("read a pid in", file)
}

/// The last error in a runtime's log.
fn said(log: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        msg: String,
        #[serde(default)]
        level: Option<String>,
    }
    let mut text = Vec::new();
    File::open(log).ok()?.take(SAID_BYTES_MAX).read_to_end(&mut text).ok()?;
    let lines = text.split(|byte| *byte == b'\n').rev();
    let lines = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
    let is_error = |line: &Line| {
        line.level.as_deref().is_none_or(|level| ["error", "fatal", "panic"].contains(&level))
    };
    let line = lines.filter(is_error).find(|line| !line.msg.is_empty())?;
    Some(line.msg.chars().take(REASON_CHARS_MAX).collect())
}

/// What a runtime says of a command that it did not find or may not run, as the error that it is; any other as it
/// came. Runtimes look for the command before the application is started.
pub(crate) fn understood(error: SandboxError, argv: &[String], search_path: &str) -> SandboxError {
    let SandboxError::Runtime { why, .. } = &error else { return error };
    let Some(command) = argv.first() else { return error };
    let named = [format!("exec: {command:?}"), format!("executable file `{command}`")];
    let why = why.to_ascii_lowercase();
    let is_of_command = named.iter().any(|words| why.contains(&words.to_ascii_lowercase()));
    let says = |words: &[&str]| is_of_command && words.iter().any(|words| why.contains(words));
    if says(&["not found", "no such file or directory", "not a directory"]) {
        let looked_in = match command.contains('/') {
            true => vec![command.clone()],
            false => search_path.split(':').map(str::to_owned).collect(),
        };
        return SandboxError::NoSuchCommand { command: command.clone(), looked_in };
    }
    if says(&["permission denied", "is a directory"]) {
        let why = "permission denied, or it is a directory".to_owned();
        return SandboxError::NotExecutable { command: command.clone(), path: command.into(), why };
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(why: &str) -> SandboxError {
        SandboxError::Runtime { doing: "create the container (runc)".into(), why: why.into() }
    }

    #[test]
    fn what_a_runtime_says_of_the_command_is_the_same_error_as_natively() {
        let argv = |command: &str| vec![command.to_owned(), "-x".to_owned()];
        let said = "runc create failed: unable to start container process: exec: ";
        let missing = refused(&format!("{said}\"nope\": executable file not found in $PATH"));
        let error = understood(missing, &argv("nope"), "/usr/bin:/bin");
        assert!(
            matches!(&error, SandboxError::NoSuchCommand { command, looked_in }
                if command == "nope" && looked_in == &["/usr/bin", "/bin"]),
            "{error:?}"
        );
        let missing =
            refused(&format!("{said}\"/bin/nope\": stat /bin/nope: no such file or directory"));
        let error = understood(missing, &argv("/bin/nope"), "/bin");
        assert!(
            matches!(&error, SandboxError::NoSuchCommand { looked_in, .. } if looked_in == &["/bin/nope"]),
            "{error:?}"
        );
        let error = understood(
            refused("executable file `x` not found in $PATH: No such file"),
            &argv("x"),
            "/bin",
        );
        assert!(matches!(error, SandboxError::NoSuchCommand { .. }), "{error:?}");
        let error = understood(
            refused(&format!("{said}\"/etc\": permission denied")),
            &argv("/etc"),
            "/bin",
        );
        assert!(matches!(error, SandboxError::NotExecutable { .. }), "{error:?}");
        // Of something else: its own sentence.
        let other = "error mounting \"/x\": no such file or directory";
        let error = understood(refused(other), &argv("/x"), "/bin");
        assert!(matches!(&error, SandboxError::Runtime { why, .. } if why == other), "{error:?}");
    }

    #[test]
    fn the_last_error_of_a_log_is_what_a_runtime_says() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(said(&log), None);
        let lines = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"last\"}\n\
                     {\"level\":\"warning\",\"msg\":\"by the way\"}\nnot json\n";
        std::fs::write(&log, lines).unwrap();
        assert_eq!(said(&log).as_deref(), Some("last"));
    }

    #[tokio::test]
    async fn a_runtime_that_is_not_there_is_refused_with_what_to_do() {
        let none = Some(OsStr::new("/nowhere"));
        for (text, words) in [
            ("runsc", "no program runsc in /nowhere"),
            ("x=y", "absolute path"),
            ("", "no name"),
            ("a b", "no name"),
            ("x=/no/such/file", "cannot be run"),
            ("x=/bin/false", "no OCI runtime"),
        ] {
            let why = NamedRuntime::find(text, none).await.unwrap_err();
            assert!(why.contains(words), "{text}: {why}");
        }
        let found = NamedRuntime::find("x=/bin/true", none).await.unwrap();
        assert_eq!(found, NamedRuntime { name: "x".into(), path: "/bin/true".into() });
    }

    #[test]
    fn a_record_of_before_there_were_others_is_of_a_native_container() {
        let text =
            r#"{"group":"g","scratch":"/s","spool":null,"shim_pid":1,"pid":2,"started_at":null}"#;
        let record: crate::proto::Record = serde_json::from_str(text).unwrap();
        assert_eq!(record.runtime, None);
    }
}
