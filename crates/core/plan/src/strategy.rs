//! What makes one fitting instance better than another.
//!
//! Strategies are heeded in their order, and ties go to the lowest id. Chance comes in as a number, the
//! seed: instances stand on a ring by a number made of their id, the seed names two points of the ring, and of
//! the two instances that follow these points the one with fewer tasks is taken. So a random choice needs
//! no look at all instances, and none of them is favoured for long by where it stands.

use longshore_types::InstanceId;

/// What tasks are spread over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// `instanceId`, or its other name `host`.
    Instance,
    /// `attribute:<name>`; instances without it form a part of their own.
    Attribute(String),
}

/// One placement strategy; earlier ones weigh more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// Where the least CPU is left.
    BinpackCpu,
    /// Where the least memory is left.
    BinpackMemory,
    /// Where the fewest tasks of the group are.
    Spread(Field),
    /// By chance. Nothing is left to strategies after it. Without any strategy it is this one.
    Random,
}

/// No more strategies than this are heeded; the API allows as many.
pub const STRATEGIES_MAX: usize = 5;

/// A value per strategy; the smallest key is the best place.
pub(crate) type Key = [u32; STRATEGIES_MAX];

/// The attribute that zones are told by.
pub const ZONE_ATTRIBUTE: &str = "ecs.availability-zone";

impl Strategy {
    /// What a service has that named none: its tasks are spread over zones.
    pub fn of_services() -> Self {
        Self::Spread(Field::Attribute(ZONE_ATTRIBUTE.to_owned()))
    }

    /// The attribute whose values tasks are spread over.
    pub(crate) fn attribute(&self) -> Option<&str> {
        match self {
            Self::Spread(Field::Attribute(name)) => Some(name),
            Self::Spread(Field::Instance)
            | Self::BinpackCpu
            | Self::BinpackMemory
            | Self::Random => None,
        }
    }
}

/// The strategies that give an instance its place in the order, and whether chance decides among equals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    pub(crate) ranks: &'a [Strategy],
    pub(crate) is_random: bool,
}

impl<'a> Order<'a> {
    pub(crate) fn of(strategies: &'a [Strategy]) -> Self {
        let heeded = &strategies[..strategies.len().min(STRATEGIES_MAX)];
        match heeded.iter().position(|each| *each == Strategy::Random) {
            Some(at) => Self { ranks: &heeded[..at], is_random: true },
            None => Self { ranks: heeded, is_random: heeded.is_empty() },
        }
    }
}

/// Where an instance stands on the ring.
pub(crate) fn ring(id: InstanceId) -> u32 {
    let (high, low) = halves(id);
    split(mix(high ^ low.rotate_left(32))).0
}

/// An id as two numbers, in the order of ids.
pub(crate) fn halves(id: InstanceId) -> (u64, u64) {
    let bytes = id.to_bytes();
    let (high, low) = bytes.split_at(8);
    let half = |part: &[u8]| part.iter().fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    (half(high), half(low))
}

/// The two points of the ring that a seed names.
pub(crate) fn points(seed: u64) -> [u32; 2] {
    let (high, low) = split(mix(seed));
    [high, low]
}

/// The seed for the next task of an ask.
pub(crate) fn next_seed(seed: u64) -> u64 {
    seed.wrapping_add(0x9e37_79b9_7f4a_7c15)
}

/// Of hosts that are equal but for their attributes' values, chance takes first the values with the smallest lot.
pub(crate) fn lot(seed: u64, values_hash: u64) -> u64 {
    mix(seed ^ values_hash)
}

/// A number made of the values of the attributes that tasks are spread over.
pub(crate) fn values_hash<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> u64 {
    let mut all = 0_u64;
    for value in values {
        all = mix(all ^ u64::from(value.is_some()));
        for byte in value.unwrap_or_default().bytes() {
            all = mix(all ^ u64::from(byte));
        }
    }
    all
}

/// Each bit of the answer depends on each bit of `z`.
pub(crate) fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn split(number: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]))
}
