//! Rows as the region itself writes them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use longshore_types::{
    AccountId, CpuUnits, DeploymentId, EniId, InstanceId, MemoryMib, Resources, RevisionId, Scope,
    SeededEnv, TaskId, Timestamp, Uuid, VpcId,
};
use model::discovery::MapId;
use model::event::PatternText;
use model::instance::{AgentState, Instance, InstanceStatus};
use model::network::{NetworkAcl, SubnetAcl, SubnetRow, VpcBlock, VpcRow};
use model::service::{
    ConnectOffer, Deployment, DeploymentSettings, Rank, RevisionCapacity, ServiceConnect,
    ServiceRevision, Stage, Strategy,
};
use model::task::{
    Asked, AskedContainer, AttachmentPhase, Container, Desired, LaunchType, Need, Overrides, Phase,
    SeenContainer, Task, TaskInterface, TaskService, Times,
};
use model::{Document, EventRule, Grants, IamRole, Row, SecurityGroup, TrustText};

use crate::access::TASK_EXECUTION_ROLE;

/// A Fargate task of one container on instance 1, as RunTask makes it.
pub fn task(seed: u64) -> Task {
    let env = SeededEnv::from_seed(seed);
    Task {
        id: TaskId::mint(&env),
        asked: Arc::new(Asked {
            scope: Scope {
                region: "us-east-1".parse().expect("well formed"),
                account: "000000000000".parse().expect("well formed"),
            },
            cluster: "demo".parse().expect("well formed"),
            definition: "web:3".parse().expect("well formed"),
            launch: LaunchType::Fargate,
            platform_version: Some("1.4.0".to_owned()),
            platform_family: None,
            group: "family:web".to_owned(),
            started_by: None,
            tags: model::Tags::new(),
            cpu: Some(CpuUnits(256)),
            memory: Some(MemoryMib(512)),
            ephemeral_storage_gib: Some(20),
            enable_execute_command: false,
            overrides: Overrides::default(),
            need: Need::default(),
        }),
        capacity_provider: None,
        service: None,
        protected_until: None,
        zone: None,
        instance: Some(InstanceId::from_bytes([1; 16])),
        waiting: None,
        desired: Desired::Running,
        stop_cause: None,
        phase: Phase::Provisioning,
        interface: Some(Box::new(TaskInterface {
            attachment: Uuid::from_random([3; 16]),
            eni: EniId::mint(&env),
            subnet: "subnet-0123456789abcdef0".parse().expect("well formed"),
            security_groups: vec![],
            address: "172.31.0.4".parse().expect("well formed"),
            mac: "02:a5:ac:1f:00:04".to_owned(),
            private_dns_name: "ip-172-31-0-4.ec2.internal".to_owned(),
            assign_public_ip: false,
            phase: AttachmentPhase::Precreated,
            own_vpc: None,
        })),
        containers: vec![Container {
            id: Uuid::from_random([7; 16]),
            asked: Arc::new(AskedContainer {
                name: "web".parse().expect("well formed"),
                image: "127.0.0.1:4566/hello:1".to_owned(),
                essential: true,
                cpu: None,
                memory: None,
                memory_reservation: None,
                pinned_digest: None,
                is_health_checked: false,
            }),
            seen: SeenContainer::default(),
            gpus: Vec::new(),
        }],
        times: Times { created: Timestamp(1), ..Times::default() },
        version: 1,
    }
}

const DEPLOYMENT: DeploymentId = DeploymentId(1);
const REVISION: RevisionId = RevisionId(1);

/// An enabled rule of an account that wants what a pattern says.
pub fn event_rule(account: AccountId, name: &str, pattern: &str) -> EventRule {
    let region = "us-east-1".parse().expect("well formed");
    EventRule {
        scope: Scope { region, account },
        name: name.into(),
        description: None,
        pattern: Some(PatternText::new(pattern)),
        schedule: None,
        is_enabled: true,
        role: None,
        created_at: Timestamp(1),
        targets: Vec::new(),
        tags: model::Tags::new(),
    }
}

/// The same task of the service `web`.
pub fn task_of_service(seed: u64) -> Task {
    let service = TaskService {
        name: "web".parse().expect("well formed"),
        deployment: DEPLOYMENT,
        is_ready: true,
        is_accounted: false,
        is_registered: false,
        is_connected: false,
    };
    Task { service: Some(service), ..task(seed) }
}

/// The deployment and the revision of [`task_of_service`], whose tasks are in a namespace.
pub fn connected_service(of: &Task, namespace: MapId, offers: Vec<ConnectOffer>) -> [Row; 2] {
    let settings = DeploymentSettings {
        healthy_percent_min: 100,
        percent_max: 200,
        breaker: None,
        bake_minutes: None,
        strategy: Strategy::default(),
        hooks: vec![],
    };
    let deployment = Deployment {
        scope: of.scope.clone(),
        cluster: of.cluster.clone(),
        service: "web".parse().expect("well formed"),
        id: DEPLOYMENT,
        record: None,
        undoes: None,
        revision: REVISION,
        sources: vec![],
        settings,
        rank: Rank::Primary,
        stage: Stage::Completed,
        rollout_reason: None,
        status_reason: None,
        rollback: None,
        is_tripped: false,
        failures: 0,
        last_failure_at: None,
        last_failure: None,
        streak: 0,
        has_run: true,
        shortage: None,
        created_at: Timestamp(1),
        started_at: None,
        updated_at: Timestamp(1),
        baking_since: None,
        stopped_at: None,
        finished_at: None,
        groups: vec![],
        shift: None,
        version: 1,
    };
    let document = Document::from_text("{}".to_owned()).expect("well formed");
    let connect = ServiceConnect { namespace, document, offers };
    let revision = ServiceRevision {
        scope: of.scope.clone(),
        cluster: of.cluster.clone(),
        service: "web".parse().expect("well formed"),
        id: REVISION,
        definition: of.definition.clone(),
        capacity: RevisionCapacity::Launch(LaunchType::Fargate),
        platform_version: None,
        platform_family: None,
        network: None,
        images: vec![],
        load_balancers: vec![],
        registries: vec![],
        connect: Some(connect),
        created_at: Timestamp(1),
    };
    [deployment.into(), revision.into()]
}

/// A machine of the cluster `demo` with nothing on it.
pub fn instance(id: InstanceId) -> Instance {
    Instance {
        id,
        scope: Scope {
            region: "us-east-1".parse().expect("well formed"),
            account: "000000000000".parse().expect("well formed"),
        },
        cluster: "demo".parse().expect("well formed"),
        status: InstanceStatus::Active,
        total: Resources::default(),
        reserved_ports: BTreeSet::new(),
        other_resources: Vec::new(),
        attributes: BTreeMap::new(),
        tags: model::Tags::new(),
        ec2_instance_id: None,
        capacity_provider: None,
        is_external: false,
        access_key: None,
        registered_at: Timestamp(1),
        agent: AgentState::default(),
        health: Vec::new(),
        version: 1,
    }
}

/// The role that every account begins with, without its permissions.
pub fn execution_role(account: AccountId) -> IamRole {
    let trust = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ecs-tasks.amazonaws.com"},"Action":"sts:AssumeRole"}]}"#;
    IamRole {
        account,
        name: TASK_EXECUTION_ROLE.into(),
        path: "/".into(),
        unique_id: "AROA0123456789ABCDEF".into(),
        created_at: Timestamp(1),
        description: None,
        max_session_s: 3_600,
        trust: TrustText::new(trust, BTreeMap::new()),
        tags: BTreeMap::new(),
        boundary: None,
        grants: Grants::default(),
        service: None,
    }
}

/// `vpc-0000000000000000a`, with the addresses that the default VPC usually has, a subnet in each of three zones,
/// `subnet-00000000000000001` and so on, and the security groups `sg-0000000a`, its default one, and `sg-0000000b`.
pub fn own_vpc(account: AccountId) -> Vec<Row> {
    let parse = "ids of tests are ids";
    let vpc: VpcId = "vpc-0000000000000000a".parse().expect(parse);
    let acl = NetworkAcl::open(account, "acl-0000000a".parse().expect(parse), vpc.clone());
    let subnet = |(number, zone): (u8, char)| SubnetRow {
        account,
        id: format!("subnet-0000000000000000{number}").parse().expect(parse),
        vpc: vpc.clone(),
        block: format!("172.31.{number}.0/24").parse().expect(parse),
        zone: format!("us-east-1{zone}"),
        zone_id: format!("use1-az{number}"),
        map_public_ip: false,
        table: None,
        acl: SubnetAcl {
            association: format!("aclassoc-0000000{number}").parse().expect(parse),
            acl: acl.id.clone(),
        },
        is_default: false,
    };
    let group = |(id, name): (&str, &str)| SecurityGroup {
        account,
        id: id.parse().expect(parse),
        vpc: vpc.clone(),
        name: name.to_owned(),
        description: String::new(),
        revision: 0,
    };
    let subnets = [(1, 'a'), (2, 'b'), (3, 'c')].map(|it| Row::from(subnet(it)));
    let groups =
        [("sg-0000000a", "default"), ("sg-0000000b", "web")].map(|it| Row::from(group(it)));
    let row = VpcRow {
        account,
        id: vpc.clone(),
        first: VpcBlock {
            association: "vpc-cidr-assoc-0000000a".parse().expect(parse),
            block: "172.31.0.0/16".parse().expect(parse),
        },
        secondary: vec![],
        dns_support: true,
        dns_hostnames: false,
        dhcp_options: None,
        main_table: "rtb-0000000a".parse().expect(parse),
        main_association: "rtbassoc-0000000a".parse().expect(parse),
        default_acl: acl.id.clone(),
        default_group: "sg-0000000a".parse().expect(parse),
        is_default: false,
    };
    subnets.into_iter().chain(groups).chain([row.into(), acl.into()]).collect()
}
