//! The tags of what policies are asked about: of every resource that is a row.

use model::{DeploymentKey, NameKey, ServiceId, Tags, View};

use super::managed_instances;
use crate::parameters::ParameterName;
use crate::secrets::find_secret;

/// The tags of the resource with this ARN, as the view has it.
pub fn tags_of<'a>(view: &'a View, arn: &str) -> Option<&'a Tags> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", _, service, region, account, rest] = parts.as_slice() else { return None };
    let account = account.parse().ok()?;
    let path: Vec<&str> = rest.split('/').collect();
    match (*service, path.as_slice()) {
        ("ecs", ["cluster", name]) => {
            view.clusters.get(account, &name.parse().ok()?).map(|row| &row.tags)
        }
        ("ecs", ["service", cluster, name]) => {
            let id = ServiceId { cluster: cluster.parse().ok()?, name: name.parse().ok()? };
            view.services.get(account, &id).map(|row| &row.tags)
        }
        ("ecs", ["task", _, id]) => view.tasks.get(account, &id.parse().ok()?).map(|row| &row.tags),
        ("ecs", ["container-instance", _, id]) => {
            view.instances.get(account, &id.parse().ok()?).map(|row| &row.tags)
        }
        ("ecs", ["task-definition", name]) => {
            view.task_definitions.get(account, &name.parse().ok()?).map(|row| &row.tags)
        }
        ("ecs", ["capacity-provider", name]) => {
            let found = view.capacity_providers.of(account).find(|row| *row.name == **name);
            found.map(|row| &row.tags)
        }
        ("ecs", ["task-set", cluster, service, "ecs-svc", number]) => {
            let service = ServiceId { cluster: cluster.parse().ok()?, name: service.parse().ok()? };
            let id = format!("ecs-svc/{number}").parse().ok()?;
            view.task_sets.get(account, &DeploymentKey { service, id }).map(|row| &row.tags)
        }
        ("ecr", ["repository", name @ ..]) => {
            let name = name.join("/").parse().ok()?;
            view.ecr_repositories.get(account, &name).map(|row| &row.tags)
        }
        ("elasticloadbalancing", [kind, ..]) => {
            let path = rest.split_once('/').map(|(_, path)| path.into())?;
            match *kind {
                "loadbalancer" => view.elb_balancers.get(account, &path).map(|row| &row.tags),
                "targetgroup" => view.elb_groups.get(account, &path).map(|row| &row.tags),
                "listener" => view.elb_listeners.get(account, &path).map(|row| &row.tags),
                "listener-rule" => view.elb_rules.get(account, &path).map(|row| &row.tags),
                _ => None,
            }
        }
        ("iam", [kind, .., name]) => {
            let key = NameKey::of(name);
            match *kind {
                "user" => view.iam_users.get(account, &key).map(|row| &row.tags),
                "role" => view.iam_roles.get(account, &key).map(|row| &row.tags),
                "policy" => view.iam_policies.get(account, &key).map(|row| &row.tags),
                "instance-profile" => {
                    view.iam_instance_profiles.get(account, &key).map(|row| &row.tags)
                }
                "mfa" => {
                    let name = rest.strip_prefix("mfa")?;
                    view.iam_mfa_devices.get(account, &NameKey::of(name)).map(|row| &row.tags)
                }
                "oidc-provider" => {
                    let url = rest.strip_prefix("oidc-provider/")?;
                    view.iam_oidc_providers.get(account, &url.into()).map(|row| &row.tags)
                }
                _ => None,
            }
        }
        ("acm", ["certificate", id]) => {
            view.acm_certificates.get(account, &id.parse().ok()?).map(|row| &row.tags)
        }
        ("servicediscovery", ["namespace", id]) => {
            view.map_namespaces.get(account, &(*id).into()).map(|row| &row.tags)
        }
        ("servicediscovery", ["service", id]) => {
            view.map_services.get(account, &(*id).into()).map(|row| &row.tags)
        }
        ("cloudwatch", _) => {
            let name = rest.strip_prefix("alarm:")?;
            view.metric_alarms.get(account, &name.into()).map(|row| &row.tags)
        }
        ("application-autoscaling", ["scalable-target", id]) => {
            let found = view.scalable_targets.of(account).find(|row| row.id == *id);
            found.map(|row| &row.tags)
        }
        ("events", ["rule", name]) => {
            view.event_rules.get(account, &(*name).into()).map(|row| &row.tags)
        }
        ("kms", ["key", id]) => view.kms_keys.get(account, &id.parse().ok()?).map(|row| &row.tags),
        ("ec2", [_, id]) => view.tags_on(account, id),
        ("secretsmanager", _) => find_secret(view, region, account, arn).map(|row| &row.tags),
        ("ssm", ["parameter", ..]) => {
            let named = ParameterName::parse(region, account, arn)?;
            view.parameters.get(named.account, &named.name.into()).map(|row| &row.tags)
        }
        ("ssm", ["managed-instance", id]) => {
            managed_instances::find(view, account, id).map(|(_, managed)| &managed.tags)
        }
        _ => None,
    }
}
