//! What things are called and measured in, and the two doors to the outside world.
//!
//! Every other crate may use this one; it uses none of them. An id, an ARN or a quantity is parsed
//! here once and is a type from then on ([`ids`], [`arn`], [`units`]). Time and randomness are
//! reached through [`env`] only, so that everything that decides can be driven by a test.
//!
//! **Invariant:** a value of a type of this crate is well formed; there is no way to build another.

pub mod arn;
pub mod chain;
pub mod cidr;
pub mod env;
pub mod ids;
pub mod oci;
pub mod put_token;
pub mod services;
pub mod statistics;
pub mod steps;
mod text;
pub mod transport;
pub mod units;

pub use arn::{Arn, ClusterArn, InstanceArn, Scope, TaskArn, TaskDefinitionArn};
pub use chain::Chain;
pub use cidr::{Cidr, NotACidr};
pub use env::{Clock, IdSource, OsIds, SeededEnv, SystemClock};
pub use ids::{
    AccountId, AclAssociationId, AddressAssociationId, AllocationId, ClusterName, ContainerName,
    DhcpOptionsId, EniId, Family, FlowLogId, IdError, InstanceId, InternetGatewayId, NatGatewayId,
    NetworkAclId, PrefixListId, RegionName, RouteAssociationId, RouteTableId, SecurityGroupId,
    SecurityGroupRuleId, ServiceName, SubnetId, TaskDefinitionId, TaskId, Token, Uuid,
    VpcCidrAssociationId, VpcEndpointId, VpcId, VpcPeeringId,
};
pub use oci::{Digest, ImageTag, OciNameError, RepositoryName};
pub use put_token::{NotAPut, PutToken};
pub use services::{
    CapacityProviderArn, DeploymentId, RevisionId, ServiceArn, ServiceDeploymentArn,
    ServiceDeploymentId, ServiceRevisionArn, TaskSetArn,
};
pub use statistics::StatisticSet;
pub use steps::Steps;
pub use transport::TransportProtocol;
pub use units::{CpuUnits, MemoryMib, Resources, Timestamp};
