//! What a host that joined a region keeps: where the region is, whom to believe, and its keys.
//!
//! It is one file, `node.json`, for its owner only; the secret in it is sealed under this machine's id, so that a copy of the
//! directory alone opens on no other machine. **Invariant:** a new key is on disk before it is used, and the one before it
//! is good until then.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aws_wire::sigv4::Credentials;
use control::seal::Seal;
use control::{Advertised, NotAnAddress};
use files::whole::{self, Durability, Found};
use longshore_types::{ClusterName, IdSource, OsIds, RegionName, Timestamp, Token};
use region::nodes::{IssuedKey, Joined, NodeRanges};
use serde::{Deserialize, Serialize};
use trust::Trust;

use crate::error::Error;

const FILE: &str = "node.json";
/// The version of the file.
const VERSION: u32 = 1;
/// Where systems keep what tells one from the other.
const MACHINE_IDS: [&str; 2] = ["/etc/machine-id", "/var/lib/dbus/machine-id"];

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Membership {
    version: u32,
    pub(crate) endpoint: String,
    /// The authority of the region's certificate; none if the system knows it.
    #[serde(default)]
    pub(crate) authority: Option<String>,
    pub(crate) region: RegionName,
    pub(crate) cluster: ClusterName,
    pub(crate) node: String,
    pub(crate) ranges: NodeRanges,
    access_key_id: String,
    sealed_secret: String,
    pub(crate) key_expires_at: Timestamp,
}

impl Membership {
    pub(crate) fn new(
        endpoint: &Advertised,
        authority: Option<String>,
        joined: Joined,
    ) -> Result<Self, Error> {
        let region = joined.region.parse().map_err(Error::other("read the region's name"))?;
        let mut this = Self {
            version: VERSION,
            endpoint: endpoint.to_string(),
            authority,
            region,
            cluster: joined.cluster,
            node: joined.node,
            ranges: joined.ranges,
            access_key_id: String::new(),
            sealed_secret: String::new(),
            key_expires_at: Timestamp(0),
        };
        this.take_key(&joined.key);
        Ok(this)
    }

    pub(crate) fn take_key(&mut self, key: &IssuedKey) {
        let secret = key.secret_access_key.reveal().as_bytes();
        self.sealed_secret = seal().seal(&OsIds, &key.access_key_id, secret);
        self.access_key_id.clone_from(&key.access_key_id);
        self.key_expires_at = key.expires_at;
    }

    /// The keys; an error if they are of another machine.
    pub(crate) fn credentials(&self) -> Result<Credentials, Error> {
        let opened = seal().open(&self.access_key_id, &self.sealed_secret);
        let secret = opened.and_then(|secret| String::from_utf8(secret).ok());
        let secret = secret.ok_or_else(|| {
            Error::Refused(format!(
                "the keys in {FILE} are of another machine: give this one a token of its own \
                 (longshore agent --join {} --token …)",
                self.endpoint
            ))
        })?;
        Ok(Credentials {
            access_key: self.access_key_id.clone(),
            secret: Token::from_text(secret),
            session_token: None,
        })
    }

    pub(crate) fn endpoint(&self) -> Result<Advertised, Error> {
        self.endpoint
            .parse()
            .map_err(|why: NotAnAddress| Error::other("read the region's address")(why))
    }

    pub(crate) fn trust(&self) -> Result<Trust, Error> {
        let failed = Error::other("read the region's authority");
        match &self.authority {
            Some(pem) => Trust::only(pem.as_bytes()).map_err(failed),
            None => Ok(Trust::system()),
        }
    }

    pub(crate) fn load(root: &Path) -> Result<Option<Self>, Error> {
        let path = file(root);
        let failed = |source| Error::DataDir { path: path.clone(), source };
        let found: Option<Self> = whole::read_json(&path).and_then(Found::value).map_err(failed)?;
        match found {
            Some(found) if VERSION < found.version => Err(Error::Refused(format!(
                "{} was written by a newer release, with version {}: start that one",
                path.display(),
                found.version
            ))),
            found => Ok(found),
        }
    }

    /// Synced: the region forgets an older key once this one is used.
    pub(crate) fn save(&self, root: &Path) -> Result<(), Error> {
        if let Some(authority) = &self.authority {
            // No secret: containers of any user read it.
            let path = authority_file(root);
            whole::write(&path, authority.as_bytes(), Durability::Synced)
                .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o644)))
                .map_err(|source| Error::DataDir { path, source })?;
        }
        let path = file(root);
        let text = serde_json::to_vec_pretty(self).expect("a membership has string keys");
        whole::write(&path, &text, Durability::Synced)
            .map_err(|source| Error::DataDir { path, source })
    }
}

fn file(root: &Path) -> PathBuf {
    root.join(FILE)
}

/// The region's authority, for those who want a file of it.
pub(crate) fn authority_file(root: &Path) -> PathBuf {
    root.join("ca.pem")
}

/// What this machine seals with.
fn seal() -> Seal {
    let read = |path: &&str| std::fs::read_to_string(path).ok();
    let id = MACHINE_IDS.iter().find_map(read).unwrap_or_default();
    Seal::new(&Token::from_text(id.trim().to_owned()), "node keys")
}

/// What a host calls itself when it joins, on disk before it is said: a repeated question is then the same.
pub(crate) fn host_id(root: &Path, token_id: &str) -> Result<String, Error> {
    /// Of one token: the next one is joined by as somebody else.
    #[derive(Serialize, Deserialize)]
    struct Asked {
        token: String,
        host: String,
    }
    let path = root.join("joining.json");
    let failed = |source| Error::DataDir { path: path.clone(), source };
    let found: Option<Asked> = whole::read_json(&path).and_then(Found::value).map_err(failed)?;
    if let Some(asked) = found.filter(|asked| asked.token == token_id) {
        return Ok(asked.host);
    }
    let host: String = OsIds.id16().iter().map(|byte| format!("{byte:02x}")).collect();
    let asked = Asked { token: token_id.to_owned(), host: host.clone() };
    let text = serde_json::to_vec(&asked).expect("it has string keys");
    whole::write(&path, &text, Durability::Synced).map_err(failed)?;
    Ok(host)
}

/// The name and version of this machine's system, as its `os-release` has them.
pub(crate) fn platform() -> Option<(String, String)> {
    let text = ["/etc/os-release", "/usr/lib/os-release"].iter();
    let text = text.copied().find_map(|path| std::fs::read_to_string(path).ok())?;
    platform_of(&text)
}

fn platform_of(text: &str) -> Option<(String, String)> {
    let value = |name: &str| {
        let mut found = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        found.next().map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    Some((value("NAME")?, value("VERSION_ID").unwrap_or_default()))
}

/// It has joined: the next time it is somebody else.
pub(crate) fn forget_host_id(root: &Path) {
    // What stays has a replay refused, which says how to go on.
    let _ = std::fs::remove_file(root.join("joining.json"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined() -> Joined {
        Joined {
            node: "NODE".to_owned(),
            key: IssuedKey {
                access_key_id: "LSNKNODE".to_owned(),
                secret_access_key: Token::from_text("s3cret".to_owned()),
                expires_at: Timestamp(5),
            },
            region: "eu-north-1".to_owned(),
            cluster: ClusterName::default_cluster(),
            ranges: NodeRanges {
                vpc: "172.31.0.0/16".to_owned(),
                bridge: "172.30.0.0/20".to_owned(),
            },
            instance: None,
        }
    }

    #[test]
    fn the_keys_are_sealed_and_for_their_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let endpoint = "https://region.lan".parse().unwrap();
        let membership = Membership::new(&endpoint, None, joined()).unwrap();
        membership.save(dir.path()).unwrap();
        let text = std::fs::read_to_string(file(dir.path())).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        let mode = std::fs::metadata(file(dir.path())).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = Membership::load(dir.path()).unwrap().unwrap();
        assert_eq!(loaded, membership);
        assert_eq!(loaded.credentials().unwrap().secret.reveal(), "s3cret");
        let moved = Membership { access_key_id: "LSNKOTHER".to_owned(), ..loaded };
        let refused = moved.credentials().unwrap_err().to_string();
        assert!(refused.contains("another machine"), "{refused}");
    }

    #[test]
    fn a_system_is_called_as_its_release_says() {
        let text = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\nVERSION_ID=\"12\"\n";
        let named = |name: &str, version: &str| Some((name.to_owned(), version.to_owned()));
        assert_eq!(platform_of(text), named("Debian GNU/Linux", "12"));
        assert_eq!(platform_of("NAME=Arch\n"), named("Arch", ""));
        assert_eq!(platform_of("nonsense"), None);
    }

    #[test]
    fn a_host_asks_under_one_name_for_each_token() {
        let dir = tempfile::tempdir().unwrap();
        let first = host_id(dir.path(), "a").unwrap();
        assert_eq!(host_id(dir.path(), "a").unwrap(), first);
        let second = host_id(dir.path(), "b").unwrap();
        assert_ne!(second, first);
        forget_host_id(dir.path());
        assert_ne!(host_id(dir.path(), "b").unwrap(), second);
    }
}
