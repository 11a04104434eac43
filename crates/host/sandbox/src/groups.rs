//! Control groups of tasks alone, for containers that somebody else makes below them.
//!
//! No shim is started for it, and the switch that makes moves cheap is left alone: what else runs containers on the host
//! need not know the hierarchy that it takes.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::cgroup::Cgroups;
use crate::error::SandboxError;
use crate::ids::{ContainerId, GroupId};
use crate::spec::GroupLimits;
use crate::usage::Usage;

/// The groups below one of ours. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Groups {
    cgroups: Arc<Cgroups>,
}

impl Groups {
    /// `parent` is relative to each hierarchy. Needs root.
    pub fn open(parent: &Path) -> Result<Self, SandboxError> {
        let cgroups = Cgroups::detect(parent)?;
        cgroups.all().make()?;
        Ok(Self { cgroups: Arc::new(cgroups) })
    }

    /// Makes a task's group, or sets its limits anew.
    pub async fn create(&self, group: &GroupId, limits: GroupLimits) -> Result<(), SandboxError> {
        let group = group.clone();
        self.blocking(move |cgroups| {
            let cgroup = cgroups.group(&group);
            cgroup.make()?;
            cgroup.limit_group(&limits)
        })
        .await
    }

    /// Removes a task's group and kills whatever is in it. A missing one is fine.
    pub async fn remove(&self, group: &GroupId) -> Result<(), SandboxError> {
        let group = group.clone();
        self.blocking(move |cgroups| cgroups.group(&group).remove()).await
    }

    /// All that there are.
    pub async fn list(&self) -> Result<Vec<GroupId>, SandboxError> {
        self.blocking(|cgroups| {
            let names = cgroups.all().children();
            Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
        })
        .await
    }

    /// What has been used in the group `name` below a task's.
    pub async fn usage(&self, group: &GroupId, name: &ContainerId) -> Result<Usage, SandboxError> {
        let (group, name) = (group.clone(), name.clone());
        self.blocking(move |cgroups| Ok(cgroups.container(&group, &name).usage())).await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Cgroups) -> Result<T, SandboxError> + Send + 'static,
    ) -> Result<T, SandboxError> {
        let cgroups = Arc::clone(&self.cgroups);
        let done = tokio::task::spawn_blocking(move || work(&cgroups)).await;
        done.unwrap_or_else(|error| Err(SandboxError::io("work on files", io::Error::other(error))))
    }
}
