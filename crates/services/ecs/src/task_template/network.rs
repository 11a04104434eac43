//! `networkConfiguration`: the subnets and security groups of tasks with interfaces of their own.

use aws_wire::ApiError;
use ecs_api as api;
use longshore_types::{AccountId, SecurityGroupId, SubnetId, VpcId};
use model::network::Network;
use model::task::LaunchType;
use model::vpc::{Interface, Subnet, Vpc};
use model::{Index, NetworkMode, TaskDefinition, View};

use crate::errors::Refusal;

const SUBNETS_MAX: usize = 16;
const GROUPS_MAX: usize = 5;

/// Where a task's interface may be, and what guards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NetworkRequest {
    /// In which the subnets are.
    pub(super) vpc: Vpc,
    pub(super) subnets: Vec<SubnetId>,
    pub(super) security_groups: Vec<SecurityGroupId>,
    pub(super) assign_public_ip: bool,
}

impl NetworkRequest {
    /// The VPC, if it has addresses of its own.
    pub(crate) fn own_vpc(&self) -> Option<VpcId> {
        (!self.vpc.is_default).then(|| self.vpc.id.clone())
    }

    /// The subnets that were named, the emptiest first: that is how tasks spread over zones.
    pub(super) fn subnets_by_seed(
        &self,
        view: &View,
        account: AccountId,
        taken_now: &[&Interface],
        seed: u64,
    ) -> Vec<&Subnet> {
        let mut subnets: Vec<&Subnet> =
            self.subnets.iter().filter_map(|id| self.vpc.subnet(id)).collect();
        let turn = usize::try_from(seed % 1_024).unwrap_or(0) % subnets.len().max(1);
        subnets.rotate_left(turn);
        subnets.sort_by_key(|subnet| {
            let now = taken_now.iter().filter(|taken| taken.subnet == subnet.id).count();
            now + view.member_count(&Index::SubnetInterfaces(account, subnet.id.clone()))
        });
        subnets
    }
}

/// `None` for tasks without an interface of their own.
pub(crate) fn read(
    given: Option<&api::NetworkConfiguration>,
    definition: &TaskDefinition,
    kind: LaunchType,
    network: &Network<'_>,
) -> Result<Option<NetworkRequest>, ApiError> {
    let given = given.and_then(|given| given.awsvpc_configuration.as_ref());
    let refuse = |message: &str| Err(Refusal::invalid(message).into());
    let Some(given) = given else {
        return match definition.network_mode {
            NetworkMode::Awsvpc => refuse(
                "Network Configuration must be provided when networkMode 'awsvpc' is specified.",
            ),
            NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None => Ok(None),
        };
    };
    if definition.network_mode != NetworkMode::Awsvpc {
        return refuse(
            "Network Configuration is not valid for the given networkMode of this task definition.",
        );
    }
    if given.assign_public_ip.as_ref().is_some_and(|request| !request.is_known()) {
        return refuse("assignPublicIp should be one of [ENABLED,DISABLED]");
    }
    let assign_public_ip = given.assign_public_ip == Some(api::AssignPublicIp::Enabled);
    if assign_public_ip && kind != LaunchType::Fargate {
        return refuse("Assign public IP is not supported for this launch type.");
    }
    let (vpc, subnets) = subnets(given.subnets.as_deref().unwrap_or_default(), network)?;
    let groups = given.security_groups.as_deref().unwrap_or_default();
    let security_groups = groups_of(groups, network, &vpc)?;
    Ok(Some(NetworkRequest { vpc, subnets, security_groups, assign_public_ip }))
}

/// The subnets that are named, and the one VPC that they are of.
fn subnets(given: &[String], network: &Network<'_>) -> Result<(Vpc, Vec<SubnetId>), ApiError> {
    if given.is_empty() {
        return Err(Refusal::invalid("subnets can not be empty.").into());
    }
    if given.len() > SUBNETS_MAX {
        let message = format!("subnets can have at most {SUBNETS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    let mut vpc: Option<Vpc> = None;
    let mut subnets: Vec<SubnetId> = Vec::new();
    for text in given {
        let row = text.parse().ok().and_then(|id| network.subnet(&id));
        let of = row.as_ref().and_then(|row| network.whole_vpc(&row.vpc));
        let (Some(row), Some(of)) = (row, of) else {
            let message = format!(
                "Error retrieving subnet information for [{text}]: The subnet ID '{text}' does \
                 not exist (ErrorCode: InvalidSubnetID.NotFound)"
            );
            return Err(Refusal::invalid(message).into());
        };
        let first = vpc.get_or_insert(of);
        if first.id != row.vpc {
            let message = format!(
                "Subnets must be of one VPC: {} is of {}, {text} of {}.",
                given[0], first.id, row.vpc
            );
            return Err(Refusal::invalid(message).into());
        }
        if !subnets.contains(&row.id) {
            subnets.push(row.id.clone());
        }
    }
    let vpc = vpc.expect("at least one subnet is given, and each is of a VPC");
    Ok((vpc, subnets))
}

/// Without any, the VPC's default group.
fn groups_of(
    given: &[String],
    network: &Network<'_>,
    vpc: &Vpc,
) -> Result<Vec<SecurityGroupId>, ApiError> {
    if given.len() > GROUPS_MAX {
        let message = format!("securityGroups can have at most {GROUPS_MAX} items.");
        return Err(Refusal::invalid(message).into());
    }
    if given.is_empty() {
        return Ok(vec![vpc.security_group.clone()]);
    }
    let mut groups: Vec<SecurityGroupId> = Vec::new();
    for text in given {
        let id = text.parse().ok();
        let found = id.and_then(|id| network.view().security_group(network.account(), &id));
        let Some(found) = found else {
            let message = format!(
                "Error retrieving security group information for [{text}]: The security group \
                 '{text}' does not exist (ErrorCode: InvalidGroup.NotFound)"
            );
            return Err(Refusal::invalid(message).into());
        };
        if found.group.vpc != vpc.id {
            let message = format!(
                "Security group {text} and the subnets belong to different networks (ErrorCode: \
                 InvalidParameterValue)"
            );
            return Err(Refusal::invalid(message).into());
        }
        if !groups.contains(&found.group.id) {
            groups.push(found.group.id);
        }
    }
    Ok(groups)
}
