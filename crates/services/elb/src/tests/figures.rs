//! The metrics of balancers, of what their processes counted.

use std::collections::BTreeMap;

use longshore_types::StatisticSet;
use metrics::{Datum, MetricId};
use routing::{BalancerId, CountedFor};
use traffic::figures::Counted;

use super::*;

/// What the process of the region's own machine says that it counted.
async fn count(world: &World, figures: &[(CountedFor, Counted)]) {
    let figures = figures.iter().map(|(name, counted)| (name.name(), counted.clone())).collect();
    let report = Report { version: 1, counting_since: Timestamp(1), figures, ..Report::default() };
    world.elb.take_in(None, report).await.unwrap();
}

fn told(world: &World) -> Vec<Datum> {
    let counted = world.elb.counting.take(world.test.env.now());
    crate::figures::told(&world.elb.control.view(), &counted, Timestamp(60_000))
}

fn path(arn: &str) -> &str {
    let rest = arn.rsplit_once(':').unwrap().1;
    rest.strip_prefix("loadbalancer/").unwrap_or(rest)
}

/// The samples of a metric; `dimensions` are values of the balancer, the group and the zone.
fn set(data: &[Datum], name: &str, dimensions: [Option<&str>; 3]) -> Option<StatisticSet> {
    let names = ["LoadBalancer", "TargetGroup", "AvailabilityZone"];
    let wanted: BTreeMap<String, String> = names
        .into_iter()
        .zip(dimensions)
        .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
        .collect();
    let is_it = |metric: &MetricId| metric.name == name && metric.dimensions == wanted;
    data.iter().find(|datum| is_it(&datum.metric)).map(|datum| datum.set)
}

#[tokio::test]
async fn an_application_balancers_requests_are_metrics_by_zone_and_group_and_target() {
    let world = World::new().await;
    let made = world.balancer("web").await;
    let arn = made.load_balancer_arn.unwrap();
    let zone = made.availability_zones.unwrap().remove(0).zone_name.unwrap();
    let group = world.group("web").await;
    world.listener(&arn, 80, &group).await;
    for address in ["172.31.0.9", "172.31.0.10", "172.31.0.11"] {
        world.register(&group, address).await;
    }
    world.say(1, Finding::Healthy, 0).await;
    let name = |group: Option<&String>| CountedFor {
        balancer: BalancerId(arn.clone()),
        zone: Some(zone.clone()),
        group: group.cloned().map(GroupId),
    };
    let (lb, tg) = (path(&arn), path(&group));
    let mut times = vec![0; 4];
    times[0] = 6;
    let of_group =
        Counted { requests: 6, answers: [5, 0, 0, 1], times, times_us: 300, ..Counted::default() };
    let own = Counted {
        connections: 2,
        open: 1,
        own_answers: [0, 0, 3, 0, 0, 3, 0],
        ..Counted::default()
    };
    count(&world, &[]).await;
    count(&world, &[(name(Some(&group)), of_group), (name(None), own)]).await;
    let data = told(&world);
    assert!(data.iter().all(|it| it.metric.namespace == "AWS/ApplicationELB"));
    for dimensions in [
        [Some(lb), None, None],
        [Some(lb), None, Some(&*zone)],
        [Some(lb), Some(tg), None],
        [Some(lb), Some(tg), Some(&*zone)],
    ] {
        let sum = |name: &str| set(&data, name, dimensions).map(|set| (set.sum, set.max));
        assert_eq!(sum("RequestCount"), Some((6.0, 1.0)), "{dimensions:?}");
        assert_eq!(sum("HTTPCode_Target_2XX_Count"), Some((5.0, 1.0)));
        assert_eq!(sum("HTTPCode_Target_5XX_Count"), Some((1.0, 1.0)));
        assert_eq!(sum("HTTPCode_Target_4XX_Count"), None, "there was none");
        let times = set(&data, "TargetResponseTime", dimensions).unwrap();
        assert_eq!((times.count, times.sum, times.min, times.max), (6.0, 3e-4, 0.0, 1e-4));
    }
    for zone in [None, Some(&*zone)] {
        let sum = |name: &str| set(&data, name, [Some(lb), None, zone]).map(|set| set.sum);
        assert_eq!(sum("HTTPCode_ELB_5XX_Count"), Some(3.0));
        assert_eq!(sum("HTTPCode_ELB_503_Count"), Some(3.0));
        assert_eq!(sum("HTTPCode_ELB_500_Count"), None);
        assert_eq!(
            (sum("NewConnectionCount"), sum("ActiveConnectionCount")),
            (Some(2.0), Some(1.0))
        );
    }
    let hosts = |name: &str, lb| set(&data, name, [lb, Some(tg), None]).map(|set| set.sum);
    assert_eq!(hosts("HealthyHostCount", Some(lb)), Some(3.0));
    assert_eq!(hosts("UnHealthyHostCount", Some(lb)), Some(0.0));
    for lb in [None, Some(lb)] {
        assert_eq!(hosts("RequestCountPerTarget", lb), Some(2.0), "six to three");
    }
    let data = told(&world);
    assert_eq!(set(&data, "RequestCount", [Some(lb), None, None]).map(|it| it.sum), Some(0.0));
    assert_eq!(hosts_sum(&data, [Some(lb), Some(tg), None]), Some(0.0));
    assert_eq!(set(&data, "TargetResponseTime", [Some(lb), None, None]), None);
}

fn hosts_sum(data: &[Datum], dimensions: [Option<&str>; 3]) -> Option<f64> {
    set(data, "RequestCountPerTarget", dimensions).map(|set| set.sum)
}

#[tokio::test]
async fn a_network_balancers_flows_are_metrics() {
    let world = World::new().await;
    let arn = world.network_balancer("flows").await;
    let tcp = (api::ProtocolEnum::Tcp, 80);
    let group = world.group_of("flows", tcp, api::TargetTypeEnum::Ip).await;
    world.tcp_listener(&arn, &group).await;
    let name = CountedFor { balancer: BalancerId(arn.clone()), zone: None, group: None };
    let (lb, tg) = (path(&arn), path(&group));
    let own = Counted { connections: 3, open: 2, bytes_in: 10, bytes_out: 5, ..Counted::default() };
    count(&world, &[]).await;
    count(&world, &[(name, own)]).await;
    let data = told(&world);
    assert!(data.iter().all(|it| it.metric.namespace == "AWS/NetworkELB"));
    let sum = |name: &str| set(&data, name, [Some(lb), None, None]).map(|set| set.sum);
    assert_eq!((sum("NewFlowCount"), sum("ActiveFlowCount")), (Some(3.0), Some(2.0)));
    assert_eq!(sum("ProcessedBytes"), Some(15.0));
    assert_eq!(hosts_sum(&data, [None, Some(tg), None]), None);
    let healthy = set(&data, "HealthyHostCount", [Some(lb), Some(tg), None]);
    assert_eq!(healthy.map(|it| it.sum), Some(0.0));
    let data = told(&world);
    let sum = |name: &str| set(&data, name, [Some(lb), None, None]).map(|set| set.sum);
    assert_eq!((sum("NewFlowCount"), sum("ProcessedBytes")), (Some(0.0), None));
}

#[tokio::test]
async fn a_process_is_not_believed_of_balancers_that_have_no_interface_on_its_host() {
    let world = World::new().await;
    let arn = world.balancer("web").await.load_balancer_arn.unwrap();
    let name = CountedFor { balancer: BalancerId(arn.clone()), zone: None, group: None };
    let elsewhere = CountedFor { zone: Some("mars-1a".to_owned()), ..name.clone() };
    let nothing = CountedFor { group: Some(GroupId("arn:x".to_owned())), ..name.clone() };
    let nobody = CountedFor { balancer: BalancerId("a:b:c".to_owned()), ..name };
    let own = Counted { connections: 3, ..Counted::default() };
    count(&world, &[]).await;
    count(&world, &[elsewhere, nothing, nobody].map(|name| (name, own.clone()))).await;
    assert!(world.elb.counting.take(world.test.env.now()).is_empty());
}
