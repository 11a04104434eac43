//! What is remembered of endpoints on disk: one small file each, written before the endpoint is made and
//! removed after it is gone. The directory belongs on a tmpfs, because what it tells of dies at a reboot.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use files::whole::{self, Durability, Found};
use longshore_types::{Cidr, SecurityGroupId, VpcId};
use tracing::warn;
use traffic::feed::{Feed, Item};
use traffic::{HostNames, SecurityGroup};

use crate::endpoint::Endpoint;
use crate::error::NetworkError;
use crate::names::{EndpointId, LinkNumber};
use crate::netns;
use crate::ruleset::KnownGroups;
use crate::tunnels::Kept;

/// Where a region's network keeps its files.
#[derive(Clone, Debug)]
pub(crate) struct Records {
    run_dir: PathBuf,
}

impl Records {
    /// The records of a directory, whether or not anything is there.
    pub(crate) fn at(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned() }
    }

    /// Those of a host's part of a VPC with addresses of its own, or else of the network that keeps its files in `run_dir`.
    pub(crate) fn of_vpc(run_dir: &Path, own_vpc: Option<&VpcId>) -> Self {
        let records = Self::at(run_dir);
        match own_vpc {
            Some(vpc) => Self::at(&records.of_router(vpc)),
            None => records,
        }
    }

    pub(crate) fn open(run_dir: &Path) -> Result<Self, NetworkError> {
        let records = Self::at(run_dir);
        for dir in [records.namespaces(), records.endpoints()] {
            files::private::make_dirs(&dir)
                .map_err(|source| NetworkError::io(format!("make {}", dir.display()), source))?;
        }
        for dir in [run_dir, &records.endpoints()] {
            whole::sweep(dir)
                .map_err(|source| NetworkError::io(format!("sweep {}", dir.display()), source))?;
        }
        netns::set_apart(&records.namespaces())?;
        Ok(records)
    }

    pub(crate) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Where the endpoint's namespace is mounted.
    pub(crate) fn namespace(&self, id: &EndpointId) -> PathBuf {
        self.namespaces().join(id.as_str())
    }

    pub(crate) fn save(&self, endpoint: &Endpoint) -> Result<(), NetworkError> {
        let path = self.record(&endpoint.id);
        let failed = |source| NetworkError::io(format!("write {}", path.display()), source);
        let text = serde_json::to_vec(endpoint).map_err(|error| failed(error.into()))?;
        whole::write(&path, &text, Durability::DiesWithTheMachine).map_err(failed)
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

    /// All endpoints that were ever begun and not forgotten. A file that is torn tells of an endpoint that
    /// was never made, since it is whole before anything else happens.
    pub(crate) fn load(&self) -> Result<Vec<Endpoint>, NetworkError> {
        let mut found = Vec::new();
        for name in names_in(&self.endpoints())? {
            let path = self.endpoints().join(&name);
            let failed = |source| NetworkError::io(format!("read {}", path.display()), source);
            if whole::is_temporary(name.as_ref()) {
                drop(fs::remove_file(&path));
                continue;
            }
            match whole::read_json(&path).map_err(failed)? {
                Found::Whole(endpoint) => found.push(endpoint),
                Found::Torn { why } => {
                    warn!(file = %path.display(), why, "record of no endpoint removed");
                    drop(fs::remove_file(&path));
                }
                Found::Missing => {}
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
    pub(crate) fn bridge(&self) -> Option<Cidr> {
        fs::read_to_string(self.run_dir.join("bridge")).ok()?.trim().parse().ok()
    }

    pub(crate) fn save_bridge(&self, range: Cidr) -> Result<(), NetworkError> {
        let (path, text) = (self.run_dir.join("bridge"), range.to_string());
        whole::write(&path, text.as_bytes(), Durability::DiesWithTheMachine)
            .map_err(|source| NetworkError::io("write down the bridge's range", source))
    }

    /// The security groups that endpoints are judged by, if anybody ever told of them.
    pub(crate) fn groups(&self) -> Result<KnownGroups, NetworkError> {
        let path = self.groups_file();
        let failed = |source| NetworkError::io(format!("read {}", path.display()), source);
        match whole::read_json::<Vec<SecurityGroup>>(&path).map_err(failed)? {
            Found::Whole(groups) => {
                Ok(Some(groups.into_iter().map(|group| (group.id.clone(), group)).collect()))
            }
            Found::Torn { why } => {
                warn!(file = %path.display(), why, "security groups not known until told again");
                Ok(Some(BTreeMap::new()))
            }
            Found::Missing => Ok(None),
        }
    }

    pub(crate) fn save_groups(
        &self,
        groups: &BTreeMap<SecurityGroupId, SecurityGroup>,
    ) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::io("write down the security groups", source);
        let all: Vec<&SecurityGroup> = groups.values().collect();
        let text = serde_json::to_vec(&all).map_err(|error| failed(error.into()))?;
        write_whole(&self.groups_file(), &text).map_err(failed)
    }

    /// What the region told of VPCs.
    pub(crate) fn feed(&self) -> Result<Feed, NetworkError> {
        let path = self.feed_file();
        let failed = |source| NetworkError::io(format!("read {}", path.display()), source);
        match whole::read_json::<Vec<Item>>(&path).map_err(failed)? {
            Found::Whole(items) => Ok(items.into_iter().collect()),
            Found::Torn { why } => {
                warn!(file = %path.display(), why, "no other host is known until told again");
                Ok(Feed::default())
            }
            Found::Missing => Ok(Feed::default()),
        }
    }

    pub(crate) fn save_feed(&self, feed: &Feed) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::io("write down what is told of VPCs", source);
        let all: Vec<Item> = feed.items().collect();
        let text = serde_json::to_vec(&all).map_err(|error| failed(error.into()))?;
        write_whole(&self.feed_file(), &text).map_err(failed)
    }

    fn feed_file(&self) -> PathBuf {
        self.run_dir.join("feed.json")
    }

    /// The names that were answered last, if anybody ever told of some.
    pub(crate) fn names(&self) -> Result<Option<HostNames>, NetworkError> {
        let path = self.names_file();
        let failed = |source| NetworkError::io(format!("read {}", path.display()), source);
        match whole::read_json::<HostNames>(&path).map_err(failed)? {
            Found::Whole(names) => Ok(Some(names)),
            Found::Torn { why } => {
                warn!(file = %path.display(), why, "names not known until told again");
                Ok(None)
            }
            Found::Missing => Ok(None),
        }
    }

    pub(crate) fn save_names(&self, names: &HostNames) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::io("write down the names", source);
        let text = serde_json::to_vec(names).map_err(|error| failed(error.into()))?;
        write_whole(&self.names_file(), &text).map_err(failed)
    }

    /// Which keys there are for other hosts, none of which is in it. What is torn is as good as absent: all begin anew.
    pub(crate) fn tunnels(&self) -> Result<Kept, NetworkError> {
        let path = self.tunnels_file();
        let failed = |source| NetworkError::io(format!("read {}", path.display()), source);
        match whole::read_json::<Kept>(&path).map_err(failed)? {
            Found::Whole(kept) => Ok(kept),
            Found::Torn { .. } | Found::Missing => Ok(Kept::default()),
        }
    }

    pub(crate) fn save_tunnels(&self, kept: &Kept) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::io("write down the keys for other hosts", source);
        let text = serde_json::to_vec(kept).map_err(|error| failed(error.into()))?;
        write_whole(&self.tunnels_file(), &text).map_err(failed)
    }

    fn tunnels_file(&self) -> PathBuf {
        self.run_dir.join("tunnels.json")
    }

    fn names_file(&self) -> PathBuf {
        self.run_dir.join("names.json")
    }

    fn groups_file(&self) -> PathBuf {
        self.run_dir.join("groups.json")
    }

    /// The first link number that no process was given yet.
    pub(crate) fn first_link_number(&self) -> Option<LinkNumber> {
        fs::read_to_string(self.links()).ok()?.trim().parse().ok().map(LinkNumber::new)
    }

    pub(crate) fn save_first_link_number(&self, number: LinkNumber) -> Result<(), NetworkError> {
        write_whole(&self.links(), number.value().to_string().as_bytes())
            .map_err(|source| NetworkError::io("write down the links' numbers", source))
    }

    fn links(&self) -> PathBuf {
        self.run_dir.join("links")
    }

    /// Where the router of a VPC keeps its own.
    pub(crate) fn of_router(&self, vpc: &VpcId) -> PathBuf {
        self.run_dir.join("vpcs").join(vpc.as_str())
    }

    /// The VPCs that have a router on the host, or had one.
    pub(crate) fn routers(&self) -> Result<Vec<VpcId>, NetworkError> {
        let names = names_in(&self.run_dir.join("vpcs"))?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes what routers keep, and takes their endpoints' names away, whether or not their workers live.
    fn remove_routers(&self) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::io("remove the routers' files", source);
        let dir = self.run_dir.join("vpcs");
        for name in names_in(&dir)? {
            let records = Self::at(&dir.join(name));
            for endpoint in records.namespace_names()? {
                netns::unpin(&records.namespace_named(&endpoint))?;
            }
            records.remove_all()?;
        }
        files::dir::remove_tree(&dir).map_err(failed)
    }

    pub(crate) fn remove_all(&self) -> Result<(), NetworkError> {
        let failed = |source| NetworkError::io("remove the network's files", source);
        if !self.run_dir.try_exists().map_err(failed)? {
            return Ok(());
        }
        self.remove_routers()?;
        if self.namespaces().exists() {
            netns::put_back(&self.namespaces())?;
        }
        for dir in [self.namespaces(), self.endpoints()] {
            files::dir::remove_tree(&dir).map_err(failed)?;
        }
        let files = [
            self.run_dir.join("bridge"),
            self.links(),
            self.groups_file(),
            self.feed_file(),
            self.names_file(),
            self.tunnels_file(),
        ];
        for file in files {
            match fs::remove_file(file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
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

/// What these files tell of is gone when the machine stops.
fn write_whole(path: &Path, text: &[u8]) -> io::Result<()> {
    whole::write(path, text, Durability::DiesWithTheMachine)
}

fn names_in(dir: &Path) -> Result<Vec<String>, NetworkError> {
    let failed = |source| NetworkError::io(format!("list {}", dir.display()), source);
    let mut names = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names)
}
