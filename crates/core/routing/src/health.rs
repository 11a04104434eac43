//! What a target's checks amount to: counters of results in a row, and a state.

use crate::group::{HealthCheck, TargetState};
use crate::report::Finding;

/// The result of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// It answered, with a code that does not pass.
    Code(u16),
    TimedOut,
    /// Refused, cut off, or not what was to be expected.
    Failed,
}

/// The state of one target's checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    pub finding: Finding,
    /// Results in a row that speak against the finding.
    against: u32,
}

impl Health {
    /// Where a balancer begins: with what the region knows.
    pub fn begin(state: TargetState) -> Self {
        let finding = match state {
            TargetState::Initial => Finding::Initial,
            TargetState::Healthy => Finding::Healthy,
            TargetState::Unhealthy => Finding::Failed,
            TargetState::Draining { .. } | TargetState::Unused => Finding::NotChecked,
        };
        Self { finding, against: 0 }
    }

    pub fn is_healthy(self) -> bool {
        self.finding == Finding::Healthy
    }

    /// After one more check. One pass makes a new target healthy, whatever the threshold says.
    #[must_use]
    pub fn after(self, outcome: Outcome, check: &HealthCheck) -> Self {
        let finding = match outcome {
            Outcome::Passed => Finding::Healthy,
            Outcome::Code(code) => Finding::CodeMismatch(code),
            Outcome::TimedOut => Finding::Timeout,
            Outcome::Failed => Finding::Failed,
        };
        let needed = match (self.finding, outcome) {
            (Finding::Initial | Finding::NotChecked, Outcome::Passed) => 1,
            (Finding::Healthy, Outcome::Passed) => return Self { against: 0, ..self },
            (Finding::Healthy | Finding::Initial | Finding::NotChecked, _) => check.unhealthy_count,
            (Finding::CodeMismatch(_) | Finding::Timeout | Finding::Failed, Outcome::Passed) => {
                check.healthy_count
            }
            // Unhealthy and failing again: the newest reason is shown.
            (Finding::CodeMismatch(_) | Finding::Timeout | Finding::Failed, _) => {
                return Self { finding, against: 0 };
            }
        };
        let against = self.against + 1;
        if against >= needed { Self { finding, against: 0 } } else { Self { against, ..self } }
    }
}
