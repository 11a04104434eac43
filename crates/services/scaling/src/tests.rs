use std::collections::BTreeMap;
use std::sync::Mutex;

use api::Scaling as _;
use control::reconcile::Environment;
use control::testing::TestControl;
use longshore_types::Timestamp;
use model::alarm::{AlarmState, Sample};
use model::service::{
    Controller, DeploymentSettings, Propagate, Scheduling, Service as EcsService, ServiceStatus,
    Strategy,
};
use model::{Key, MetricAlarm};
use store::Batch;

use super::*;

mod requests;

/// Alarms' values, by how their names begin.
#[derive(Debug, Default)]
struct Values(Mutex<BTreeMap<String, f64>>);

impl Watcher for Values {
    fn samples(&self, alarm: &MetricAlarm, _: Timestamp) -> Vec<Option<Sample>> {
        let values = self.0.lock().unwrap();
        let mut found = values.iter().filter(|(name, _)| alarm.name.contains(&***name));
        let value = found.next().map(|(_, value)| Sample { value: *value, count: 1.0 });
        vec![value; 5]
    }
}

struct World {
    test: TestControl,
    it: Arc<Scaling>,
    values: Arc<Values>,
    driver: Driver,
}

const RESOURCE: &str = "service/demo/web";

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn error<T>(answer: Result<T, ApiError>) -> (String, String) {
    let error = answer.err().expect("a refusal");
    (error.code.into_owned(), error.message)
}

fn web() -> ServiceId {
    ServiceId { cluster: "demo".parse().unwrap(), name: "web".parse().unwrap() }
}

impl World {
    async fn new() -> Self {
        let test = TestControl::new();
        let values = Arc::new(Values::default());
        let it = Arc::new(Scaling::new(Arc::clone(&test.control), values.clone()));
        let mut driver = Driver::new(Environment::of(&test.control.store, &test.control.clock));
        Arc::clone(&it).register(&mut driver);
        let world = Self { test, it, values, driver };
        world.service(2, ServiceStatus::Active).await;
        world
    }

    /// The service with a count that somebody asks for.
    async fn service(&self, desired_count: u32, status: ServiceStatus) {
        let id = web();
        let service = EcsService {
            scope: self.test.control.scope(&self.test.root()),
            cluster: id.cluster,
            name: id.name,
            status,
            scheduling: Scheduling::Replica,
            controller: Controller::Ecs,
            desired_count,
            revision: None,
            deployment: settings(),
            constraints: vec![],
            strategies: vec![],
            health_check_grace_s: None,
            is_zone_rebalanced: false,
            enable_managed_tags: false,
            propagate: Propagate::None,
            enable_execute_command: false,
            role: None,
            tags: BTreeMap::new(),
            created_at: Timestamp(0),
            created_by: String::new(),
            deleted_at: None,
            version: 1,
        };
        self.put(service).await;
    }

    async fn put(&self, row: impl Into<model::Row>) {
        let row = row.into();
        let put = |view: &View, _| {
            let mut batch = Batch::on(view);
            batch.put(row.clone());
            Ok((batch, ()))
        };
        self.test.control.decide(put).await.unwrap();
    }

    fn count(&self) -> u32 {
        let view = self.test.control.view();
        view.services.get(self.test.root().account, &web()).unwrap().desired_count
    }

    fn row(&self) -> Option<Arc<ScalableTarget>> {
        let view = self.test.control.view();
        view.scalable_targets.get(self.test.root().account, &web()).cloned()
    }

    async fn register(&self, min: Option<i32>, max: Option<i32>) -> Result<String, ApiError> {
        let input = api::RegisterScalableTargetRequest {
            service_namespace: Some("ecs".into()),
            resource_id: text(RESOURCE),
            scalable_dimension: Some(DIMENSION.into()),
            min_capacity: min,
            max_capacity: max,
            ..Default::default()
        };
        let made = self.it.register_scalable_target(&self.test.root(), input).await?;
        Ok(made.scalable_target_arn.unwrap())
    }

    async fn track(
        &self,
        name: &str,
        metric: &str,
        target: f64,
        disable_scale_in: Option<bool>,
    ) -> Result<api::PutScalingPolicyResponse, ApiError> {
        self.track_of(name, (metric, None), target, disable_scale_in).await
    }

    async fn track_of(
        &self,
        name: &str,
        (metric, label): (&str, Option<&str>),
        target: f64,
        disable_scale_in: Option<bool>,
    ) -> Result<api::PutScalingPolicyResponse, ApiError> {
        let configuration = api::TargetTrackingScalingPolicyConfiguration {
            target_value: Some(target),
            predefined_metric_specification: Some(api::PredefinedMetricSpecification {
                predefined_metric_type: Some(metric.into()),
                resource_label: label.map(str::to_owned),
            }),
            disable_scale_in,
            ..Default::default()
        };
        let input = api::PutScalingPolicyRequest {
            policy_name: text(name),
            service_namespace: Some("ecs".into()),
            resource_id: text(RESOURCE),
            scalable_dimension: Some(DIMENSION.into()),
            policy_type: Some("TargetTrackingScaling".into()),
            target_tracking_scaling_policy_configuration: Some(configuration),
            ..Default::default()
        };
        self.it.put_scaling_policy(&self.test.root(), input).await
    }

    /// Has alarms whose names have a part in them come to a state at a value.
    async fn alarm(&mut self, part: &str, state: AlarmState, value: f64) {
        self.values.0.lock().unwrap().insert(part.to_owned(), value);
        let view = self.test.control.view();
        let now = self.test.control.clock.now();
        for row in view.metric_alarms.iter().filter(|row| row.name.contains(part)) {
            let mut next = MetricAlarm::clone(row);
            (next.state, next.transitioned_at) = (state, now);
            next.reason = "Threshold Crossed: so it is.".to_owned();
            self.put(next).await;
        }
        self.work().await;
    }

    async fn work(&mut self) {
        while self.driver.step().await {}
    }

    async fn pass_s(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.test.env.advance_ms(1_000);
            self.work().await;
        }
    }

    async fn activities(&self, with_others: bool) -> Vec<(String, String, String)> {
        let input = api::DescribeScalingActivitiesRequest {
            service_namespace: Some("ecs".into()),
            resource_id: text(RESOURCE),
            include_not_scaled_activities: Some(with_others),
            ..Default::default()
        };
        let shown = self.it.describe_scaling_activities(&self.test.root(), input).await.unwrap();
        let items = shown.scaling_activities.unwrap().into_iter();
        let words = |it: api::ScalingActivity| {
            let status = it.status_code.unwrap().as_str().to_owned();
            (it.description.unwrap(), it.cause.unwrap(), status)
        };
        items.map(words).collect()
    }
}

fn settings() -> DeploymentSettings {
    DeploymentSettings {
        healthy_percent_min: 100,
        percent_max: 200,
        breaker: None,
        bake_minutes: None,
        strategy: Strategy::Rolling,
        hooks: vec![],
    }
}

#[tokio::test]
async fn a_target_is_registered_step_by_step_and_its_service_brought_within_its_bounds_at_once() {
    let world = World::new().await;
    assert_eq!(error(world.register(Some(1), None).await).0, "ValidationException");
    let arn = world.register(Some(3), Some(6)).await.unwrap();
    assert!(arn.contains(":scalable-target/0ec5"), "{arn}");
    assert_eq!(world.count(), 3);
    assert_eq!(world.register(None, Some(5)).await.unwrap(), arn);
    assert_eq!((world.row().unwrap().min, world.row().unwrap().max), (3, 5));
    assert_eq!(error(world.register(Some(6), None).await).0, "ValidationException");
    world.register(Some(1), Some(2)).await.unwrap();
    assert_eq!(world.count(), 2);
    let told = world.activities(false).await;
    assert_eq!(told[0].1, "maximum capacity was set to 2");
    assert_eq!(
        told[1],
        (
            "Setting desired count to 3.".to_owned(),
            "minimum capacity was set to 3".to_owned(),
            "Overridden".to_owned()
        )
    );
    let view = world.test.control.view();
    assert_eq!(
        view.iam_roles.of(world.test.root().account).count(),
        1,
        "in whose name it is scaled"
    );
}

#[tokio::test]
async fn bounds_are_within_what_a_service_may_desire() {
    let mut world = World::new().await;
    let most = "must be between 0 and 5000";
    for (min, max) in [(Some(5_001), Some(5_001)), (Some(1), Some(i32::MAX)), (Some(-1), Some(1))] {
        let refused = error(world.register(min, max).await);
        assert_eq!(refused.0, "ValidationException");
        assert!(refused.1.contains(most), "{}", refused.1);
    }
    world.register(Some(1), Some(5_000)).await.unwrap();
    let mut input = api::PutScheduledActionRequest {
        service_namespace: Some("ecs".into()),
        resource_id: text(RESOURCE),
        scalable_dimension: Some(DIMENSION.into()),
        scheduled_action_name: text("up"),
        schedule: text("rate(1 minute)"),
        ..Default::default()
    };
    for (min, max) in [(Some(5_001), None), (None, Some(i32::MAX)), (Some(-1), None)] {
        input.scalable_target_action =
            Some(api::ScalableTargetAction { min_capacity: min, max_capacity: max });
        let put = world.it.put_scheduled_action(&world.test.root(), input.clone()).await;
        let refused = error(put);
        assert!(refused.1.contains(most), "{}", refused.1);
    }
    // Of a time with a higher limit.
    let mut row = ScalableTarget::clone(&world.row().unwrap());
    (row.min, row.max) = (7_000, 9_000);
    world.put(row).await;
    world.register(None, None).await.unwrap();
    assert_eq!(world.count(), 5_000);
    world.track("cpu", "ECSServiceAverageCPUUtilization", 50.0, None).await.unwrap();
    world.alarm("AlarmHigh", AlarmState::Alarm, 100.0).await;
    world.pass_s(20).await;
    assert_eq!(world.count(), 5_000);
}

#[tokio::test]
async fn what_is_not_there_or_cannot_be_scaled_is_refused_in_amazons_words() {
    let world = World::new().await;
    let no_target = "No scalable target registered for service namespace: ecs, resource ID: service/demo/web, scalable \
                     dimension: ecs:service:DesiredCount";
    let put = world.track("cpu", "ECSServiceAverageCPUUtilization", 50.0, None).await;
    assert_eq!(error(put), ("ObjectNotFoundException".to_owned(), no_target.to_owned()));
    world.service(2, ServiceStatus::Draining).await;
    let gone = error(world.register(Some(1), Some(2)).await);
    assert_eq!(gone.1, "ECS service doesn't exist: service/demo/web");
    world.service(2, ServiceStatus::Active).await;
    world.register(Some(1), Some(2)).await.unwrap();
    let other = world.track("cpu", "DynamoDBReadCapacityUtilization", 50.0, None).await;
    assert!(error(other).1.contains("not available in this region"));
    world.track("cpu", "ECSServiceAverageCPUUtilization", 50.0, None).await.unwrap();
    let same = world.track("again", "ECSServiceAverageCPUUtilization", 60.0, None).await;
    assert_eq!(
        error(same).1,
        "Only one TargetTrackingScaling policy for a given metric specification is allowed."
    );
    let input = api::RegisterScalableTargetRequest {
        service_namespace: Some("dynamodb".into()),
        resource_id: text("table/a"),
        scalable_dimension: Some("dynamodb:table:ReadCapacityUnits".into()),
        ..Default::default()
    };
    let other = error(world.it.register_scalable_target(&world.test.root(), input).await);
    assert!(other.1.starts_with("Unsupported service namespace"), "{}", other.1);
}

#[tokio::test]
async fn queries_of_a_policy_are_checked_as_those_of_alarms() {
    let world = World::new().await;
    world.register(Some(1), Some(9)).await.unwrap();
    let metric = |id: &str, name: Option<String>| api::TargetTrackingMetricDataQuery {
        id: text(id),
        return_data: Some(false),
        metric_stat: Some(api::TargetTrackingMetricStat {
            metric: Some(api::TargetTrackingMetric {
                namespace: text("App"),
                metric_name: name,
                dimensions: None,
            }),
            stat: text("Sum"),
            unit: None,
        }),
        ..Default::default()
    };
    let computed = |expression: &str| api::TargetTrackingMetricDataQuery {
        id: text("e"),
        expression: text(expression),
        ..Default::default()
    };
    let put = async |queries: Vec<api::TargetTrackingMetricDataQuery>| {
        let input = api::PutScalingPolicyRequest {
            policy_name: text("mine"),
            service_namespace: Some("ecs".into()),
            resource_id: text(RESOURCE),
            scalable_dimension: Some(DIMENSION.into()),
            policy_type: Some("TargetTrackingScaling".into()),
            target_tracking_scaling_policy_configuration: Some(
                api::TargetTrackingScalingPolicyConfiguration {
                    target_value: Some(5.0),
                    customized_metric_specification: Some(api::CustomizedMetricSpecification {
                        metrics: Some(queries),
                        ..Default::default()
                    }),
                    ..Default::default()
                },
            ),
            ..Default::default()
        };
        world.it.put_scaling_policy(&world.test.root(), input).await
    };
    for (queries, why) in [
        (vec![metric("a", text("x")), metric("a", text("y")), computed("a")], "more than once"),
        (vec![metric("e", text("x")), computed("1 + e")], "more than once"),
        (vec![metric("A", text("x")), computed("1")], "expected pattern"),
        (vec![metric("a", None), computed("a")], "MetricName"),
        (vec![computed("IF(1, 1)")], "must be a metric"),
        (vec![metric("a", text("x")), computed("[a, a]")], "exactly one time series"),
    ] {
        let refused = error(put(queries).await);
        assert_eq!(refused.0, "ValidationException");
        assert!(refused.1.contains(why), "{}", refused.1);
    }
    put(vec![metric("a", text("x")), metric("b", text("y")), computed("a / b")]).await.unwrap();
}

#[tokio::test]
async fn a_tracking_policy_has_its_alarms_and_they_go_with_it() {
    let world = World::new().await;
    world.register(Some(1), Some(9)).await.unwrap();
    let made = world.track("cpu", "ECSServiceAverageCPUUtilization", 70.0, None).await.unwrap();
    let names: Vec<String> =
        made.alarms.unwrap().into_iter().map(|alarm| alarm.alarm_name.unwrap()).collect();
    assert!(names[0].starts_with("TargetTracking-service/demo/web-AlarmHigh-"), "{names:?}");
    assert!(names[1].starts_with("TargetTracking-service/demo/web-AlarmLow-"), "{names:?}");
    let alarm = |name: &str| {
        let view = world.test.control.view();
        view.metric_alarms.get(world.test.root().account, &name.into()).cloned()
    };
    let (high, low) = (alarm(&names[0]).unwrap(), alarm(&names[1]).unwrap());
    assert_eq!((high.threshold, high.evaluation_periods), (70.0, 3));
    assert_eq!((low.threshold, low.evaluation_periods), (63.0, 15));
    let action = &high.alarm_actions[0];
    assert!(
        action.contains(":resource/ecs/service/demo/web:policyName/cpu:createdBy/"),
        "{action}"
    );
    world.track("cpu", "ECSServiceAverageCPUUtilization", 50.0, Some(true)).await.unwrap();
    assert_eq!(alarm(&names[0]).unwrap().threshold, 50.0);
    assert!(alarm(&names[1]).is_none(), "it does not lower counts any more");
    let input = api::DeleteScalingPolicyRequest {
        policy_name: text("cpu"),
        service_namespace: Some("ecs".into()),
        resource_id: text(RESOURCE),
        scalable_dimension: Some(DIMENSION.into()),
    };
    world.it.delete_scaling_policy(&world.test.root(), input.clone()).await.unwrap();
    assert!(world.test.control.view().metric_alarms.is_empty());
    let view = world.test.control.view();
    let told = view.alarm_histories.get(world.test.root().account, &names[1].as_str().into());
    let told: Vec<&str> = told.unwrap().items.iter().map(|item| item.summary.as_str()).collect();
    let said = |verb: &str| format!("Alarm \"{}\" {verb}", names[1]);
    assert_eq!(told, [said("created"), said("deleted")]);
    let gone = error(world.it.delete_scaling_policy(&world.test.root(), input).await);
    assert_eq!(gone.0, "ObjectNotFoundException");
    assert!(gone.1.starts_with("No scaling policy found"), "{}", gone.1);
}

#[tokio::test]
async fn alarms_of_tracking_policies_count_as_all_others() {
    let world = World::new().await;
    world.register(Some(1), Some(9)).await.unwrap();
    world.track("cpu", "ECSServiceAverageCPUUtilization", 70.0, Some(true)).await.unwrap();
    let view = world.test.control.view();
    let alarm = MetricAlarm::clone(view.metric_alarms.iter().next().unwrap());
    let numbers: Vec<usize> = (0..control::alarms::ALARMS_MAX - 2).collect();
    for part in numbers.chunks(500) {
        let put = |view: &View, _| {
            let mut batch = Batch::on(view);
            for number in part {
                batch.put(MetricAlarm { name: format!("a{number}").into(), ..alarm.clone() });
            }
            Ok((batch, ()))
        };
        world.test.control.decide(put).await.unwrap();
    }
    let memory = "ECSServiceAverageMemoryUtilization";
    let refused = error(world.track("memory", memory, 70.0, None).await);
    assert_eq!(refused.0, "LimitExceededException");
    assert!(refused.1.contains("up to 5000 alarms"), "{}", refused.1);
    world.track("memory", memory, 70.0, Some(true)).await.unwrap();
    // What has its alarms is put again as before, and has no more.
    world.track("cpu", "ECSServiceAverageCPUUtilization", 60.0, Some(true)).await.unwrap();
    let more = world.track("cpu", "ECSServiceAverageCPUUtilization", 60.0, None).await;
    assert_eq!(error(more).0, "LimitExceededException");
}

#[tokio::test]
async fn a_service_follows_its_alarms_and_activities_tell_it() {
    let mut world = World::new().await;
    world.register(Some(1), Some(4)).await.unwrap();
    world.track("cpu", "ECSServiceAverageCPUUtilization", 50.0, None).await.unwrap();
    world.work().await;
    assert_eq!(world.count(), 2);
    // Nothing runs in this world: what is at zero comes to something first.
    world.service(0, ServiceStatus::Active).await;
    world.alarm("AlarmHigh", AlarmState::Alarm, 100.0).await;
    assert_eq!(world.count(), 1, "first to the least");
    let told = world.activities(false).await;
    assert!(
        told[0].1.starts_with("monitor alarm TargetTracking-service/demo/web-AlarmHigh-"),
        "{told:?}"
    );
    assert!(told[0].1.ends_with(" in state ALARM triggered policy cpu"), "{told:?}");
    assert_eq!(told[0].2, "InProgress");
    let view = world.test.control.view();
    let told = view.alarm_histories.iter().flat_map(|row| &row.items);
    let told: Vec<&str> = told.map(|item| item.summary.as_str()).collect();
    assert!(told.iter().any(|it| it.starts_with("Successfully executed action arn:")), "{told:?}");
}

#[tokio::test]
async fn steps_follow_somebodys_alarm_and_say_when_they_have_no_value() {
    let mut world = World::new().await;
    world.register(Some(1), Some(9)).await.unwrap();
    let step = |lower, upper, adjustment| api::StepAdjustment {
        metric_interval_lower_bound: lower,
        metric_interval_upper_bound: upper,
        scaling_adjustment: Some(adjustment),
    };
    let mut input = api::PutScalingPolicyRequest {
        policy_name: text("steps"),
        service_namespace: Some("ecs".into()),
        resource_id: text(RESOURCE),
        scalable_dimension: Some(DIMENSION.into()),
        policy_type: Some("StepScaling".into()),
        step_scaling_policy_configuration: Some(api::StepScalingPolicyConfiguration {
            adjustment_type: Some("ChangeInCapacity".into()),
            step_adjustments: Some(vec![step(Some(0.0), Some(10.0), 1), step(Some(20.0), None, 3)]),
            cooldown: Some(60),
            ..Default::default()
        }),
        ..Default::default()
    };
    let gap = error(world.it.put_scaling_policy(&world.test.root(), input.clone()).await);
    assert!(gap.1.contains("no gaps"), "{}", gap.1);
    let steps = input.step_scaling_policy_configuration.as_mut().unwrap();
    steps.step_adjustments = Some(vec![step(Some(10.0), None, 3), step(Some(0.0), Some(10.0), 1)]);
    // One that was tracking loses its alarms as it turns into steps.
    world.track("steps", "ECSServiceAverageMemoryUtilization", 50.0, Some(true)).await.unwrap();
    let made = world.it.put_scaling_policy(&world.test.root(), input).await.unwrap();
    assert_eq!(made.alarms, Some(vec![]));
    assert_eq!(world.test.control.view().metric_alarms.iter().count(), 0);
    // Somebody's own alarm is like one of a tracking policy, with another name and action.
    world.track("cpu", "ECSServiceAverageCPUUtilization", 50.0, Some(true)).await.unwrap();
    let view = world.test.control.view();
    let mut alarm = MetricAlarm::clone(view.metric_alarms.iter().next().unwrap());
    alarm.name = "mine".into();
    alarm.alarm_actions = vec![made.policy_arn.clone().unwrap()];
    world.put(alarm.clone()).await;
    world.alarm("mine", AlarmState::Alarm, 55.0).await;
    assert_eq!(world.count(), 3);
    world.pass_s(50).await;
    assert_eq!(world.count(), 3, "it waits");
    world.pass_s(40).await;
    assert_eq!(world.count(), 4, "and goes on as long as the alarm does");
    let shown = api::DescribeScalingPoliciesRequest {
        service_namespace: Some("ecs".into()),
        policy_names: Some(vec!["steps".to_owned()]),
        ..Default::default()
    };
    let shown = world.it.describe_scaling_policies(&world.test.root(), shown).await.unwrap();
    let policy = shown.scaling_policies.unwrap().pop().unwrap();
    assert_eq!(policy.alarms.unwrap()[0].alarm_name.as_deref(), Some("mine"));
    world.pass_s(120).await;
    let count = world.count();
    alarm.state = AlarmState::Alarm;
    alarm.reason = "somebody said so".to_owned();
    alarm.transitioned_at = world.test.control.clock.now();
    world.put(alarm).await;
    world.pass_s(120).await;
    assert_eq!(world.count(), count, "without a value");
    let view = world.test.control.view();
    let history = view.alarm_histories.get(world.test.root().account, &"mine".into()).unwrap();
    let failed = "Failed to execute AutoScaling action: Metric data points must be provided";
    assert_eq!(history.items.iter().filter(|item| item.summary == failed).count(), 1);
}

#[tokio::test]
async fn scheduled_actions_set_bounds_at_their_time_in_their_zone() {
    let mut world = World::new().await;
    world.register(Some(1), Some(4)).await.unwrap();
    // 2023-11-14T22:13:20Z is 23:13:20 in Stockholm.
    let put = |name: &str, schedule: &str, min: Option<i32>, max: Option<i32>| {
        api::PutScheduledActionRequest {
            service_namespace: Some("ecs".into()),
            resource_id: text(RESOURCE),
            scalable_dimension: Some(DIMENSION.into()),
            scheduled_action_name: text(name),
            schedule: text(schedule),
            timezone: text("Europe/Stockholm"),
            scalable_target_action: Some(api::ScalableTargetAction {
                min_capacity: min,
                max_capacity: max,
            }),
            ..Default::default()
        }
    };
    for (schedule, why) in [
        ("cron(0 8 * * *)", "has the form"),
        ("rate(0 days)", "whole number"),
        ("at(2020-01-01T00:00:00)", "no time to come"),
    ] {
        let input = put("bad", schedule, Some(1), None);
        let refused = error(world.it.put_scheduled_action(&world.test.root(), input).await);
        assert!(refused.1.contains(why), "{}", refused.1);
    }
    let root = world.test.root();
    world
        .it
        .put_scheduled_action(&root, put("up", "cron(14 23 * * ? *)", Some(5), Some(8)))
        .await
        .unwrap();
    world.work().await;
    assert_eq!(world.count(), 2);
    world.pass_s(60).await;
    assert_eq!(world.count(), 5);
    let told = world.activities(false).await;
    assert_eq!(told[0].1, "minimum capacity was set to 5");
    assert_eq!(told[1].0, "Setting min capacity to 5 and max capacity to 8");
    assert_eq!(told[1].1, "scheduled action name up was triggered");
    assert_eq!(told[1].2, "Successful");
    let row = world.row().unwrap();
    assert_eq!((row.min, row.max), (5, 8));
    world.pass_s(120).await;
    assert_eq!(world.activities(false).await.len(), 2, "once a day");
    // A clock that was years ahead has them done again in their time.
    let mut row = ScalableTarget::clone(&world.row().unwrap());
    let ahead = world.test.control.clock.now().plus_ms(4 * 365 * 86_400_000);
    row.actions.values_mut().for_each(|action| action.done_until = ahead);
    world.put(row).await;
    world.work().await;
    world.test.env.advance_ms(86_400_000);
    world.work().await;
    assert_eq!(world.activities(false).await.len(), 3);
}

#[tokio::test]
async fn a_target_goes_with_its_service_and_leaves_no_alarm() {
    let mut world = World::new().await;
    world.register(Some(1), Some(4)).await.unwrap();
    world.track("cpu", "ECSServiceAverageCPUUtilization", 50.0, None).await.unwrap();
    world.work().await;
    world.service(0, ServiceStatus::Draining).await;
    world.work().await;
    assert!(world.row().is_none());
    let view = world.test.control.view();
    assert!(view.metric_alarms.is_empty());
    assert!(view.row(&Key::ScalableTarget(world.test.root().account, web())).is_none());
}

#[tokio::test]
async fn activities_of_services_that_are_gone_make_room_for_those_of_new_ones() {
    let world = World::new().await;
    let account = world.test.root().account;
    let numbers: Vec<usize> = (0..limits::ACTIVITIES_ROWS_MAX).collect();
    for part in numbers.chunks(500) {
        let put = |view: &View, _| {
            let mut batch = Batch::on(view);
            for number in part {
                let name = format!("gone-{number}").parse().unwrap();
                batch.put(model::ScalingActivities {
                    account,
                    service: ServiceId { name, ..web() },
                    items: vec![],
                });
            }
            Ok((batch, ()))
        };
        world.test.control.decide(put).await.unwrap();
    }
    world.register(Some(3), Some(4)).await.unwrap();
    let view = world.test.control.view();
    assert_eq!(view.scaling_activities.of(account).count(), limits::ACTIVITIES_ROWS_MAX);
    assert_eq!(view.scaling_activities.get(account, &web()).unwrap().items.len(), 1);
}

#[tokio::test]
async fn tags_are_given_changed_and_shown() {
    let world = World::new().await;
    let arn = world.register(Some(1), Some(4)).await.unwrap();
    let root = world.test.root();
    let tags = BTreeMap::from([("team".to_owned(), "ops".to_owned())]);
    let input =
        api::TagResourceRequest { resource_arn: Some(arn.clone()), tags: Some(tags.clone()) };
    world.it.tag_resource(&root, input).await.unwrap();
    let list = || api::ListTagsForResourceRequest { resource_arn: Some(arn.clone()) };
    let shown = world.it.list_tags_for_resource(&root, list()).await.unwrap();
    assert_eq!(shown.tags, Some(tags));
    let input = api::UntagResourceRequest {
        resource_arn: Some(arn.clone()),
        tag_keys: Some(vec!["team".to_owned()]),
    };
    world.it.untag_resource(&root, input).await.unwrap();
    let shown = world.it.list_tags_for_resource(&root, list()).await.unwrap();
    assert_eq!(shown.tags, Some(BTreeMap::new()));
}
