//! A region with a cluster and task definitions, and short ways to say what is asked of it.

use std::sync::Arc;

use aws_wire::ApiError;
use ecs_api as api;
use model::task::{Desired, Phase, Task, TaskService, Times};
use model::{Deployment, Row, Service, ServiceId, ServiceRevision};
use store::Batch;

use crate::Ecs;
use crate::testing::TestEcs;
use crate::{
    create_cluster, create_service, delete_service, describe_services,
    put_cluster_capacity_providers, register_task_definition, run_task, update_service,
};

pub(super) struct World {
    pub(super) test: TestEcs,
}

pub(super) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// What was refused, by code and sentence.
#[track_caller]
pub(super) fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, code: &str, message: &str) {
    let error = result.expect_err(message);
    assert_eq!((error.code.as_ref(), error.message.as_str()), (code, message));
}

pub(super) const INVALID: &str = "InvalidParameterException";

impl World {
    pub(super) async fn new() -> Self {
        let world = Self { test: TestEcs::new() };
        let (ecs, root) = (world.ecs(), world.test.root());
        crate::testing::prepare(ecs).await.unwrap();
        let input = api::CreateClusterRequest::default();
        create_cluster::handle(ecs, &root, input).await.unwrap();
        for cpu in ["256", "512"] {
            world.define("web", Some(api::NetworkMode::Awsvpc), cpu).await;
            world.define("bridge", None, cpu).await;
        }
        world
    }

    pub(super) fn ecs(&self) -> &Arc<Ecs> {
        &self.test.ecs
    }

    pub(super) async fn define(&self, family: &str, mode: Option<api::NetworkMode>, cpu: &str) {
        let container = api::ContainerDefinition {
            name: text("app"),
            image: text("127.0.0.1:4566/hello:1"),
            ..api::ContainerDefinition::default()
        };
        let input = api::RegisterTaskDefinitionRequest {
            family: text(family),
            network_mode: mode,
            cpu: text(cpu),
            memory: text("1024"),
            task_role_arn: (family != "roleless").then(|| "task".to_owned()),
            container_definitions: Some(vec![container]),
            ..api::RegisterTaskDefinitionRequest::default()
        };
        register_task_definition::handle(self.ecs(), &self.test.root(), input).await.unwrap();
    }

    pub(super) async fn with_providers(&self) {
        let input = api::PutClusterCapacityProvidersRequest {
            cluster: text("default"),
            capacity_providers: Some(vec!["FARGATE".to_owned(), "FARGATE_SPOT".to_owned()]),
            default_capacity_provider_strategy: Some(vec![]),
        };
        let (ecs, root) = (self.ecs(), self.test.root());
        put_cluster_capacity_providers::handle(ecs, &root, input).await.unwrap();
    }

    /// Two tasks on the cluster's instances, unless `change` asks for something else.
    pub(super) async fn create(
        &self,
        change: impl FnOnce(&mut api::CreateServiceRequest),
    ) -> Result<api::Service, ApiError> {
        let mut input = api::CreateServiceRequest {
            service_name: text("web"),
            task_definition: text("bridge:1"),
            desired_count: Some(2),
            ..api::CreateServiceRequest::default()
        };
        change(&mut input);
        let answer = create_service::handle(self.ecs(), &self.test.root(), input).await?;
        Ok(answer.service.unwrap())
    }

    pub(super) async fn update(
        &self,
        change: impl FnOnce(&mut api::UpdateServiceRequest),
    ) -> Result<api::Service, ApiError> {
        let mut input = api::UpdateServiceRequest {
            service: text("web"),
            ..api::UpdateServiceRequest::default()
        };
        change(&mut input);
        let answer = update_service::handle(self.ecs(), &self.test.root(), input).await?;
        Ok(answer.service.unwrap())
    }

    pub(super) async fn delete(&self, force: bool) -> Result<api::Service, ApiError> {
        let input = api::DeleteServiceRequest {
            service: text("web"),
            force: Some(force),
            ..api::DeleteServiceRequest::default()
        };
        let answer = delete_service::handle(self.ecs(), &self.test.root(), input).await?;
        Ok(answer.service.unwrap())
    }

    pub(super) async fn describe(&self, names: &[&str]) -> api::DescribeServicesResponse {
        let input = api::DescribeServicesRequest {
            services: Some(names.iter().map(|name| (*name).to_owned()).collect()),
            include: Some(vec![api::ServiceField::Tags]),
            ..api::DescribeServicesRequest::default()
        };
        describe_services::handle(self.ecs(), &self.test.root(), input).await.unwrap()
    }

    /// The service `web` as it is described.
    pub(super) async fn web(&self) -> api::Service {
        self.describe(&["web"]).await.services.unwrap().remove(0)
    }

    pub(super) fn id(&self) -> ServiceId {
        ServiceId { cluster: "default".parse().unwrap(), name: "web".parse().unwrap() }
    }

    pub(super) fn row(&self) -> Service {
        let (view, account) = (self.ecs().control.view(), self.test.root().account);
        Service::clone(view.services.get(account, &self.id()).unwrap())
    }

    /// Every deployment, the first one first.
    pub(super) fn deployments(&self) -> Vec<Deployment> {
        let (view, account) = (self.ecs().control.view(), self.test.root().account);
        let rows = view.deployments_of(account, &self.id()).map(|row| Deployment::clone(row));
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_key(|row| row.created_at);
        rows
    }

    pub(super) fn revision(&self) -> ServiceRevision {
        let (view, account) = (self.ecs().control.view(), self.test.root().account);
        let id = self.row().revision.unwrap();
        ServiceRevision::clone(view.revision_of(account, &self.id(), id).unwrap())
    }

    /// Writes what somebody else would have written.
    pub(super) async fn put(&self, rows: impl IntoIterator<Item = Row>) {
        let rows: Vec<Row> = rows.into_iter().collect();
        let put = |view: &model::View, _| {
            let mut batch = Batch::on(view);
            for row in &rows {
                batch.put(row.clone());
            }
            Ok((batch, ()))
        };
        self.ecs().control.decide(put).await.unwrap();
    }

    pub(super) async fn make_inactive(&self) {
        let mut row = self.row();
        row.status = model::service::ServiceStatus::Inactive;
        self.put([row.into()]).await;
    }

    /// Tasks of the latest deployment, as the reconciler would have made them.
    pub(super) async fn run_tasks(&self, count: usize, phase: Phase) -> Vec<Task> {
        let deployment = self.deployments().pop().unwrap();
        let input = api::RunTaskRequest {
            task_definition: text("web:1"),
            launch_type: Some(api::LaunchType::Fargate),
            network_configuration: Some(self.network()),
            count: i32::try_from(count).ok(),
            ..api::RunTaskRequest::default()
        };
        let made = run_task::handle(self.ecs(), &self.test.root(), input).await.unwrap();
        let view = self.ecs().control.view();
        let ids = made.tasks.unwrap().into_iter().map(|task| {
            let arn: longshore_types::TaskArn = task.task_arn.unwrap().parse().unwrap();
            arn.id
        });
        let tasks: Vec<Task> = ids
            .map(|id| Task {
                service: Some(TaskService {
                    name: self.id().name,
                    deployment: deployment.id,
                    is_ready: false,
                    is_accounted: false,
                    is_registered: false,
                    is_connected: false,
                }),
                phase,
                desired: Desired::Running,
                times: Times { started: Some(self.row().created_at), ..Times::default() },
                ..Task::clone(view.tasks.get(self.test.root().account, &id).unwrap())
            })
            .collect();
        self.put(tasks.iter().cloned().map(Row::from)).await;
        tasks
    }

    pub(super) fn network(&self) -> api::NetworkConfiguration {
        let account = self.test.root().account;
        let vpc = self.ecs().control.vpc(&self.ecs().control.view(), account).unwrap();
        api::NetworkConfiguration {
            awsvpc_configuration: Some(api::AwsVpcConfiguration {
                subnets: Some(vec![vpc.subnets[0].id.to_string()]),
                ..api::AwsVpcConfiguration::default()
            }),
        }
    }

    pub(super) fn on_fargate(&self) -> impl FnOnce(&mut api::CreateServiceRequest) + use<> {
        let network = self.network();
        move |input| {
            input.task_definition = text("web:1");
            input.launch_type = Some(api::LaunchType::Fargate);
            input.network_configuration = Some(network);
        }
    }
}
