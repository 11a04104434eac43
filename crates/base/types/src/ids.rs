//! Identifiers. Parsing happens here and nowhere else; past this module an id is a type.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::env::IdSource;
use crate::serde_as_text;
use crate::units::Timestamp;

/// Why a string is not the identifier it was taken for. Its text completes "… must be".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    #[error("32 lowercase hexadecimal digits")]
    NotHex32,
    #[error("a UUID")]
    NotUuid,
    #[error("up to {max} letters (uppercase and lowercase), numbers, underscores, and hyphens")]
    Name { max: usize },
    #[error("a 12-digit account id")]
    NotAnAccount,
    #[error("a region name such as us-east-1")]
    NotARegion,
    #[error("a family, or a family and a positive revision number joined by a colon")]
    NotATaskDefinition,
    #[error("an ARN such as arn:aws:ecs:region:account:resource")]
    NotAnArn,
    #[error("an ARN of the right kind of resource")]
    WrongResource,
    #[error("an id such as {0}-0123456789abcdef0")]
    NotPrefixed(&'static str),
    #[error("a number of up to 19 digits")]
    NotANumber,
    #[error("an id such as ecs-svc/1234567890123456789")]
    NotADeployment,
    #[error("21 letters, digits, hyphens and underscores")]
    NotAServiceDeployment,
}

/// The digits of an id, written at once: an answer of a hundred tasks prints a thousand ids.
fn hex16<'a>(bytes: &[u8; 16], digits: &'a mut [u8; 32]) -> &'a str {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = HEX[usize::from(byte >> 4)];
        pair[1] = HEX[usize::from(byte & 15)];
    }
    std::str::from_utf8(digits).expect("hexadecimal digits are ASCII")
}

fn parse_hex16(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 16];
    for (slot, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *slot = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

/// A 128-bit id shown as 32 lowercase hex digits, tagged with what it names.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }

            pub fn mint(ids: &dyn IdSource) -> Self {
                Self(ids.id16())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(hex16(&self.0, &mut [0; 32]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex16(text).map(Self).ok_or(IdError::NotHex32)
            }
        }

        serde_as_text!($name);
    };
}

hex_id!(
    /// Names one task for its whole life; a replacement gets a new one.
    ///
    /// Its order is that of its last six bytes, which say when it was made ([`TaskId::mint_at`]), and then that
    /// of all: tasks that are made together lie together wherever they are kept by id, so that a write touches
    /// what others just touched. Its beginning is random, for people who write ids short.
    TaskId
);
hex_id!(
    /// Names one registered container instance.
    InstanceId
);

impl TaskId {
    /// Where the time begins: enough milliseconds for nine thousand years.
    const TIME_AT: usize = 10;
    /// No id comes before it.
    pub const MIN: Self = Self([0; 16]);

    /// An id that comes after all that were made before `now`.
    pub fn mint_at(ids: &dyn IdSource, now: Timestamp) -> Self {
        let mut bytes = ids.id16();
        let (_, time) = bytes.split_at_mut(Self::TIME_AT);
        time.copy_from_slice(&now.0.to_be_bytes()[2..]);
        Self(bytes)
    }

    /// As numbers, of which two are compared at once.
    fn order(&self) -> (u64, u128) {
        let all = u128::from_be_bytes(self.0);
        let [.., a, b, c, d, e, f] = self.0;
        (u64::from_be_bytes([0, 0, a, b, c, d, e, f]), all)
    }
}

impl Ord for TaskId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order().cmp(&other.order())
    }
}

impl PartialOrd for TaskId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for InstanceId {
    fn cmp(&self, other: &Self) -> Ordering {
        u128::from_be_bytes(self.0).cmp(&u128::from_be_bytes(other.0))
    }
}

impl PartialOrd for InstanceId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A random (version 4) UUID: attachments, containers, request ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// Sets the version and variant bits, so that the text is a valid version 4 UUID.
    pub const fn from_random(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }

    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    pub fn mint(ids: &dyn IdSource) -> Self {
        Self::from_random(ids.id16())
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 32];
        let hex = hex16(&self.0, &mut digits);
        for (part, hyphen) in
            [(0..8, "-"), (8..12, "-"), (12..16, "-"), (16..20, "-"), (20..32, "")]
        {
            f.write_str(&hex[part])?;
            f.write_str(hyphen)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Uuid({self})")
    }
}

impl FromStr for Uuid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_hyphen_right =
            text.bytes().enumerate().all(|(i, b)| (b == b'-') == matches!(i, 8 | 13 | 18 | 23));
        if text.len() != 36 || !is_hyphen_right {
            return Err(IdError::NotUuid);
        }
        parse_hex16(&text.replace('-', "").to_ascii_lowercase()).map(Self).ok_or(IdError::NotUuid)
    }
}

serde_as_text!(Uuid);

/// An id such as `eni-0123456789abcdef0`: a prefix and 17 hex digits, as EC2 makes them.
macro_rules! ec2_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub fn mint(ids: &dyn IdSource) -> Self {
                let mut hex = String::with_capacity(32);
                for byte in ids.id16() {
                    hex.push_str(&format!("{byte:02x}"));
                }
                Self(format!(concat!($prefix, "-0{}"), &hex[..16]).into())
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let is_id = text.strip_prefix(concat!($prefix, "-")).is_some_and(|hex| {
                    matches!(hex.len(), 8 | 17)
                        && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
                });
                if is_id { Ok(Self(text.into())) } else { Err(IdError::NotPrefixed($prefix)) }
            }
        }

        serde_as_text!($name);
    };
}

ec2_id!(
    /// An elastic network interface.
    EniId, "eni"
);
ec2_id!(
    /// A virtual private cloud.
    VpcId, "vpc"
);
ec2_id!(
    /// A subnet, which lies in one availability zone.
    SubnetId, "subnet"
);
ec2_id!(
    /// A security group.
    SecurityGroupId, "sg"
);
ec2_id!(
    /// A rule of a security group.
    SecurityGroupRuleId, "sgr"
);
ec2_id!(
    /// A route table.
    RouteTableId, "rtb"
);
ec2_id!(
    /// A network ACL.
    NetworkAclId, "acl"
);
ec2_id!(
    /// A NAT gateway.
    NatGatewayId, "nat"
);
ec2_id!(
    /// A connection between two VPCs.
    VpcPeeringId, "pcx"
);

ec2_id!(
    /// That a subnet, or a VPC as its main one, has a route table.
    RouteAssociationId, "rtbassoc"
);
ec2_id!(
    /// An internet gateway.
    InternetGatewayId, "igw"
);
ec2_id!(
    /// An Elastic IP address that an account has.
    AllocationId, "eipalloc"
);
ec2_id!(
    /// That an Elastic IP address is an interface's.
    AddressAssociationId, "eipassoc"
);
ec2_id!(
    /// That a subnet has a network ACL.
    AclAssociationId, "aclassoc"
);
ec2_id!(
    /// A set of DHCP options.
    DhcpOptionsId, "dopt"
);
ec2_id!(
    /// A prefix list.
    PrefixListId, "pl"
);
ec2_id!(
    /// A flow log.
    FlowLogId, "fl"
);
ec2_id!(
    /// A VPC endpoint.
    VpcEndpointId, "vpce"
);
ec2_id!(
    /// That a VPC has a block of addresses.
    VpcCidrAssociationId, "vpc-cidr-assoc"
);

/// A name of letters, digits, hyphens and underscores, cheap to clone.
macro_rules! name_id {
    ($(#[$doc:meta])* $name:ident, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            pub const LEN_MAX: usize = $max;

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
                if text.is_empty() || text.len() > $max || !text.bytes().all(is_allowed) {
                    return Err(IdError::Name { max: $max });
                }
                Ok(Self(text.into()))
            }
        }

        serde_as_text!($name);
    };
}

name_id!(
    /// A cluster's name.
    ClusterName, 255
);
name_id!(
    /// A task definition's family.
    Family, 255
);
name_id!(
    /// A container's name within its task definition.
    ContainerName, 255
);
name_id!(
    /// A service's name within its cluster.
    ServiceName, 255
);

impl ClusterName {
    /// The cluster that a request without one means.
    pub fn default_cluster() -> Self {
        Self("default".into())
    }
}

/// A 12-digit account id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId([u8; 12]);

impl AccountId {
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("an account id is twelve ASCII digits")
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({self})")
    }
}

impl FromStr for AccountId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits: [u8; 12] = text.as_bytes().try_into().map_err(|_| IdError::NotAnAccount)?;
        if digits.iter().all(u8::is_ascii_digit) {
            Ok(Self(digits))
        } else {
            Err(IdError::NotAnAccount)
        }
    }
}

serde_as_text!(AccountId);

/// A region's name, such as `us-east-1`: lowercase letters, digits and hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName(Arc<str>);

impl RegionName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegionName({})", self.0)
    }
}

impl FromStr for RegionName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let is_edge = |b: Option<&u8>| b.is_none_or(|b| *b == b'-');
        let bytes = text.as_bytes();
        if bytes.len() > 32
            || !bytes.iter().all(|b| is_allowed(*b))
            || is_edge(bytes.first())
            || is_edge(bytes.last())
        {
            return Err(IdError::NotARegion);
        }
        Ok(Self(text.into()))
    }
}

serde_as_text!(RegionName);

/// A family and one of its revisions: `web:3`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskDefinitionId {
    pub family: Family,
    /// Counts from 1.
    pub revision: u32,
}

impl fmt::Display for TaskDefinitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.family, self.revision)
    }
}

impl FromStr for TaskDefinitionId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let (family, revision) = text.rsplit_once(':').ok_or(IdError::NotATaskDefinition)?;
        let family = family.parse().map_err(|_| IdError::NotATaskDefinition)?;
        match revision.parse() {
            Ok(revision) if revision > 0 => Ok(Self { family, revision }),
            _ => Err(IdError::NotATaskDefinition),
        }
    }
}

serde_as_text!(TaskDefinitionId);

/// A secret or an opaque token drawn at random, printed as URL-safe text. Never shown by `Debug`.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(String);

impl Token {
    /// `length` characters of letters and digits.
    pub fn mint(ids: &dyn IdSource, length: usize) -> Self {
        const ALPHABET: &[u8; 62] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        let mut text = String::with_capacity(length);
        let mut bytes = [0; 64];
        while text.len() < length {
            ids.fill(&mut bytes);
            // 248 is the largest multiple of 62 in a byte: rejecting the rest keeps it uniform.
            let fair = bytes.iter().filter(|byte| **byte < 248);
            text.extend(fair.map(|byte| char::from(ALPHABET[usize::from(*byte) % 62])));
        }
        text.truncate(length);
        Self(text)
    }

    pub fn from_text(text: String) -> Self {
        Self(text)
    }

    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::SeededEnv;

    #[test]
    fn rejects_the_neighbours_of_valid() {
        assert!("".parse::<ClusterName>().is_err());
        assert!("a b".parse::<ClusterName>().is_err());
        assert!("é".parse::<ClusterName>().is_err());
        assert!("0011".parse::<TaskId>().is_err());
        assert!("00112233445566778899AABBCCDDEEFF".parse::<TaskId>().is_err());
        assert!("é0112233445566778899aabbccddeef".parse::<TaskId>().is_err());
        assert!("12345678901".parse::<AccountId>().is_err());
        assert!("-us".parse::<RegionName>().is_err());
        assert!("web".parse::<TaskDefinitionId>().is_err());
        assert!("web:0".parse::<TaskDefinitionId>().is_err());
        assert!("eni-xyz".parse::<EniId>().is_err());
    }

    #[test]
    fn tasks_are_in_the_order_in_which_they_were_made_and_their_ids_begin_at_random() {
        let env = SeededEnv::from_seed(3);
        let times = [1, 2, 255, 256, 1_764_370_000_000, u64::from(u32::MAX) << 12];
        let ids: Vec<TaskId> =
            times.map(|at| TaskId::mint_at(&env, Timestamp(at))).into_iter().collect();
        assert!(ids.is_sorted(), "{ids:?}");
        assert!(!ids.iter().map(ToString::to_string).is_sorted(), "{ids:?}");
        let [one, two] = [0; 2].map(|_| TaskId::mint_at(&env, Timestamp(7)));
        assert_ne!(one, two);
    }

    #[test]
    fn what_is_minted_parses() {
        let env = SeededEnv::from_seed(1);
        let eni = EniId::mint(&env);
        assert_eq!(eni.as_str().parse(), Ok(eni.clone()));
        let uuid = Uuid::mint(&env);
        assert_eq!(uuid.to_string().parse(), Ok(uuid));
        let task = TaskId::mint(&env);
        assert_eq!(task.to_string().parse(), Ok(task));
        assert_eq!(Token::mint(&env, 40).reveal().len(), 40);
    }
}
