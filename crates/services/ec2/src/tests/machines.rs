//! Images, instance types and key pairs, through the service.

use std::collections::BTreeSet;

use ec2_api as api;
use ec2_api::Ec2 as _;

use super::{filter, world};

fn strings(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|text| (*text).to_owned()).collect())
}

#[tokio::test]
async fn images_of_ecs_are_found_by_name_and_say_that_there_are_none() {
    let world = world().await;
    for (pattern, architecture) in [
        ("amzn2-ami-ecs-hvm-*-x86_64-ebs", "x86_64"),
        ("amzn2-ami-ecs-hvm-2.0.*-arm64-ebs", "arm64"),
        ("al2023-ami-ecs-hvm-*-x86_64", "x86_64"),
        ("bottlerocket-aws-ecs-2-aarch64-*", "arm64"),
    ] {
        let request = api::DescribeImagesRequest {
            owners: strings(&["amazon"]),
            filters: filter("name", pattern),
            ..Default::default()
        };
        let found = world.ec2.describe_images(&world.root(), request).await.unwrap();
        let found = found.images.unwrap();
        assert_eq!(found.len(), 1, "{pattern}");
        let of = found[0].architecture.as_ref().map(ToString::to_string);
        assert_eq!(of.as_deref(), Some(architecture), "{pattern}");
        let description = found[0].description.as_deref().unwrap();
        assert!(description.starts_with("There is no machine image here"), "{description}");
    }
}

#[tokio::test]
async fn images_of_others_are_none_and_an_unknown_id_is_refused() {
    let world = world().await;
    for owner in ["self", "aws-marketplace", "123456789012"] {
        let owners = strings(&[owner]);
        let request = api::DescribeImagesRequest { owners, ..Default::default() };
        let found = world.ec2.describe_images(&world.root(), request).await.unwrap();
        assert_eq!(found.images, Some(vec![]), "{owner}");
    }
    for (id, code) in
        [("ami-0123456789abcdef0", "InvalidAMIID.NotFound"), ("image", "InvalidAMIID.Malformed")]
    {
        let request =
            api::DescribeImagesRequest { image_ids: strings(&[id]), ..Default::default() };
        let refused = world.ec2.describe_images(&world.root(), request).await.unwrap_err();
        assert_eq!(refused.code, code);
    }
    let request = api::DescribeKeyPairsRequest::default();
    let none = world.ec2.describe_key_pairs(&world.root(), request).await.unwrap();
    assert_eq!(none.key_pairs, Some(vec![]));
    let request =
        api::DescribeKeyPairsRequest { key_names: strings(&["mine"]), ..Default::default() };
    let refused = world.ec2.describe_key_pairs(&world.root(), request).await.unwrap_err();
    assert_eq!(refused.code, "InvalidKeyPair.NotFound");
}

#[tokio::test]
async fn types_have_what_they_have() {
    let world = world().await;
    for (name, vcpus, memory, architecture, gpus) in [
        ("t3.micro", 2, 1_024, "x86_64", 0),
        ("m7g.medium", 1, 4_096, "arm64", 0),
        ("c6i.4xlarge", 16, 32_768, "x86_64", 0),
        ("r5.large", 2, 16_384, "x86_64", 0),
        ("g4dn.xlarge", 4, 16_384, "x86_64", 1),
    ] {
        let request = api::DescribeInstanceTypesRequest {
            instance_types: Some(vec![name.into()]),
            ..Default::default()
        };
        let found = world.ec2.describe_instance_types(&world.root(), request).await.unwrap();
        let found = found.instance_types.unwrap().remove(0);
        assert_eq!(found.v_cpu_info.unwrap().default_v_cpus, Some(vcpus), "{name}");
        assert_eq!(found.memory_info.unwrap().size_in_mib, Some(memory), "{name}");
        let of = found.processor_info.unwrap().supported_architectures.unwrap();
        assert_eq!(of[0].to_string(), architecture, "{name}");
        let of = found.gpu_info.and_then(|it| it.gpus).map_or(0, |gpus| gpus.len());
        assert_eq!(of, gpus, "{name}");
    }
    let request = api::DescribeInstanceTypesRequest {
        instance_types: Some(vec!["t3.enormous".into()]),
        ..Default::default()
    };
    let refused = world.ec2.describe_instance_types(&world.root(), request).await.unwrap_err();
    assert_eq!(refused.code, "InvalidInstanceType");
}

#[tokio::test]
async fn types_come_in_pages_that_have_each_once() {
    let world = world().await;
    let (mut seen, mut token, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let request = api::DescribeInstanceTypesRequest {
            filters: filter("processor-info.supported-architecture", "arm64"),
            max_results: Some(10),
            next_token: token,
            ..Default::default()
        };
        let found = world.ec2.describe_instance_types(&world.root(), request).await.unwrap();
        for found in found.instance_types.unwrap() {
            assert!(seen.insert(found.instance_type.unwrap().to_string()), "twice");
        }
        (token, pages) = (found.next_token, pages + 1);
        if token.is_none() {
            break;
        }
    }
    assert!(1 < pages && seen.contains("t4g.nano") && !seen.contains("t3.nano"), "{seen:?}");
    let request = api::DescribeInstanceTypeOfferingsRequest {
        location_type: Some(api::LocationType::AvailabilityZone),
        filters: filter("instance-type", "m5.large"),
        ..Default::default()
    };
    let found = world.ec2.describe_instance_type_offerings(&world.root(), request).await.unwrap();
    assert_eq!(found.instance_type_offerings.map(|list| list.len()), Some(3));
}
