//! The program as its users start it: what it says, what it answers with, how it ends.
//!
//! Only the region's process is started here, which needs no root and leaves nothing in the kernel.

#![allow(clippy::disallowed_methods, reason = "tests write files as they like")]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

struct World {
    dir: tempfile::TempDir,
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl World {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.args(words).arg("--data-dir").arg(self.data());
        command.env_remove("LONGSHORE_DATA_DIR").env_remove("LONGSHORE_ACCOUNT_KEYS");
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    fn region(&self, listen: &str) -> Running {
        let mut command = self.command(&["region", "--listen", listen]);
        let log = std::fs::File::create(self.dir.path().join("region.log")).unwrap();
        Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// Where the region with this process listens, once it says so.
    fn address(&self, region: &Running) -> SocketAddr {
        let file = self.data().join("region.json");
        let pid = format!("\"pid\": {}", region.0.id());
        for _ in 0..2000 {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if text.contains(&pid) {
                let address = text.split("\"address\": \"").nth(1).unwrap();
                return address.split('"').next().unwrap().parse().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no region: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("region.log")).unwrap_or_default()
    }
}

fn health(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn terminate(process: &mut Running) -> std::process::ExitStatus {
    let pid = process.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    process.0.wait().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_region_serves_says_where_and_ends_when_asked_to() {
    let world = World::new();
    let mut region = world.region("127.0.0.1:0");
    let address = world.address(&region);
    assert!(health(address).starts_with("HTTP/1.1 200"), "{}", world.log());
    let env = text(&world.run(&["env"]).stdout);
    assert!(env.contains(&format!("export AWS_ENDPOINT_URL=http://{address}\n")), "{env}");
    assert!(env.contains("export AWS_DEFAULT_REGION=us-east-1\n"), "{env}");
    let ps = world.run(&["ps"]);
    assert!(ps.status.success(), "{}", text(&ps.stderr));
    assert!(text(&ps.stdout).contains(&region.0.id().to_string()));
    assert!(terminate(&mut region).success());
    let after = world.run(&["ps"]);
    assert_eq!(after.status.code(), Some(1));
    assert!(text(&after.stderr).contains("is not running"), "{}", text(&after.stderr));
}

#[test]
fn a_region_that_was_killed_comes_back_at_its_old_address() {
    let world = World::new();
    let mut region = world.region("127.0.0.1:0");
    let address = world.address(&region);
    region.0.kill().unwrap();
    region.0.wait().unwrap();
    let again = world.region("127.0.0.1:0");
    assert_eq!(world.address(&again), address);
    assert!(health(address).starts_with("HTTP/1.1 200"));
}

#[test]
fn a_second_region_on_the_same_directory_hears_who_is_there() {
    let world = World::new();
    let region = world.region("127.0.0.1:0");
    world.address(&region);
    let second = world.run(&["region", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(78));
    let said = text(&second.stderr);
    assert!(said.contains(&format!("pid {}", region.0.id())), "{said}");
    assert!(said.contains(&world.data().display().to_string()), "{said}");
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let refused = World::new().run(&["region", "--listen", &address]);
    assert_eq!(refused.status.code(), Some(78));
    let said = text(&refused.stderr);
    assert!(said.contains(&address) && said.contains("in use"), "{said}");
}

#[test]
fn others_come_without_tls_only_by_name() {
    let told = ["region", "--listen", "0.0.0.0:0", "--advertise", "http://region.lan"];
    let refused = World::new().run(&told);
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains("--insecure-listen"));
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let world = World::new();
    std::fs::write(world.data(), "a file").unwrap();
    let refused = world.run(&["region", "--listen", "127.0.0.1:0"]);
    assert_eq!(refused.status.code(), Some(78));
    assert!(text(&refused.stderr).contains(&world.data().display().to_string()));
}

#[test]
fn commands_without_a_region_say_how_to_get_one() {
    let world = World::new();
    for words in [&["env"][..], &["ps"], &["logs", "x"], &["image", "ls"], &["configure"]] {
        let refused = world.run(words);
        assert_eq!(refused.status.code(), Some(1), "{words:?}");
        assert!(text(&refused.stderr).contains("longshore up"), "{}", text(&refused.stderr));
    }
}

#[test]
fn what_is_made_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let region = world.region("127.0.0.1:0");
    world.address(&region);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.data().join("keys.json")), 0o600);
    assert_eq!(mode(&world.data().join("region.json")), 0o600);
}

#[test]
fn what_introduces_connections_is_another_after_each_start() {
    let world = World::new();
    let token = || {
        let mut region = world.region("127.0.0.1:0");
        world.address(&region);
        let said = std::fs::read_to_string(world.data().join("region.json")).unwrap();
        region.0.kill().unwrap();
        region.0.wait().unwrap();
        let token = said.split("\"introduction_token\": \"").nth(1).unwrap();
        token.split('"').next().unwrap().to_owned()
    };
    let (first, second) = (token(), token());
    assert_eq!((first.len(), second.len()), (32, 32));
    assert_ne!(first, second);
}

#[test]
fn a_profile_is_written_for_the_aws_cli() {
    let world = World::new();
    let region = world.region("127.0.0.1:0");
    let address = world.address(&region);
    let home = tempfile::tempdir().unwrap();
    let mut configure = world.command(&["configure"]);
    for name in ["AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"] {
        configure.env_remove(name);
    }
    assert!(configure.env("HOME", home.path()).status().unwrap().success());
    let config = std::fs::read_to_string(home.path().join(".aws/config")).unwrap();
    assert!(config.contains("[profile longshore]"), "{config}");
    assert!(config.contains(&format!("endpoint_url = http://{address}")), "{config}");
}

/// Every name below `dir`, and `dir`, that others than the owner have any right to.
fn open_to_others(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut to_see = vec![dir.to_owned()];
    while let Some(path) = to_see.pop() {
        // A file of the running region may be gone since.
        let Ok(metadata) = std::fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            to_see.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            found.push(path);
        }
    }
    found
}

#[test]
fn the_data_directory_is_its_owners_alone_and_one_that_was_not_is_mended_with_a_word() {
    let world = World::new();
    let region = world.region("127.0.0.1:0");
    world.address(&region);
    assert_eq!(open_to_others(&world.data()), Vec::<PathBuf>::new());
    drop(region);
    assert!(!world.log().contains("private now"), "{}", world.log());

    let widened = [
        "",
        "audit",
        "keys.json",
        "region.sqlite",
        "logs",
        "registry",
        "registry/blobs",
        "root.key",
    ];
    for name in widened {
        let path = world.data().join(name);
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut region = world.region("127.0.0.1:0");
    world.address(&region);
    assert_eq!(open_to_others(&world.data()), Vec::<PathBuf>::new());
    // Its last lines are written before it ends.
    terminate(&mut region);
    let log = world.log();
    assert!(log.contains("private now") && log.contains("count=8"), "{log}");
}

/// What standard error of a process is.
fn stderr_of(process: &Running) -> PathBuf {
    std::fs::read_link(format!("/proc/{}/fd/2", process.0.id())).unwrap()
}

#[test]
fn a_log_is_rotated_while_it_is_written_and_bounded_in_all() {
    let world = World::new();
    std::fs::create_dir_all(world.data()).unwrap();
    let log = world.data().join("region.log");
    let mut command = world.command(&["region", "--listen", "127.0.0.1:0"]);
    command
        .arg("--log")
        .arg(&log)
        .env("LONGSHORE_LOG", "debug")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut region = Running(command.spawn().unwrap());
    let address = world.address(&region);
    let grow = |round: u8| {
        // As if much had been written: the process goes on at the end, as all that append do.
        let file = std::fs::OpenOptions::new().append(true).open(&log).unwrap();
        file.set_len((8 << 20) + u64::from(round) + 1).unwrap();
        for _ in 0..2000 {
            request(address);
            if std::fs::metadata(&log).is_ok_and(|meta| meta.len() < 8 << 20) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("never rotated");
    };
    request(address);
    for round in 0..6 {
        grow(round);
    }
    assert_eq!(stderr_of(&region), log.canonicalize().unwrap());
    let names = std::fs::read_dir(world.data()).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    let mut logs: Vec<_> = names.filter(|name| name.starts_with("region.log")).collect();
    logs.sort();
    assert_eq!(logs, ["region.log", "region.log.1", "region.log.2", "region.log.3"]);
    for name in logs {
        let mode = std::fs::metadata(world.data().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    terminate(&mut region);
}

#[test]
fn a_region_that_cannot_say_anything_answers_all_the_same() {
    let world = World::new();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = world.command(&["region", "--listen", "127.0.0.1:0"]);
    command.env("LONGSHORE_LOG", "debug").stdout(full()).stderr(full());
    let mut region = Running(command.spawn().unwrap());
    let address = world.address(&region);
    for _ in 0..50 {
        assert!(request(address).starts_with("HTTP/1.1 400"));
    }
    assert!(terminate(&mut region).success());
}

/// The answer to a request that is not signed; it is logged.
fn request(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nconnection: close\r\n\
                x-amz-target: AmazonEC2ContainerServiceV20141113.ListClusters\r\n\r\n{}";
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
