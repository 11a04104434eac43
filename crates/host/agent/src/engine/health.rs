//! A container's health check: Docker's rules for the verdict, and the loop that asks.

use longshore_types::{Chain, Timestamp};
use sandbox::{ExecResult, SandboxError};

use super::state::{Health, HealthSaid};
use crate::limits::HEALTH_OUTPUT_MAX;
use crate::spec::HealthSpec;

/// While a container has not been healthy yet, it is asked at least this often.
const STARTING_INTERVAL_MS: u64 = 1_000;

/// What was seen so far of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Checks {
    started_at: Timestamp,
    failures: u32,
    verdict: Health,
}

impl Checks {
    /// `verdict` is what an earlier agent had found.
    pub(crate) fn new(started_at: Timestamp, verdict: Health) -> Self {
        Self { started_at, failures: 0, verdict }
    }

    /// Takes in one result. Failures do not count while the container is starting.
    pub(crate) fn take(&mut self, spec: &HealthSpec, is_success: bool, now: Timestamp) -> Health {
        if is_success {
            self.failures = 0;
            self.verdict = Health::Healthy;
        } else if !self.is_starting(spec, now) {
            self.failures = self.failures.saturating_add(1);
            if spec.retries <= self.failures {
                self.verdict = Health::Unhealthy;
            }
        }
        self.verdict
    }

    fn is_starting(&self, spec: &HealthSpec, now: Timestamp) -> bool {
        self.verdict == Health::Unknown && now.since_ms(self.started_at) < spec.start_period_ms
    }

    /// How long to wait before the next check.
    pub(crate) fn pause_ms(&self, spec: &HealthSpec, now: Timestamp) -> u64 {
        if self.is_starting(spec, now) {
            spec.interval_ms.min(STARTING_INTERVAL_MS)
        } else {
            spec.interval_ms
        }
    }
}

/// What a check answered, or why it could not be run.
pub(super) fn said_by(result: Result<ExecResult, SandboxError>) -> HealthSaid {
    let mut said = match result {
        Ok(result) => HealthSaid {
            exit_code: result.exit_code,
            output: String::from_utf8_lossy(&result.output).into_owned(),
        },
        Err(error) => HealthSaid { exit_code: -1, output: Chain(&error).to_string() },
    };
    let mut end = said.output.len().min(HEALTH_OUTPUT_MAX);
    while !said.output.is_char_boundary(end) {
        end -= 1;
    }
    said.output.truncate(end);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> HealthSpec {
        HealthSpec {
            argv: vec!["true".into()],
            by_shell: false,
            interval_ms: 5_000,
            timeout_ms: 1_000,
            retries: 2,
            start_period_ms: 10_000,
        }
    }

    #[test]
    fn failures_count_only_after_the_start_period_and_only_in_a_row() {
        let mut checks = Checks::new(Timestamp(0), Health::Unknown);
        for at in [1, 5_000, 9_999] {
            assert_eq!(checks.take(&spec(), false, Timestamp(at)), Health::Unknown);
        }
        assert_eq!(checks.take(&spec(), false, Timestamp(10_000)), Health::Unknown);
        assert_eq!(checks.take(&spec(), true, Timestamp(11_000)), Health::Healthy);
        assert_eq!(checks.take(&spec(), false, Timestamp(12_000)), Health::Healthy);
        assert_eq!(checks.take(&spec(), false, Timestamp(13_000)), Health::Unhealthy);
        assert_eq!(checks.take(&spec(), true, Timestamp(14_000)), Health::Healthy);
    }

    #[test]
    fn a_starting_container_is_asked_more_often() {
        let checks = Checks::new(Timestamp(0), Health::Unknown);
        assert_eq!(checks.pause_ms(&spec(), Timestamp(1)), 1_000);
        assert_eq!(checks.pause_ms(&spec(), Timestamp(10_000)), 5_000);
    }

    #[test]
    fn a_container_that_was_healthy_once_is_not_starting_any_more() {
        let mut checks = Checks::new(Timestamp(0), Health::Unknown);
        checks.take(&spec(), true, Timestamp(1));
        checks.take(&spec(), false, Timestamp(2));
        assert_eq!(checks.take(&spec(), false, Timestamp(3)), Health::Unhealthy);
    }
}
