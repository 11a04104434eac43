//! What is remembered of endpoints on disk: one small file each, written before the endpoint is made and
//! removed after it is gone. The directory belongs on a tmpfs, because what it tells of dies at a reboot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::addr::Ipv4Net;
use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::names::EndpointId;
use crate::netns;

/// Where a region's network keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    run_dir: PathBuf,
}

impl Records {
    pub(crate) fn open(run_dir: &Path) -> Result<Self, NetworkError> {
        let records = Self { run_dir: run_dir.to_owned() };
        for dir in [records.namespaces(), records.endpoints()] {
            fs::create_dir_all(&dir)
                .map_err(|source| NetworkError::io(format!("make {}", dir.display()), source))?;
        }
        netns::set_apart(&records.namespaces())?;
        Ok(records)
    }

    /// Where the endpoint's namespace is mounted.
    pub(crate) fn namespace(&self, id: &EndpointId) -> PathBuf {
        self.namespaces().join(id.as_str())
    }

    pub(crate) fn save(&self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        let path = self.record(&endpoint.id);
        let failed = |source| NetworkError::io(format!("write {}", path.display()), source);
        let text = serde_json::to_vec(endpoint).map_err(|error| failed(error.into()))?;
        write_whole(&path, &text).map_err(failed)
    }

    pub(crate) fn forget(&self, id: &EndpointId) -> Result<(), NetworkError> {
        let path = self.record(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::io(format!("remove {}", path.display()), error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// All endpoints that were ever begun and not forgotten. A file that cannot be read tells of an
    /// endpoint that was never made, since it is complete before anything else happens.
    pub(crate) fn load(&self) -> Result<Vec<Endpoint>, NetworkError> {
        let mut found = Vec::new();
        for name in names_in(&self.endpoints())? {
            let path = self.endpoints().join(&name);
            let read = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            match read {
                Some(endpoint) => found.push(endpoint),
                None => drop(fs::remove_file(&path)),
            }
        }
        found.sort_by(|a: &Endpoint, b: &Endpoint| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The names of all namespaces that are mounted, or were about to be.
    pub(crate) fn namespace_names(&self) -> Result<Vec<String>, NetworkError> {
        names_in(&self.namespaces())
    }

    pub(crate) fn namespace_named(&self, name: &str) -> PathBuf {
        self.namespaces().join(name)
    }

    /// The range that bridged containers got their addresses from last time.
    pub(crate) fn bridge(&self) -> Option<Ipv4Net> {
        fs::read_to_string(self.run_dir.join("bridge")).ok()?.trim().parse().ok()
    }

    pub(crate) fn save_bridge(&self, range: Ipv4Net) -> Result<(), NetworkError> {
        write_whole(&self.run_dir.join("bridge"), range.to_string().as_bytes())
            .map_err(|source| NetworkError::io("write down the bridge's range", source))
    }

    pub(crate) fn remove_all(&self) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::io("remove the network's files", source);
        netns::put_back(&self.namespaces())?;
        for dir in [self.namespaces(), self.endpoints()] {
            fs::remove_dir_all(dir).map_err(failed)?;
        }
        match fs::remove_file(self.run_dir.join("bridge")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn namespaces(&self) -> PathBuf {
        self.run_dir.join("netns")
    }

    fn endpoints(&self) -> PathBuf {
        self.run_dir.join("endpoints")
    }

    fn record(&self, id: &EndpointId) -> PathBuf {
        self.endpoints().join(format!("{id}.json"))
    }
}

/// A reader sees the old text or the new one.
fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    fs::write(&partial, text)?;
    fs::rename(&partial, path)
}

fn names_in(dir: &Path) -> Result<Vec<String>, NetworkError> {
    let failed = |source| NetworkError::io(format!("list {}", dir.display()), source);
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
