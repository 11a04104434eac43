//! The policies of resources that are rows.

use std::sync::Arc;

use model::{ResourcePolicyText, TheAccount, View};
use policy::Policy;

/// How the ARNs of registries and repositories begin.
const ECR: &str = "arn:aws:ecr:";

/// Whether [`resource_policies_of`] may find any; surely not if this says so.
pub(crate) fn may_have_policies(arn: &str) -> bool {
    arn.starts_with(ECR)
}

/// The policies that the resource with this ARN is under by itself: a repository's, and its registry's.
pub fn resource_policies_of(view: &View, arn: &str) -> Vec<Arc<Policy>> {
    let Some(rest) = arn.strip_prefix(ECR) else { return Vec::new() };
    let mut fields = rest.splitn(3, ':').skip(1);
    let (Some(account), Some(resource)) = (fields.next(), fields.next()) else {
        return Vec::new();
    };
    let Ok(account) = account.parse() else { return Vec::new() };
    let name = resource.strip_prefix("repository/").and_then(|name| name.parse().ok());
    let row = name.and_then(|name| view.ecr_repositories.get(account, &name));
    let registry = view.ecr_registries.get(account, &TheAccount).map(|row| &row.policy);
    let policies = row.and_then(|row| row.policy.as_ref()).into_iter().chain(registry);
    policies.map(ResourcePolicyText::policy).map(Arc::clone).collect()
}
