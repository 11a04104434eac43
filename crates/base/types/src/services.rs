//! What names a service and its parts: deployments, revisions, task sets, capacity providers.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::arn::{Arn, Scope};
use crate::env::IdSource;
use crate::ids::{ClusterName, IdError, ServiceName};
use crate::serde_as_text;

/// Ids are numbers of at most 19 digits, as ECS makes them: they fit a signed 64-bit integer.
const NUMBER_MAX: u64 = i64::MAX.unsigned_abs();

/// Draws a number of exactly 19 digits.
fn mint_number(ids: &dyn IdSource) -> u64 {
    const FLOOR: u64 = 1_000_000_000_000_000_000;
    let mut bytes = [0; 8];
    ids.fill(&mut bytes);
    FLOOR + u64::from_be_bytes(bytes) % (NUMBER_MAX - FLOOR)
}

fn parse_number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| is_number && *number <= NUMBER_MAX)
}

/// Names one revision of a service: `4980306466373577095`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionId(pub u64);

impl RevisionId {
    pub fn mint(ids: &dyn IdSource) -> Self {
        Self(mint_number(ids))
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for RevisionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_number(text).map(Self).ok_or(IdError::NotANumber)
    }
}

serde_as_text!(RevisionId);

/// Names one deployment or task set of a service: `ecs-svc/1234567890123456789`. It is what
/// `startedBy` of the tasks shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeploymentId(pub u64);

impl DeploymentId {
    pub fn mint(ids: &dyn IdSource) -> Self {
        Self(mint_number(ids))
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ecs-svc/{}", self.0)
    }
}

impl FromStr for DeploymentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let number = text.strip_prefix("ecs-svc/").and_then(parse_number);
        number.map(Self).ok_or(IdError::NotADeployment)
    }
}

serde_as_text!(DeploymentId);

/// Names one service deployment, the record of a whole rollout: `NCWGC2ZR-taawPAYrIaU5`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceDeploymentId(Arc<str>);

impl ServiceDeploymentId {
    pub const LEN: usize = 21;

    pub fn mint(ids: &dyn IdSource) -> Self {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut bytes = [0; Self::LEN];
        ids.fill(&mut bytes);
        let text: String =
            bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect();
        Self(text.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceDeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ServiceDeploymentId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if text.len() == Self::LEN && text.bytes().all(is_allowed) {
            Ok(Self(text.into()))
        } else {
            Err(IdError::NotAServiceDeployment)
        }
    }
}

serde_as_text!(ServiceDeploymentId);

/// An ARN whose resource is `<kind>/<cluster>/<service>` and, for parts of a service, `/<id>`.
macro_rules! service_arn {
    ($(#[$doc:meta])* $name:ident, $kind:literal $(, $id:ident: $id_type:ty)?) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name {
            pub scope: Scope,
            pub cluster: ClusterName,
            pub service: ServiceName,
            $(pub $id: $id_type,)?
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Scope { region, account } = &self.scope;
                write!(f, concat!("arn:aws:ecs:{}:{}:", $kind, "/{}/{}"), region, account,
                    self.cluster, self.service)?;
                $(write!(f, "/{}", self.$id)?;)?
                Ok(())
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let (scope, path) = Arn::of(text, "ecs", $kind)?;
                let (cluster, rest) = path.split_once('/').ok_or(IdError::WrongResource)?;
                $(let (rest, $id) = rest.split_once('/').ok_or(IdError::WrongResource)?;)?
                Ok(Self {
                    scope,
                    cluster: cluster.parse()?,
                    service: rest.parse()?,
                    $($id: $id.parse()?,)?
                })
            }
        }

        serde_as_text!($name);
    };
}

service_arn!(
    /// `arn:aws:ecs:<region>:<account>:service/<cluster>/<name>`
    ServiceArn, "service"
);
service_arn!(
    /// `arn:aws:ecs:<region>:<account>:service-revision/<cluster>/<service>/<number>`
    ServiceRevisionArn, "service-revision", id: RevisionId
);
service_arn!(
    /// `arn:aws:ecs:<region>:<account>:service-deployment/<cluster>/<service>/<id>`
    ServiceDeploymentArn, "service-deployment", id: ServiceDeploymentId
);
service_arn!(
    /// `arn:aws:ecs:<region>:<account>:task-set/<cluster>/<service>/ecs-svc/<number>`
    TaskSetArn, "task-set", id: DeploymentId
);

/// `arn:aws:ecs:<region>:<account>:capacity-provider/<name>`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CapacityProviderArn {
    pub scope: Scope,
    pub name: String,
}

impl fmt::Display for CapacityProviderArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { region, account } = &self.scope;
        write!(f, "arn:aws:ecs:{region}:{account}:capacity-provider/{}", self.name)
    }
}

impl FromStr for CapacityProviderArn {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (scope, name) = Arn::of(text, "ecs", "capacity-provider")?;
        Ok(Self { scope, name: name.to_owned() })
    }
}

serde_as_text!(CapacityProviderArn);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SeededEnv;

    #[test]
    fn what_is_minted_parses() {
        let env = SeededEnv::from_seed(1);
        for _ in 0..100 {
            let deployment = DeploymentId::mint(&env);
            assert_eq!(deployment.to_string().parse(), Ok(deployment));
            assert_eq!(deployment.to_string().len(), "ecs-svc/".len() + 19);
            let rollout = ServiceDeploymentId::mint(&env);
            assert_eq!(rollout.as_str().parse(), Ok(rollout.clone()));
        }
    }

    #[test]
    fn the_arns_of_a_service_and_its_parts_round_trip() {
        fn check<T: FromStr<Err = IdError> + fmt::Display>(path: &str) {
            let arn = format!("arn:aws:ecs:eu-north-1:000000000000:{path}");
            assert_eq!(arn.parse::<T>().map(|arn| arn.to_string()), Ok(arn));
        }
        check::<ServiceArn>("service/web/api");
        check::<ServiceRevisionArn>("service-revision/web/api/4980306466373577095");
        check::<ServiceDeploymentArn>("service-deployment/web/api/NCWGC2ZR-taawPAYrIaU5");
        check::<TaskSetArn>("task-set/web/api/ecs-svc/1234567890123456789");
        check::<CapacityProviderArn>("capacity-provider/spot");
        let short = "arn:aws:ecs:eu-north-1:000000000000:service/api";
        assert_eq!(short.parse::<ServiceArn>(), Err(IdError::WrongResource));
        assert!("ecs-svc/99999999999999999999".parse::<DeploymentId>().is_err());
        assert!("ecs-svc/+1".parse::<DeploymentId>().is_err());
    }
}
