//! By which of a balancer's interfaces its targets are reached from a host.
//!
//! On the region's own machine the process reaches what is on that machine in the default VPC by the machine's own network;
//! tasks of the default VPC on other hosts, and whatever is in a VPC with addresses of its own, only by an interface of a
//! balancer. On another host all interfaces of the VPC are reached by one of the balancer's, those on that very host too.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use longshore_types::{InstanceId, VpcId};
use model::elb::{GroupTargets, balancer_path};
use model::vpc::{InterfaceId, region_account};
use model::{ElbBalancer, ElbGroup, ElbTarget, Index, Key, View};
use routing::{Interface, InterfaceRef};

use crate::albs;
use crate::compile::IsOwn;
use crate::targets::is_used;

/// How a target is reached.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// None: by the machine's own network.
    pub(crate) by: Option<InterfaceRef>,
    pub(crate) at: Ipv4Addr,
}

/// The interfaces of a balancer on a host, in the order of their subnets.
pub(crate) fn interfaces(
    view: &View,
    row: &ElbBalancer,
    host: Option<InstanceId>,
) -> Vec<Interface> {
    let own_vpc = view.own_vpc(row.scope.account, &row.vpc).map(|vpc| vpc.to_string());
    let interfaces = row.zones_on(host).map(|zone| Interface {
        eni: zone.eni.to_string(),
        own_vpc: own_vpc.clone(),
        address: IpAddr::V4(zone.address),
        subnet: zone.subnet.to_string(),
        zone: zone.zone.clone(),
        // Where all leave, whoever is sent away comes back by the same address.
        is_leaving: zone.is_leaving() && !row.names(zone),
    });
    interfaces.collect()
}

/// The ways from a host to the targets of a group.
pub(crate) struct Ways<'v> {
    view: &'v View,
    group: &'v ElbGroup,
    is_own: IsOwn<'v>,
    host: Option<InstanceId>,
    own_vpc: Option<VpcId>,
    are_used: bool,
    may_hold: bool,
    interfaces: Vec<Interface>,
}

impl<'v> Ways<'v> {
    pub(crate) fn of(
        view: &'v View,
        group: &'v ElbGroup,
        is_own: IsOwn<'v>,
        host: Option<InstanceId>,
    ) -> Self {
        let user = user_of(view, group, host);
        let are_used = user.is_some();
        // While the last targets of one drain to which none forwards any more, another one of the VPC: they get nothing
        // new, and the VPC's addresses mean the same to it.
        let balancer = user.or_else(|| {
            let mut rows = view.elb_balancers.of(group.scope.account);
            rows.find(|row| row.vpc == group.vpc && row.zones_on(host).next().is_some())
        });
        Self {
            view,
            group,
            is_own,
            host,
            own_vpc: view.own_vpc(group.scope.account, &group.vpc),
            are_used,
            may_hold: balancer.is_some() || (host.is_none() && !is_used(view, group)),
            interfaces: balancer.map(|row| interfaces(view, row, host)).unwrap_or_default(),
        }
    }

    /// Whether a balancer on the host forwards to the group.
    pub(crate) fn are_used(&self) -> bool {
        self.are_used
    }

    /// Whether the process on the host may still hold something of targets that drain.
    pub(crate) fn may_hold(&self) -> bool {
        self.may_hold
    }

    /// The group's VPC, if that has addresses of its own.
    pub(crate) fn own_vpc(&self) -> Option<&VpcId> {
        self.own_vpc.as_ref()
    }

    /// The way to a target; none if there is none.
    pub(crate) fn to(&self, target: &ElbTarget) -> Option<Way> {
        let by = match (&self.own_vpc, self.group.targets) {
            // They are ports of the region's own machine.
            (None, GroupTargets::Instance) => self.host.is_none().then_some(None)?,
            (None, GroupTargets::Ip) if !self.is_elsewhere(target) => None,
            (None | Some(_), GroupTargets::Ip) => Some(self.nearest(target)?.reference()),
            (Some(_), GroupTargets::Instance) => return None,
            (None | Some(_), GroupTargets::Alb) => return self.to_balancer(target),
        };
        Some(Way { by, at: target.address })
    }

    /// The way to a target that is a balancer, which has an interface in the same zone most often.
    fn to_balancer(&self, target: &ElbTarget) -> Option<Way> {
        let balancer = albs::of_target(self.view, target)?;
        let has_zone = |it: &&Interface| balancer.zones.iter().any(|zone| zone.zone == it.zone);
        let by = self.interfaces.iter().find(has_zone).or_else(|| self.interfaces.first())?;
        Some(Way { by: Some(by.reference()), at: albs::address_from(balancer, &by.zone)? })
    }

    /// Whether it is an interface of the default VPC that the host's own network does not lead to, or not as its groups say.
    fn is_elsewhere(&self, target: &ElbTarget) -> bool {
        let id = InterfaceId::shared(target.address);
        let interface = self.view.interfaces.get(region_account(), &id);
        if self.host.is_some() {
            return interface.is_some();
        }
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

/// The balancer with an interface on a host that forwards to a group.
fn user_of<'v>(
    view: &'v View,
    group: &ElbGroup,
    host: Option<InstanceId>,
) -> Option<&'v Arc<ElbBalancer>> {
    let account = group.scope.account;
    let mut users = view.members(&Index::ElbUsers(account, group.path()));
    users.find_map(|key| match key {
        Key::ElbListener(_, path) | Key::ElbRule(_, path) => {
            let row = view.elb_balancers.get(account, &balancer_path(path).into())?;
            row.zones_on(host).next().is_some().then_some(row)
        }
        _ => None,
    })
}
