//! What the agents of the world's hosts say of its tasks, each of which has the one container `app`.

use model::task::{ContainerPhase, ContainerReport, Health, HealthReport, Input, Phase, Report};

pub(super) fn running() -> Input {
    Input::Reported(Report { phase: Some(Phase::Running), ..Report::default() })
}

pub(super) fn stopped(reason: Option<&str>, exit_code: Option<i32>) -> Input {
    let container = ContainerReport {
        name: "app".to_owned(),
        phase: Some(ContainerPhase::Stopped),
        runtime_id: None,
        image_digest: None,
        exit_code,
        reason: reason.map(str::to_owned),
        bindings: Vec::new(),
    };
    Input::Reported(Report {
        phase: Some(Phase::Stopped),
        containers: vec![container],
        ..Report::default()
    })
}

pub(super) fn health(health: Health) -> Input {
    Input::HealthReported(vec![HealthReport { container: "app".to_owned(), health }])
}
