//! Flow logs, through the service.

use ec2_api as api;
use ec2_api::Ec2 as _;

use super::networks::{Site, text};

#[tokio::test]
async fn what_a_request_names_twice_has_one_flow_log() {
    let site = Site::new("10.0.0.0/16").await;
    let request = api::CreateFlowLogsRequest {
        resource_ids: Some(vec![site.vpc.clone(), site.vpc.clone()]),
        resource_type: Some(api::FlowLogsResourceType::Vpc),
        traffic_type: Some(api::TrafficType::All),
        log_group_name: text("flows"),
        deliver_logs_permission_arn: Some(format!("arn:aws:iam::{}:role/flows", site.root.account)),
        ..Default::default()
    };
    let ec2 = &site.world.ec2;
    let made = ec2.create_flow_logs(&site.root, request.clone()).await.unwrap();
    assert_eq!(made.flow_log_ids.map(|ids| ids.len()), Some(1));
    let code = |items: Option<Vec<api::UnsuccessfulItem>>| {
        let codes = items.into_iter().flatten().filter_map(|it| it.error?.code);
        codes.collect::<Vec<String>>()
    };
    assert_eq!(code(made.unsuccessful), ["FlowLogAlreadyExists"]);
    let again = ec2.create_flow_logs(&site.root, request).await.unwrap();
    assert_eq!(code(again.unsuccessful), ["FlowLogAlreadyExists"; 2]);
    let all = api::DescribeFlowLogsRequest::default();
    let found = ec2.describe_flow_logs(&site.root, all).await.unwrap();
    assert_eq!(found.flow_logs.map(|logs| logs.len()), Some(1));
}
