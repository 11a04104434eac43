//! UpdateCluster and UpdateClusterSettings: other settings for a cluster that is there.

use aws_wire::{ApiError, Caller};
use ecs_api as api;
use model::{Cluster, Document};
use store::Batch;

use super::cluster::{ConnectDefaults, EVERYTHING, read_configuration, read_settings};
use crate::Ecs;
use crate::errors::Refusal;

pub(super) async fn handle(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateClusterRequest,
) -> Result<api::UpdateClusterResponse, ApiError> {
    let connect = ConnectDefaults::read(input.service_connect_defaults)?;
    let configuration = read_configuration(input.configuration)?;
    let cluster = update(
        ecs,
        caller,
        "ecs:UpdateCluster",
        input.cluster.as_deref(),
        input.settings,
        (configuration, connect),
    )
    .await?;
    Ok(api::UpdateClusterResponse { cluster: Some(cluster) })
}

pub(super) async fn handle_settings(
    ecs: &Ecs,
    caller: &Caller,
    input: api::UpdateClusterSettingsRequest,
) -> Result<api::UpdateClusterSettingsResponse, ApiError> {
    if input.settings.as_ref().is_none_or(Vec::is_empty) {
        return Err(Refusal::invalid("Settings can not be empty.").into());
    }
    let cluster = update(
        ecs,
        caller,
        "ecs:UpdateClusterSettings",
        input.cluster.as_deref(),
        input.settings,
        (None, None),
    )
    .await?;
    Ok(api::UpdateClusterSettingsResponse { cluster: Some(cluster) })
}

async fn update(
    ecs: &Ecs,
    caller: &Caller,
    action: &'static str,
    given: Option<&str>,
    settings: Option<Vec<api::ClusterSetting>>,
    (configuration, connect): (Option<Document>, Option<ConnectDefaults>),
) -> Result<api::Cluster, ApiError> {
    let permission = ecs.on_cluster(caller, action, given);
    let settings = read_settings(settings)?;
    let cluster = ecs
        .control
        .change(caller, &permission, |view, now| {
            let mut cluster = Cluster::clone(ecs.cluster(view, caller, given)?);
            cluster.settings.extend(settings.clone());
            if configuration.is_some() {
                cluster.configuration.clone_from(&configuration);
            }
            let mut batch = Batch::on(view);
            if let Some(connect) = &connect {
                let scope = ecs.control.scope(caller);
                cluster.connect_namespace = connect.resolve(ecs, view, &scope, now, &mut batch)?;
            }
            batch.put(cluster.clone());
            Ok((batch, cluster))
        })
        .await?;
    ecs.render_cluster(&ecs.control.view(), &cluster, EVERYTHING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create_cluster;
    use crate::testing::TestEcs;

    #[tokio::test]
    async fn a_setting_changes_and_an_unknown_one_does_not() {
        let world = TestEcs::new();
        let input = api::CreateClusterRequest::default();
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        let set = async |name: &str, value: &str| {
            let setting =
                api::ClusterSetting { name: Some(name.into()), value: Some(value.to_owned()) };
            let input =
                api::UpdateClusterSettingsRequest { cluster: None, settings: Some(vec![setting]) };
            handle_settings(&world.ecs, &world.root(), input).await
        };
        let cluster = set("containerInsights", "enabled").await.unwrap().cluster.unwrap();
        assert_eq!(cluster.settings.unwrap()[0].value.as_deref(), Some("enabled"));
        assert!(set("containerInsights", "maybe").await.is_err());
        let error = set("nope", "enabled").await.unwrap_err();
        assert_eq!(error.message, "nope should be one of [containerInsights]");
    }

    #[tokio::test]
    async fn a_configuration_comes_back_as_it_was_sent() {
        let world = TestEcs::new();
        let input = api::CreateClusterRequest::default();
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        let configuration = api::ClusterConfiguration {
            execute_command_configuration: Some(api::ExecuteCommandConfiguration {
                logging: Some(api::ExecuteCommandLogging::Default),
                ..Default::default()
            }),
            ..Default::default()
        };
        let input = api::UpdateClusterRequest {
            cluster: Some("default".to_owned()),
            configuration: Some(configuration.clone()),
            ..Default::default()
        };
        let answer = handle(&world.ecs, &world.root(), input).await.unwrap();
        assert_eq!(answer.cluster.unwrap().configuration, Some(configuration));
    }

    #[tokio::test]
    async fn where_commands_are_logged_is_one_of_three_and_told_where_it_must_be() {
        let world = TestEcs::new();
        let input = api::CreateClusterRequest::default();
        create_cluster::handle(&world.ecs, &world.root(), input).await.unwrap();
        let set = async |logging: &str, log: Option<api::ExecuteCommandLogConfiguration>| {
            let exec = api::ExecuteCommandConfiguration {
                logging: Some(logging.into()),
                log_configuration: log,
                ..Default::default()
            };
            let configuration = api::ClusterConfiguration {
                execute_command_configuration: Some(exec),
                ..Default::default()
            };
            let input = api::UpdateClusterRequest {
                cluster: Some("default".to_owned()),
                configuration: Some(configuration),
                ..Default::default()
            };
            handle(&world.ecs, &world.root(), input).await
        };
        let error = set("SOMEWHERE", None).await.unwrap_err();
        assert_eq!(error.message, "SOMEWHERE should be one of [NONE,DEFAULT,OVERRIDE]");
        assert_eq!(set("OVERRIDE", None).await.unwrap_err().code, "InvalidParameterException");
        set("OVERRIDE", Some(api::ExecuteCommandLogConfiguration::default())).await.unwrap();
        set("NONE", None).await.unwrap();
    }

    #[tokio::test]
    async fn a_cluster_that_is_not_there_is_not_made() {
        let world = TestEcs::new();
        let input =
            api::UpdateClusterRequest { cluster: Some("nope".to_owned()), ..Default::default() };
        let error = handle(&world.ecs, &world.root(), input).await.unwrap_err();
        assert_eq!(error.code, "ClusterNotFoundException");
    }
}
