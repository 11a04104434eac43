//! A service that follows the requests of each of its targets.

use longshore_types::VpcId;
use model::elb::{
    BalancerKind, ElbAction, ElbProtocol, GroupCheck, GroupTargets, GroupVersion, WeightedGroup,
};
use model::{ElbBalancer, ElbGroup, ElbListener};

use super::*;

const METRIC: &str = "ALBRequestCountPerTarget";
const LABEL: &str = "app/web/0123456789abcdef/targetgroup/web/fedcba9876543210";

fn vpc() -> VpcId {
    "vpc-0123456789abcdef0".parse().unwrap()
}

impl World {
    async fn balancer_and_group(&self) {
        let scope = self.test.control.scope(&self.test.root());
        self.put(ElbBalancer {
            scope: scope.clone(),
            kind: BalancerKind::Application,
            name: "web".to_owned(),
            digits: "0123456789abcdef".to_owned(),
            dns_number: 1,
            is_internal: true,
            vpc: vpc(),
            zones: vec![],
            leaving: vec![],
            security_groups: vec![],
            exempts_private_links: false,
            attributes: [].into(),
            tags: [].into(),
            created_at: Timestamp(0),
            shifts: Vec::new(),
        })
        .await;
        self.put(ElbGroup {
            scope,
            name: "web".to_owned(),
            digits: "fedcba9876543210".to_owned(),
            protocol: ElbProtocol::Http,
            port: 80,
            version: Some(GroupVersion::Http1),
            targets: GroupTargets::Ip,
            vpc: vpc(),
            check: GroupCheck {
                protocol: ElbProtocol::Http,
                port: None,
                path: Some("/".to_owned()),
                interval_s: 30,
                timeout_s: 5,
                healthy_count: 5,
                unhealthy_count: 2,
                matcher: Some("200".to_owned()),
            },
            attributes: [].into(),
            tags: [].into(),
            created_at: Timestamp(0),
        })
        .await;
    }

    async fn listener(&self) {
        let groups = vec![WeightedGroup { group: "web/fedcba9876543210".into(), weight: 1 }];
        self.put(ElbListener {
            scope: self.test.control.scope(&self.test.root()),
            balancer: "app/web/0123456789abcdef".into(),
            digits: "00000000000000aa".to_owned(),
            port: 80,
            protocol: ElbProtocol::Http,
            tls: None,
            default_rule: "00000000000000bb".to_owned(),
            default_action: ElbAction::Forward { groups, sticky_s: None },
            order: None,
            attributes: [].into(),
            tags: [].into(),
        })
        .await;
    }
}

#[tokio::test]
async fn the_label_names_a_group_to_which_an_application_balancer_forwards() {
    let world = World::new().await;
    world.register(Some(1), Some(6)).await.unwrap();
    let put = async |label: Option<&str>| world.track_of("req", (METRIC, label), 10.0, None).await;
    let refused = async |label: Option<&str>, why: &str| {
        let (code, message) = error(put(label).await);
        assert_eq!(code, "ValidationException", "{message}");
        assert!(message.contains(why), "{message}");
    };
    refused(None, "ResourceLabel is required").await;
    for label in [
        "web",
        "net/web/0123456789abcdef/targetgroup/web/fedcba9876543210",
        "app/web/0123456789abcdef/targetgroup/web",
        "app//0123456789abcdef/targetgroup/web/fedcba9876543210",
        "app/web/0123456789abcdef/targetgroup/web/fedcba9876543210/more",
    ] {
        refused(Some(label), "Invalid resource label").await;
    }
    refused(Some(LABEL), "The load balancer app/web/0123456789abcdef does not exist.").await;
    world.balancer_and_group().await;
    refused(Some(LABEL), "does not route traffic to the target group").await;
    world.listener().await;
    put(Some(LABEL)).await.unwrap();
    let other = world.track_of("cpu", ("ECSServiceAverageCPUUtilization", Some(LABEL)), 5.0, None);
    assert!(error(other.await).1.contains("ALBRequestCountPerTarget alone"));
    let same = world.track_of("again", (METRIC, Some(LABEL)), 20.0, None).await;
    assert!(error(same).1.starts_with("Only one TargetTrackingScaling policy"));
}

#[tokio::test]
async fn a_service_has_as_many_tasks_as_take_the_requests_of_its_targets() {
    let mut world = World::new().await;
    world.register(Some(1), Some(6)).await.unwrap();
    world.balancer_and_group().await;
    world.listener().await;
    world.track_of("req", (METRIC, Some(LABEL)), 10.0, None).await.unwrap();
    let view = world.test.control.view();
    let alarms: Vec<_> = view.metric_alarms.iter().map(|row| MetricAlarm::clone(row)).collect();
    assert_eq!(alarms.len(), 2);
    for alarm in alarms {
        let model::alarm::AlarmSource::Metric(metric) = alarm.source else { panic!("a metric") };
        assert_eq!(metric.namespace, "AWS/ApplicationELB");
        assert_eq!((&*metric.name, metric.statistic.as_str()), ("RequestCountPerTarget", "Sum"));
        let dimensions: Vec<_> = metric.dimensions.iter().map(|(it, of)| (&**it, &**of)).collect();
        let group = ("TargetGroup", "targetgroup/web/fedcba9876543210");
        assert_eq!(dimensions, [("LoadBalancer", "app/web/0123456789abcdef"), group]);
    }
    let input = api::DescribeScalingPoliciesRequest {
        service_namespace: Some("ecs".into()),
        ..Default::default()
    };
    let shown = world.it.describe_scaling_policies(&world.test.root(), input).await.unwrap();
    let shown = shown.scaling_policies.unwrap().remove(0);
    let shown = shown.target_tracking_scaling_policy_configuration.unwrap();
    let metric = shown.predefined_metric_specification.unwrap();
    assert_eq!(metric.resource_label.as_deref(), Some(LABEL));
    assert_eq!(metric.predefined_metric_type.unwrap().as_str(), METRIC);
    world.service(0, ServiceStatus::Active).await;
    world.register(Some(0), None).await.unwrap();
    world.alarm("AlarmHigh", AlarmState::Alarm, 35.0).await;
    world.pass_s(20).await;
    assert_eq!(world.count(), 4, "thirty-five to ten each");
}
