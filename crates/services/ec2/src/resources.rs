//! What of EC2's can have tags: known by the prefix of its id.

use aws_wire::Caller;
use longshore_types::{SecurityGroupId, SecurityGroupRuleId};
use model::View;

use crate::Ec2;
use crate::errors::{Kind, Refusal};

/// A kind of resource that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource {
    Vpc,
    Subnet,
    SecurityGroup,
    SecurityGroupRule,
}

impl Resource {
    const ALL: [(Self, &str, &str); 4] = [
        (Self::Vpc, "vpc", "vpc"),
        (Self::Subnet, "subnet", "subnet"),
        (Self::SecurityGroup, "sg", "security-group"),
        (Self::SecurityGroupRule, "sgr", "security-group-rule"),
    ];

    pub(crate) fn of(id: &str) -> Result<Self, Refusal> {
        let prefix = id.split_once('-').map_or("", |(prefix, _)| prefix);
        let found = Self::ALL.iter().find(|(_, known, _)| *known == prefix);
        found.map(|(kind, ..)| *kind).ok_or_else(|| Refusal::UnknownResource(id.to_owned()))
    }

    /// As ARNs and DescribeTags have it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Vpc => "vpc",
            Self::Subnet => "subnet",
            Self::SecurityGroup => "security-group",
            Self::SecurityGroupRule => "security-group-rule",
        }
    }

    pub(crate) fn arn(self, caller: &Caller, id: &str) -> String {
        format!("arn:aws:ec2:{}:{}:{}/{id}", caller.region, caller.account, self.word())
    }

    pub(crate) fn check_is_there(
        self,
        ec2: &Ec2,
        view: &View,
        caller: &Caller,
        id: &str,
    ) -> Result<(), Refusal> {
        let account = caller.account;
        let vpc = || ec2.control.vpc(view, account);
        let (is_there, kind) = match self {
            Self::Vpc => (vpc().is_some_and(|vpc| vpc.id.as_str() == id), Kind::Vpc),
            Self::Subnet => {
                let found = vpc().and_then(|vpc| vpc.subnet(&id.parse().ok()?).map(|_| ()));
                (found.is_some(), Kind::Subnet)
            }
            Self::SecurityGroup => {
                let parsed = id.parse::<SecurityGroupId>().ok();
                let found = parsed.and_then(|id| view.security_group(account, &id));
                (found.is_some(), Kind::SecurityGroup)
            }
            Self::SecurityGroupRule => {
                let parsed = id.parse::<SecurityGroupRuleId>().ok();
                let found = parsed.and_then(|id| view.security_group_rule(account, &id));
                (found.is_some(), Kind::Rule)
            }
        };
        if is_there { Ok(()) } else { Err(Refusal::Missing(kind, id.to_owned())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_is_known_by_its_ids_prefix() {
        for (kind, prefix, word) in Resource::ALL {
            assert_eq!(Resource::of(&format!("{prefix}-12345678")), Ok(kind));
            assert_eq!(kind.word(), word);
        }
        for id in ["i-12345678", "sg", ""] {
            assert_eq!(Resource::of(id), Err(Refusal::UnknownResource(id.to_owned())));
        }
    }
}
