//! Taking up what an earlier agent left.
//!
//! What is on disk decides. Of a container whose record says neither that it started nor that it was
//! about to, nothing has run: unless its shim lives and keeps it ready, it is removed, and whoever
//! wanted it makes it anew. Of any other something may have run, and its end is told: the one that its
//! shim wrote down, or that it was lost.
//!
//! **Invariant:** afterwards nobody who served an earlier agent makes anything any more; and what cannot
//! be read of one container takes nothing from another.

use std::collections::BTreeSet;
use std::fs;
use std::iter;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use ::files::whole::{self, Durability};
use longshore_types::{Chain, Clock, SystemClock};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cgroup::Cgroups;
use crate::client::Client;
use crate::error::{Doing, SandboxError};
use crate::files::Files;
use crate::ids::ContainerId;
use crate::pool::SPARES;
use crate::proto::{Record, Reply, Request};
use crate::sandboxes::{Inner, REASON_LOST, Sandboxes};
use crate::spec::{Phase, Recovered, SandboxConfig};
use crate::spool::seal;

/// The file that names the boot of the last recovery.
const BOOT: &str = "boot-id";
const REASON_REBOOT: &str = "the host was restarted while the container ran";
/// What a killed process may take to be gone: it may be mounting something.
const GONE_ROUNDS_MAX: u32 = 1_000;
const GONE_ROUND: Duration = Duration::from_millis(10);

/// Whether the machine has started anew since somebody last recovered: nothing of before is left.
///
/// A name that is not there, only in part, or none at all (a disk that lost what was written leaves
/// zeros) says nothing of an earlier boot.
pub(crate) fn has_rebooted(config: &SandboxConfig) -> bool {
    let known = fs::read_to_string(config.state_dir.join(BOOT)).unwrap_or_default();
    let known = known.trim_end();
    let is_torn = config.boot_id.starts_with(known) || known.chars().any(char::is_control);
    !config.boot_id.is_empty() && !is_torn
}

/// Ends what an earlier agent had begun and cannot go on with: the template, spare shims, and shims in
/// the midst of making a container. Those that have one stay.
pub(crate) fn end_unfinished(config: &SandboxConfig, cgroups: &Cgroups) {
    let kept = shims_with_containers(config);
    for round in 0..GONE_ROUNDS_MAX {
        // One that is just being made may make another before it is killed.
        let pids = cgroups.shims().pids();
        let strays: Vec<i32> = pids
            .into_iter()
            .filter(|pid| parent_of(*pid).is_some() && !is_of_any(*pid, &kept))
            .collect();
        if strays.is_empty() {
            break;
        }
        for pid in strays {
            if round % 100 == 0 {
                tracing::debug!(pid, "unfinished shim ended");
            }
            // Already gone is what was wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        thread::sleep(if round < 10 { GONE_ROUND / 10 } else { GONE_ROUND });
    }
    // The sockets of templates, which nobody listens at.
    for entry in fs::read_dir(&config.run_dir).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(SPARES) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn shims_with_containers(config: &SandboxConfig) -> BTreeSet<i32> {
    let of = |id: ContainerId| {
        let files = Files::of(&config.state_dir, &config.run_dir, &id);
        files.read_record().ok()??.shim_pid
    };
    container_ids(&config.state_dir).unwrap_or_default().into_iter().filter_map(of).collect()
}

/// Whether a process is one of `kept`, or at work for one: a runtime that it called, and what that started.
fn is_of_any(pid: i32, kept: &BTreeSet<i32>) -> bool {
    let mut line = iter::successors(Some(pid), |it| parent_of(*it).filter(|parent| 1 < *parent));
    line.any(|it| kept.contains(&it))
}

/// `None` for a process that is gone, or as good as gone.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it may hold anything, brackets and blanks too.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_gone = matches!(fields.next()?, "Z" | "X");
    if is_gone { None } else { fields.next()?.parse().ok() }
}

fn container_ids(state_dir: &Path) -> Result<Vec<ContainerId>, SandboxError> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(state_dir).doing_at("list", state_dir)? {
        let entry = entry.doing_at("list", state_dir)?;
        // Beside the containers' directories lies the shims' own log.
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(Ok(id)) = entry.file_name().to_str().map(str::parse)
        {
            ids.push(id);
        }
    }
    ids.sort();
    Ok(ids)
}

impl Sandboxes {
    /// Every container that is on this host and may have run or is ready to, whoever made it. One whose
    /// shim was killed is killed too and found as exited, and so is one from before the machine started
    /// anew. What was never begun to be started, and cannot be any more, is removed.
    pub async fn recover(&self) -> Result<Vec<Recovered>, SandboxError> {
        let config = &self.inner.config;
        let mut found = Vec::new();
        for id in container_ids(&config.state_dir)? {
            match self.recover_one(&id).await {
                Ok(recovered) => found.extend(recovered),
                Err(error) => {
                    tracing::error!(container = %id, error = %Chain(&error), "container not recovered");
                    found.extend(self.as_recorded(id));
                }
            }
        }
        if !config.boot_id.is_empty() {
            let boot = config.state_dir.join(BOOT);
            whole::write(&boot, config.boot_id.as_bytes(), Durability::Synced)
                .doing_at("write", &boot)?;
        }
        self.inner.has_rebooted.store(false, Ordering::Relaxed);
        Ok(found)
    }

    async fn recover_one(&self, id: &ContainerId) -> Result<Option<Recovered>, SandboxError> {
        let files = self.files(id);
        let Some(record) = files.read_record()? else {
            // Never got as far as to be one.
            files.remove()?;
            return Ok(None);
        };
        let mut recovered = Recovered {
            id: id.clone(),
            group: record.group.clone(),
            phase: Phase::Exited,
            pid: record.pid,
            started_at: record.started_at,
            exit: files.read_exit()?,
        };
        if record.failed.is_some() {
            // Its process ended because it could not become the application: nothing has run. Whoever
            // asks for its start is told why.
            (recovered.phase, recovered.exit) = (Phase::Created, None);
            return Ok(Some(recovered));
        }
        // After a restart of the machine its pids and sockets may be somebody else's by now, and the last
        // line of its record may be lost.
        let has_rebooted = self.inner.has_rebooted.load(Ordering::Relaxed);
        if recovered.exit.is_some() {
            if !record.may_have_run() && !has_rebooted {
                // Its end is that of a process that waited to become the application: an agent was
                // removing it, and was killed.
                tracing::info!(container = %id, "what was killed before it was started is removed");
                self.delete(id).await?;
                return Ok(None);
            }
            self.end_output(id, record).await?;
            return Ok(Some(recovered));
        }
        if !has_rebooted {
            match self.ask(id, &Request::Status).await {
                Ok(Reply::Status(status)) => {
                    recovered.phase = status.phase;
                    recovered.pid = Some(status.pid);
                    recovered.started_at = status.started_at;
                    return Ok(Some(recovered));
                }
                Ok(_) | Err(_) if self.has_shim(id).await? => {
                    return Ok(self.as_recorded(id.clone()));
                }
                Ok(_) | Err(_) => {}
            }
        }
        if !record.may_have_run() && files.read_exit()?.is_none() {
            tracing::info!(container = %id, "a container that was never started is given up");
            self.take_apart(id, record).await?;
            files.remove()?;
            return Ok(None);
        }
        let why = if has_rebooted { REASON_REBOOT } else { REASON_LOST };
        recovered.exit = Some(self.lost(id, why).await?);
        Ok(Some(recovered))
    }

    /// What the record says, where the container itself cannot be asked.
    fn as_recorded(&self, id: ContainerId) -> Option<Recovered> {
        let record = self.files(&id).read_record().ok()??;
        Some(Recovered {
            id,
            group: record.group.clone(),
            phase: if record.may_have_run() { Phase::Running } else { Phase::Created },
            pid: record.pid,
            started_at: record.started_at,
            exit: None,
        })
    }

    async fn has_shim(&self, id: &ContainerId) -> Result<bool, SandboxError> {
        let connected = Client::connect(&self.socket(id)).await;
        connected.map(|client| client.is_some()).doing("connect to a shim")
    }

    /// Ends the output of a container that has ended, unless its shim is there and does.
    async fn end_output(&self, id: &ContainerId, record: Record) -> Result<(), SandboxError> {
        let Some(spool) = record.spool else { return Ok(()) };
        if self.has_shim(id).await? {
            return Ok(());
        }
        self.blocking(move |_: &Inner| {
            seal(&spool, SystemClock.now()).doing_at("end the spool", &spool)
        })
        .await
    }
}
