//! A request on its way, so that it leaves its line in the audit log however it ends.
//!
//! **Invariant:** each request is noted once: with its answer's status, or with [`HUNG_UP`] where the caller went
//! away first. What it had decided by then is committed all the same.

use aws_wire::Trail;
use longshore_types::Uuid;

use super::RegionApi;
use crate::audit::Outcome;

/// The status of a request whose caller did not wait for the answer; nobody is sent it. nginx has the same.
pub(super) const HUNG_UP: u16 = 499;

/// What the logs say of a request besides its answer.
#[derive(Default)]
pub(super) struct Trace {
    pub(super) service: &'static str,
    /// Empty for the registry, whose actions say what it was.
    pub(super) operation: String,
    pub(super) account: String,
    pub(super) error_code: Option<String>,
}

/// A request that is not answered yet.
pub(super) struct Watched<'r, S: RegionApi> {
    region: &'r S,
    request_id: Uuid,
    trail: Trail,
    pub(super) trace: Trace,
    is_noted: bool,
}

impl<'r, S: RegionApi> Watched<'r, S> {
    pub(super) fn new(region: &'r S, request_id: Uuid, trail: Trail) -> Self {
        Self { region, request_id, trail, trace: Trace::default(), is_noted: false }
    }

    /// It is answered with this status.
    pub(super) fn answered(mut self, status: u16) {
        self.note(status);
    }

    fn note(&mut self, status: u16) {
        if std::mem::replace(&mut self.is_noted, true) || !self.trail.is_on() {
            return;
        }
        let Trace { service, operation, error_code, .. } = std::mem::take(&mut self.trace);
        let (time, request_id) = (self.region.now(), self.request_id);
        let outcome = Outcome { time, request_id, service, operation, status, error_code };
        self.region.answered(outcome, &self.trail);
    }
}

impl<S: RegionApi> Drop for Watched<'_, S> {
    fn drop(&mut self) {
        self.note(HUNG_UP);
    }
}
