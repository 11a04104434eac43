//! The region's rows: what is remembered, typed, and how rows hang together.
//!
//! A row is a plain struct that implements [`Record`]: it knows its account, its id within that
//! account and its kind, and the [`Index`]es it appears under. [`rows`] lists every kind once; the
//! [`Key`] and [`Row`] enums and the tables of the [`View`] are made from that list, so a new kind
//! is one line there and a struct in a module of its own.
//!
//! **Invariant:** nothing here does IO or reads a clock, and no count is stored that can be derived.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod acm;
pub mod alarm;
pub mod capacity_provider;
pub mod cluster;
pub mod discovery;
pub mod document;
pub mod ecr;
pub mod ecr_rules;
pub mod elb;
pub mod event;
pub mod iam;
pub mod idempotency;
mod indexes;
pub mod instance;
pub mod kms;
mod log_policy;
mod lookup;
pub mod network;
pub mod node;
pub mod parameter;
mod repository_policy;
mod resource_policy;
pub mod rows;
pub mod scaling;
pub mod secret;
pub mod security_group;
pub mod service;
pub mod settings;
pub mod table;
pub mod tags;
pub mod task;
pub mod task_definition;
pub mod tunnel;
pub mod view;
pub mod vpc;

pub use acm::AcmCertificate;
pub use alarm::{AlarmHistory, MetricAlarm};
pub use capacity_provider::{CapacityProvider, ManagedScaling, ProviderStatus};
pub use cluster::{Cluster, ClusterStatus, StrategyItem};
pub use discovery::{MapInstance, MapInstanceId, MapNamespace, MapOperation, MapService};
pub use document::Document;
pub use ecr::{
    EcrLayer, EcrManifest, EcrRegistry, EcrRepository, EcrScanning, EcrTag, ImageScan, ManifestId,
    ScanState, ScanningRule, TagId, TagMutability,
};
pub use ecr_rules::{EcrPullThroughRule, EcrTemplate, MadeFor, NamePrefix};
pub use elb::{ElbBalancer, ElbGroup, ElbListener, ElbRule, ElbTarget};
pub use event::{EventRule, PendingEvent};
pub use iam::{
    Grants, IamAccessKey, IamAccount, IamGroup, IamInstanceProfile, IamKeyUse, IamMfaDevice,
    IamOidcProvider, IamPolicy, IamRole, IamUser, LoginProfile, MfaAssignment, NameKey,
    PasswordPolicy, PolicyText, PolicyVersion, TheAccount, TrustText,
};
pub use idempotency::{ClientToken, ClientTokenId};
pub use instance::Instance;
pub use kms::{KmsAlias, KmsKey};
pub use log_policy::LogPolicy;
pub use node::{Activation, JoinToken, Managed, Node};
pub use parameter::{Parameter, ParameterNotice, ParameterVersion, ParameterVersionId};
pub use repository_policy::ResourcePolicyText;
pub use resource_policy::ResourceText;
pub use rows::{Key, Kind, Row, View};
pub use scaling::{ScalableTarget, ScalingActivities};
pub use secret::{Secret, SecretVersion, SecretVersionId};
pub use security_group::{
    Ec2Tags, RuleMatch, RulePeer, SecurityGroup, SecurityGroupRule, WholeGroup,
};
pub use service::{
    Deployment, DeploymentKey, RevisionKey, Service, ServiceEvents, ServiceId, ServiceRevision,
    TaskSet,
};
pub use settings::{AccountSetting, SettingId, SettingPrincipal};
pub use table::{Record, Table, Versioned};
pub use tags::Tags;
pub use task::Task;
pub use task_definition::{
    Compatibility, ContainerNeeds, NetworkMode, PortNeed, Protocol, RequiredAttribute,
    TaskDefinition, TaskDefinitionStatus, TaskFamily,
};
pub use view::{Dep, Index, Members, Seq, Tally};
