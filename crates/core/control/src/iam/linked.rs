//! Service-linked roles: made by name of a service, which alone may change them.

use std::sync::Arc;

use aws_wire::{Caller, Trail};
use longshore_types::{AccountId, IdSource, Timestamp};
use model::{Grants, IamRole, Key, NameKey, TrustText, View};
use store::Batch;

use crate::{Control, Permission};

/// The service that runs tasks.
pub const ECS: &str = "ecs.amazonaws.com";

/// The service that reads the credentials of pull-through cache rules.
pub const PULL_THROUGH: &str = "pullthroughcache.ecr.amazonaws.com";

/// The service that scales services of ECS.
pub const SCALING: &str = "ecs.application-autoscaling.amazonaws.com";

/// The service of load balancers.
pub const BALANCERS: &str = "elasticloadbalancing.amazonaws.com";

/// How long a role's session lasts at most unless the role says otherwise.
pub const SESSION_S_DEFAULT: u32 = 3_600;

/// A service that has such a role.
#[derive(Debug)]
pub struct Linked {
    pub service: &'static str,
    pub role: &'static str,
    policy: &'static str,
}

const LINKED: &[Linked] = &[
    Linked {
        service: ECS,
        role: "AWSServiceRoleForECS",
        policy: "arn:aws:iam::aws:policy/aws-service-role/AmazonECSServiceRolePolicy",
    },
    Linked {
        service: SCALING,
        role: "AWSServiceRoleForApplicationAutoScaling_ECSService",
        policy: "arn:aws:iam::aws:policy/aws-service-role/AWSApplicationAutoscalingECSServicePolicy",
    },
    Linked {
        service: BALANCERS,
        role: "AWSServiceRoleForElasticLoadBalancing",
        policy: "arn:aws:iam::aws:policy/aws-service-role/AWSElasticLoadBalancingServiceRolePolicy",
    },
    Linked {
        service: PULL_THROUGH,
        role: "AWSServiceRoleForECRPullThroughCache",
        policy: "arn:aws:iam::aws:policy/aws-service-role/AWSECRPullThroughCache_ServiceRolePolicy",
    },
];

/// The role of a service that has one.
pub fn find(service: &str) -> Option<&'static Linked> {
    LINKED.iter().find(|known| known.service == service)
}

/// To have such a role made.
pub fn permission(account: AccountId, service: &str, role: &str) -> Permission {
    Permission::to("iam:CreateServiceLinkedRole")
        .on(format!("arn:aws:iam::{account}:role/aws-service-role/{service}/{role}"))
        .with("iam:AWSServiceName", service.to_owned())
}

impl Control {
    /// Makes the role of a service that an account uses for the first time, as far as the caller may have it made. Nothing here
    /// needs it, so that whoever may not does without, as with `CreateCluster` at Amazon.
    pub fn make_linked(
        &self,
        view: &View,
        caller: &Caller,
        service: &str,
        now: Timestamp,
        batch: &mut Batch,
    ) {
        let Some(linked) = find(service).filter(|it| !it.is_there(view, caller.account)) else {
            return;
        };
        let permission = permission(caller.account, linked.service, linked.role);
        // That it may not is no denial of what it asked for, and is not told as one.
        let mut quiet = caller.clone();
        quiet.origin.trail = Trail::default();
        if self.authorize(view, &quiet, &permission).is_ok()
            && self.authorize(view, caller, &permission).is_ok()
        {
            let role = linked.role_of(caller.account, self.ids.as_ref(), now);
            batch.rely(Key::IamRole(caller.account, NameKey::of(linked.role))).put(role);
        }
    }
}

impl Linked {
    pub fn arn(&self, account: AccountId) -> String {
        format!("arn:aws:iam::{account}:role/aws-service-role/{}/{}", self.service, self.role)
    }

    /// Whether the account has it.
    pub fn is_there(&self, view: &View, account: AccountId) -> bool {
        view.iam_roles.get(account, &NameKey::of(self.role)).is_some()
    }

    /// The role as it is made.
    pub fn role_of(&self, account: AccountId, ids: &dyn IdSource, now: Timestamp) -> IamRole {
        let service = self.service;
        let trust = format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{{"Service":["{service}"]}},"Action":["sts:AssumeRole"]}}]}}"#
        );
        IamRole {
            account,
            name: self.role.into(),
            path: format!("/aws-service-role/{service}/").into(),
            unique_id: Arc::from(unique_id("AROA", ids)),
            created_at: now,
            description: None,
            max_session_s: SESSION_S_DEFAULT,
            trust: TrustText::new(&trust, [].into()),
            tags: [].into(),
            boundary: None,
            grants: Grants { attached: vec![self.policy.into()], inline: [].into() },
            service: Some(service.to_owned()),
        }
    }
}

/// A unique id: four letters of its kind and seventeen that are drawn.
pub fn unique_id(kind: &str, ids: &dyn IdSource) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letters = ids.id16().into_iter().chain(ids.id16()).take(17);
    let letters = letters.map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    kind.chars().chain(letters).collect()
}
