//! DescribeImages and DescribeKeyPairs: names that configurations look for, of machines that are not here.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::machine_images::{IMAGES, ImageSystem, MachineImage, PUBLISHED_AT};
use ec2_api as api;

use crate::Ec2;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::filter::{Asked, Filters, by_id, one, select, shown};

/// The size of the root volume that Amazon's images ask for.
const ROOT_VOLUME_GIB: i32 = 30;
const OWNER_ALIAS: &str = "amazon";

fn of_volume(image: &api::Image, value: fn(&api::EbsBlockDevice) -> Vec<String>) -> Vec<String> {
    let mappings = image.block_device_mappings.iter().flatten();
    mappings.filter_map(|mapping| mapping.ebs.as_ref()).flat_map(value).collect()
}

const FILTERS: Filters<api::Image> = &[
    ("architecture", |it| shown(it.architecture.as_ref())),
    ("block-device-mapping.delete-on-termination", |it| {
        of_volume(it, |volume| shown(volume.delete_on_termination.as_ref()))
    }),
    ("block-device-mapping.device-name", |it| one(it.root_device_name.as_ref())),
    ("block-device-mapping.encrypted", |it| {
        of_volume(it, |volume| shown(volume.encrypted.as_ref()))
    }),
    ("block-device-mapping.snapshot-id", |_| vec![]),
    ("block-device-mapping.volume-size", |it| {
        of_volume(it, |volume| shown(volume.volume_size.as_ref()))
    }),
    ("block-device-mapping.volume-type", |it| {
        of_volume(it, |volume| shown(volume.volume_type.as_ref()))
    }),
    ("creation-date", |it| one(it.creation_date.as_ref())),
    ("description", |it| one(it.description.as_ref())),
    ("ena-support", |it| shown(it.ena_support.as_ref())),
    ("hypervisor", |it| shown(it.hypervisor.as_ref())),
    ("image-id", |it| one(it.image_id.as_ref())),
    ("image-type", |it| shown(it.image_type.as_ref())),
    ("is-public", |it| shown(it.public.as_ref())),
    ("kernel-id", |_| vec![]),
    ("manifest-location", |it| one(it.image_location.as_ref())),
    ("name", |it| one(it.name.as_ref())),
    ("owner-alias", |it| one(it.image_owner_alias.as_ref())),
    ("owner-id", |it| one(it.owner_id.as_ref())),
    ("platform", |_| vec![]),
    ("product-code", |_| vec![]),
    ("product-code.type", |_| vec![]),
    ("public-ssm-parameter-name", |it| one(it.public_ssm_parameter_name.as_ref())),
    ("ramdisk-id", |_| vec![]),
    ("root-device-name", |it| one(it.root_device_name.as_ref())),
    ("root-device-type", |it| shown(it.root_device_type.as_ref())),
    ("source-image-id", |_| vec![]),
    ("source-image-region", |_| vec![]),
    ("source-instance-id", |_| vec![]),
    ("sriov-net-support", |it| one(it.sriov_net_support.as_ref())),
    ("state", |it| shown(it.state.as_ref())),
    ("state-reason-code", |_| vec![]),
    ("state-reason-message", |_| vec![]),
    ("virtualization-type", |it| shown(it.virtualization_type.as_ref())),
];

fn to_wire(image: &MachineImage) -> api::Image {
    let device = "/dev/xvda".to_owned();
    let volume = api::EbsBlockDevice {
        delete_on_termination: Some(true),
        volume_size: Some(ROOT_VOLUME_GIB),
        volume_type: Some(match image.system {
            ImageSystem::AmazonLinux2023 => api::VolumeType::Gp3,
            ImageSystem::AmazonLinux2 | ImageSystem::Bottlerocket => api::VolumeType::Gp2,
        }),
        encrypted: Some(false),
        ..api::EbsBlockDevice::default()
    };
    let mapping = api::BlockDeviceMapping {
        device_name: Some(device.clone()),
        ebs: Some(volume),
        ..api::BlockDeviceMapping::default()
    };
    let name = image.name();
    api::Image {
        image_id: Some(image.id()),
        image_location: Some(format!("{OWNER_ALIAS}/{name}")),
        name: Some(name),
        description: Some(image.description()),
        owner_id: Some(image.owner().to_owned()),
        image_owner_alias: Some(OWNER_ALIAS.to_owned()),
        creation_date: Some(PUBLISHED_AT.iso8601()),
        public: Some(true),
        state: Some(api::ImageState::Available),
        architecture: Some(image.architecture.into()),
        image_type: Some(api::ImageTypeValues::Machine),
        platform_details: Some("Linux/UNIX".to_owned()),
        usage_operation: Some("RunInstances".to_owned()),
        block_device_mappings: Some(vec![mapping]),
        ena_support: Some(true),
        hypervisor: Some(api::HypervisorType::Xen),
        root_device_name: Some(device),
        root_device_type: Some(api::DeviceType::Ebs),
        sriov_net_support: Some("simple".to_owned()),
        virtualization_type: Some(api::VirtualizationType::Hvm),
        public_ssm_parameter_name: image.parameter(),
        tags: Some(vec![]),
        ..api::Image::default()
    }
}

/// Whether a request that names owners, or whom images are shared with, asks for Amazon's.
fn is_asked(image: &MachineImage, owners: Option<&[String]>, users: Option<&[String]>) -> bool {
    let owned = owners.is_none_or(|owners| {
        owners.is_empty() || owners.iter().any(|it| it == OWNER_ALIAS || it == image.owner())
    });
    owned && users.is_none_or(|users| users.is_empty() || users.iter().any(|it| it == "all"))
}

pub(crate) async fn describe_images(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeImagesRequest,
) -> Result<api::DescribeImagesResult, ApiError> {
    ec2.control.read(caller, &Permission::to("ec2:DescribeImages").on("*"))?;
    unless_dry(input.dry_run)?;
    let mut all: Vec<api::Image> = IMAGES.iter().map(to_wire).collect();
    all.sort_by(|a, b| a.image_id.cmp(&b.image_id));
    let ids = input.image_ids.as_deref();
    let malformed = ids.into_iter().flatten().find(|id| !id.starts_with("ami-"));
    if let Some(id) = malformed {
        return Err(Refusal::Malformed(Kind::Image, id.clone()).into());
    }
    let mut named = by_id(all, ids, |it| it.image_id.as_deref(), Kind::Image.refused())?;
    let (owners, users) = (input.owners.as_deref(), input.executable_users.as_deref());
    let asked: Vec<String> =
        IMAGES.iter().filter(|it| is_asked(it, owners, users)).map(MachineImage::id).collect();
    named.retain(|it| it.image_id.as_ref().is_some_and(|id| asked.contains(id)));
    let asked = Asked {
        kind: Kind::Image,
        // What is not the owner's is not shown, though it is there.
        ids: None,
        filters: input.filters.as_deref(),
        token: input.next_token.as_deref(),
        max: input.max_results,
    };
    let (images, next_token) = select(named, &asked, |it| it.image_id.as_deref(), FILTERS)?;
    Ok(api::DescribeImagesResult { images: Some(images), next_token })
}

const KEY_FILTERS: Filters<api::KeyPairInfo> = &[
    ("fingerprint", |it| one(it.key_fingerprint.as_ref())),
    ("key-name", |it| one(it.key_name.as_ref())),
    ("key-pair-id", |it| one(it.key_pair_id.as_ref())),
];

/// None: there are no machines whose keys they would be.
pub(crate) async fn describe_key_pairs(
    ec2: &Ec2,
    caller: &Caller,
    input: api::DescribeKeyPairsRequest,
) -> Result<api::DescribeKeyPairsResult, ApiError> {
    ec2.control.read(caller, &Permission::to("ec2:DescribeKeyPairs").on("*"))?;
    unless_dry(input.dry_run)?;
    let (names, ids) = (input.key_names.as_deref(), input.key_pair_ids.as_deref());
    let none = by_id(
        Vec::new(),
        names,
        |it: &api::KeyPairInfo| it.key_name.as_deref(),
        Kind::KeyPair.refused(),
    )?;
    let asked = Asked {
        kind: Kind::KeyPairId,
        ids,
        filters: input.filters.as_deref(),
        token: None,
        max: None,
    };
    let (none, _) = select(none, &asked, |it| it.key_pair_id.as_deref(), KEY_FILTERS)?;
    Ok(api::DescribeKeyPairsResult { key_pairs: Some(none) })
}
