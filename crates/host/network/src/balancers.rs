//! Interfaces of load balancers: endpoints that no task asks for.
//!
//! The region tells of them like of any interface, and says that they are a balancer's. Their namespaces are made as
//! soon as the host is told that they are here, in the network of their VPC; the balancer's process opens its
//! sockets in them, and the table judges what passes as it does for tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use longshore_types::{Chain, EniId, VpcId};
use tracing::warn;
use traffic::feed::{Interface, Place, Vpc};

use crate::addr::MacAddr;
use crate::endpoint::{EniSpec, Role};
use crate::error::NetworkError;
use crate::names::EndpointId;
use crate::records::Records;
use crate::worker::{Turn, Worker};

/// Where the namespace of a balancer's interface is mounted on its host, once it is there: of the network that keeps
/// its files in `run_dir`. `own_vpc` is the interface's VPC if that has addresses of its own.
pub fn balancer_namespace(run_dir: &Path, eni: &EniId, own_vpc: Option<&VpcId>) -> PathBuf {
    Records::of_vpc(run_dir, own_vpc).namespace(&EndpointId::of_balancer(eni))
}

/// Whether there are interfaces of balancers on the host, or were a moment ago: of the network that keeps its files in
/// `run_dir`.
pub fn has_balancers(run_dir: &Path) -> bool {
    let shared = Records::at(run_dir);
    let routers = shared.routers().unwrap_or_default();
    let all = routers.iter().map(|vpc| Records::at(&shared.of_router(vpc)));
    all.chain([shared.clone()]).any(|records| {
        let names = records.namespace_names().unwrap_or_default();
        names.iter().any(|name| EndpointId::is_name_of_balancer(name))
    })
}

impl Worker {
    /// Has an endpoint for each interface of a balancer that is told to be here, and no other. One that cannot be made is
    /// said in the log, and tried again with whatever is done next.
    pub(crate) fn follow_balancers(&mut self, turn: &mut Turn) {
        self.lacks_balancers = false;
        let wanted = self.own_vpc().map(|vpc| self.balancers_in(&vpc)).unwrap_or_default();
        let of_balancers = self.endpoints.keys().filter(|id| id.is_balancers());
        let gone = of_balancers.filter(|id| !wanted.contains_key(*id));
        let gone: BTreeSet<EndpointId> = gone.cloned().collect();
        if !gone.is_empty()
            && let Err(error) = self.remove(turn, |endpoint| gone.contains(&endpoint.id))
        {
            warn!(error = %Chain(&error), "interface of a balancer not wholly removed");
        }
        for (id, spec) in wanted {
            if let Err(error) = self.have_balancer(turn, &id, spec) {
                warn!(endpoint = %id, error = %Chain(&error), "no interface for a balancer");
                self.lacks_balancers = true;
            }
        }
    }

    fn balancers_in(&self, vpc: &Vpc) -> BTreeMap<EndpointId, EniSpec> {
        let interfaces = self.feed.interfaces_of(&vpc.id).into_values();
        let here = interfaces.filter(|it| it.is_balancers && it.place == Place::Here);
        let specs =
            here.filter_map(|it| Some((EndpointId::of_balancer(&it.id), self.spec(vpc, it)?)));
        specs.collect()
    }

    fn spec(&self, vpc: &Vpc, interface: &Interface) -> Option<EniSpec> {
        let address = interface.address;
        let subnet = self.feed.subnets.get(&interface.subnet).map(|subnet| subnet.range);
        // Of the default VPC's subnets nobody tells.
        let range = vpc.ranges.iter().copied().find(|range| range.contains(address));
        let range = subnet.filter(|range| range.contains(address)).or(range)?;
        Some(EniSpec {
            id: Some(interface.id.clone()),
            address,
            prefix: range.prefix(),
            gateway: range.nth(1)?,
            mac: MacAddr::of_address(address),
            security_groups: interface.groups.clone(),
            assign_public_ip: interface.public.is_some(),
            // It is made because it is told of, with its subnet.
            is_judged: false,
        })
    }

    fn have_balancer(
        &mut self,
        turn: &mut Turn,
        id: &EndpointId,
        spec: EniSpec,
    ) -> Result<(), NetworkError> {
        let Some(known) = self.endpoints.get(id).cloned() else {
            return self.attach_unasked(turn, id, &spec);
        };
        let mut groups = spec.security_groups.clone();
        groups.sort();
        groups.dedup();
        if (known.address, known.prefix, known.gateway) != (spec.address, spec.prefix, spec.gateway)
        {
            self.remove(turn, |endpoint| endpoint.id == *id)?;
            return self.attach_unasked(turn, id, &spec);
        }
        if known.groups() == groups {
            return Ok(());
        }
        let mut after = known.clone();
        after.role = Role::Eni { groups };
        self.records.save(&after)?;
        self.replace_endpoint(turn, &known, after);
        Ok(())
    }
}
