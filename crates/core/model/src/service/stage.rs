//! How far a rollout has come, as one state; ECS's words for it follow.
//!
//! ECS shows a rollout twice: as a deployment of its service (`rolloutState`), and as a record of its own (the
//! status of a service deployment). Both are functions of [`Stage`]. A row keeps the two words, as it always has.

use serde::{Deserialize, Serialize};

/// How far a rollout has come, in life order. It only moves on, with one exception: a deployment that was
/// completed is taken up again ([`Stage::Restoring`]) when a later one is undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "Words", into = "Words")]
pub enum Stage {
    /// Made by a request; the reconciler has not looked at it.
    Pending,
    /// Tasks are started and stopped until the service has its revision.
    InProgress,
    /// A request wants it stopped, and the service left as it is.
    StopRequested,
    /// A request wants it undone.
    RollbackRequested,
    /// It failed, and another deployment is undoing it.
    RollingBack,
    /// A newer deployment took its place while it was in progress.
    Superseded,
    /// It failed or was stopped, and nothing undoes it.
    Stopped,
    /// It failed, and was undone.
    RolledBack,
    /// It failed, and could not be undone.
    RollbackFailed,
    /// The service has its revision.
    Completed,
    /// It was completed, and is brought back since a later deployment is being undone.
    Restoring,
    /// It was to bring a service back, and its tasks failed.
    RestoreFailed,
}

impl Stage {
    /// `rolloutState` of a deployment.
    pub const fn rollout_state(self) -> &'static str {
        self.words().rollout.as_str()
    }

    /// The status of a service deployment.
    pub const fn record_status(self) -> &'static str {
        self.words().status.as_str()
    }

    /// Whether the service is still brought to its revision, or would be if no newer deployment had come:
    /// `rolloutState` is `IN_PROGRESS`.
    pub const fn is_rolling(self) -> bool {
        matches!(self.words().rollout, RolloutState::InProgress)
    }

    /// Whether it failed or was stopped: no more tasks are started for it.
    pub const fn has_failed(self) -> bool {
        matches!(self.words().rollout, RolloutState::Failed)
    }

    /// Whether nothing more will become of its record.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending
            | Self::InProgress
            | Self::StopRequested
            | Self::RollbackRequested
            | Self::RollingBack => false,
            Self::Superseded
            | Self::Stopped
            | Self::RolledBack
            | Self::RollbackFailed
            | Self::Completed
            | Self::Restoring
            | Self::RestoreFailed => true,
        }
    }

    /// Whether it was completed once, also where that is being restored.
    pub const fn was_done(self) -> bool {
        match self {
            Self::Completed | Self::Restoring | Self::RestoreFailed => true,
            Self::Pending
            | Self::InProgress
            | Self::StopRequested
            | Self::RollbackRequested
            | Self::RollingBack
            | Self::Superseded
            | Self::Stopped
            | Self::RolledBack
            | Self::RollbackFailed => false,
        }
    }

    /// What becomes of it when a newer deployment takes its place; final stages stay.
    #[must_use]
    pub const fn superseded(self) -> Self {
        match self {
            Self::Pending | Self::InProgress | Self::StopRequested | Self::RollbackRequested => {
                Self::Superseded
            }
            Self::RollingBack => Self::Stopped,
            Self::Superseded
            | Self::Stopped
            | Self::RolledBack
            | Self::RollbackFailed
            | Self::Completed
            | Self::Restoring
            | Self::RestoreFailed => self,
        }
    }

    /// What becomes of it when its service is deleted: what was not done has failed.
    #[must_use]
    pub const fn abandoned(self) -> Self {
        match self {
            Self::Pending
            | Self::InProgress
            | Self::StopRequested
            | Self::RollbackRequested
            | Self::RollingBack
            | Self::Superseded => Self::Stopped,
            Self::Restoring => Self::RestoreFailed,
            Self::Stopped
            | Self::RolledBack
            | Self::RollbackFailed
            | Self::Completed
            | Self::RestoreFailed => self,
        }
    }

    const fn words(self) -> Words {
        use RecordStatus as Record;
        use RolloutState as Rollout;
        let (rollout, status) = match self {
            Self::Pending => (Rollout::InProgress, Record::Pending),
            Self::InProgress => (Rollout::InProgress, Record::InProgress),
            Self::StopRequested => (Rollout::InProgress, Record::StopRequested),
            Self::RollbackRequested => (Rollout::InProgress, Record::RollbackRequested),
            Self::RollingBack => (Rollout::Failed, Record::RollbackInProgress),
            Self::Superseded => (Rollout::InProgress, Record::Stopped),
            Self::Stopped => (Rollout::Failed, Record::Stopped),
            Self::RolledBack => (Rollout::Failed, Record::RollbackSuccessful),
            Self::RollbackFailed => (Rollout::Failed, Record::RollbackFailed),
            Self::Completed => (Rollout::Completed, Record::Successful),
            Self::Restoring => (Rollout::InProgress, Record::Successful),
            Self::RestoreFailed => (Rollout::Failed, Record::Successful),
        };
        Words { rollout, status }
    }
}

/// A stage as it is on disk, and as ECS shows it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Words {
    rollout: RolloutState,
    status: RecordStatus,
}

impl From<Stage> for Words {
    fn from(stage: Stage) -> Self {
        stage.words()
    }
}

impl From<Words> for Stage {
    /// Every pair that a row can have; those that no stage is written as are older releases'.
    fn from(Words { rollout, status }: Words) -> Self {
        match (rollout, status) {
            (RolloutState::Completed, _) => Self::Completed,
            (RolloutState::InProgress, RecordStatus::Successful) => Self::Restoring,
            (RolloutState::InProgress, RecordStatus::Stopped) => Self::Superseded,
            // One that undid another and failed had no record, so its status was left as it was.
            (RolloutState::Failed, RecordStatus::Successful | RecordStatus::InProgress) => {
                Self::RestoreFailed
            }
            (_, RecordStatus::Pending) => Self::Pending,
            (RolloutState::InProgress, RecordStatus::InProgress) => Self::InProgress,
            (_, RecordStatus::StopRequested) => Self::StopRequested,
            (_, RecordStatus::RollbackRequested) => Self::RollbackRequested,
            (_, RecordStatus::RollbackInProgress) => Self::RollingBack,
            (RolloutState::Failed, RecordStatus::Stopped) => Self::Stopped,
            (_, RecordStatus::RollbackSuccessful) => Self::RolledBack,
            (_, RecordStatus::RollbackFailed) => Self::RollbackFailed,
        }
    }
}

/// `rolloutState`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum RolloutState {
    InProgress,
    Completed,
    Failed,
}

impl RolloutState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
        }
    }
}

/// The status of a service deployment.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum RecordStatus {
    Pending,
    InProgress,
    StopRequested,
    Stopped,
    Successful,
    RollbackRequested,
    RollbackInProgress,
    RollbackSuccessful,
    RollbackFailed,
}

impl RecordStatus {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::InProgress => "IN_PROGRESS",
            Self::StopRequested => "STOP_REQUESTED",
            Self::Stopped => "STOPPED",
            Self::Successful => "SUCCESSFUL",
            Self::RollbackRequested => "ROLLBACK_REQUESTED",
            Self::RollbackInProgress => "ROLLBACK_IN_PROGRESS",
            Self::RollbackSuccessful => "ROLLBACK_SUCCESSFUL",
            Self::RollbackFailed => "ROLLBACK_FAILED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Stage; 12] = [
        Stage::Pending,
        Stage::InProgress,
        Stage::StopRequested,
        Stage::RollbackRequested,
        Stage::RollingBack,
        Stage::Superseded,
        Stage::Stopped,
        Stage::RolledBack,
        Stage::RollbackFailed,
        Stage::Completed,
        Stage::Restoring,
        Stage::RestoreFailed,
    ];

    #[test]
    fn every_stage_is_read_back_from_the_two_words_that_it_is_written_as() {
        for stage in ALL {
            assert_eq!(Stage::from(Words::from(stage)), stage);
            let json = serde_json::to_string(&stage).unwrap();
            assert_eq!(serde_json::from_str::<Stage>(&json).unwrap(), stage, "{json}");
        }
        let json = serde_json::to_string(&Stage::RollingBack).unwrap();
        assert_eq!(json, r#"{"rollout":"Failed","status":"RollbackInProgress"}"#);
    }

    #[test]
    fn a_stage_is_shown_with_one_pair_of_ecs_words() {
        let shown = |stage: Stage| (stage.rollout_state(), stage.record_status());
        assert_eq!(shown(Stage::Pending), ("IN_PROGRESS", "PENDING"));
        assert_eq!(shown(Stage::Superseded), ("IN_PROGRESS", "STOPPED"));
        assert_eq!(shown(Stage::Restoring), ("IN_PROGRESS", "SUCCESSFUL"));
        let pairs: std::collections::BTreeSet<_> = ALL.into_iter().map(shown).collect();
        assert_eq!(pairs.len(), ALL.len(), "no two stages look alike");
    }

    #[test]
    fn whoever_takes_a_deployments_place_or_its_service_away_moves_it_on_to_a_final_stage() {
        for stage in ALL {
            for next in [stage.superseded(), stage.abandoned()] {
                assert!(stage <= next && next.is_final(), "{stage:?} to {next:?}");
            }
            assert!(!stage.abandoned().is_rolling(), "{stage:?}");
        }
    }
}
