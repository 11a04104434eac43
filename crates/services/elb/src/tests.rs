//! Load balancers as their callers and their balancers see them.

use aws_wire::{ApiError, Caller};
use control::testing::TestControl;
use elb_api::{self as api, Elb as _};
use std::sync::Arc;

use longshore_types::{Clock as _, Timestamp};
use metrics::Metrics;
use model::elb::TargetHealth;
use model::vpc::{AddressPlan, Vpc};
use routing::{Finding, GroupId, Report, Table, TargetKey, TargetReport, TargetState, Update};
use store::Batch;

use crate::Elb;
use crate::feed::Host;

mod albs;
mod certificates;
mod figures;
mod flows;
mod hosts;
mod outside;
mod registering;
mod stopping;
mod vpcs;
mod zones;

struct World {
    test: TestControl,
    elb: Elb,
    _dir: tempfile::TempDir,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[track_caller]
fn refused<T>(result: Result<T, ApiError>, code: &str, message: &str) {
    let error = result.err().expect(message);
    assert_eq!((error.code.as_ref(), error.message.as_str()), (code, message));
}

impl World {
    async fn new() -> Self {
        let test = TestControl::new();
        let (block, bridge) = ("172.31.0.0/16".parse().unwrap(), "172.30.0.0/20".parse().ok());
        let plan = AddressPlan { block, bridge, seed: 7 };
        let put = |view: &model::View, _| {
            let mut batch = Batch::on(view);
            batch.put(plan.clone());
            Ok((batch, ()))
        };
        test.control.decide(put).await.unwrap();
        Self::of(test)
    }

    fn of(test: TestControl) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::open(dir.path(), test.env.clone()).unwrap();
        let elb = Elb::new(test.control.clone(), Arc::new(metrics));
        Self { test, elb, _dir: dir }
    }

    /// The same rows, once the region was restarted.
    fn again(self) -> Self {
        Self::of(self.test)
    }

    fn root(&self) -> Caller {
        self.test.root()
    }

    fn vpc(&self) -> Vpc {
        self.elb.control.vpc(&self.elb.control.view(), self.root().account).unwrap()
    }

    async fn balancer(&self, name: &str) -> api::LoadBalancer {
        let subnets = self.vpc().subnets.iter().take(2).map(|it| it.id.to_string()).collect();
        let input = api::CreateLoadBalancerInput {
            name: text(name),
            subnets: Some(subnets),
            ..Default::default()
        };
        let made = self.elb.create_load_balancer(&self.root(), input).await.unwrap();
        made.load_balancers.unwrap().remove(0)
    }

    async fn group(&self, name: &str) -> String {
        self.group_of(name, (api::ProtocolEnum::Http, 80), api::TargetTypeEnum::Ip).await
    }

    async fn group_of(
        &self,
        name: &str,
        (protocol, port): (api::ProtocolEnum, i32),
        kind: api::TargetTypeEnum,
    ) -> String {
        let input = api::CreateTargetGroupInput {
            name: text(name),
            protocol: Some(protocol),
            port: Some(port),
            vpc_id: text(self.vpc().id.as_str()),
            target_type: Some(kind),
            ..Default::default()
        };
        let made = self.elb.create_target_group(&self.root(), input).await.unwrap();
        made.target_groups.unwrap().remove(0).target_group_arn.unwrap()
    }

    async fn listener(&self, balancer: &str, port: i32, group: &str) -> api::Listener {
        let made = self.try_listener(balancer, port, group).await.unwrap();
        made.listeners.unwrap().remove(0)
    }

    async fn try_listener(
        &self,
        balancer: &str,
        port: i32,
        group: &str,
    ) -> Result<api::CreateListenerOutput, ApiError> {
        let input = api::CreateListenerInput {
            load_balancer_arn: text(balancer),
            protocol: Some(api::ProtocolEnum::Http),
            port: Some(port),
            default_actions: Some(vec![forward(group)]),
            ..Default::default()
        };
        self.elb.create_listener(&self.root(), input).await
    }

    async fn register(&self, group: &str, address: &str) {
        self.try_register(group, address).await.unwrap();
    }

    async fn try_register(
        &self,
        group: &str,
        address: &str,
    ) -> Result<api::RegisterTargetsOutput, ApiError> {
        let target = api::TargetDescription { id: text(address), ..Default::default() };
        let input = api::RegisterTargetsInput {
            target_group_arn: text(group),
            targets: Some(vec![target]),
        };
        self.elb.register_targets(&self.root(), input).await
    }

    async fn deregister(&self, group: &str, address: &str) {
        let target = api::TargetDescription { id: text(address), ..Default::default() };
        let input = api::DeregisterTargetsInput {
            target_group_arn: text(group),
            targets: Some(vec![target]),
        };
        self.elb.deregister_targets(&self.root(), input).await.unwrap();
    }

    /// State and reason of a group's targets.
    async fn health(&self, group: &str) -> Vec<(String, String)> {
        let input =
            api::DescribeTargetHealthInput { target_group_arn: text(group), ..Default::default() };
        let shown = self.elb.describe_target_health(&self.root(), input).await.unwrap();
        let all = shown.target_health_descriptions.unwrap().into_iter();
        all.map(|each| {
            let health = each.target_health.unwrap();
            let state = each.administrative_override.unwrap().state.unwrap();
            assert_eq!(state.to_string(), "no_override");
            let port = each.health_check_port;
            assert!(port.is_some(), "where a target is checked is said in every state: {health:?}");
            let reason = health.reason.map(|it| it.to_string()).unwrap_or_default();
            (health.state.unwrap().to_string(), reason)
        })
        .collect()
    }

    fn table(&self) -> Table {
        self.table_of(None)
    }

    /// That of the process on a host.
    fn table_of(&self, host: Host) -> Table {
        self.publish();
        let known = self.elb.feed.known();
        known.tables.get(&host).map(|table| Table::clone(table)).unwrap_or_default()
    }

    fn publish(&self) {
        crate::feed::publish(&self.elb.control, &self.elb.feed, &self.elb.control.view());
    }

    /// What a node that serves by `version` says of every target of the latest table.
    fn report(&self, version: u64, finding: Finding, in_flight: u32) -> Report {
        let table = self.table();
        let targets = table.groups.values().flat_map(|group| {
            group.targets.iter().map(|target| TargetReport {
                group: group.id.clone(),
                target: target.key.clone(),
                registered_at: target.registered_at,
                finding,
                in_flight,
                anomaly: routing::Anomaly::default(),
            })
        });
        Report { version, targets: targets.collect(), ..Report::default() }
    }

    async fn say(&self, version: u64, finding: Finding, in_flight: u32) {
        self.elb.take_in(None, self.report(version, finding, in_flight)).await.unwrap();
    }
}

fn forward(group: &str) -> api::Action {
    api::Action {
        r#type: Some(api::ActionTypeEnum::Forward),
        target_group_arn: text(group),
        ..Default::default()
    }
}

fn condition(field: &str, value: &str) -> api::RuleCondition {
    api::RuleCondition {
        field: text(field),
        values: Some(vec![value.to_owned()]),
        ..Default::default()
    }
}

#[tokio::test]
async fn every_policy_and_every_quota_is_on_one_page() {
    let world = World::new().await;
    for size in [None, Some(1), Some(2), Some(7)] {
        let (mut policies, mut quotas, mut marker) = (Vec::new(), Vec::new(), None);
        loop {
            let input =
                api::DescribeSSLPoliciesInput { marker, page_size: size, ..Default::default() };
            let page = world.elb.describe_ssl_policies(&world.root(), input).await.unwrap();
            let names = page.ssl_policies.unwrap().into_iter().map(|it| it.name.unwrap());
            policies.extend(names);
            marker = page.next_marker;
            if marker.is_none() || 18 < policies.len() {
                break;
            }
        }
        loop {
            let input = api::DescribeAccountLimitsInput { marker, page_size: size };
            let page = world.elb.describe_account_limits(&world.root(), input).await.unwrap();
            quotas.extend(page.limits.unwrap().into_iter().map(|it| it.name.unwrap()));
            marker = page.next_marker;
            if marker.is_none() || 13 < quotas.len() {
                break;
            }
        }
        assert_eq!((policies.len(), quotas.len()), (18, 13), "{size:?}");
        assert!(policies.is_sorted() && quotas.is_sorted(), "{size:?}");
    }
}

#[tokio::test]
async fn forwards_and_conditions_are_answered_in_both_forms() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    let listener = world.listener(&balancer, 80, &group).await;
    let action = &listener.default_actions.unwrap()[0];
    assert_eq!(action.target_group_arn, text(&group));
    let config = action.forward_config.as_ref().unwrap();
    let tuple = &config.target_groups.as_ref().unwrap()[0];
    assert_eq!((tuple.target_group_arn.clone(), tuple.weight), (text(&group), Some(1)));
    let sticky = config.target_group_stickiness_config.as_ref().unwrap();
    assert_eq!(sticky.enabled, Some(false));
    let input = api::CreateRuleInput {
        listener_arn: listener.listener_arn.clone(),
        priority: Some(10),
        conditions: Some(vec![condition("path-pattern", "/api/*")]),
        actions: Some(vec![forward(&group)]),
        ..Default::default()
    };
    let made = world.elb.create_rule(&world.root(), input.clone()).await.unwrap();
    let rule = made.rules.unwrap().remove(0);
    let shown = &rule.conditions.unwrap()[0];
    let values = Some(vec!["/api/*".to_owned()]);
    assert_eq!(shown.values, values);
    assert_eq!(shown.path_pattern_config.as_ref().unwrap().values, values);
    let again = world.elb.create_rule(&world.root(), input).await;
    refused(again, "PriorityInUse", "The specified priority is in use.");
    let input =
        api::DescribeRulesInput { listener_arn: listener.listener_arn, ..Default::default() };
    let rules = world.elb.describe_rules(&world.root(), input).await.unwrap().rules.unwrap();
    let priorities: Vec<_> = rules.into_iter().map(|rule| rule.priority.unwrap()).collect();
    assert_eq!(priorities, ["10", "default"]);
}

#[tokio::test]
async fn a_path_has_the_characters_that_amazons_may_have() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    let listener = world.listener(&balancer, 80, &group).await.listener_arn;
    let create = async |priority, conditions| {
        let input = api::CreateRuleInput {
            listener_arn: listener.clone(),
            priority: Some(priority),
            conditions: Some(vec![conditions]),
            actions: Some(vec![forward(&group)]),
            ..Default::default()
        };
        world.elb.create_rule(&world.root(), input).await
    };
    for path in ["/a b", "/ä", "/a%20b", "/a#b", "/{id}", "/a\n"] {
        let why = create(1, condition("path-pattern", path)).await.unwrap_err();
        assert_eq!(why.code, "ValidationError", "{path}");
        assert!(why.message.contains("contains a character that is not valid"), "{}", why.message);
    }
    let all = "/AZaz09_-.$/~\"'@:+&*?";
    create(1, condition("path-pattern", all)).await.unwrap();
    let regex = api::RuleCondition {
        field: text("path-pattern"),
        regex_values: Some(vec!["^/a{2}%[0-9]+$".to_owned()]),
        ..Default::default()
    };
    create(2, regex).await.unwrap();
}

#[tokio::test]
async fn names_of_a_kind_are_taken_once_and_the_same_request_finds_what_it_made() {
    let world = World::new().await;
    let first = world.balancer("web").await;
    assert_eq!(world.balancer("web").await, first);
    let dns = first.dns_name.unwrap();
    assert!(dns.starts_with("web-") && dns.ends_with(".us-east-1.elb.amazonaws.com"), "{dns}");
    let group = world.group("web").await;
    assert_eq!(world.group("web").await, group);
    let input = api::CreateTargetGroupInput {
        name: text("web"),
        protocol: Some(api::ProtocolEnum::Http),
        port: Some(81),
        vpc_id: text(world.vpc().id.as_str()),
        target_type: Some(api::TargetTypeEnum::Ip),
        ..Default::default()
    };
    let message = "A target group with the same name 'web' exists, but with different settings";
    let other = world.elb.create_target_group(&world.root(), input).await;
    refused(other, "DuplicateTargetGroupName", message);
}

#[tokio::test]
async fn a_group_is_one_balancers_and_stays_while_it_is_used() {
    let world = World::new().await;
    let one = world.balancer("one").await.load_balancer_arn.unwrap();
    let two = world.balancer("two").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&one, 80, &group).await;
    let message = format!(
        "The following target groups cannot be associated with more than one load balancer: {group}"
    );
    refused(world.try_listener(&two, 80, &group).await, "TargetGroupAssociationLimit", &message);
    let message = format!("A listener already exists on this port for this load balancer '{one}'");
    refused(world.try_listener(&one, 80, &group).await, "DuplicateListener", &message);
    let input = api::DeleteTargetGroupInput { target_group_arn: text(&group) };
    let message = format!("Target group '{group}' is currently in use by a listener or a rule");
    let deleted = world.elb.delete_target_group(&world.root(), input.clone()).await;
    refused(deleted, "ResourceInUse", &message);
    let balancer = api::DeleteLoadBalancerInput { load_balancer_arn: text(&one) };
    world.elb.delete_load_balancer(&world.root(), balancer.clone()).await.unwrap();
    world.elb.delete_load_balancer(&world.root(), balancer).await.unwrap();
    world.elb.delete_target_group(&world.root(), input).await.unwrap();
    let view = world.elb.control.view();
    assert!(view.elb_listeners.is_empty() && view.elb_groups.is_empty());
    assert_eq!(view.interfaces.len(), 2, "those of the other balancer");
}

#[tokio::test]
async fn attributes_that_are_not_there_are_refused_in_words_that_clients_know() {
    let world = World::new().await;
    let arn = world.balancer("web").await.load_balancer_arn.unwrap();
    let set = async |key: &str, value: &str| {
        let attribute = api::LoadBalancerAttribute { key: text(key), value: text(value) };
        let input = api::ModifyLoadBalancerAttributesInput {
            load_balancer_arn: text(&arn),
            attributes: Some(vec![attribute]),
        };
        world.elb.modify_load_balancer_attributes(&world.root(), input).await
    };
    let unknown = set("no.such.key", "true").await;
    let message = "Load balancer attribute key 'no.such.key' is not recognized";
    refused(unknown, "ValidationError", message);
    let of_others = set("dns_record.client_routing_policy", "any_availability_zone").await;
    let message = "Load balancer attribute key 'dns_record.client_routing_policy' is not supported on load \
                   balancers with type 'application'";
    refused(of_others, "InvalidConfigurationRequest", message);
    // What nothing acts on keeps its default, and nothing else.
    set("waf.fail_open.enabled", "false").await.unwrap();
    assert_eq!(
        set("waf.fail_open.enabled", "true").await.unwrap_err().code,
        "InvalidConfigurationRequest"
    );
    assert_eq!(set("idle_timeout.timeout_seconds", "0").await.unwrap_err().code, "ValidationError");
    let after = set("idle_timeout.timeout_seconds", "5").await.unwrap().attributes.unwrap();
    assert_eq!(after.len(), 22);
    let table = world.table();
    assert_eq!(table.balancers.values().next().unwrap().attributes.idle_timeout_s, 5);
}

#[tokio::test]
async fn a_target_is_healthy_once_its_balancers_say_so() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.register(&group, "172.31.0.9").await;
    let state = |state: &str, reason: &str| vec![(state.to_owned(), reason.to_owned())];
    assert_eq!(world.health(&group).await, state("unused", "Target.NotInUse"));
    assert!(world.table().groups.is_empty(), "nobody needs to know of it");
    world.listener(&balancer, 80, &group).await;
    assert_eq!(world.health(&group).await, state("initial", "Elb.RegistrationInProgress"));
    world.say(1, Finding::Initial, 0).await;
    assert_eq!(world.health(&group).await, state("initial", "Elb.InitialHealthChecking"));
    world.say(1, Finding::Healthy, 0).await;
    assert_eq!(world.health(&group).await, state("healthy", ""));
    world.say(1, Finding::CodeMismatch(503), 0).await;
    assert_eq!(world.health(&group).await, state("unhealthy", "Target.ResponseCodeMismatch"));
    // A process that has just begun does not make a healthy target anything else.
    world.say(1, Finding::Healthy, 0).await;
    world.say(1, Finding::Initial, 0).await;
    assert_eq!(world.health(&group).await, state("healthy", ""));
}

#[tokio::test]
async fn what_drains_is_there_until_nothing_is_in_flight_or_its_time_is_over() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&balancer, 80, &group).await;
    let states = async || -> Vec<String> {
        world.health(&group).await.into_iter().map(|(state, _)| state).collect()
    };
    world.register(&group, "172.31.0.9").await;
    let before = world.table().version;
    world.say(before, Finding::Healthy, 1).await;
    world.deregister(&group, "172.31.0.9").await;
    let target = world.table().groups.values().next().unwrap().targets[0].clone();
    assert!(matches!(target.state, TargetState::Draining { .. }));
    // A node that serves by what was before may begin a request at any moment.
    world.say(before, Finding::NotChecked, 0).await;
    assert_eq!(states().await, ["draining"]);
    let after = world.table().version;
    world.say(after, Finding::NotChecked, 1).await;
    assert_eq!(states().await, ["draining"]);
    world.say(after, Finding::NotChecked, 0).await;
    assert_eq!(states().await, [""; 0]);

    world.register(&group, "172.31.0.9").await;
    world.say(world.table().version, Finding::Healthy, 3).await;
    world.deregister(&group, "172.31.0.9").await;
    world.test.env.advance_ms(299_999);
    world.say(world.table().version, Finding::NotChecked, 3).await;
    assert_eq!(states().await, ["draining"]);
    world.test.env.advance_ms(1);
    world.say(world.table().version, Finding::NotChecked, 3).await;
    assert_eq!(states().await, [""; 0]);
}

#[tokio::test]
async fn a_process_is_told_what_changed_and_a_stranger_everything() {
    let world = World::new().await;
    let feed = &world.elb.feed;
    let none = std::time::Duration::ZERO;
    assert_eq!(feed.read(None, 0, none).await, Update::Unchanged);
    world.publish();
    let Update::Whole(first) = feed.read(None, 0, none).await else { panic!("all is new") };
    assert_eq!(feed.read(None, first.version, none).await, Update::Unchanged);
    world.balancer("web").await;
    world.publish();
    let update = feed.read(None, first.version, none).await;
    assert!(matches!(update, Update::Change(_)), "{update:?}");
    let second = first.updated(update).unwrap();
    assert_eq!(second, world.table());
    // Another region's version, or one of long ago.
    assert_eq!(feed.read(None, 987_654, none).await, Update::Whole(second));
    let waiting = feed.read(None, world.table().version, std::time::Duration::from_secs(60));
    let (update, ()) = tokio::join!(waiting, async {
        world.group("unused").await;
        world.publish();
        world.balancer("other").await;
        world.publish();
    });
    assert!(matches!(update, Update::Change(change) if change.balancers.len() == 1));
}

/// A target's name in reports.
fn key(group: &str, address: &str) -> (GroupId, TargetKey) {
    (GroupId(group.to_owned()), TargetKey { id: address.to_owned(), port: 80 })
}

#[tokio::test]
async fn reports_about_a_registration_before_this_one_change_nothing() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&balancer, 80, &group).await;
    world.register(&group, "172.31.0.9").await;
    let (id, target) = key(&group, "172.31.0.9");
    let report = TargetReport {
        group: id,
        target,
        registered_at: Timestamp(world.test.env.now().0 + 1),
        finding: Finding::Failed,
        in_flight: 0,
        anomaly: routing::Anomaly::default(),
    };
    let report = Report { version: 1, targets: vec![report], ..Report::default() };
    world.elb.take_in(None, report).await.unwrap();
    let view = world.elb.control.view();
    assert_eq!(view.elb_targets.iter().next().unwrap().health, TargetHealth::Initial);
}

#[tokio::test]
async fn what_processes_find_odd_is_described_to_whom_asks_for_it() {
    let world = World::new().await;
    let balancer = world.balancer("web").await.load_balancer_arn.unwrap();
    let group = world.group("web").await;
    world.listener(&balancer, 80, &group).await;
    world.register(&group, "172.31.0.9").await;
    let shown = async |include: Option<&str>| {
        let input = api::DescribeTargetHealthInput {
            target_group_arn: text(&group),
            include: include.map(|word| vec![word.into()]),
            ..Default::default()
        };
        let shown = world.elb.describe_target_health(&world.root(), input).await.unwrap();
        let found = shown.target_health_descriptions.unwrap().remove(0).anomaly_detection;
        found.map(|it| {
            (it.result.unwrap().to_string(), it.mitigation_in_effect.unwrap().to_string())
        })
    };
    let pair = |result: &str, mitigated: &str| Some((result.to_owned(), mitigated.to_owned()));
    let mut report = world.report(1, Finding::Healthy, 0);
    world.elb.take_in(None, report.clone()).await.unwrap();
    assert_eq!(shown(Some("AnomalyDetection")).await, pair("normal", "no"));
    report.targets[0].anomaly = routing::Anomaly { is_seen: true, is_mitigated: true };
    world.elb.take_in(None, report.clone()).await.unwrap();
    assert_eq!(shown(Some("All")).await, pair("anomalous", "yes"));
    assert_eq!(shown(None).await, None);
    report.targets[0].anomaly.is_seen = false;
    world.elb.take_in(None, report).await.unwrap();
    assert_eq!(
        shown(Some("All")).await,
        pair("normal", "yes"),
        "it gets its share back little by little"
    );
}

#[tokio::test]
async fn the_role_of_balancing_is_made_with_the_first_balancer_and_once() {
    let world = World::new().await;
    let role = control::iam::linked::find(control::iam::linked::BALANCERS).unwrap();
    let roles = || {
        let view = world.elb.control.view();
        view.iam_roles.iter().map(|row| row.unique_id.to_string()).collect::<Vec<_>>()
    };
    assert!(!role.is_there(&world.elb.control.view(), world.root().account));
    world.balancer("web").await;
    assert!(role.is_there(&world.elb.control.view(), world.root().account));
    let made = roles();
    world.balancer("api").await;
    world.group("web").await;
    assert_eq!(roles(), made);
}
