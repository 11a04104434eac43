//! Amazon Resource Names: read once at the boundary, printed from typed parts.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{
    AccountId, ClusterName, IdError, InstanceId, RegionName, TaskDefinitionId, TaskId,
};
use crate::serde_as_text;

/// Where a resource lives; the fields that every ARN we mint has in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Scope {
    pub region: RegionName,
    pub account: AccountId,
}

/// Any ARN, split into its six fields and not looked at further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arn<'a> {
    pub partition: &'a str,
    pub service: &'a str,
    pub region: &'a str,
    pub account: &'a str,
    /// May itself contain colons.
    pub resource: &'a str,
}

impl<'a> Arn<'a> {
    pub fn parse(text: &'a str) -> Result<Self, IdError> {
        let mut fields = text.splitn(6, ':');
        let mut next = || fields.next().ok_or(IdError::NotAnArn);
        if next()? != "arn" {
            return Err(IdError::NotAnArn);
        }
        let arn = Self {
            partition: next()?,
            service: next()?,
            region: next()?,
            account: next()?,
            resource: next()?,
        };
        if arn.resource.is_empty() || arn.service.is_empty() || arn.partition != "aws" {
            return Err(IdError::NotAnArn);
        }
        Ok(arn)
    }

    /// The scope of an ARN of `service`, and what follows `kind/` in it.
    pub(crate) fn of(
        text: &'a str,
        service: &str,
        kind: &str,
    ) -> Result<(Scope, &'a str), IdError> {
        let arn = Self::parse(text)?;
        if arn.service != service {
            return Err(IdError::WrongResource);
        }
        let rest = arn.resource.strip_prefix(kind).and_then(|rest| rest.strip_prefix('/'));
        let scope = Scope { region: arn.region.parse()?, account: arn.account.parse()? };
        Ok((scope, rest.ok_or(IdError::WrongResource)?))
    }
}

/// `arn:aws:ecs:<region>:<account>:cluster/<name>`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterArn {
    pub scope: Scope,
    pub name: ClusterName,
}

impl fmt::Display for ClusterArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { region, account } = &self.scope;
        write!(f, "arn:aws:ecs:{region}:{account}:cluster/{}", self.name)
    }
}

impl FromStr for ClusterArn {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (scope, name) = Arn::of(text, "ecs", "cluster")?;
        Ok(Self { scope, name: name.parse()? })
    }
}

serde_as_text!(ClusterArn);

/// `arn:aws:ecs:<region>:<account>:task/<cluster>/<id>`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskArn {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub id: TaskId,
}

impl fmt::Display for TaskArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { region, account } = &self.scope;
        write!(f, "arn:aws:ecs:{region}:{account}:task/{}/{}", self.cluster, self.id)
    }
}

impl FromStr for TaskArn {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (scope, path) = Arn::of(text, "ecs", "task")?;
        let (cluster, id) = path.split_once('/').ok_or(IdError::WrongResource)?;
        Ok(Self { scope, cluster: cluster.parse()?, id: id.parse()? })
    }
}

serde_as_text!(TaskArn);

/// `arn:aws:ecs:<region>:<account>:container-instance/<cluster>/<id>`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceArn {
    pub scope: Scope,
    pub cluster: ClusterName,
    pub id: InstanceId,
}

impl fmt::Display for InstanceArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { region, account } = &self.scope;
        write!(f, "arn:aws:ecs:{region}:{account}:container-instance/{}/{}", self.cluster, self.id)
    }
}

impl FromStr for InstanceArn {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (scope, path) = Arn::of(text, "ecs", "container-instance")?;
        let (cluster, id) = path.split_once('/').ok_or(IdError::WrongResource)?;
        Ok(Self { scope, cluster: cluster.parse()?, id: id.parse()? })
    }
}

serde_as_text!(InstanceArn);

/// `arn:aws:ecs:<region>:<account>:task-definition/<family>:<revision>`
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskDefinitionArn {
    pub scope: Scope,
    pub id: TaskDefinitionId,
}

impl fmt::Display for TaskDefinitionArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scope { region, account } = &self.scope;
        write!(f, "arn:aws:ecs:{region}:{account}:task-definition/{}", self.id)
    }
}

impl FromStr for TaskDefinitionArn {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (scope, id) = Arn::of(text, "ecs", "task-definition")?;
        Ok(Self { scope, id: id.parse()? })
    }
}

serde_as_text!(TaskDefinitionArn);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arn_round_trips() {
        let task = "arn:aws:ecs:eu-north-1:000000000000:task/web/00112233445566778899aabbccddeeff";
        assert_eq!(task.parse::<TaskArn>().unwrap().to_string(), task);
        let definition = "arn:aws:ecs:eu-north-1:000000000000:task-definition/web:3";
        assert_eq!(definition.parse::<TaskDefinitionArn>().unwrap().to_string(), definition);
    }

    #[test]
    fn another_resources_arn_is_refused() {
        let service = "arn:aws:ecs:eu-north-1:000000000000:service/web/api";
        assert_eq!(service.parse::<TaskArn>(), Err(IdError::WrongResource));
        let other = "arn:aws:s3:::bucket";
        assert_eq!(other.parse::<TaskArn>(), Err(IdError::WrongResource));
        assert_eq!("arn:aws:ecs".parse::<TaskArn>(), Err(IdError::NotAnArn));
    }
}
