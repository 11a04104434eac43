//! DescribeCapacityProviders: FARGATE and FARGATE_SPOT, which every account has.

use aws_api::ecs;
use aws_api::ecs::{CapacityProviderStatus, CapacityProviderType};
use aws_wire::{ApiError, Caller};

use super::capacity::{PROVIDERS, is_provider};
use super::failure;
use crate::paging::{PageRequest, page};
use crate::region::Region;

pub(super) fn handle(
    region: &Region,
    caller: &Caller,
    input: ecs::DescribeCapacityProvidersRequest,
) -> Result<ecs::DescribeCapacityProvidersResponse, ApiError> {
    let scope = region.scope(caller);
    let arn = |name: &str| {
        format!("arn:aws:ecs:{}:{}:capacity-provider/{name}", scope.region, scope.account)
    };
    let asked = match input.capacity_providers {
        Some(asked) if !asked.is_empty() => asked,
        _ => PROVIDERS.map(str::to_owned).to_vec(),
    };
    let (mut names, mut failures) = (Vec::new(), Vec::new());
    for given in asked {
        let name = given.strip_prefix(&arn("")).unwrap_or(&given);
        if !is_provider(name) {
            let arn = if given.starts_with("arn:") { given } else { arn(&given) };
            failures.push(failure(arn, "MISSING"));
        } else if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    let request = PageRequest::new(&input.next_token, input.max_results);
    let page = page(request, names.into_iter().map(|name| (name.clone(), name)))?;
    let show = |name: String| ecs::CapacityProvider {
        capacity_provider_arn: Some(arn(&name)),
        status: Some(CapacityProviderStatus::Active),
        tags: Some(Vec::new()),
        r#type: Some(CapacityProviderType::from(name.as_str())),
        name: Some(name),
        ..Default::default()
    };
    Ok(ecs::DescribeCapacityProvidersResponse {
        capacity_providers: Some(page.items.into_iter().map(show).collect()),
        failures: Some(failures),
        next_token: page.next_token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestRegion;

    #[test]
    fn both_fargate_providers_are_there_and_others_are_missing() {
        let world = TestRegion::new();
        let describe = |capacity_providers: Option<Vec<String>>| {
            let input =
                ecs::DescribeCapacityProvidersRequest { capacity_providers, ..Default::default() };
            handle(&world.region, &world.root(), input).unwrap()
        };
        assert_eq!(describe(None).capacity_providers.unwrap().len(), 2);
        let answer = describe(Some(vec!["FARGATE_SPOT".to_owned(), "mine".to_owned()]));
        let provider = &answer.capacity_providers.unwrap()[0];
        assert_eq!(
            provider.capacity_provider_arn.as_deref(),
            Some("arn:aws:ecs:us-east-1:000000000000:capacity-provider/FARGATE_SPOT")
        );
        assert_eq!(answer.failures.unwrap()[0].reason.as_deref(), Some("MISSING"));
    }
}
