//! Rolls services that ask for it when a secret that their containers name has a new current value.
//!
//! That is not ECS's, which leaves tasks with the value that they were started with: a service asks for it by a tag.
//! Nothing is remembered of versions: a secret says since when its current version is that, and a service's newest
//! deployment when it began. So one that was rolled back is not begun again for the same value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::{ApiError, Caller, Origin, Principal};
use control::parameters::ParameterName;
use control::reconcile::{Pass, PassFuture, Queue, Reconciler};
use control::secrets::find_secret;
use ecs_api as api;
use longshore_types::{AccountId, Arn, Timestamp, Uuid};
use model::secret::CURRENT;
use model::service::{Controller, ServiceStatus};
use model::{Index, Key, Seq, Service, View};
use store::{Batch, Change};
use tracing::{info, warn};

use super::Who;
use crate::{Ecs, update_service};

/// The tag of a service that is rolled, and its value.
const TAG: &str = "longshore.roll-on-new-secret";
const ON: &str = "true";

/// What a container's variable or log option is read from, whichever of its versions is meant now.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Secret(AccountId, Arc<str>),
    Parameter(AccountId, Arc<str>),
}

/// Looks at every service that has the tag.
#[derive(Debug)]
pub(crate) struct SecretRolls {
    ecs: Arc<Ecs>,
    /// Whom a source concerns, and what each service names: as of the last change of its row.
    naming: BTreeMap<Source, BTreeSet<Who>>,
    named: BTreeMap<Who, BTreeSet<Source>>,
}

impl SecretRolls {
    pub(crate) fn new(ecs: &Arc<Ecs>) -> Self {
        Self { ecs: Arc::clone(ecs), naming: BTreeMap::new(), named: BTreeMap::new() }
    }

    fn set(&mut self, who: &Who, sources: BTreeSet<Source>) {
        for source in self.named.remove(who).unwrap_or_default() {
            if let Some(services) = self.naming.get_mut(&source) {
                services.remove(who);
                if services.is_empty() {
                    self.naming.remove(&source);
                }
            }
        }
        for source in &sources {
            self.naming.entry(source.clone()).or_default().insert(who.clone());
        }
        if !sources.is_empty() {
            self.named.insert(who.clone(), sources);
        }
    }

    fn wake_naming(&self, source: &Source, seq: Seq, queue: &mut Queue<Who>) {
        for who in self.naming.get(source).into_iter().flatten() {
            queue.changed(who, seq);
        }
    }
}

/// Whether a service is to be rolled at all.
fn is_asked(service: &Service) -> bool {
    service.tags.get(TAG).is_some_and(|value| value == ON)
        && service.status == ServiceStatus::Active
        && service.controller == Controller::Ecs
}

impl Reconciler for SecretRolls {
    type Key = Who;
    type Note = ();
    type Error = ApiError;

    fn name(&self) -> &'static str {
        "secret-rolls"
    }

    fn wake(&mut self, view: &View, change: &Change, queue: &mut Queue<Who>) {
        match &change.key {
            Key::Service(account, id) => {
                let who = Who { account: *account, service: id.clone() };
                let is_asked = view.services.get(*account, id).is_some_and(|row| is_asked(row));
                if is_asked || self.named.contains_key(&who) {
                    self.set(&who, sources(&self.ecs, view, &who));
                    queue.changed(&who, change.seq);
                }
            }
            Key::Secret(account, name) if !self.naming.is_empty() => {
                let source = Source::Secret(*account, Arc::clone(name));
                self.wake_naming(&source, change.seq, queue);
            }
            Key::Parameter(account, name) if !self.naming.is_empty() => {
                let source = Source::Parameter(*account, Arc::clone(name));
                self.wake_naming(&source, change.seq, queue);
            }
            // Rows of other kinds have no secrets.
            _ => {}
        }
    }

    fn keys(&mut self, view: &View) -> Vec<Who> {
        let services = view.members(&Index::LiveServices).filter_map(|key| match key {
            Key::Service(account, service) => {
                let row = view.services.get(*account, service)?;
                let who = Who { account: *account, service: service.clone() };
                is_asked(row).then_some(who)
            }
            _ => None,
        });
        let services: Vec<Who> = services.collect();
        for who in &services {
            self.set(who, sources(&self.ecs, view, who));
        }
        services
    }

    fn pass(&self, who: &Who) -> PassFuture<Result<Pass<()>, ApiError>> {
        let (ecs, who) = (Arc::clone(&self.ecs), who.clone());
        Box::pin(async move { pass(&ecs, &who).await })
    }
}

/// What a service names that is to be rolled; nothing of any other.
fn sources(ecs: &Ecs, view: &View, who: &Who) -> BTreeSet<Source> {
    let definition = view
        .services
        .get(who.account, &who.service)
        .filter(|row| is_asked(row))
        .and_then(|row| view.revision_of(who.account, &who.service, row.revision?))
        .and_then(|revision| view.task_definitions.get(who.account, &revision.definition));
    let document = definition.and_then(|row| ecs.documents.read(row).ok());
    let Some(document) = document else { return BTreeSet::new() };
    let region = ecs.control.config.region.as_str();
    let given = names_of(&document);
    given.filter_map(|given| source_of(view, region, who.account, given)).collect()
}

/// A source that has a value which no deployment was begun with.
fn newer(ecs: &Ecs, view: &View, who: &Who) -> Option<Source> {
    let deployments = view.deployments_of(who.account, &who.service);
    let began = deployments.map(|row| row.created_at).max()?;
    let mut sources = sources(ecs, view, who).into_iter();
    sources.find(|source| since(view, source).is_some_and(|since| began < since))
}

/// Where variables and options of log drivers are read from, as the definition says it.
fn names_of(document: &api::TaskDefinition) -> impl Iterator<Item = &str> {
    let containers = document.container_definitions.iter().flatten();
    let secrets = containers.flat_map(|container| {
        let log = container.log_configuration.as_ref();
        let options = log.and_then(|log| log.secret_options.as_ref());
        container.secrets.iter().chain(options).flatten()
    });
    secrets.filter_map(|secret| secret.value_from.as_deref())
}

/// What a `valueFrom` names; none if it names a version for good, or a stage other than the current one, or something of
/// another account: naming it takes no right, and a deployment would tell when it has a new value.
fn source_of(view: &View, region: &str, account: AccountId, given: &str) -> Option<Source> {
    let arn = Arn::parse(given).ok();
    if arn.is_none_or(|arn| arn.service != "secretsmanager") {
        let name = ParameterName::parse(region, account, given)?;
        let is_latest = name.selector.is_none();
        let is_own = name.account == account;
        return (is_latest && is_own).then(|| Source::Parameter(name.account, name.name.into()));
    }
    // `arn:aws:secretsmanager:region:account:secret:name`, then the JSON key, the stage and the version.
    let fields: Vec<&str> = given.split(':').collect();
    let whole = fields.get(..7)?.join(":");
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    let is_current = ["", CURRENT].contains(&field(8)) && field(9).is_empty();
    let secret = find_secret(view, region, account, &whole)?;
    let secret = Some(secret).filter(|row| is_current && row.account == account)?;
    Some(Source::Secret(secret.account, Arc::clone(&secret.name)))
}

/// Since when a source has the value that it has.
fn since(view: &View, source: &Source) -> Option<Timestamp> {
    match source {
        Source::Secret(account, name) => view.secrets.get(*account, name)?.current_since,
        Source::Parameter(account, name) => {
            let row = view.parameters.get(*account, name)?;
            let version = view.parameter_versions.get(*account, &row.version_id(row.latest))?;
            Some(version.modified_at)
        }
    }
}

async fn pass(ecs: &Ecs, who: &Who) -> Result<Pass<()>, ApiError> {
    let decided = ecs.control.decide(|view, now| {
        let Some(newer) = newer(ecs, view, who) else { return Ok((Batch::on(view), view.seq)) };
        let what = match &newer {
            Source::Secret(_, name) | Source::Parameter(_, name) => name,
        };
        let caller = caller(ecs, who, now);
        let input = api::UpdateServiceRequest {
            cluster: Some(who.service.cluster.to_string()),
            service: Some(who.service.name.to_string()),
            force_new_deployment: Some(true),
            ..api::UpdateServiceRequest::default()
        };
        match update_service::decide(ecs, &caller, &input, view, now) {
            Ok((batch, _)) => {
                info!(service = %who.service, secret = %what, "service rolled for a new value");
                Ok((batch, view.seq))
            }
            Err(error) if error.is_fault() => Err(error),
            Err(error) => {
                let why = &error.message;
                warn!(service = %who.service, secret = %what, error = %why, "service not rolled for a new value");
                Ok((Batch::on(view), view.seq))
            }
        }
    });
    Ok(Pass { looked_at: decided.await?, is_over: true, ..Pass::default() })
}

/// The account itself: whoever may tag a service may have it rolled.
fn caller(ecs: &Ecs, who: &Who, now: Timestamp) -> Caller {
    Caller {
        account: who.account,
        region: ecs.control.config.region.clone(),
        access_key: String::new(),
        principal: Principal::Root,
        session: None,
        origin: Origin::default(),
        request_id: Uuid::mint(ecs.control.ids.as_ref()),
        now,
    }
}
