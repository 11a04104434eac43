//! Has images scanned that are to be, a few at a time, and forgets findings of images that are gone.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use aws_wire::ApiError;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use files::whole::Durability;
use longshore_types::{AccountId, Timestamp, Uuid};
use model::{EcrManifest, ImageScan, Key, ManifestId, ScanState, View};
use store::{Batch, Change};

use super::command::{self, Layout, ScanError};
use super::report::{self, Report};
use crate::Ecr;
use crate::limits::{SCAN_TIME_MAX, SCANS_AT_ONCE};

/// Where images are laid out, among the findings.
const LAYOUTS_DIR: &str = "layouts";
/// How often findings of images that are gone are looked for.
const SWEEP_MS: u64 = 3_600_000;

/// What one pass is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Work {
    Scan(AccountId, ManifestId),
    Sweep,
}

/// The loop over images that are to be scanned.
#[derive(Debug)]
pub(crate) struct Scans {
    pub(crate) ecr: Arc<Ecr>,
    pub(crate) command: String,
}

fn is_pending(row: &EcrManifest) -> bool {
    row.scan.as_ref().is_some_and(|scan| scan.state == ScanState::Pending)
}

impl Reconciler for Scans {
    type Key = Work;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "image-scans"
    }

    fn passes_max(&self) -> usize {
        SCANS_AT_ONCE
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Work>) {
        if let Key::EcrManifest(account, id) = &change.key
            && view.ecr_manifests.get(*account, id).is_some_and(|row| is_pending(row))
        {
            queue.changed(&Work::Scan(*account, id.clone()), change.seq);
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Work> {
        let pending = view.ecr_manifests.iter().filter(|row| is_pending(row));
        let scans = pending.map(|row| {
            let id = ManifestId { repository: row.repository.clone(), digest: row.digest };
            Work::Scan(row.account, id)
        });
        scans.chain([Work::Sweep]).collect()
    }

    fn pass(&self, key: &Work) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (ecr, command, key) = (Arc::clone(&self.ecr), self.command.clone(), key.clone());
        Box::pin(async move {
            match key {
                Work::Scan(account, id) => ecr.scan(account, &id, command).await,
                Work::Sweep => ecr.sweep_reports().await,
            }
        })
    }
}

impl Ecr {
    /// Scans one image that is to be, and notes what came of it.
    pub(crate) async fn scan(
        &self,
        account: AccountId,
        id: &ManifestId,
        command: String,
    ) -> Result<Pass<()>, ApiError> {
        let view = self.control.view();
        let mut pass = Pass { looked_at: view.seq, ..Pass::default() };
        let row = view.ecr_manifests.get(account, id).filter(|row| is_pending(row)).cloned();
        let Some(row) = row else {
            pass.is_over = true;
            return Ok(pass);
        };
        drop(view);
        let scanned = self.run_scanner(&row, command).await;
        let scan = outcome(&row, &scanned, self.control.clock.now());
        match (&scan.why, &scanned) {
            (None, Ok(_)) => {
                tracing::info!(repository = %row.repository, image = %row.digest, "image scanned");
            }
            (Some(_) | None, outcome) => {
                let error = outcome.as_ref().err().map(|it| longshore_types::Chain(it).to_string());
                tracing::warn!(repository = %row.repository, image = %row.digest, error, "image not scanned");
            }
        }
        let asked_at = scan.asked_at;
        self.control
            .decide(|view, _| {
                let mut batch = Batch::on(view);
                let known = view.ecr_manifests.get(account, id);
                let is_it = |it: &&Arc<EcrManifest>| {
                    it.scan.as_ref().is_some_and(|known| known.asked_at == asked_at)
                };
                if let Some(known) = known.filter(is_it) {
                    batch.put(EcrManifest { scan: Some(scan.clone()), ..known.as_ref().clone() });
                }
                Ok((batch, ()))
            })
            .await?;
        Ok(pass)
    }

    async fn run_scanner(&self, row: &EcrManifest, command: String) -> Result<Report, ScanError> {
        let (dir, blobs, row) = (self.scans_dir(), self.registry.blobs().clone(), row.clone());
        let layout = dir.join(LAYOUTS_DIR).join(Uuid::mint(self.control.ids.as_ref()).to_string());
        let work = move || {
            let layout = Layout::make(layout, &row, &blobs)?;
            let report = report::read(&command::run(&command, layout.path(), SCAN_TIME_MAX)?)?;
            let path = dir.join(command::report_name(&row));
            let text = serde_json::to_vec(&report).unwrap_or_default();
            files::whole::write(&path, &text, Durability::Synced).map_err(ScanError::Layout)?;
            Ok(report)
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|error| Err(ScanError::Output(std::io::Error::other(error))))
    }

    async fn sweep_reports(&self) -> Result<Pass<()>, ApiError> {
        let view = self.control.view();
        let rows = view.ecr_manifests.iter().filter(|row| row.scan.is_some());
        let known: BTreeSet<String> = rows.map(|row| command::report_name(row)).collect();
        let (dir, looked_at) = (self.scans_dir(), view.seq);
        drop(view);
        let swept = tokio::task::spawn_blocking(move || sweep(&dir, &known)).await;
        if let Ok(Err(error)) = swept {
            tracing::warn!(%error, "findings of images that are gone could not be removed");
        }
        let again_at = Some(self.control.clock.now().plus_ms(SWEEP_MS));
        Ok(Pass { looked_at, again_at, ..Pass::default() })
    }

    /// Removes what a scan that was cut off left behind.
    pub(crate) fn clear_layouts(&self) {
        drop(files::dir::remove_tree(&self.scans_dir().join(LAYOUTS_DIR)));
    }
}

/// What is noted of a scan that has ended.
fn outcome(row: &EcrManifest, scanned: &Result<Report, ScanError>, now: Timestamp) -> ImageScan {
    let asked_at = row.scan.as_ref().map_or(now, |scan| scan.asked_at);
    let scan = ImageScan { ended_at: Some(now), ..ImageScan::asked(asked_at) };
    match scanned {
        Ok(report) => ImageScan {
            state: ScanState::Complete,
            source_updated_at: report
                .source_updated_at
                .map(|at| Timestamp(at.saturating_mul(1000))),
            counts: report.counts(),
            ..scan
        },
        Err(error) => ImageScan { state: ScanState::Failed, why: Some(error.to_string()), ..scan },
    }
}

/// Removes findings that no image has.
fn sweep(dir: &Path, known: &BTreeSet<String>) -> std::io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".json") && !known.contains(&name) {
            std::fs::remove_file(dir.join(name))?;
        }
    }
    Ok(())
}
