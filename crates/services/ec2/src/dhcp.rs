//! CreateDhcpOptions, DescribeDhcpOptions, AssociateDhcpOptions, DeleteDhcpOptions.

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::DhcpOptionsId;
use model::network::{DhcpOptions, VpcRow};
use model::{Key, Tags};

use crate::Ec2;
use crate::change::{Make, arn, on};
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, select};
use crate::limits::DHCP_OPTIONS_MAX;
use crate::refusal::NetworkRefusal;
use crate::tags;

/// What tasks are told; the rest of Amazon's is about instances.
const KNOWN: [&str; 2] = ["domain-name", "domain-name-servers"];
const INSTANCES: [&str; 4] = [
    "ntp-servers",
    "netbios-name-servers",
    "netbios-node-type",
    "ipv6-address-preferred-lease-time",
];
const SERVERS_MAX: usize = 4;
const AMAZONS: &str = "AmazonProvidedDNS";

pub(crate) async fn create_dhcp_options(
    ec2: &Ec2,
    caller: &Caller,
    input: api::CreateDhcpOptionsRequest,
) -> Result<api::CreateDhcpOptionsResult, ApiError> {
    let tags = input.tag_specifications.as_deref();
    let make = Make::new(caller, "ec2:CreateDhcpOptions", "dhcp-options", tags);
    let permission = make.permission(caller);
    let made = ec2.change(caller, &permission, input.dry_run, |it| {
        let tags = make.tags()?;
        let options = read(input.dhcp_configurations.as_deref().unwrap_or_default())?;
        if it.network.view().dhcp_options.of(it.account).count() >= DHCP_OPTIONS_MAX {
            let (code, what) = ("DhcpOptionsLimitExceeded", "DHCP options sets");
            return Err(NetworkRefusal::TooMany { code, what }.into());
        }
        let row = DhcpOptions { account: it.account, id: DhcpOptionsId::mint(it.ids), options };
        it.tag(row.id.as_str(), &tags);
        let wire = to_wire(&row, Some(&tags));
        it.put(row);
        Ok(wire)
    });
    Ok(api::CreateDhcpOptionsResult { dhcp_options: Some(made.await?) })
}

fn read(given: &[api::NewDhcpConfiguration]) -> Result<Vec<(String, Vec<String>)>, Refusal> {
    let mut options: Vec<(String, Vec<String>)> = Vec::new();
    for option in given {
        let key = option.key.clone().unwrap_or_default();
        let values = option.values.clone().unwrap_or_default();
        if INSTANCES.contains(&key.as_str()) {
            return Err(NetworkRefusal::Unsupported(format!(
                "The option {key} is not available in this region: tasks are told {}.",
                KNOWN.join(" and ")
            ))
            .into());
        }
        let is_twice = options.iter().any(|(known, _)| *known == key);
        if !KNOWN.contains(&key.as_str()) || values.is_empty() || is_twice {
            return Err(Refusal::Value(format!(
                "Value ({key}) for parameter dhcpConfiguration is invalid: a known option, once, with values"
            )));
        }
        let is_server =
            |value: &String| value == AMAZONS || value.parse::<std::net::IpAddr>().is_ok();
        let is_domain = |value: &String| {
            let is_letter =
                |letter: char| letter.is_ascii_alphanumeric() || "-._ ".contains(letter);
            value.len() <= 253 && !value.is_empty() && value.chars().all(is_letter)
        };
        let is_well = match key.as_str() {
            "domain-name-servers" => values.len() <= SERVERS_MAX && values.iter().all(is_server),
            _ => values.iter().all(is_domain),
        };
        if !is_well {
            return Err(Refusal::Value(format!(
                "Value ({}) for DHCP option {key} is invalid.",
                values.join(", ")
            )));
        }
        options.push((key, values));
    }
    if options.is_empty() { Err(Refusal::Parameter("dhcpConfiguration")) } else { Ok(options) }
}

fn to_wire(row: &DhcpOptions, tags: Option<&Tags>) -> api::DhcpOptions {
    let value = |value: &String| api::AttributeValue { value: Some(value.clone()) };
    let options = row.options.iter().map(|(key, values)| api::DhcpConfiguration {
        key: Some(key.clone()),
        values: Some(values.iter().map(value).collect()),
    });
    api::DhcpOptions {
        owner_id: Some(row.account.to_string()),
        tags: Some(tags::to_wire(tags)),
        dhcp_options_id: Some(row.id.to_string()),
        dhcp_configurations: Some(options.collect()),
    }
}

const FILTERS: Filters<api::DhcpOptions> = &[
    ("dhcp-options-id", |it| one(it.dhcp_options_id.as_ref())),
    ("key", |it| {
        it.dhcp_configurations.iter().flatten().filter_map(|each| each.key.clone()).collect()
    }),
    ("owner-id", |it| one(it.owner_id.as_ref())),
    ("value", |it| {
        let options = it.dhcp_configurations.iter().flatten();
        let values = options.flat_map(|each| each.values.iter().flatten());
        values.filter_map(|value| value.value.clone()).collect()
    }),
];

pub(crate) async fn describe_dhcp_options(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeDhcpOptionsRequest,
) -> Result<api::DescribeDhcpOptionsResult, ApiError> {
    let view = ec2.control.read(caller, &Permission::to("ec2:DescribeDhcpOptions").on("*"))?;
    unless_dry(input.dry_run)?;
    let all = ec2.control.network(&view, caller.account).all_dhcp();
    let wire = all.iter().map(|row| to_wire(row, view.tags_on(row.account, row.id.as_str())));
    let asked = Asked {
        kind: Kind::DhcpOptions,
        ids: input.dhcp_options_ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (options, next_token) =
        select(wire.collect(), &asked, |it| it.dhcp_options_id.as_deref(), FILTERS)?;
    Ok(api::DescribeDhcpOptionsResult { dhcp_options: Some(options), next_token })
}

pub(crate) async fn associate_dhcp_options(
    ec2: &Ec2,
    caller: &Caller,
    input: api::AssociateDhcpOptionsRequest,
) -> Result<(), ApiError> {
    let id = input.dhcp_options_id.as_ref();
    let permission = on(caller, "ec2:AssociateDhcpOptions", "dhcp-options", id).on(arn(
        caller,
        "vpc",
        input.vpc_id.as_deref().unwrap_or_default(),
    ));
    let changed = ec2.change(caller, &permission, input.dry_run, |it| {
        let vpc = it.vpc(input.vpc_id.as_deref())?;
        let dhcp_options = match input.dhcp_options_id.as_deref() {
            Some("default") => None,
            given => Some(it.dhcp(given)?.id.clone()),
        };
        if dhcp_options != vpc.dhcp_options {
            it.change_vpc(&vpc.id);
            it.put(VpcRow { dhcp_options, ..VpcRow::clone(&vpc) });
        }
        Ok(())
    });
    changed.await
}

pub(crate) async fn delete_dhcp_options(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DeleteDhcpOptionsRequest,
) -> Result<(), ApiError> {
    let id = input.dhcp_options_id.as_ref();
    let permission = on(caller, "ec2:DeleteDhcpOptions", "dhcp-options", id);
    let deleted = ec2.change(caller, &permission, input.dry_run, |it| {
        let options = it.dhcp(input.dhcp_options_id.as_deref())?;
        // The default VPC names its own before it is a row.
        let unchanged = it.network.unchanged_default();
        if let Some(default) = unchanged.filter(|default| default.dhcp.id == options.id) {
            let (id, by) = (options.id.to_string(), vec![default.vpc.id.to_string()]);
            return Err(NetworkRefusal::InUse { what: "dhcpOptions", id, by }.into());
        }
        it.check_unused("dhcpOptions", options.id.as_str(), &[])?;
        it.delete(Key::DhcpOptions(it.account, options.id.clone()));
        Ok(())
    });
    deleted.await
}
