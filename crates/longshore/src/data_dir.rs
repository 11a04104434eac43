//! The data directory as the processes of one region share it: who runs there, and where they listen.
//!
//! **Invariant:** a process holds its lock file for as long as it lives; the kernel lets go of it
//! however the process ends. So a lock that can be taken means that nobody is there, whatever pid
//! the file names.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use files::holder;
use files::private::Mended;
use files::whole::{self, Durability, Found};
use longshore_types::{RegionName, Token};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error::Error;
use crate::{procs, successor};

/// Where everything of one region is.
#[derive(Clone, Debug)]
pub(crate) struct DataDir {
    root: PathBuf,
    is_default: bool,
}

/// A process that is at most once in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Supervisor,
    Region,
    Agent,
    Balancer,
    /// Of Service Connect.
    Proxy,
}

impl Role {
    pub(crate) const ALL: [Self; 5] =
        [Self::Supervisor, Self::Region, Self::Agent, Self::Balancer, Self::Proxy];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Supervisor => "up",
            Self::Region => "region",
            Self::Agent => "agent",
            Self::Balancer => "balancer",
            Self::Proxy => "proxy",
        }
    }
}

/// What a running region says of itself, in `region.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RegionFile {
    pub(crate) address: SocketAddr,
    pub(crate) region: RegionName,
    pub(crate) pid: u32,
    /// The range of the default VPC's addresses, which the agent on this machine routes.
    pub(crate) vpc: String,
    /// The range of bridged containers' addresses; empty where a region of before 0.3 runs.
    #[serde(default)]
    pub(crate) bridge: String,
    /// What other machines are told: `https://region.lan`. Nothing if that is the address itself.
    #[serde(default)]
    pub(crate) advertised: Option<String>,
    /// The file of the authority that clients must trust; nothing if any system does.
    #[serde(default)]
    pub(crate) authority: Option<PathBuf>,
    /// What the region drew at this start, by which it knows connections that the process beside it brings from VPC
    /// endpoints. Whoever listened in its place learned what no other start believes.
    #[serde(default)]
    pub(crate) introduction_token: Option<Token>,
}

impl RegionFile {
    /// Where clients on this machine reach the region.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }

    /// The address that others are told.
    pub(crate) fn told(&self) -> String {
        self.advertised.clone().unwrap_or_else(|| format!("http://{}", self.endpoint()))
    }

    /// The authority's file, if clients need it for [`RegionFile::told`].
    pub(crate) fn authority_for_clients(&self) -> Option<&Path> {
        self.authority.as_deref().filter(|_| self.told().starts_with("https://"))
    }
}

/// Held while a role is taken.
#[derive(Debug)]
pub(crate) struct RoleLock {
    file: File,
}

impl RoleLock {
    /// For whoever may give it away: it is held for as long as any has the file.
    pub(crate) fn into_file(self) -> File {
        self.file
    }
}

impl DataDir {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root, is_default: false }
    }

    /// The directory that commands use when none is named.
    pub(crate) fn new_default(root: PathBuf) -> Self {
        Self { root, is_default: true }
    }

    pub(crate) fn is_default(&self) -> bool {
        self.is_default
    }

    /// The default place: the system's for root, the user's own otherwise.
    pub(crate) fn default_root(
        is_root: bool,
        xdg_data_home: Option<PathBuf>,
        home: Option<PathBuf>,
    ) -> Option<PathBuf> {
        if is_root {
            return Some(PathBuf::from("/var/lib/longshore"));
        }
        // The specification says to ignore relative paths.
        let xdg = xdg_data_home.filter(|path| path.is_absolute());
        let base = xdg.or_else(|| home.map(|home| home.join(".local/share")));
        base.map(|base| base.join("longshore"))
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Creates the directory if it is missing, for its owner only: it holds keys. What others could
    /// read of one that is there they can read no longer.
    pub(crate) fn create(&self) -> Result<(), Error> {
        let created = files::private::make_dirs(&self.root);
        let created = created.and_then(|()| {
            // Says early, and by name, that the disk is full or read-only.
            tempfile::Builder::new().prefix(".probe").tempfile_in(&self.root)?.write_all(b"probe")
        });
        created.map_err(|source| Error::DataDir { path: self.root.clone(), source })?;
        match files::private::mend(&self.root, is_ours) {
            Ok(Mended { count, first: Some(first) }) => {
                let first = first.display();
                warn!(count, %first, "files that other users could read or enter are private now");
            }
            Ok(Mended { first: None, .. }) => {}
            Err(error) => {
                let path = self.root.display();
                warn!(%path, %error, "other users may be able to read the data directory");
            }
        }
        Ok(())
    }

    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.log"))
    }

    fn lock_file(&self, role: Role) -> PathBuf {
        self.root.join(format!("{}.lock", role.name()))
    }

    fn region_file(&self) -> PathBuf {
        self.root.join("region.json")
    }

    /// Takes a role, or says who has it.
    pub(crate) fn take(&self, role: Role) -> Result<RoleLock, Error> {
        let path = self.lock_file(role);
        let failed = |source| Error::DataDir { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = self.root.clone();
                return Err(Error::InUse { role, pid: holder::noted(&file), path });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // The lock is what counts. A disk without room for a number is no reason not to run.
        if let Err(source) = holder::note(&file) {
            warn!(path = %path.display(), error = %source, "could not note the process id");
        }
        Ok(RoleLock { file })
    }

    /// The process that has a role, if it is alive.
    pub(crate) fn holder(&self, role: Role) -> Option<u32> {
        let file = match File::open(self.lock_file(role)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            // A disk that fails does not say who runs.
            Err(_) => return procs::find(&self.root, role),
        };
        match file.try_lock_shared() {
            Err(TryLockError::WouldBlock) => {
                // A disk that was full may have kept an older number, or none.
                let noted = holder::noted(&file).filter(|pid| procs::is_alive(*pid));
                noted.or_else(|| procs::locker(&file))
            }
            // The pid is an old one; the lock that we took ends with this function.
            Ok(()) | Err(TryLockError::Error(_)) => None,
        }
    }

    pub(crate) fn write_region(&self, file: &RegionFile) -> Result<(), Error> {
        let path = self.region_file();
        let text =
            serde_json::to_string_pretty(file).expect("a region file has string keys") + "\n";
        // It is written at every start.
        whole::write(&path, text.as_bytes(), Durability::DiesWithTheMachine)
            .map_err(|source| Error::DataDir { path, source })
    }

    /// What the region of this directory last said of itself.
    pub(crate) fn region(&self) -> Result<RegionFile, Error> {
        let path = self.region_file();
        match whole::read_json(&path).and_then(Found::value) {
            Ok(Some(file)) => Ok(file),
            Ok(None) => Err(Error::NoRegion { path: self.root.clone() }),
            Err(source) => Err(Error::DataDir { path, source }),
        }
    }

    /// When what [`DataDir::region`] reads was last written.
    pub(crate) fn region_changed_at(&self) -> Option<SystemTime> {
        std::fs::metadata(self.region_file()).and_then(|meta| meta.modified()).ok()
    }

    /// The region's file, if the region is alive.
    pub(crate) fn running_region(&self) -> Result<RegionFile, Error> {
        let pid = self.holder(Role::Region);
        let file = self.region()?;
        if pid == Some(file.pid) {
            Ok(file)
        } else {
            Err(Error::NotRunning { path: self.root.clone() })
        }
    }
}

/// Whether a name in the data directory is one that our processes give.
fn is_ours(name: &OsStr) -> bool {
    const NAMES: [&str; 17] = [
        "agent",
        "audit",
        "balancer",
        "logs",
        "metrics",
        "registry",
        "joining.json",
        "keys.json",
        "node.json",
        "region.json",
        "registry-auth.json",
        "root.key",
        "root.key.next",
        "tls",
        files::reserve::NAME,
        successor::FILE,
        successor::FOLDER,
    ];
    let text = name.to_string_lossy();
    let is_log = text.ends_with(".log") || text.contains(".log.");
    whole::is_temporary(name)
        || NAMES.contains(&&*text)
        || is_log
        || [".lock", ".unreadable"].iter().any(|end| text.ends_with(end))
        || [".probe", "region.sqlite"].iter().any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_to_take_a_role_hears_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        assert_eq!(data.holder(Role::Region), None);
        let lock = data.take(Role::Region).unwrap();
        assert_eq!(data.holder(Role::Region), Some(std::process::id()));
        let text = data.take(Role::Region).unwrap_err().to_string();
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
        assert!(data.take(Role::Agent).is_ok(), "another role is free");
        drop(lock);
        assert_eq!(data.holder(Role::Region), None);
        assert!(data.take(Role::Region).is_ok());
    }

    #[test]
    fn who_has_a_role_is_known_even_if_the_disk_had_no_room_for_its_number() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        let _lock = data.take(Role::Region).unwrap();
        std::fs::write(dir.path().join("region.lock"), "").unwrap();
        assert_eq!(data.holder(Role::Region), Some(std::process::id()));
    }

    #[test]
    fn a_region_that_ended_is_not_running() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        assert!(matches!(data.running_region(), Err(Error::NoRegion { .. })));
        let file = RegionFile {
            address: "0.0.0.0:4566".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            pid: std::process::id(),
            vpc: "172.31.0.0/16".to_owned(),
            bridge: "172.30.0.0/20".to_owned(),
            advertised: None,
            authority: None,
            introduction_token: None,
        };
        data.write_region(&file).unwrap();
        assert_eq!(data.region().unwrap(), file);
        assert!(matches!(data.running_region(), Err(Error::NotRunning { .. })));
        let _lock = data.take(Role::Region).unwrap();
        assert_eq!(data.running_region().unwrap(), file);
        assert_eq!(file.endpoint().to_string(), "127.0.0.1:4566");
    }

    #[test]
    fn the_directory_of_a_host_that_was_upgraded_becomes_private_too() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path().to_owned());
        let successors = successor::Successors::of(dir.path());
        let program = successors.place("abcdef").unwrap();
        std::fs::write(&program, "program").unwrap();
        successors.refuse(longshore_types::Timestamp(1), "no room".to_owned()).unwrap();
        let note = dir.path().join(successor::FILE);
        let all: [&Path; 4] = [dir.path(), program.parent().unwrap(), &program, &note];
        for path in all {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        data.create().unwrap();
        for path in all {
            let mode = std::fs::metadata(path).unwrap().permissions().mode();
            assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
        }
    }

    #[test]
    fn the_default_directory_depends_on_who_asks() {
        let home = Some(PathBuf::from("/home/a"));
        let root = |is_root, xdg: Option<&str>, home: &Option<PathBuf>| {
            DataDir::default_root(is_root, xdg.map(PathBuf::from), home.clone())
        };
        assert_eq!(root(true, None, &home), Some("/var/lib/longshore".into()));
        assert_eq!(root(false, Some("/x"), &home), Some("/x/longshore".into()));
        assert_eq!(root(false, Some("x"), &home), Some("/home/a/.local/share/longshore".into()));
        assert_eq!(root(false, None, &None), None);
    }
}
