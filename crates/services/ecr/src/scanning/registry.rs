//! Which repositories are scanned on push by rules of their registry, besides those that say so themselves.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ecr_api::{
    BatchGetRepositoryScanningConfigurationRequest,
    BatchGetRepositoryScanningConfigurationResponse, GetRegistryScanningConfigurationRequest,
    GetRegistryScanningConfigurationResponse, PutRegistryScanningConfigurationRequest,
    PutRegistryScanningConfigurationResponse, RegistryScanningConfiguration, RegistryScanningRule,
    RepositoryScanningConfiguration, RepositoryScanningConfigurationFailure, ScanFrequency,
    ScanType, ScanningConfigurationFailureCode, ScanningRepositoryFilter,
    ScanningRepositoryFilterType,
};
use model::{EcrRepository, EcrScanning, Key, ScanningRule, TheAccount, View};
use store::Batch;

use crate::Ecr;
use crate::catalog::need;
use crate::errors::Refusal;
use crate::request::{repository, repository_arn};

/// Whether what is pushed to a repository is scanned.
pub(crate) fn is_on_push(view: &View, row: &EcrRepository) -> bool {
    let by_rule = || {
        let rules = view.ecr_scannings.get(row.account, &TheAccount);
        rules.is_some_and(|rules| rules.is_on_push(&row.name))
    };
    row.scan_on_push || by_rule()
}

fn read(rule: RegistryScanningRule) -> Result<ScanningRule, ApiError> {
    let on_push = match rule.scan_frequency {
        Some(ScanFrequency::ScanOnPush) => true,
        Some(ScanFrequency::Manual) => false,
        Some(_) | None => {
            let why = "scanFrequency: with BASIC scans it is SCAN_ON_PUSH or MANUAL";
            return Err(Refusal::Unsupported(why).into());
        }
    };
    let filters = rule.repository_filters.unwrap_or_default().into_iter();
    Ok(ScanningRule { on_push, filters: filters.filter_map(|it| it.filter).collect() })
}

fn shown(filter: &str) -> ScanningRepositoryFilter {
    ScanningRepositoryFilter {
        filter: Some(filter.to_owned()),
        filter_type: Some(ScanningRepositoryFilterType::Wildcard),
    }
}

fn frequency(on_push: bool) -> ScanFrequency {
    if on_push { ScanFrequency::ScanOnPush } else { ScanFrequency::Manual }
}

fn render(rules: &[ScanningRule]) -> RegistryScanningConfiguration {
    let rules = rules.iter().map(|rule| RegistryScanningRule {
        scan_frequency: Some(frequency(rule.on_push)),
        repository_filters: Some(rule.filters.iter().map(|filter| shown(filter)).collect()),
    });
    RegistryScanningConfiguration { scan_type: Some(ScanType::Basic), rules: Some(rules.collect()) }
}

/// It takes the place of what was before, as a whole.
pub(crate) async fn put_registry_scanning_configuration(
    ecr: &Ecr,
    caller: &Caller,
    input: PutRegistryScanningConfigurationRequest,
) -> Result<PutRegistryScanningConfigurationResponse, ApiError> {
    let permission = Permission::to("ecr:PutRegistryScanningConfiguration").on("*");
    ecr.control.read(caller, &permission)?;
    if input.scan_type == Some(ScanType::Enhanced) {
        let why = "scanType: ENHANCED scans are Amazon Inspector's, which is not here: BASIC ones are done by the \
                   operator's scanner.";
        return Err(Refusal::Unsupported(why).into());
    }
    let rules = input.rules.unwrap_or_default().into_iter().map(read);
    let rules = rules.collect::<Result<Vec<_>, _>>()?;
    if let [one, other] = &rules[..]
        && one.on_push == other.on_push
    {
        let why = "There may be one rule of each scanFrequency";
        return Err(Refusal::parameter("rules", why).into());
    }
    let account = caller.account;
    ecr.control
        .change(caller, &permission, |view, _| {
            let mut batch = Batch::on(view);
            if rules.is_empty() {
                batch.delete(Key::EcrScanning(account, TheAccount));
            } else {
                batch.put(EcrScanning { account, rules: rules.clone() });
            }
            Ok((batch, ()))
        })
        .await?;
    Ok(PutRegistryScanningConfigurationResponse {
        registry_scanning_configuration: Some(render(&rules)),
    })
}

pub(crate) async fn get_registry_scanning_configuration(
    ecr: &Ecr,
    caller: &Caller,
    _: GetRegistryScanningConfigurationRequest,
) -> Result<GetRegistryScanningConfigurationResponse, ApiError> {
    let permission = Permission::to("ecr:GetRegistryScanningConfiguration").on("*");
    let view = ecr.control.read(caller, &permission)?;
    let row = view.ecr_scannings.get(caller.account, &TheAccount);
    Ok(GetRegistryScanningConfigurationResponse {
        registry_id: Some(caller.account.to_string()),
        scanning_configuration: Some(render(row.map_or(&[], |row| &row.rules))),
    })
}

/// Repositories that are not there are told of beside those that are.
pub(crate) async fn batch_get_repository_scanning_configuration(
    ecr: &Ecr,
    caller: &Caller,
    input: BatchGetRepositoryScanningConfigurationRequest,
) -> Result<BatchGetRepositoryScanningConfigurationResponse, ApiError> {
    let names = input.repository_names.unwrap_or_default();
    let named = names.iter().map(|name| repository(caller, None, Some(name)));
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let region = &ecr.control.config.region;
    let arn = |name: &str| repository_arn(region, caller.account, name);
    let permission = Permission::to("ecr:BatchGetRepositoryScanningConfiguration");
    let permission = permission.on_each(names.iter().map(|name| arn(name)));
    let view = ecr.control.read(caller, &permission)?;
    let rules = view.ecr_scannings.get(caller.account, &TheAccount);
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for repository in &named {
        let name = repository.name.to_string();
        let Ok(row) = need(&view, repository) else {
            failures.push(RepositoryScanningConfigurationFailure {
                repository_name: Some(name),
                failure_code: Some(ScanningConfigurationFailureCode::RepositoryNotFound),
                failure_reason: Some("The repository was not found".to_owned()),
            });
            continue;
        };
        let applied = rules.into_iter().flat_map(|rules| &rules.rules);
        let applied = applied.filter(|rule| rule.on_push);
        let applied = applied.flat_map(|rule| rule.matches(&row.name)).map(|filter| shown(filter));
        let on_push = is_on_push(&view, row);
        found.push(RepositoryScanningConfiguration {
            repository_arn: Some(arn(&name)),
            repository_name: Some(name),
            scan_on_push: Some(on_push),
            scan_frequency: Some(frequency(on_push)),
            applied_scan_filters: Some(applied.collect()),
        });
    }
    Ok(BatchGetRepositoryScanningConfigurationResponse {
        scanning_configurations: Some(found),
        failures: Some(failures),
    })
}
