//! What associations are of: requests that name one by its id alone are about these, and policies speak of them.

use aws_wire::Caller;
use control::Permission;
use model::network::Network;

use crate::Ec2;
use crate::change::arn;

/// Asks a permission on all that an association's id is of; on anything of the kind if there is no such.
pub(crate) fn on_association(
    ec2: &Ec2,
    caller: &Caller,
    permission: Permission,
    kind: &str,
    id: Option<&String>,
) -> Permission {
    let view = ec2.control.view();
    let network = ec2.control.network(&view, caller.account);
    let of = named_by(&network, id.map_or("", String::as_str));
    match of.is_empty() {
        true => permission.on(arn(caller, kind, "*")),
        false => permission.on_each(of.iter().map(|(kind, id)| arn(caller, kind, id))),
    }
}

/// Kinds and ids.
fn named_by(network: &Network<'_>, id: &str) -> Vec<(&'static str, String)> {
    let mut of = Vec::new();
    match id.rsplit_once('-').map_or("", |(prefix, _)| prefix) {
        "rtbassoc" => {
            let subnets = network.subnets();
            let is_its = |own: &model::network::SubnetTable| own.association.as_str() == id;
            for subnet in subnets.iter().filter(|it| it.table.as_ref().is_some_and(is_its)) {
                of.push(("subnet", subnet.id.to_string()));
                of.extend(subnet.table.iter().map(|own| ("route-table", own.table.to_string())));
            }
            let vpcs = network.vpcs();
            for vpc in vpcs.iter().filter(|vpc| vpc.main_association.as_str() == id) {
                of.push(("route-table", vpc.main_table.to_string()));
            }
        }
        "aclassoc" => {
            let subnets = network.subnets();
            for subnet in subnets.iter().filter(|it| it.acl.association.as_str() == id) {
                of.push(("subnet", subnet.id.to_string()));
                of.push(("network-acl", subnet.acl.acl.to_string()));
            }
        }
        "eipassoc" => {
            let rows = network.view().elastic_addresses.of(network.account());
            for row in rows {
                let its = row.association.as_ref().filter(|it| it.id.as_str() == id);
                if let Some(association) = its {
                    of.push(("elastic-ip", row.id.to_string()));
                    of.push(("network-interface", association.eni.to_string()));
                }
            }
        }
        "vpc-cidr-assoc" => {
            let vpcs = network.vpcs();
            let is_its = |vpc: &model::network::VpcRow| {
                let mut blocks = std::iter::once(&vpc.first).chain(&vpc.secondary);
                blocks.any(|block| block.association.as_str() == id)
            };
            of.extend(vpcs.iter().filter(|vpc| is_its(vpc)).map(|vpc| ("vpc", vpc.id.to_string())));
        }
        _ => {}
    }
    of
}

/// The allocation of an address that a request names by itself.
pub(crate) fn allocation_of(
    ec2: &Ec2,
    caller: &Caller,
    allocation: Option<&String>,
    public: Option<&String>,
) -> Option<String> {
    let by_itself = || {
        let view = ec2.control.view();
        let mut rows = view.elastic_addresses.of(caller.account);
        let row = rows.find(|row| Some(&row.address.to_string()) == public)?;
        Some(row.id.to_string())
    };
    allocation.filter(|id| !id.is_empty()).cloned().or_else(by_itself)
}
