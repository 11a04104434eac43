//! Repositories that are made by themselves: when an image comes from upstream, or is pushed, and is the first.

use aws_wire::{ApiError, Caller};
use control::iam::Assumption;
use control::{Control, Permission};
use model::ecr::Lifecycle;
use model::{EcrRepository, EcrTemplate, Key, MadeFor, NamePrefix, TagMutability, Tags, View};
use registry::Repository;
use store::Batch;

use super::create_repository::REPOSITORIES_MAX;
use super::errors::Refusal;
use super::request::repository_arn;
use crate::Ecr;

/// Who assumes a template's role.
pub(super) const ROLE_SERVICE: &str = "ecr.amazonaws.com";
/// As long as making a repository may last.
const ROLE_LASTS_MS: u64 = 900_000;

/// The template that says what a repository is to be like: of several that fit its name the most exact one.
fn template<'v>(
    view: &'v View,
    repository: &Repository,
    made_for: MadeFor,
) -> Option<&'v EcrTemplate> {
    let templates = view.ecr_templates.of(repository.account);
    let fitting = templates.filter_map(|row| {
        let prefix = NamePrefix::new(&row.prefix);
        prefix.rest_of(&repository.name)?;
        Some((prefix.weight(), row.as_ref()))
    });
    // One that is not for this leaves nothing to a less exact one: it alone speaks of its names.
    let (_, row) = fitting.max_by_key(|(weight, _)| *weight)?;
    row.made_for.contains(&made_for).then_some(row)
}

/// Makes a repository that is not there, with the permission of whoever wants it. Nothing is pushed into being where no
/// template says so.
pub(super) async fn make(
    control: &Control,
    caller: &Caller,
    repository: &Repository,
    made_for: MadeFor,
) -> Result<(), ApiError> {
    let Repository { account, name } = repository;
    let made = control.decide(|view, now| {
        let mut batch = Batch::on(view);
        if view.ecr_repositories.get(*account, name).is_some() {
            return Ok((batch, false));
        }
        let template = template(view, repository, made_for);
        if template.is_none() && made_for == MadeFor::CreateOnPush {
            return Ok((batch, false));
        }
        let none = Tags::new();
        let tags = template.map_or(&none, |it| &it.tags);
        ask(control, view, caller, repository, template, tags)?;
        if REPOSITORIES_MAX <= view.ecr_repositories.of(*account).count() {
            return Err(Refusal::RepositoryLimit { max: REPOSITORIES_MAX }.into());
        }
        let lifecycle = template.and_then(|it| it.lifecycle.clone());
        batch.rely(Key::EcrRepository(*account, name.clone())).put(EcrRepository {
            account: *account,
            name: name.clone(),
            created_at: now,
            tag_mutability: template.map_or(TagMutability::Mutable, |it| it.tag_mutability),
            mutability_exclusions: template
                .map(|it| it.mutability_exclusions.clone())
                .unwrap_or_default(),
            scan_on_push: false,
            key: None,
            tags: tags.clone(),
            policy: template.and_then(|it| it.policy.clone()),
            lifecycle: lifecycle.map(|text| Lifecycle { text, evaluated_at: None }),
            preview: None,
        });
        Ok((batch, true))
    });
    if made.await? {
        tracing::info!(repository = %name, account = %account, "repository made by itself");
    }
    Ok(())
}

impl Ecr {
    /// Makes the repository that something is pushed to, where a template says so.
    pub(super) async fn make_on_push(
        &self,
        caller: &Caller,
        repository: &Repository,
    ) -> Result<(), ApiError> {
        make(&self.control, caller, repository, MadeFor::CreateOnPush).await
    }
}

/// Whether the caller may have it made, and the template's role may make it.
fn ask(
    control: &Control,
    view: &View,
    caller: &Caller,
    repository: &Repository,
    template: Option<&EcrTemplate>,
    tags: &Tags,
) -> Result<(), ApiError> {
    let account = repository.account;
    let arn = repository_arn(&control.config.region, account, repository.name.as_str());
    let permission = Permission::to("ecr:CreateRepository").on(arn.clone());
    let permission =
        |by: &Caller| permission.clone().tagging_new(by, "ecr:TagResource", arn.clone(), tags);
    control.authorize(view, caller, &permission(caller))?;
    let Some(role) = template.and_then(|it| it.role.as_deref()) else { return Ok(()) };
    let asked = Assumption {
        role,
        service: ROLE_SERVICE,
        source: &arn,
        source_account: account,
        session_name: "repository-creation-template",
        lasts_ms: ROLE_LASTS_MS,
    };
    let acting = control.acting_as(view, &asked, caller.now).map_err(|why| {
        let why = format!("The template's role '{role}' can't be assumed by {ROLE_SERVICE}: {why}");
        ApiError::from(Refusal::Invalid(why))
    })?;
    control.authorize(view, &acting, &permission(&acting))
}
