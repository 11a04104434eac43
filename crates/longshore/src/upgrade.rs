//! Takes the region's program: fetched in parts over TLS, checked against the digest that the region said, and tried before
//! anything is handed over to it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use aws_wire::sigv4::Credentials;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use longshore_types::{Chain, RegionName};
use region::nodes::{OfferedRelease, ReadRelease, ReadReleasePart};
use sha2::{Digest as _, Sha256};
use tracing::info;

use crate::remote::Remote;
use crate::successor::Successors;

/// No program of ours is larger; one that is built for looking into has a few hundred.
const SIZE_MAX: u64 = 1 << 30;
/// A program says within this of which release it is.
const TRIAL_MAX: Duration = Duration::from_secs(20);

/// Why a program was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("it is for processors of {theirs}, and this host's are {ours}")]
    Architecture { theirs: String, ours: &'static str },
    #[error("a program is taken over TLS only, and this host has joined without")]
    Plain,
    #[error("its {0} bytes are more than any program of ours has")]
    Size(u64),
    #[error("it could not be fetched: {0}")]
    Fetch(String),
    #[error("what came is not what the region said: it has the digest {0}")]
    Digest(String),
    #[error("it could not be kept")]
    Disk(#[source] io::Error),
    #[error("it does not start here: {0}")]
    Trial(String),
    #[error("the agent's own program is no more where it was started from: start the agent again")]
    Gone,
    #[error("it could not be noted: {0}")]
    Note(String),
}

/// Has the program of `offer` ready to be handed over to; says where it lies.
pub(crate) async fn take(
    successors: &Successors,
    remote: &Remote,
    signer: (&Credentials, &RegionName),
    offer: &OfferedRelease,
    program: &Path,
) -> Result<PathBuf, NotTaken> {
    if !remote.endpoint.is_secure() {
        return Err(NotTaken::Plain);
    }
    let ours = std::env::consts::ARCH;
    if offer.architecture != ours {
        return Err(NotTaken::Architecture { theirs: offer.architecture.clone(), ours });
    }
    if SIZE_MAX < offer.size {
        return Err(NotTaken::Size(offer.size));
    }
    if !program.is_absolute() || program.starts_with("/proc") {
        return Err(NotTaken::Gone);
    }
    info!(release = offer.release, digest = offer.digest, "taking the region's program");
    let path =
        successors.place(&offer.digest).map_err(|why| NotTaken::Note(Chain(&why).to_string()))?;
    fetch(remote, signer, offer, &path).await?;
    starts(&path, Some(&offer.release)).await?;
    successors
        .choose(&path, offer.run, program)
        .map_err(|why| NotTaken::Note(Chain(&why).to_string()))?;
    Ok(path)
}

/// Into a file beside it, which takes its name once it is whole.
async fn fetch(
    remote: &Remote,
    signer: (&Credentials, &RegionName),
    offer: &OfferedRelease,
    path: &Path,
) -> Result<(), NotTaken> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(NotTaken::Disk)?;
    let (mut hash, mut offset) = (Sha256::new(), 0);
    while offset < offer.size {
        let asked = ReadRelease { digest: offer.digest.clone(), offset };
        let answer = remote.call::<_, ReadReleasePart>("ReadRelease", &asked, Some(signer)).await;
        let part = answer.map_err(|why| NotTaken::Fetch(Chain(&why).to_string()))?.value;
        let bytes = STANDARD.decode(part.bytes);
        let bytes = bytes.map_err(|why| NotTaken::Fetch(why.to_string()))?;
        if bytes.is_empty() {
            return Err(NotTaken::Fetch("it ended before its end".to_owned()));
        }
        offset += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        hash.update(&bytes);
        file.write_all(&bytes).map_err(NotTaken::Disk)?;
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if digest != offer.digest {
        return Err(NotTaken::Digest(digest));
    }
    file.as_file().sync_all().map_err(NotTaken::Disk)?;
    let runs = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o700);
    file.as_file().set_permissions(runs).map_err(NotTaken::Disk)?;
    file.persist(path).map_err(|why| NotTaken::Disk(why.error))?;
    Ok(())
}

/// It must at least start, and be the release that it is said to be.
pub(crate) async fn starts(path: &Path, release: Option<&str>) -> Result<(), NotTaken> {
    let mut command = tokio::process::Command::new(path);
    command.arg("--version").env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let said = tokio::time::timeout(TRIAL_MAX, command.output()).await;
    let said = said.map_err(|_| NotTaken::Trial("it says nothing".to_owned()))?;
    let said = said.map_err(|why| NotTaken::Trial(why.to_string()))?;
    let text = String::from_utf8_lossy(&said.stdout);
    let is_told = |release| text.split_whitespace().any(|word| word == release);
    let is_it = said.status.success() && release.is_none_or(is_told);
    match is_it {
        true => Ok(()),
        false => {
            Err(NotTaken::Trial(format!("asked for its version it ended with {}", said.status)))
        }
    }
}
