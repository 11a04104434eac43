//! DescribeInstanceTypes and DescribeInstanceTypeOfferings: what the types are that configurations name. No machine is
//! made of any of them here; a host that joins says itself what it has.

mod table;

use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use table::{InstanceType, Maker};

use crate::Ec2;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, one, select, shown};

/// The most types of a page, named or not.
const PAGE_MAX: i32 = 100;

const FILTERS: Filters<api::InstanceTypeInfo> = &[
    ("bare-metal", |it| shown(it.bare_metal.as_ref())),
    ("burstable-performance-supported", |it| shown(it.burstable_performance_supported.as_ref())),
    ("current-generation", |it| shown(it.current_generation.as_ref())),
    ("ebs-info.ebs-optimized-support", |it| {
        shown(it.ebs_info.as_ref().and_then(|ebs| ebs.ebs_optimized_support.as_ref()))
    }),
    ("ebs-info.encryption-support", |it| {
        shown(it.ebs_info.as_ref().and_then(|ebs| ebs.encryption_support.as_ref()))
    }),
    ("ebs-info.nvme-support", |it| {
        shown(it.ebs_info.as_ref().and_then(|ebs| ebs.nvme_support.as_ref()))
    }),
    ("hypervisor", |it| shown(it.hypervisor.as_ref())),
    ("instance-storage-supported", |it| shown(it.instance_storage_supported.as_ref())),
    ("instance-type", |it| shown(it.instance_type.as_ref())),
    ("memory-info.size-in-mib", |it| {
        shown(it.memory_info.as_ref().and_then(|memory| memory.size_in_mib.as_ref()))
    }),
    ("network-info.ipv4-addresses-per-interface", |it| {
        of_network(it, |network| shown(network.ipv4_addresses_per_interface.as_ref()))
    }),
    ("network-info.maximum-network-interfaces", |it| {
        of_network(it, |network| shown(network.maximum_network_interfaces.as_ref()))
    }),
    ("network-info.network-performance", |it| {
        of_network(it, |network| one(network.network_performance.as_ref()))
    }),
    ("processor-info.supported-architecture", |it| {
        let processor = it.processor_info.iter();
        processor
            .flat_map(|it| it.supported_architectures.iter().flatten())
            .map(ToString::to_string)
            .collect()
    }),
    ("supported-boot-mode", |it| texts(it.supported_boot_modes.as_deref())),
    ("supported-root-device-type", |it| texts(it.supported_root_device_types.as_deref())),
    ("supported-usage-class", |it| texts(it.supported_usage_classes.as_deref())),
    ("supported-virtualization-type", |it| texts(it.supported_virtualization_types.as_deref())),
    ("vcpu-info.default-cores", |it| of_vcpus(it, |vcpus| vcpus.default_cores)),
    ("vcpu-info.default-threads-per-core", |it| {
        of_vcpus(it, |vcpus| vcpus.default_threads_per_core)
    }),
    ("vcpu-info.default-vcpus", |it| of_vcpus(it, |vcpus| vcpus.default_v_cpus)),
];

fn texts<T: ToString>(list: Option<&[T]>) -> Vec<String> {
    list.unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn of_network(
    it: &api::InstanceTypeInfo,
    values: fn(&api::NetworkInfo) -> Vec<String>,
) -> Vec<String> {
    it.network_info.as_ref().map(values).unwrap_or_default()
}

fn of_vcpus(it: &api::InstanceTypeInfo, value: fn(&api::VCpuInfo) -> Option<i32>) -> Vec<String> {
    shown(it.v_cpu_info.as_ref().and_then(value).as_ref())
}

fn processor(of: &InstanceType) -> (api::ProcessorInfo, Vec<api::BootModeType>) {
    let (maker, architecture) = match of.family.maker {
        Maker::Intel => ("Intel", api::ArchitectureType::X8664),
        Maker::Amd => ("AMD", api::ArchitectureType::X8664),
        Maker::Aws => ("AWS", api::ArchitectureType::Arm64),
    };
    let boots = match of.family.maker {
        Maker::Aws => vec![api::BootModeType::Uefi],
        Maker::Intel | Maker::Amd if of.is_xen() => vec![api::BootModeType::LegacyBios],
        Maker::Intel | Maker::Amd => vec![api::BootModeType::LegacyBios, api::BootModeType::Uefi],
    };
    let info = api::ProcessorInfo {
        supported_architectures: Some(vec![architecture]),
        manufacturer: Some(maker.to_owned()),
        ..api::ProcessorInfo::default()
    };
    (info, boots)
}

fn network(of: &InstanceType) -> api::NetworkInfo {
    let performance = of.family.network.to_owned();
    let ena = if of.is_xen() { api::EnaSupport::Unsupported } else { api::EnaSupport::Required };
    let card = api::NetworkCardInfo {
        network_card_index: Some(0),
        network_performance: Some(performance.clone()),
        maximum_network_interfaces: Some(of.size.interfaces),
        ..api::NetworkCardInfo::default()
    };
    api::NetworkInfo {
        network_performance: Some(performance),
        maximum_network_interfaces: Some(of.size.interfaces),
        maximum_network_cards: Some(1),
        default_network_card_index: Some(0),
        network_cards: Some(vec![card]),
        ipv4_addresses_per_interface: Some(of.size.addresses),
        ipv6_addresses_per_interface: Some(of.size.addresses),
        ipv6_supported: Some(true),
        ena_support: Some(ena),
        efa_supported: Some(false),
        ..api::NetworkInfo::default()
    }
}

fn ebs(of: &InstanceType) -> api::EbsInfo {
    let (optimized, nvme) = match of.is_xen() {
        true => (api::EbsOptimizedSupport::Unsupported, api::EbsNvmeSupport::Unsupported),
        false => (api::EbsOptimizedSupport::Default, api::EbsNvmeSupport::Required),
    };
    api::EbsInfo {
        ebs_optimized_support: Some(optimized),
        encryption_support: Some(api::EbsEncryptionSupport::Supported),
        nvme_support: Some(nvme),
        ..api::EbsInfo::default()
    }
}

fn gpus(of: &InstanceType) -> Option<api::GpuInfo> {
    let gpu = of.family.gpu?;
    let device = api::GpuDeviceInfo {
        name: Some(gpu.name.to_owned()),
        manufacturer: Some("NVIDIA".to_owned()),
        count: Some(1),
        memory_info: Some(api::GpuDeviceMemoryInfo { size_in_mib: Some(gpu.memory_mib) }),
        ..api::GpuDeviceInfo::default()
    };
    Some(api::GpuInfo { gpus: Some(vec![device]), total_gpu_memory_in_mib: Some(gpu.memory_mib) })
}

fn storage(of: &InstanceType) -> Option<api::InstanceStorageInfo> {
    let size = Some(of.size.disk_gb).filter(|size| 0 < *size)?;
    let disk =
        api::DiskInfo { size_in_gb: Some(size), count: Some(1), r#type: Some(api::DiskType::Ssd) };
    Some(api::InstanceStorageInfo {
        total_size_in_gb: Some(size),
        disks: Some(vec![disk]),
        nvme_support: Some(api::EphemeralNvmeSupport::Required),
        encryption_support: Some(api::InstanceStorageEncryptionSupport::Required),
    })
}

fn to_wire(of: &InstanceType) -> api::InstanceTypeInfo {
    let (processor, boots) = processor(of);
    let threads = of.threads();
    let storage = storage(of);
    let hypervisor = match of.is_xen() {
        true => api::InstanceTypeHypervisor::Xen,
        false => api::InstanceTypeHypervisor::Nitro,
    };
    api::InstanceTypeInfo {
        instance_type: Some(of.name().as_str().into()),
        current_generation: Some(true),
        free_tier_eligible: Some(false),
        supported_usage_classes: Some(vec![api::UsageClassType::OnDemand]),
        supported_root_device_types: Some(vec![api::RootDeviceType::Ebs]),
        supported_virtualization_types: Some(vec![api::VirtualizationType::Hvm]),
        bare_metal: Some(false),
        hypervisor: Some(hypervisor),
        processor_info: Some(processor),
        v_cpu_info: Some(api::VCpuInfo {
            default_v_cpus: Some(of.size.vcpus),
            default_cores: Some(of.size.vcpus / threads),
            default_threads_per_core: Some(threads),
            ..api::VCpuInfo::default()
        }),
        memory_info: Some(api::MemoryInfo { size_in_mib: Some(of.memory_mib()) }),
        instance_storage_supported: Some(storage.is_some()),
        instance_storage_info: storage,
        ebs_info: Some(ebs(of)),
        network_info: Some(network(of)),
        gpu_info: gpus(of),
        placement_group_info: Some(api::PlacementGroupInfo { supported_strategies: Some(vec![]) }),
        hibernation_supported: Some(false),
        burstable_performance_supported: Some(of.is_burstable()),
        dedicated_hosts_supported: Some(false),
        auto_recovery_supported: Some(false),
        supported_boot_modes: Some(boots),
        ..api::InstanceTypeInfo::default()
    }
}

pub(crate) async fn describe_instance_types(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeInstanceTypesRequest,
) -> Result<api::DescribeInstanceTypesResult, ApiError> {
    ec2.control.read(caller, &Permission::to("ec2:DescribeInstanceTypes").on("*"))?;
    unless_dry(input.dry_run)?;
    let ids = input.instance_types.map(|types| texts(Some(types.as_slice())));
    let has_ids = ids.as_ref().is_some_and(|ids| !ids.is_empty());
    let asked = Asked {
        kind: Kind::InstanceType,
        ids: ids.as_deref(),
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results.or(Some(PAGE_MAX).filter(|_| !has_ids)),
    };
    let all = table::all().iter().map(to_wire).collect();
    let (types, next_token) = select(
        all,
        &asked,
        |it| it.instance_type.as_ref().map(api::InstanceType::as_str),
        FILTERS,
    )?;
    Ok(api::DescribeInstanceTypesResult { instance_types: Some(types), next_token })
}

const OFFERING_FILTERS: Filters<Offering> = &[
    ("instance-type", |it| vec![it.instance_type.clone()]),
    ("location", |it| vec![it.location.clone()]),
];

/// A type at a place.
pub(crate) struct Offering {
    /// Both, for pages.
    key: String,
    instance_type: String,
    location: String,
}

pub(crate) async fn describe_instance_type_offerings(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeInstanceTypeOfferingsRequest,
) -> Result<api::DescribeInstanceTypeOfferingsResult, ApiError> {
    let permission = Permission::to("ec2:DescribeInstanceTypeOfferings").on("*");
    let view = ec2.control.read(caller, &permission)?;
    unless_dry(input.dry_run)?;
    let kind = input.location_type.unwrap_or(api::LocationType::Region);
    let vpc = ec2.control.own_vpc(&view, caller)?;
    let subnets = &vpc.subnets;
    let places: Vec<String> = match &kind {
        api::LocationType::Region => vec![ec2.control.config.region.to_string()],
        api::LocationType::AvailabilityZone => subnets.iter().map(|it| it.zone.clone()).collect(),
        api::LocationType::AvailabilityZoneId => {
            subnets.iter().map(|it| it.zone_id.clone()).collect()
        }
        // There are no outposts.
        api::LocationType::Outpost => vec![],
        other => {
            let sentence = format!("Value ({other}) for parameter locationType is invalid.");
            return Err(Refusal::Value(sentence).into());
        }
    };
    let offered = table::all().into_iter().flat_map(|of| {
        let name = of.name();
        places
            .iter()
            .map(move |place| Offering {
                key: format!("{name}/{place}"),
                instance_type: name.clone(),
                location: place.clone(),
            })
            .collect::<Vec<_>>()
    });
    let mut all: Vec<Offering> = offered.collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    let asked = Asked {
        kind: Kind::InstanceType,
        ids: None,
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (offered, next_token) = select(all, &asked, |it| Some(it.key.as_str()), OFFERING_FILTERS)?;
    let offered = offered.into_iter().map(|it| api::InstanceTypeOffering {
        instance_type: Some(it.instance_type.as_str().into()),
        location_type: Some(kind.clone()),
        location: Some(it.location),
    });
    Ok(api::DescribeInstanceTypeOfferingsResult {
        instance_type_offerings: Some(offered.collect()),
        next_token,
    })
}
