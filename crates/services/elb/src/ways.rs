//! By which of a balancer's interfaces its targets are reached.
//!
//! A balancer's process is on the region's own machine. What is on that machine in the default VPC it reaches by the
//! machine's own network; tasks of the default VPC on other hosts, and whatever is in a VPC with addresses of its own, only
//! by an interface of a balancer.

use std::net::IpAddr;
use std::sync::Arc;

use longshore_types::VpcId;
use model::elb::{GroupTargets, balancer_path};
use model::vpc::{InterfaceId, region_account};
use model::{ElbBalancer, ElbGroup, ElbTarget, Index, Key, View};
use routing::{Interface, InterfaceRef};

use crate::compile::IsOwn;

/// None: the machine's own network.
pub(crate) type Way = Option<InterfaceRef>;

/// The interfaces of a balancer, in the order of their subnets.
pub(crate) fn interfaces(view: &View, row: &ElbBalancer) -> Vec<Interface> {
    let own_vpc = view.own_vpc(row.scope.account, &row.vpc).map(|vpc| vpc.to_string());
    let interfaces = row.zones.iter().map(|zone| Interface {
        eni: zone.eni.to_string(),
        own_vpc: own_vpc.clone(),
        address: IpAddr::V4(zone.address),
        subnet: zone.subnet.to_string(),
        zone: zone.zone.clone(),
    });
    interfaces.collect()
}

/// The ways to the targets of a group.
pub(crate) struct Ways<'v> {
    view: &'v View,
    group: &'v ElbGroup,
    is_own: IsOwn<'v>,
    own_vpc: Option<VpcId>,
    interfaces: Vec<Interface>,
}

impl<'v> Ways<'v> {
    pub(crate) fn of(view: &'v View, group: &'v ElbGroup, is_own: IsOwn<'v>) -> Self {
        let balancer = balancer_of(view, group);
        Self {
            view,
            group,
            is_own,
            own_vpc: view.own_vpc(group.scope.account, &group.vpc),
            interfaces: balancer.map(|row| interfaces(view, row)).unwrap_or_default(),
        }
    }

    /// The group's VPC, if that has addresses of its own.
    pub(crate) fn own_vpc(&self) -> Option<&VpcId> {
        self.own_vpc.as_ref()
    }

    /// The way to a target; none if there is none.
    pub(crate) fn to(&self, target: &ElbTarget) -> Option<Way> {
        match (&self.own_vpc, self.group.targets) {
            (None, GroupTargets::Instance) => Some(None),
            (None, GroupTargets::Ip) if !self.is_elsewhere(target) => Some(None),
            (None | Some(_), GroupTargets::Ip) => Some(Some(self.nearest(target)?.reference())),
            (Some(_), GroupTargets::Instance) => None,
        }
    }

    /// Whether it is a task's of the default VPC on another machine than the region's own.
    fn is_elsewhere(&self, target: &ElbTarget) -> bool {
        let id = InterfaceId::shared(target.address);
        let interface = self.view.interfaces.get(region_account(), &id);
        let instance = interface.and_then(|row| {
            let task = self.view.tasks.get(row.owner.account, &row.task()?)?;
            self.view.instance_of_any(task.instance?)
        });
        instance.is_some_and(|row| !(self.is_own)(row))
    }

    /// That in the target's zone, or else the first one.
    fn nearest(&self, target: &ElbTarget) -> Option<&Interface> {
        let is_near = |it: &&Interface| target.zone.as_ref() == Some(&it.zone);
        self.interfaces.iter().find(is_near).or_else(|| self.interfaces.first())
    }
}

/// The balancer that forwards to a group. While the last targets of one drain to which none forwards any more, another one of
/// the VPC: they get nothing new, and the VPC's addresses mean the same to it.
fn balancer_of<'v>(view: &'v View, group: &ElbGroup) -> Option<&'v Arc<ElbBalancer>> {
    let account = group.scope.account;
    let mut users = view.members(&Index::ElbUsers(account, group.path()));
    let user = users.find_map(|key| match key {
        Key::ElbListener(_, path) | Key::ElbRule(_, path) => {
            view.elb_balancers.get(account, &balancer_path(path).into())
        }
        _ => None,
    });
    user.or_else(|| view.elb_balancers.of(account).find(|row| row.vpc == group.vpc))
}
