//! DescribeRepositories.

use aws_wire::{ApiError, Caller};
use ecr_api::{DescribeRepositoriesRequest, DescribeRepositoriesResponse};

use super::errors::{Refusal, of_catalog};
use super::pages::page;
use super::request::{not_own_registry, repository};
use crate::Ecr;
use crate::catalog::need;

/// How many may be asked for by name.
const NAMES_MAX: usize = 100;

pub(super) async fn describe_repositories(
    ecr: &Ecr,
    caller: &Caller,
    input: DescribeRepositoriesRequest,
) -> Result<DescribeRepositoriesResponse, ApiError> {
    // Without names it is about all that there is, which policies write as `repository/*`.
    let all = ["*".to_owned()];
    let registry_id = input.registry_id.as_ref();
    let names = input.repository_names.as_deref().filter(|names| !names.is_empty());
    let names = names.unwrap_or(&all);
    let permission = ecr.on(caller, "ecr:DescribeRepositories", &input.registry_id, names);
    // Policies of repositories open them one by one to others, by name.
    let is_others = registry_id.is_some_and(|id| id != caller.account.as_str());
    if is_others && names == all {
        return Err(not_own_registry(caller));
    }
    let view = ecr.control.read(caller, &permission)?;
    let Some(names) = input.repository_names.filter(|names| !names.is_empty()) else {
        let rows = view.ecr_repositories.of(caller.account);
        let rows = rows.map(|row| (row.name.to_string(), ecr.render_repository(row)));
        let (shown, next_token) = page(input.next_token.as_deref(), input.max_results, rows)?;
        return Ok(DescribeRepositoriesResponse { repositories: Some(shown), next_token });
    };
    if names.len() > NAMES_MAX {
        let rule = format!("Member must have length less than or equal to {NAMES_MAX}");
        return Err(Refusal::parameter("repositoryNames", rule).into());
    }
    if input.next_token.is_some() || input.max_results.is_some() {
        let rule = "cannot be combined with nextToken or maxResults";
        return Err(Refusal::parameter("repositoryNames", rule).into());
    }
    let repositories = names.iter().map(|name| {
        let repository = repository(caller, registry_id, Some(name))?;
        let row = need(&view, &repository).map_err(of_catalog)?;
        Ok(ecr.render_repository(row))
    });
    let repositories = repositories.collect::<Result<_, ApiError>>()?;
    Ok(DescribeRepositoriesResponse { repositories: Some(repositories), next_token: None })
}
