//! The machine images that clients look for before they make hosts: those that Amazon publishes for ECS, by its names.
//!
//! There are no machines here, and so no images of any: a host joins by `longshore agent`. What is answered is a name and
//! an id that stay, so that a configuration can be planned, and both its name and its description say what it is.

use longshore_types::Timestamp;
use sha2::{Digest as _, Sha256};

/// When every image was made, and every public parameter put.
pub const PUBLISHED_AT: Timestamp = Timestamp(1_767_225_600_000);

/// What stands in an image's name where Amazon's has a date.
const NO_IMAGE: &str = "longshore-no-image";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageSystem {
    AmazonLinux2,
    AmazonLinux2023,
    Bottlerocket,
}

/// A machine image that there is not.
#[derive(Debug)]
pub struct MachineImage {
    /// Its name, with `{}` for the version.
    pattern: &'static str,
    pub system: ImageSystem,
    /// `x86_64` or `arm64`.
    pub architecture: &'static str,
    /// ECS's agent is on it.
    pub is_for_ecs: bool,
    /// What [`ImageSystem`]'s way to publish it calls it, below `/aws/service/`.
    pub published_as: &'static [&'static str],
}

impl MachineImage {
    pub fn version(&self) -> String {
        let of_system = match self.system {
            ImageSystem::AmazonLinux2 => "2.0.0",
            ImageSystem::AmazonLinux2023 => "2023.0.0",
            ImageSystem::Bottlerocket => "v1.0.0",
        };
        format!("{of_system}-{NO_IMAGE}")
    }

    pub fn name(&self) -> String {
        self.pattern.replace("{}", &self.version())
    }

    /// `ami-` and 17 digits that follow from the name, so that they stay.
    pub fn id(&self) -> String {
        let digest = Sha256::digest(self.pattern.as_bytes());
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("ami-0{}", &digits[..16])
    }

    /// The operating system, as ECS's parameters call it.
    pub fn os(&self) -> &'static str {
        match self.system {
            ImageSystem::AmazonLinux2 => "Amazon Linux 2",
            ImageSystem::AmazonLinux2023 => "Amazon Linux 2023",
            ImageSystem::Bottlerocket => "Bottlerocket",
        }
    }

    /// The account of Amazon's that has the image that this one is called by.
    pub fn owner(&self) -> &'static str {
        match (self.system, self.is_for_ecs) {
            (ImageSystem::Bottlerocket, _) => "092701018921",
            (ImageSystem::AmazonLinux2 | ImageSystem::AmazonLinux2023, true) => "591542846629",
            (ImageSystem::AmazonLinux2 | ImageSystem::AmazonLinux2023, false) => "137112412989",
        }
    }

    /// What it is, for whoever looks.
    pub fn description(&self) -> String {
        let like = self.pattern.replace("{}", "*");
        format!(
            "There is no machine image here: this stands for Amazon's {like}. A host joins this Longshore region by \
             longshore agent (docs/hosts.md)."
        )
    }

    /// The parameter that leads to it.
    pub fn parameter(&self) -> Option<String> {
        let first = self.published_as.first()?;
        Some(match (self.system, self.is_for_ecs) {
            (ImageSystem::Bottlerocket, _) => format!("/aws/service/{first}/latest/image_id"),
            (_, true) => format!("/aws/service/{first}/recommended/image_id"),
            (_, false) => format!("/aws/service/{first}"),
        })
    }
}

const X86: &str = "x86_64";
const ARM: &str = "arm64";

const fn image(
    pattern: &'static str,
    system: ImageSystem,
    architecture: &'static str,
    is_for_ecs: bool,
    published_as: &'static [&'static str],
) -> MachineImage {
    MachineImage { pattern, system, architecture, is_for_ecs, published_as }
}

macro_rules! images {
    ($($system:ident $architecture:ident $is_for_ecs:literal $pattern:literal: $($path:literal),+;)+) => {
        &[$(image($pattern, ImageSystem::$system, $architecture, $is_for_ecs, &[$($path),+])),+]
    };
}

/// All of them.
pub const IMAGES: &[MachineImage] = images! {
    AmazonLinux2 X86 true "amzn2-ami-ecs-hvm-{}-x86_64-ebs": "ecs/optimized-ami/amazon-linux-2";
    AmazonLinux2 ARM true "amzn2-ami-ecs-hvm-{}-arm64-ebs": "ecs/optimized-ami/amazon-linux-2/arm64";
    AmazonLinux2 X86 true "amzn2-ami-ecs-gpu-hvm-{}-x86_64-ebs": "ecs/optimized-ami/amazon-linux-2/gpu";
    AmazonLinux2 X86 true "amzn2-ami-ecs-inf-hvm-{}-x86_64-ebs": "ecs/optimized-ami/amazon-linux-2/inf";
    AmazonLinux2 X86 true "amzn2-ami-ecs-kernel-5.10-hvm-{}-x86_64-ebs":
        "ecs/optimized-ami/amazon-linux-2/kernel-5.10";
    AmazonLinux2 ARM true "amzn2-ami-ecs-kernel-5.10-hvm-{}-arm64-ebs":
        "ecs/optimized-ami/amazon-linux-2/kernel-5.10/arm64";
    AmazonLinux2 X86 true "amzn2-ami-ecs-kernel-5.10-gpu-hvm-{}-x86_64-ebs":
        "ecs/optimized-ami/amazon-linux-2/kernel-5.10/gpu";
    AmazonLinux2 X86 true "amzn2-ami-ecs-kernel-5.10-inf-hvm-{}-x86_64-ebs":
        "ecs/optimized-ami/amazon-linux-2/kernel-5.10/inf";
    AmazonLinux2023 X86 true "al2023-ami-ecs-hvm-{}-kernel-6.1-x86_64": "ecs/optimized-ami/amazon-linux-2023";
    AmazonLinux2023 ARM true "al2023-ami-ecs-hvm-{}-kernel-6.1-arm64": "ecs/optimized-ami/amazon-linux-2023/arm64";
    AmazonLinux2023 X86 true "al2023-ami-ecs-gpu-hvm-{}-kernel-6.1-x86_64-ebs":
        "ecs/optimized-ami/amazon-linux-2023/gpu";
    AmazonLinux2023 X86 true "al2023-ami-ecs-neuron-hvm-{}-kernel-6.1-x86_64":
        "ecs/optimized-ami/amazon-linux-2023/neuron";
    AmazonLinux2023 X86 false "al2023-ami-{}-kernel-6.1-x86_64":
        "ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64",
        "ami-amazon-linux-latest/al2023-ami-kernel-6.1-x86_64";
    AmazonLinux2023 ARM false "al2023-ami-{}-kernel-6.1-arm64":
        "ami-amazon-linux-latest/al2023-ami-kernel-default-arm64",
        "ami-amazon-linux-latest/al2023-ami-kernel-6.1-arm64";
    AmazonLinux2023 X86 false "al2023-ami-minimal-{}-kernel-6.1-x86_64":
        "ami-amazon-linux-latest/al2023-ami-minimal-kernel-default-x86_64",
        "ami-amazon-linux-latest/al2023-ami-minimal-kernel-6.1-x86_64";
    AmazonLinux2023 ARM false "al2023-ami-minimal-{}-kernel-6.1-arm64":
        "ami-amazon-linux-latest/al2023-ami-minimal-kernel-default-arm64",
        "ami-amazon-linux-latest/al2023-ami-minimal-kernel-6.1-arm64";
    AmazonLinux2 X86 false "amzn2-ami-hvm-{}-x86_64-gp2": "ami-amazon-linux-latest/amzn2-ami-hvm-x86_64-gp2";
    AmazonLinux2 ARM false "amzn2-ami-hvm-{}-arm64-gp2": "ami-amazon-linux-latest/amzn2-ami-hvm-arm64-gp2";
    AmazonLinux2 X86 false "amzn2-ami-hvm-{}-x86_64-ebs": "ami-amazon-linux-latest/amzn2-ami-hvm-x86_64-ebs";
    AmazonLinux2 X86 false "amzn2-ami-kernel-5.10-hvm-{}-x86_64-gp2":
        "ami-amazon-linux-latest/amzn2-ami-kernel-5.10-hvm-x86_64-gp2";
    AmazonLinux2 ARM false "amzn2-ami-kernel-5.10-hvm-{}-arm64-gp2":
        "ami-amazon-linux-latest/amzn2-ami-kernel-5.10-hvm-arm64-gp2";
    AmazonLinux2 X86 false "amzn2-ami-kernel-5.10-hvm-{}-x86_64-ebs":
        "ami-amazon-linux-latest/amzn2-ami-kernel-5.10-hvm-x86_64-ebs";
    AmazonLinux2 X86 false "amzn2-ami-minimal-hvm-{}-x86_64-ebs":
        "ami-amazon-linux-latest/amzn2-ami-minimal-hvm-x86_64-ebs";
    AmazonLinux2 ARM false "amzn2-ami-minimal-hvm-{}-arm64-ebs":
        "ami-amazon-linux-latest/amzn2-ami-minimal-hvm-arm64-ebs";
    Bottlerocket X86 true "bottlerocket-aws-ecs-1-x86_64-{}": "bottlerocket/aws-ecs-1/x86_64";
    Bottlerocket ARM true "bottlerocket-aws-ecs-1-aarch64-{}": "bottlerocket/aws-ecs-1/arm64";
    Bottlerocket X86 true "bottlerocket-aws-ecs-2-x86_64-{}": "bottlerocket/aws-ecs-2/x86_64";
    Bottlerocket ARM true "bottlerocket-aws-ecs-2-aarch64-{}": "bottlerocket/aws-ecs-2/arm64";
    Bottlerocket X86 true "bottlerocket-aws-ecs-2-nvidia-x86_64-{}": "bottlerocket/aws-ecs-2-nvidia/x86_64";
    Bottlerocket ARM true "bottlerocket-aws-ecs-2-nvidia-aarch64-{}": "bottlerocket/aws-ecs-2-nvidia/arm64";
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_has_an_id_of_its_own_that_stays_and_says_what_it_is() {
        let ids: BTreeSet<String> = IMAGES.iter().map(MachineImage::id).collect();
        assert_eq!(ids.len(), IMAGES.len());
        assert_eq!(IMAGES[0].id(), "ami-0b4b540ae4d6b48ef");
        for image in IMAGES {
            let digits = image.id().strip_prefix("ami-").unwrap().to_owned();
            assert!(digits.len() == 17 && digits.bytes().all(|it| it.is_ascii_hexdigit()));
            assert!((3..=128).contains(&image.name().len()), "{}", image.name());
            assert!(image.name().contains("no-image") && image.description().len() <= 255);
        }
    }
}
