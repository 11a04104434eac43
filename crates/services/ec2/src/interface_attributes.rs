//! One attribute of an interface, shown, changed or set back; and attachments to machines, of which there are none here.

use aws_wire::{ApiError, Caller};
use ec2_api as api;
use ec2_api::NetworkInterfaceAttribute as Attribute;
use longshore_types::EniId;
use model::vpc::{Interface, InterfaceUser};

use crate::Ec2;
use crate::addresses::own_interface;
use crate::change::{arn, id_of, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::interfaces::{description as description_of, find, groups, of_attachment, to_wire};
use crate::refusal::NetworkRefusal;

pub(crate) async fn describe_network_interface_attribute(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeNetworkInterfaceAttributeRequest,
) -> Result<api::DescribeNetworkInterfaceAttributeResult, ApiError> {
    let id = input.network_interface_id.as_ref();
    let permission = on(caller, "ec2:DescribeNetworkInterfaceAttribute", "network-interface", id);
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let network = ec2.control.network(&view, caller.account);
    let id: EniId =
        id_of(Kind::NetworkInterface, "networkInterfaceId", input.network_interface_id.as_deref())?;
    let row = find(&network, &id).ok_or_else(|| Kind::NetworkInterface.refused()(id.as_str()))?;
    let asked = input.attribute.ok_or(Refusal::Parameter("attribute"))?;
    let whole = to_wire(&network, caller, &row);
    let mut shown = api::DescribeNetworkInterfaceAttributeResult {
        network_interface_id: whole.network_interface_id,
        ..api::DescribeNetworkInterfaceAttributeResult::default()
    };
    match asked {
        Attribute::Description => {
            shown.description = Some(api::AttributeValue { value: whole.description });
        }
        Attribute::GroupSet => shown.groups = whole.groups,
        Attribute::SourceDestCheck => {
            let value = whole.source_dest_check;
            shown.source_dest_check = Some(api::AttributeBooleanValue { value });
        }
        Attribute::Attachment => shown.attachment = whole.attachment,
        Attribute::AssociatePublicIpAddress => {
            shown.associate_public_ip_address = Some(row.assign_public_ip);
        }
        other => return Err(Refusal::Attribute(other.as_str().to_owned()).into()),
    }
    Ok(shown)
}

/// What a request changes of an interface: one thing, which there is.
fn check_one(input: &api::ModifyNetworkInterfaceAttributeRequest) -> Result<(), Refusal> {
    let others = [
        ("EnaSrdSpecification", input.ena_srd_specification.is_some()),
        ("EnablePrimaryIpv6", input.enable_primary_ipv6.is_some()),
        ("ConnectionTrackingSpecification", input.connection_tracking_specification.is_some()),
        ("AssociatePublicIpAddress", input.associate_public_ip_address.is_some()),
        ("AssociatedSubnetIds", input.associated_subnet_ids.is_some()),
    ];
    if let Some((name, _)) = others.iter().find(|(_, is_asked)| *is_asked) {
        let why = format!("{name} is not available in this region.");
        return Err(NetworkRefusal::Unsupported(why).into());
    }
    let asked = [
        input.attachment.is_some(),
        input.description.is_some(),
        input.groups.is_some(),
        input.source_dest_check.is_some(),
    ];
    match asked.iter().filter(|is_asked| **is_asked).count() {
        1 => Ok(()),
        0 => Err(Refusal::OneOf("description", "groups, sourceDestCheck or attachment")),
        _ => Err(Refusal::Combination(
            "Fields for multiple attribute types specified: a request changes one attribute."
                .to_owned(),
        )),
    }
}

pub(crate) async fn modify_network_interface_attribute(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ModifyNetworkInterfaceAttributeRequest,
) -> Result<(), ApiError> {
    let id = input.network_interface_id.as_ref();
    let named = input.groups.iter().flatten().map(|id| arn(caller, "security-group", id));
    let permission =
        on(caller, "ec2:ModifyNetworkInterfaceAttribute", "network-interface", id).on_each(named);
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = own_interface(it, input.network_interface_id.as_deref())?;
        check_one(&input)?;
        if let Some(given) = &input.attachment {
            // Nobody but a service has one that is attached.
            return Err(no_attachment(given.attachment_id.as_deref()));
        }
        let mut row = Interface::clone(&row);
        if let InterfaceUser::Person { description, checks_source } = &mut row.user {
            if let Some(given) = &input.description {
                *description = description_of(given.value.as_deref())?;
            }
            if let Some(given) = input.source_dest_check.as_ref().and_then(|it| it.value) {
                *checks_source = given;
            }
        }
        if let Some(given) = &input.groups {
            row.security_groups = groups(it, &row.vpc, given)?;
        }
        it.put(row);
        Ok(())
    });
    changed.await
}

pub(crate) async fn reset_network_interface_attribute(
    ec2: &Ec2,
    caller: &Caller,
    input: api::ResetNetworkInterfaceAttributeRequest,
) -> Result<(), ApiError> {
    let id = input.network_interface_id.as_ref();
    let permission = on(caller, "ec2:ResetNetworkInterfaceAttribute", "network-interface", id);
    let reset = ec2.change(caller, &permission, input.dry_run, |it| {
        let row = own_interface(it, input.network_interface_id.as_deref())?;
        if input.source_dest_check.is_none() {
            return Err(Refusal::Parameter("sourceDestCheck"));
        }
        let mut row = Interface::clone(&row);
        if let InterfaceUser::Person { checks_source, .. } = &mut row.user {
            *checks_source = true;
        }
        it.put(row);
        Ok(())
    });
    reset.await
}

/// There are no machines to attach one to.
pub(crate) async fn attach_network_interface(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AttachNetworkInterfaceRequest,
) -> Result<api::AttachNetworkInterfaceResult, ApiError> {
    let instance = input.instance_id.as_deref().unwrap_or_default();
    let id = input.network_interface_id.as_ref();
    let permission = on(caller, "ec2:AttachNetworkInterface", "network-interface", id)
        .on(arn(caller, "instance", instance));
    let refused = ec2.change(caller, &permission, None, |it| {
        own_interface(it, input.network_interface_id.as_deref())?;
        Err::<(), Refusal>(Kind::Instance.absent(instance))
    });
    refused.await?;
    Ok(api::AttachNetworkInterfaceResult::default())
}

/// Those that are attached are services'.
pub(crate) async fn detach_network_interface(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DetachNetworkInterfaceRequest,
) -> Result<(), ApiError> {
    let given = input.attachment_id.as_deref();
    let eni = given.and_then(of_attachment);
    let id = eni.as_ref().map(ToString::to_string);
    let permission = on(caller, "ec2:DetachNetworkInterface", "network-interface", id.as_ref());
    let refused = ec2.change(caller, &permission, None, |it| {
        let row = eni.as_ref().and_then(|eni| find(&it.network, eni));
        let row = row.map(|row| to_wire(&it.network, caller, &row));
        let is_it = row
            .and_then(|row| row.attachment)
            .is_some_and(|attachment| attachment.attachment_id.as_deref() == given);
        Err::<(), Refusal>(if is_it {
            NetworkRefusal::NotTheirs.into()
        } else {
            no_attachment(given)
        })
    });
    refused.await
}

fn no_attachment(given: Option<&str>) -> Refusal {
    match given.filter(|given| !given.is_empty()) {
        None => Refusal::Parameter("attachmentId"),
        Some(given) => Kind::Attachment.absent(given),
    }
}
