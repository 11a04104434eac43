//! What instance types there are: those that users of ECS name, by their families.

/// A processor's maker, and with it the architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Intel,
    Amd,
    Aws,
}

/// What the types of a family have in common.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) maker: Maker,
    /// What network its types have, but for the sizes that say otherwise.
    pub(super) network: &'static str,
    /// MiB of memory for a virtual processor, where the size does not say.
    memory_of_vcpu_mib: i64,
    pub(super) gpu: Option<&'static Gpu>,
    sizes: &'static [Size],
}

#[derive(Debug)]
pub(super) struct Gpu {
    pub(super) name: &'static str,
    pub(super) memory_mib: i32,
}

/// A size of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) name: &'static str,
    pub(super) vcpus: i32,
    /// Zero: as the family has it.
    memory_mib: i64,
    pub(super) interfaces: i32,
    pub(super) addresses: i32,
    /// GB of the disk that is in the machine; zero: there is none.
    pub(super) disk_gb: i64,
}

const fn size(name: &'static str, vcpus: i32, interfaces: i32, addresses: i32) -> Size {
    Size { name, vcpus, memory_mib: 0, interfaces, addresses, disk_gb: 0 }
}

impl Size {
    const fn with(self, memory_mib: i64) -> Self {
        Self { memory_mib, ..self }
    }

    const fn disk(self, disk_gb: i64) -> Self {
        Self { disk_gb, ..self }
    }
}

const LARGE: Size = size("large", 2, 3, 10);
const XLARGE: Size = size("xlarge", 4, 4, 15);
const XLARGE_2: Size = size("2xlarge", 8, 4, 15);
const XLARGE_4: Size = size("4xlarge", 16, 8, 30);
/// Of families of Intel's and AMD's processors.
const FROM_LARGE: &[Size] = &[LARGE, XLARGE, XLARGE_2, XLARGE_4];
/// Of families of AWS's own.
const FROM_MEDIUM: &[Size] = &[size("medium", 1, 2, 4), LARGE, XLARGE, XLARGE_2, XLARGE_4];
const BURSTABLE: &[Size] = &[
    size("nano", 2, 2, 2).with(512),
    size("micro", 2, 2, 2).with(1_024),
    size("small", 2, 3, 4).with(2_048),
    size("medium", 2, 3, 6).with(4_096),
    size("large", 2, 3, 12).with(8_192),
    size("xlarge", 4, 4, 15).with(16_384),
    size("2xlarge", 8, 4, 15).with(32_768),
];
const BURSTABLE_2: &[Size] = &[
    size("nano", 1, 2, 2).with(512),
    size("micro", 1, 2, 2).with(1_024),
    size("small", 1, 3, 4).with(2_048),
    size("medium", 2, 3, 6).with(4_096),
    size("large", 2, 3, 12).with(8_192),
    size("xlarge", 4, 3, 15).with(16_384),
    size("2xlarge", 8, 3, 15).with(32_768),
];
const G4DN: &[Size] = &[
    size("xlarge", 4, 3, 10).disk(125),
    size("2xlarge", 8, 3, 10).disk(225),
    size("4xlarge", 16, 3, 10).disk(225),
];
const G5: &[Size] = &[
    size("xlarge", 4, 4, 15).disk(250),
    size("2xlarge", 8, 4, 15).disk(450),
    size("4xlarge", 16, 8, 30).disk(600),
];
const T4: Gpu = Gpu { name: "T4", memory_mib: 16_384 };
const A10G: Gpu = Gpu { name: "A10G", memory_mib: 24_576 };

const fn family(
    name: &'static str,
    maker: Maker,
    gib_of_vcpu: i64,
    network: &'static str,
    sizes: &'static [Size],
) -> Family {
    let memory_of_vcpu_mib = gib_of_vcpu * 1_024;
    Family { name, maker, network, memory_of_vcpu_mib, gpu: None, sizes }
}

const TO_5: &str = "Up to 5 Gigabit";
const TO_10: &str = "Up to 10 Gigabit";
const TO_12: &str = "Up to 12.5 Gigabit";

const FAMILIES: &[Family] = &[
    family("c5", Maker::Intel, 2, TO_10, FROM_LARGE),
    family("c6a", Maker::Amd, 2, TO_12, FROM_LARGE),
    family("c6g", Maker::Aws, 2, TO_10, FROM_MEDIUM),
    family("c6i", Maker::Intel, 2, TO_12, FROM_LARGE),
    family("c7g", Maker::Aws, 2, TO_12, FROM_MEDIUM),
    family("c7i", Maker::Intel, 2, TO_12, FROM_LARGE),
    Family { gpu: Some(&T4), ..family("g4dn", Maker::Intel, 4, "Up to 25 Gigabit", G4DN) },
    Family { gpu: Some(&A10G), ..family("g5", Maker::Amd, 4, TO_10, G5) },
    family("m5", Maker::Intel, 4, TO_10, FROM_LARGE),
    family("m5a", Maker::Amd, 4, TO_10, FROM_LARGE),
    family("m6a", Maker::Amd, 4, TO_12, FROM_LARGE),
    family("m6g", Maker::Aws, 4, TO_10, FROM_MEDIUM),
    family("m6i", Maker::Intel, 4, TO_12, FROM_LARGE),
    family("m7g", Maker::Aws, 4, TO_12, FROM_MEDIUM),
    family("m7i", Maker::Intel, 4, TO_12, FROM_LARGE),
    family("r5", Maker::Intel, 8, TO_10, FROM_LARGE),
    family("r6g", Maker::Aws, 8, TO_10, FROM_MEDIUM),
    family("r6i", Maker::Intel, 8, TO_12, FROM_LARGE),
    family("r7g", Maker::Aws, 8, TO_12, FROM_MEDIUM),
    family("t2", Maker::Intel, 4, "Low to Moderate", BURSTABLE_2),
    family("t3", Maker::Intel, 4, TO_5, BURSTABLE),
    family("t3a", Maker::Amd, 4, TO_5, BURSTABLE),
    family("t4g", Maker::Aws, 4, TO_5, BURSTABLE),
];

/// A type: a size of a family.
#[derive(Clone, Copy, Debug)]
pub(super) struct InstanceType {
    pub(super) family: &'static Family,
    pub(super) size: Size,
}

impl InstanceType {
    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.family.name, self.size.name)
    }

    pub(super) fn memory_mib(&self) -> i64 {
        match self.size.memory_mib {
            0 => i64::from(self.size.vcpus) * self.family.memory_of_vcpu_mib,
            own => own,
        }
    }

    /// How many threads a core has: two of what Intel and AMD make, but of the oldest burstable types.
    pub(super) fn threads(&self) -> i32 {
        match self.family.maker {
            Maker::Aws => 1,
            Maker::Intel | Maker::Amd if self.family.name == "t2" => 1,
            Maker::Intel | Maker::Amd => 2,
        }
    }

    pub(super) fn is_burstable(&self) -> bool {
        self.family.name.starts_with('t')
    }

    /// Of the generation before Nitro.
    pub(super) fn is_xen(&self) -> bool {
        self.family.name == "t2"
    }
}

/// All of them, by name.
pub(super) fn all() -> Vec<InstanceType> {
    let types = FAMILIES.iter().flat_map(|family| {
        family.sizes.iter().map(move |size| InstanceType { family, size: *size })
    });
    let mut types: Vec<_> = types.collect();
    types.sort_by_key(InstanceType::name);
    types
}
