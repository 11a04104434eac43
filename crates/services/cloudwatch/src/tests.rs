use api::CloudWatch as _;
use control::reconcile::{Driver, Environment};
use control::testing::TestControl;

use super::*;

struct World {
    test: TestControl,
    it: Arc<CloudWatch>,
    driver: Driver,
    _dir: tempfile::TempDir,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn code<T>(answer: Result<T, ApiError>) -> String {
    answer.err().expect("a refusal").code.into_owned()
}

impl World {
    fn new() -> Self {
        let test = TestControl::new();
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::open(dir.path(), Arc::clone(&test.control.clock)).unwrap();
        let it = Arc::new(CloudWatch::new(Arc::clone(&test.control), Arc::new(metrics)));
        let mut driver = Driver::new(Environment::of(&test.control.store, &test.control.clock));
        Arc::clone(&it).register(&mut driver);
        Self { test, it, driver, _dir: dir }
    }

    fn now(&self) -> Timestamp {
        self.test.control.clock.now()
    }

    /// Lets time pass, and what is due in it be done.
    async fn pass_s(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.test.env.advance_ms(1_000);
            while self.driver.step().await {}
        }
    }

    async fn put(&self, name: &str, value: f64, ago_s: u64) -> Result<(), ApiError> {
        let datum = api::MetricDatum {
            metric_name: text(name),
            value: Some(value),
            timestamp: Some(Timestamp(self.now().0 - ago_s * 1_000)),
            ..Default::default()
        };
        self.put_data("App", vec![datum]).await
    }

    async fn put_data(&self, space: &str, data: Vec<api::MetricDatum>) -> Result<(), ApiError> {
        let input = api::PutMetricDataInput {
            namespace: text(space),
            metric_data: Some(data),
            ..Default::default()
        };
        self.it.put_metric_data(&self.test.root(), input).await
    }

    async fn alarm(
        &self,
        name: &str,
        change: impl FnOnce(&mut api::PutMetricAlarmInput),
    ) -> Result<(), ApiError> {
        let mut input = api::PutMetricAlarmInput {
            alarm_name: text(name),
            namespace: text("App"),
            metric_name: text("load"),
            statistic: Some("Average".into()),
            period: Some(60),
            evaluation_periods: Some(2),
            threshold: Some(10.0),
            comparison_operator: Some("GreaterThanThreshold".into()),
            ..Default::default()
        };
        change(&mut input);
        self.it.put_metric_alarm(&self.test.root(), input).await
    }

    async fn shown(&self, name: &str) -> api::MetricAlarm {
        let input = api::DescribeAlarmsInput {
            alarm_names: Some(vec![name.to_owned()]),
            ..Default::default()
        };
        let shown = self.it.describe_alarms(&self.test.root(), input).await.unwrap();
        shown.metric_alarms.unwrap().pop().expect("the alarm")
    }

    async fn state(&self, name: &str) -> String {
        self.shown(name).await.state_value.unwrap().as_str().to_owned()
    }

    async fn history(&self, name: &str) -> Vec<String> {
        let input = api::DescribeAlarmHistoryInput { alarm_name: text(name), ..Default::default() };
        let shown = self.it.describe_alarm_history(&self.test.root(), input).await.unwrap();
        let items = shown.alarm_history_items.unwrap();
        items.into_iter().map(|item| item.history_summary.unwrap()).collect()
    }

    async fn data(
        &self,
        queries: Vec<api::MetricDataQuery>,
        change: impl FnOnce(&mut api::GetMetricDataInput),
    ) -> Result<api::GetMetricDataOutput, ApiError> {
        let mut input = api::GetMetricDataInput {
            metric_data_queries: Some(queries),
            start_time: Some(Timestamp(self.now().0 - 300_000)),
            end_time: Some(self.now().plus_ms(60_000)),
            scan_by: Some(api::ScanBy::TimestampAscending),
            ..Default::default()
        };
        change(&mut input);
        self.it.get_metric_data(&self.test.root(), input).await
    }
}

fn query(id: &str, name: &str) -> api::MetricDataQuery {
    api::MetricDataQuery {
        id: text(id),
        metric_stat: Some(api::MetricStat {
            metric: Some(api::Metric {
                namespace: text("App"),
                metric_name: text(name),
                dimensions: None,
            }),
            period: Some(60),
            stat: text("Sum"),
            unit: None,
        }),
        ..Default::default()
    }
}

fn computed(id: &str, expression: &str) -> api::MetricDataQuery {
    api::MetricDataQuery { id: text(id), expression: text(expression), ..Default::default() }
}

#[tokio::test]
async fn what_is_put_is_read_by_statistics_and_by_queries() {
    let world = World::new();
    for (value, ago_s) in [(1.0, 130), (3.0, 130), (5.0, 10)] {
        world.put("load", value, ago_s).await.unwrap();
    }
    let many = api::MetricDatum {
        metric_name: text("many"),
        values: Some(vec![1.0, 2.0]),
        counts: Some(vec![3.0, 1.0]),
        unit: Some("Count".into()),
        ..Default::default()
    };
    world.put_data("App", vec![many]).await.unwrap();
    let input = api::GetMetricStatisticsInput {
        namespace: text("App"),
        metric_name: text("many"),
        start_time: Some(Timestamp(world.now().0 - 60_000)),
        end_time: Some(world.now().plus_ms(60_000)),
        period: Some(60),
        statistics: Some(vec!["Sum".into(), "SampleCount".into(), "Maximum".into()]),
        ..Default::default()
    };
    let shown = world.it.get_metric_statistics(&world.test.root(), input).await.unwrap();
    let point = shown.datapoints.unwrap().pop().unwrap();
    assert_eq!((point.sum, point.sample_count, point.maximum), (Some(5.0), Some(4.0), Some(2.0)));
    assert_eq!((point.average, point.unit), (None, Some("Count".into())));
    let queries = vec![query("load", "load"), computed("double", "FILL(load, 0) * 2")];
    let shown = world.data(queries, |_| {}).await.unwrap();
    let results = shown.metric_data_results.unwrap();
    assert_eq!(results[0].label.as_deref(), Some("load"));
    assert_eq!(results[0].values.as_deref(), Some(&[4.0, 5.0][..]));
    let double = results[1].values.clone().unwrap();
    assert_eq!(double.iter().filter(|value| **value != 0.0).collect::<Vec<_>>(), [&8.0, &10.0]);
    let listed = api::ListMetricsInput { metric_name: text("load"), ..Default::default() };
    let listed = world.it.list_metrics(&world.test.root(), listed).await.unwrap();
    assert_eq!(listed.metrics.unwrap().len(), 1);
    let theirs = world.test.root_of("111111111111");
    let listed = world.it.list_metrics(&theirs, Default::default()).await.unwrap();
    assert_eq!(listed.metrics.unwrap().len(), 0, "another account's");
}

#[tokio::test]
async fn an_expression_without_metrics_counts_its_periods_as_those_of_metrics_are_counted() {
    let world = World::new();
    let far = Timestamp(253_402_300_799_000);
    for queries in
        [vec![computed("one", "IF(1, 1)")], vec![query("a", "load"), computed("one", "IF(1, 1)")]]
    {
        let answer = world.data(queries, |input| {
            (input.start_time, input.end_time) = (Some(Timestamp(0)), Some(far));
        });
        let error = answer.await.unwrap_err();
        assert!(error.message.contains("up to 1000000 at once"), "{}", error.message);
    }
    let shown = world.data(vec![computed("one", "IF(1, 1)")], |_| {}).await.unwrap();
    let results = shown.metric_data_results.unwrap();
    let values = results[0].values.clone().unwrap();
    assert!((6..=7).contains(&values.len()), "{values:?}");
}

#[tokio::test]
async fn data_come_page_by_page_and_the_newest_first_unless_it_was_said() {
    let world = World::new();
    for minute in 0..4_u32 {
        world.put("load", f64::from(minute), u64::from(minute) * 60).await.unwrap();
        world.put("other", 9.0, u64::from(minute) * 60).await.unwrap();
    }
    let mut token = None;
    let mut found: Vec<(String, Vec<f64>)> = Vec::new();
    loop {
        let page = world.data(vec![query("a", "load"), query("b", "other")], |input| {
            input.max_datapoints = Some(3);
            input.scan_by = None;
            input.next_token = token.clone();
        });
        let page = page.await.unwrap();
        for result in page.metric_data_results.unwrap() {
            found.push((result.id.unwrap(), result.values.unwrap()));
        }
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    let expected = [
        ("a", vec![0.0, 1.0, 2.0]),
        ("a", vec![3.0]),
        ("b", vec![9.0, 9.0]),
        ("b", vec![9.0, 9.0]),
    ];
    let expected: Vec<_> = expected.map(|(id, values)| (id.to_owned(), values)).into();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn what_cannot_be_kept_or_computed_is_refused_in_clouds_words() {
    let world = World::new();
    let datum = |change: fn(&mut api::MetricDatum)| {
        let mut datum =
            api::MetricDatum { metric_name: text("load"), value: Some(1.0), ..Default::default() };
        change(&mut datum);
        vec![datum]
    };
    assert_eq!(
        code(world.put_data("AWS/ECS", datum(|_| {})).await),
        "InvalidParameterValueException"
    );
    type Breach<T> = (fn(&mut T), &'static str);
    let refused: [Breach<api::MetricDatum>; 6] = [
        (|it| it.value = None, "MissingRequiredParameterException"),
        (|it| it.value = Some(f64::NAN), "InvalidParameterValueException"),
        (|it| it.values = Some(vec![1.0]), "InvalidParameterCombinationException"),
        (|it| it.timestamp = Some(Timestamp(0)), "InvalidParameterValueException"),
        (|it| it.storage_resolution = Some(7), "InvalidParameterValueException"),
        (
            |it| {
                it.value = None;
                it.values = Some(vec![1.0]);
                it.counts = Some(vec![1.0, 2.0]);
            },
            "InvalidParameterValueException",
        ),
    ];
    for (change, expected) in refused {
        assert_eq!(code(world.put_data("App", datum(change)).await), expected);
    }
    for expression in ["SEARCH('{A}', 'Sum')", "a +", "SUM(a)", "nobody"] {
        let asked = world.data(vec![query("a", "load"), computed("e", expression)], |_| {}).await;
        assert_eq!(code(asked), "ValidationException", "{expression}");
    }
    let mut late = query("a", "load");
    late.metric_stat.as_mut().unwrap().stat = text("p99");
    assert_eq!(code(world.data(vec![late], |_| {}).await), "ValidationException");
    let whole = world.data(vec![query("a", "load")], |input| input.start_time = Some(Timestamp(0)));
    assert_eq!(code(whole.await), "ValidationException", "more periods than it looks at");
    let zone = |zone: &str| {
        let options = Some(api::LabelOptions { timezone: text(zone) });
        world.data(vec![query("a", "load")], move |input| input.label_options = options)
    };
    zone("+0000").await.unwrap();
    let refused = zone("+0130").await.unwrap_err();
    assert!(refused.message.starts_with("LabelOptions.Timezone"), "{}", refused.message);
    let refused: [Breach<api::PutMetricAlarmInput>; 8] = [
        (|it| it.datapoints_to_alarm = Some(0), "at least 1"),
        (|it| it.datapoints_to_alarm = Some(-1), "at least 1"),
        (
            |it| it.alarm_actions = Some(vec!["arn:aws:sns:us-east-1:000000000000:ops".to_owned()]),
            "nothing would act",
        ),
        (|it| it.extended_statistic = text("p99"), "not available"),
        (|it| it.period = Some(7), "multiple of 60"),
        (|it| it.evaluation_periods = Some(1_441), "across more than 1 day"),
        (|it| it.datapoints_to_alarm = Some(3), "less than or equal to EvaluationPeriods"),
        (|it| it.treat_missing_data = text("sometimes"), "notBreaching"),
    ];
    for (change, why) in refused {
        let error = world.alarm("high", change).await.unwrap_err();
        assert!(error.message.contains(why), "{}", error.message);
    }
    assert!(world.test.control.view().metric_alarms.is_empty());
}

#[tokio::test]
async fn an_alarm_follows_its_metric_and_its_history_tells_it() {
    let mut world = World::new();
    world.alarm("high", |_| {}).await.unwrap();
    let made = world.shown("high").await;
    assert_eq!(made.state_reason.as_deref(), Some("Unchecked: Initial alarm creation"));
    assert_eq!(made.state_value, Some("INSUFFICIENT_DATA".into()));
    world.pass_s(70).await;
    let first = world.shown("high").await;
    assert_eq!(
        first.state_reason.as_deref(),
        Some("Insufficient Data: 2 datapoints were unknown.")
    );
    for _ in 0..3 {
        world.put("load", 20.0, 0).await.unwrap();
        world.pass_s(60).await;
    }
    assert_eq!(world.state("high").await, "ALARM");
    let reason = world.shown("high").await.state_reason.unwrap();
    assert!(
        reason.starts_with("Threshold Crossed: 2 out of the last 2 datapoints [20.0 ("),
        "{reason}"
    );
    for _ in 0..3 {
        world.put("load", 1.0, 0).await.unwrap();
        world.pass_s(60).await;
    }
    assert_eq!(world.state("high").await, "OK");
    assert_eq!(
        world.history("high").await,
        [
            "Alarm updated from ALARM to OK",
            "Alarm updated from INSUFFICIENT_DATA to ALARM",
            "Alarm \"high\" created"
        ]
    );
}

#[tokio::test]
async fn an_alarm_of_a_short_period_looks_every_ten_seconds_at_samples_by_the_second() {
    let mut world = World::new();
    world
        .alarm("high", |input| {
            input.period = Some(10);
            input.evaluation_periods = Some(1);
        })
        .await
        .unwrap();
    let fine = api::MetricDatum {
        metric_name: text("load"),
        value: Some(20.0),
        storage_resolution: Some(1),
        ..Default::default()
    };
    world.put_data("App", vec![fine]).await.unwrap();
    world.pass_s(21).await;
    assert_eq!(world.state("high").await, "ALARM");
}

#[tokio::test]
async fn a_state_that_is_set_lasts_until_the_next_look() {
    let mut world = World::new();
    for minute in 0..5 {
        world.put("load", 1.0, minute * 60).await.unwrap();
    }
    world.alarm("high", |_| {}).await.unwrap();
    world.pass_s(61).await;
    assert_eq!(world.state("high").await, "OK");
    // Right after a look, which is five seconds after the full minute.
    let to_next = 66 - (world.now().seconds() % 60);
    world.pass_s(to_next).await;
    let input = api::SetAlarmStateInput {
        alarm_name: text("high"),
        state_value: Some("ALARM".into()),
        state_reason: text("a drill"),
        state_reason_data: None,
    };
    world.it.set_alarm_state(&world.test.root(), input).await.unwrap();
    while world.driver.step().await {}
    assert_eq!(world.state("high").await, "ALARM");
    world.put("load", 1.0, 0).await.unwrap();
    world.pass_s(30).await;
    assert_eq!(world.state("high").await, "ALARM");
    world.pass_s(31).await;
    assert_eq!(world.state("high").await, "OK");
}

#[tokio::test]
async fn an_alarm_is_looked_at_though_a_clock_was_ahead_when_its_state_was_written() {
    let mut world = World::new();
    world.alarm("high", |_| {}).await.unwrap();
    let ahead = |view: &model::View, now: Timestamp| {
        let row = view.metric_alarms.iter().next().unwrap();
        let mut next = MetricAlarm::clone(row);
        let then = now.plus_ms(4 * 365 * 86_400_000);
        (next.configured_at, next.updated_at, next.transitioned_at) = (then, then, then);
        next.reason = "Threshold Crossed: so it was.".to_owned();
        let mut batch = store::Batch::on(view);
        batch.put(next);
        Ok((batch, ()))
    };
    world.test.control.decide(ahead).await.unwrap();
    for minute in 0..5 {
        world.put("load", 20.0, minute * 60).await.unwrap();
    }
    world.pass_s(70).await;
    assert_eq!(world.state("high").await, "ALARM");
    let shown = world.shown("high").await;
    assert!(shown.state_updated_timestamp.unwrap() <= world.now());
}

#[tokio::test]
async fn an_alarm_that_is_put_again_keeps_its_state_and_is_looked_at_by_its_new_bounds() {
    let mut world = World::new();
    for minute in 0..5 {
        world.put("load", 5.0, minute * 60).await.unwrap();
    }
    world
        .alarm("high", |input| {
            input.tags = Some(vec![api::Tag { key: text("team"), value: text("ops") }]);
        })
        .await
        .unwrap();
    world.pass_s(61).await;
    assert_eq!(world.state("high").await, "OK");
    world.alarm("high", |input| input.threshold = Some(2.0)).await.unwrap();
    assert_eq!(world.state("high").await, "OK");
    world.pass_s(1).await;
    assert_eq!(world.state("high").await, "ALARM");
    let arn = world.shown("high").await.alarm_arn;
    let listed = api::ListTagsForResourceInput { resource_arn: arn };
    let listed = world.it.list_tags_for_resource(&world.test.root(), listed).await.unwrap();
    assert_eq!(listed.tags.unwrap().len(), 1);
}

#[tokio::test]
async fn an_alarm_may_watch_what_is_computed_from_metrics() {
    let mut world = World::new();
    let put = |expression: &str| {
        let queries = vec![
            api::MetricDataQuery { return_data: Some(false), ..query("errors", "errors") },
            api::MetricDataQuery { return_data: Some(false), ..query("requests", "requests") },
            computed("rate", expression),
        ];
        world.alarm("rate", |input| {
            (input.namespace, input.metric_name, input.statistic) = (None, None, None);
            input.period = None;
            input.metrics = Some(queries);
            input.treat_missing_data = text("notBreaching");
        })
    };
    assert!(put("METRICS()").await.is_err(), "two series");
    put("IF(requests > 10, 100 * errors / requests, 0)").await.unwrap();
    for minute in 0..5 {
        world.put("errors", 30.0, minute * 60).await.unwrap();
        world.put("requests", 100.0, minute * 60).await.unwrap();
    }
    world.pass_s(61).await;
    let shown = world.shown("rate").await;
    assert_eq!(shown.state_value, Some("ALARM".into()), "{:?}", shown.state_reason);
    assert_eq!(shown.metrics.unwrap().len(), 3);
}

#[tokio::test]
async fn an_alarm_that_takes_too_much_to_compute_at_a_look_is_refused_when_it_is_put() {
    let world = World::new();
    let put = |periods: i32, levels: usize| {
        let mut load = query("e0", "load");
        load.return_data = Some(false);
        load.metric_stat.as_mut().unwrap().period = Some(10);
        let mut queries = vec![load];
        for level in 1..=levels {
            let before = level - 1;
            let mut each = computed(&format!("e{level}"), &format!("e{before} + e{before}"));
            each.return_data = Some(level == levels);
            queries.push(each);
        }
        world.alarm("sum", move |input| {
            (input.namespace, input.metric_name, input.statistic) = (None, None, None);
            (input.period, input.evaluation_periods) = (None, Some(periods));
            input.metrics = Some(queries);
        })
    };
    put(8_640, 2).await.unwrap();
    put(1, 9).await.unwrap();
    let error = put(8_640, 9).await.unwrap_err();
    assert!(error.message.contains("more values to compute"), "{}", error.message);
    let error = put(i32::MAX, 1).await.unwrap_err();
    assert!(error.message.contains("across more than 1 day"), "{}", error.message);
}

#[tokio::test]
async fn an_alarm_acts_by_a_policy_that_is_there() {
    let world = World::new();
    let service =
        model::ServiceId { cluster: "demo".parse().unwrap(), name: "web".parse().unwrap() };
    let policy = model::scaling::ScalingPolicy {
        id: longshore_types::Uuid::from_random([7; 16]),
        created_at: world.now(),
        kind: model::scaling::PolicyKind::Stepping(model::scaling::Stepping {
            kind: model::scaling::AdjustmentKind::ChangeInCapacity,
            steps: vec![model::scaling::Step { lower: None, upper: None, adjustment: 1 }],
            least: None,
            cooldown_s: None,
            aggregation: None,
        }),
    };
    let target = model::ScalableTarget {
        scope: world.test.control.scope(&world.test.root()),
        service,
        id: "0ec5".to_owned(),
        min: 1,
        max: 4,
        suspended: model::scaling::Suspended::default(),
        created_at: world.now(),
        policies: [("steps".to_owned(), policy.clone())].into(),
        actions: [].into(),
        last: model::scaling::LastMoves::default(),
        tags: [].into(),
    };
    let arn = target.policy_arn("steps", &policy);
    let with = |arn: &str| {
        let actions = Some(vec![arn.to_owned()]);
        world.alarm("high", move |input| input.alarm_actions = actions)
    };
    let refused = with(&arn).await.unwrap_err();
    assert_eq!(refused.code, "ValidationException");
    assert_eq!(refused.message, format!("The scaling policy {arn} does not exist."));
    let put = |view: &model::View, _| {
        let mut batch = store::Batch::on(view);
        batch.put(target.clone());
        Ok((batch, ()))
    };
    world.test.control.decide(put).await.unwrap();
    with(&arn).await.unwrap();
    with(&format!("{arn}:createdBy/{}", policy.id)).await.unwrap();
    for other in [arn.replace("steps", "stairs"), arn.replace("web", "api")] {
        let refused = with(&other).await.unwrap_err();
        assert!(refused.message.ends_with("does not exist."), "{}", refused.message);
    }
}

#[tokio::test]
async fn alarms_are_deleted_together_or_not_at_all() {
    let world = World::new();
    for name in ["a", "b"] {
        world.alarm(name, |_| {}).await.unwrap();
    }
    let delete = async |names: &[&str]| {
        let names = Some(names.iter().map(|name| (*name).to_owned()).collect());
        let input = api::DeleteAlarmsInput { alarm_names: names };
        world.it.delete_alarms(&world.test.root(), input).await
    };
    assert_eq!(code(delete(&["a", "c"]).await), "ResourceNotFound");
    assert_eq!(world.test.control.view().metric_alarms.len(), 2);
    delete(&["a", "b"]).await.unwrap();
    assert!(world.test.control.view().metric_alarms.is_empty());
    assert_eq!(world.history("a").await, ["Alarm \"a\" deleted", "Alarm \"a\" created"]);
}

#[tokio::test]
async fn histories_of_alarms_that_are_gone_are_bounded_in_number_and_in_bytes() {
    let world = World::new();
    let (account, now) = (world.test.root().account, world.now());
    let item = |at: u64, data: String| model::alarm::HistoryItem {
        at: Timestamp(at),
        kind: model::alarm::HistoryKind::ConfigurationUpdate,
        summary: String::new(),
        data,
    };
    let most = control::alarms::HISTORIES_MAX;
    let numbers: Vec<usize> = (0..most).collect();
    for part in numbers.chunks(500) {
        let put = |view: &model::View, _| {
            let mut batch = store::Batch::on(view);
            for number in part {
                let at = now.0 - 1_000_000 + u64::try_from(*number).unwrap();
                batch.put(model::alarm::AlarmHistory {
                    account,
                    alarm: format!("gone-{number}").into(),
                    items: vec![item(at, String::new())],
                });
            }
            Ok((batch, ()))
        };
        world.test.control.decide(put).await.unwrap();
    }
    world.alarm("high", |_| {}).await.unwrap();
    let view = world.test.control.view();
    assert_eq!(view.alarm_histories.of(account).count(), most);
    let is_there = |name: &str| view.alarm_histories.get(account, &name.into()).is_some();
    assert!(is_there("high") && is_there("gone-1") && !is_there("gone-0"));
    // One of a name that was there before takes nobody's place.
    world.alarm("gone-1", |_| {}).await.unwrap();
    let view = world.test.control.view();
    assert_eq!(view.alarm_histories.of(account).count(), most);
    assert!(view.alarm_histories.get(account, &"gone-2".into()).is_some());
    let row = view.alarm_histories.get(account, &"gone-1".into()).unwrap();
    assert_eq!(row.items.len(), 2);
    // What happened is kept as far as it is not too long.
    let mut history = model::alarm::AlarmHistory::clone(row);
    (0..20).for_each(|_| history.add(item(world.now().0, "x".repeat(100 << 10))));
    assert_eq!(history.items.len(), 2);
    history.add(item(world.now().0, "x".repeat(1 << 20)));
    assert_eq!(history.items.len(), 1);
}

#[tokio::test]
async fn a_task_is_one_sample_of_a_slot_however_often_it_is_reported() {
    let world = World::new();
    let mut host =
        control::testing::rows::instance(longshore_types::InstanceId::from_bytes([1; 16]));
    host.total = longshore_types::Resources {
        cpu: longshore_types::CpuUnits(1_024),
        memory: longshore_types::MemoryMib(2_048),
    };
    let put = |view: &model::View, _| {
        let mut batch = store::Batch::on(view);
        batch.put(host.clone());
        Ok((batch, ()))
    };
    world.test.control.decide(put).await.unwrap();
    let task = |seed: u64| {
        let mut task = control::testing::rows::task(seed);
        task.service = Some(model::task::TaskService {
            name: "web".parse().unwrap(),
            deployment: longshore_types::DeploymentId(1),
            is_ready: true,
            is_accounted: false,
            is_registered: false,
            is_connected: false,
        });
        let asked = Arc::make_mut(&mut task.asked);
        asked.launch = model::task::LaunchType::Ec2;
        asked.need.resources = longshore_types::Resources {
            cpu: longshore_types::CpuUnits(1_024),
            memory: longshore_types::MemoryMib(1_024),
        };
        task
    };
    let start = Timestamp(world.now().0 / 20_000 * 20_000);
    let report = |task: &Task, cpu: f64, memory: f64| {
        let set =
            |sum: f64| serde_json::json!({"min": sum, "max": sum, "sampleCount": 1, "sum": sum});
        let containers =
            serde_json::json!([{"cpuStatsSet": set(cpu), "memoryStatsSet": set(memory)}]);
        world.it.note_usage(task, &host, &containers, start.plus_ms(1_000));
    };
    let (busy, idle) = (task(1), task(2));
    for _ in 0..1_000 {
        report(&busy, 90.0, 512.0);
    }
    report(&busy, 40.0, 256.0);
    report(&idle, 10.0, 256.0);
    let told = world.it.take_usage(start.plus_ms(23_000));
    let shown: Vec<(&str, usize, f64, f64)> = told
        .iter()
        .map(|it| (&*it.metric.name, it.metric.dimensions.len(), it.set.count, it.set.sum))
        .collect();
    assert_eq!(
        shown,
        [
            ("CPUUtilization", 2, 2.0, 50.0),
            ("MemoryUtilization", 2, 2.0, 50.0),
            ("CPUUtilization", 1, 1.0, 50.0),
            ("MemoryUtilization", 1, 1.0, 25.0),
        ],
        "by service, and by cluster"
    );
}

#[tokio::test]
async fn what_tasks_reserve_of_container_instances_is_a_metric_of_the_cluster() {
    let world = World::new();
    let account = world.test.root().account;
    let hosts = [1, 2].map(|id| {
        let id = longshore_types::InstanceId::from_bytes([id; 16]);
        let mut host = control::testing::rows::instance(id);
        host.total = longshore_types::Resources {
            cpu: longshore_types::CpuUnits(1_000),
            memory: longshore_types::MemoryMib(2_000),
        };
        host
    });
    let cluster = model::Cluster {
        account,
        name: "demo".parse().unwrap(),
        status: model::cluster::ClusterStatus::Active,
        created_at: Timestamp(0),
        deleted_at: None,
        settings: Default::default(),
        configuration: None,
        capacity_providers: vec![],
        default_strategy: vec![],
        tags: Default::default(),
        connect_namespace: None,
    };
    let task = |seed: u64, launch, phase| {
        let mut task = control::testing::rows::task(seed);
        let asked = Arc::make_mut(&mut task.asked);
        asked.launch = launch;
        asked.need.resources = longshore_types::Resources {
            cpu: longshore_types::CpuUnits(250),
            memory: longshore_types::MemoryMib(400 * u32::try_from(seed).unwrap()),
        };
        task.phase = phase;
        task
    };
    let read = || -> Vec<(String, f64)> {
        let told = crate::usage::reservations(&world.test.control.view(), world.now());
        told.iter().map(|it| (it.metric.name.clone(), it.set.sum)).collect()
    };
    let put = async |instances: &[model::Instance], tasks: Vec<Task>| {
        let make = |view: &model::View, _| {
            let mut batch = store::Batch::on(view);
            batch.put(cluster.clone());
            for host in instances {
                batch.put(host.clone());
            }
            for task in &tasks {
                batch.put(task.clone());
            }
            Ok((batch, ()))
        };
        world.test.control.decide(make).await.unwrap();
    };
    put(&[], vec![]).await;
    assert_eq!(read(), [], "a cluster without container instances has no such metric");
    let launch = model::task::LaunchType::Ec2;
    let tasks = vec![
        task(1, launch, model::task::Phase::Running),
        task(2, launch, model::task::Phase::Running),
        task(3, launch, model::task::Phase::Pending),
        task(4, model::task::LaunchType::Fargate, model::task::Phase::Running),
    ];
    put(&hosts, tasks).await;
    let metric = |name: &str, percent| (name.to_owned(), percent);
    assert_eq!(read(), [metric("CPUReservation", 25.0), metric("MemoryReservation", 30.0)]);
    put(&[], vec![task(2, launch, model::task::Phase::Stopping)]).await;
    assert_eq!(read(), [metric("CPUReservation", 12.5), metric("MemoryReservation", 10.0)]);
}

#[tokio::test]
async fn insights_have_a_sample_of_each_task_a_minute_where_a_cluster_asks_for_them() {
    let mut world = World::new();
    let mut host =
        control::testing::rows::instance(longshore_types::InstanceId::from_bytes([1; 16]));
    host.total = longshore_types::Resources {
        cpu: longshore_types::CpuUnits(1_000),
        memory: longshore_types::MemoryMib(1_024),
    };
    let account = world.test.root().account;
    let cluster = |value: &str| model::Cluster {
        account,
        name: "demo".parse().unwrap(),
        status: model::cluster::ClusterStatus::Active,
        created_at: Timestamp(0),
        deleted_at: None,
        settings: [("containerInsights".to_owned(), value.to_owned())].into(),
        configuration: None,
        capacity_providers: vec![],
        default_strategy: vec![],
        tags: Default::default(),
        connect_namespace: None,
    };
    let tasks = [1, 2].map(|seed| {
        let mut task = control::testing::rows::task_of_service(seed);
        Arc::make_mut(&mut task.asked).need.resources = longshore_types::Resources {
            cpu: longshore_types::CpuUnits(100),
            memory: longshore_types::MemoryMib(128),
        };
        task
    });
    // What goes by time alone begins with the first full pass.
    world.pass_s(301).await;
    for (value, cpu_count, share_count) in
        [("disabled", 0.0, 0.0), ("enabled", 2.0, 0.0), ("enhanced", 2.0, 2.0)]
    {
        let cluster = cluster(value);
        let put = |view: &model::View, _| {
            let mut batch = store::Batch::on(view);
            batch.put(host.clone());
            batch.put(cluster.clone());
            for task in &tasks {
                batch.put(task.clone());
            }
            Ok((batch, ()))
        };
        world.test.control.decide(put).await.unwrap();
        world.pass_s(60 - world.now().seconds() % 60 + 1).await;
        let minute = Timestamp(world.now().0 / 60_000 * 60_000);
        let set =
            |sum: f64| serde_json::json!({"min": sum, "max": sum, "sampleCount": 1, "sum": sum});
        for cpu in [10.0, 30.0, 20.0] {
            for task in &tasks {
                let net = serde_json::json!({"rxBytesPerSecond": set(100.0), "txBytesPerSecond": set(0.0)});
                let containers = serde_json::json!([{
                    "cpuStatsSet": set(cpu), "memoryStatsSet": set(64.0), "networkStatsSet": net,
                    "storageStatsSet": {"readSizeBytes": set(5.0), "writeSizeBytes": set(0.0)},
                }]);
                world.it.note_usage(task, &host, &containers, world.now());
            }
            world.pass_s(15).await;
        }
        world.pass_s(30).await;
        let read = |name: &str, more: Option<(&str, &str)>| {
            let metric = metrics::MetricId {
                account,
                namespace: "ECS/ContainerInsights".to_owned(),
                name: name.to_owned(),
                dimensions: [("ClusterName", "demo")]
                    .into_iter()
                    .chain(more)
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
            };
            let read = world.it.metrics.read(&metric, None, (minute, 60), 1)[0];
            read.map_or((0.0, 0.0), |set| (set.count, set.sum))
        };
        let family = Some(("TaskDefinitionFamily", tasks[0].definition.family.as_str()));
        let service = tasks[0].service.as_ref().unwrap().name.to_string();
        for more in [None, family, Some(("ServiceName", service.as_str()))] {
            assert_eq!(
                read("CpuUtilized", more),
                (cpu_count, cpu_count * 200.0),
                "{value} {more:?}"
            );
            assert_eq!(read("NetworkRxBytes", more), (cpu_count, cpu_count * 100.0), "{more:?}");
            assert_eq!(read("StorageReadBytes", more), (cpu_count, cpu_count * 15.0), "{more:?}");
            let (cpu, memory) =
                (read("TaskCpuUtilization", more), read("TaskMemoryUtilization", more));
            assert_eq!(cpu, (share_count, share_count * 200.0), "{value} {more:?}");
            assert_eq!(memory, (share_count, share_count * 50.0), "{value} {more:?}");
        }
        let reserved = f64::from(tasks[0].need.resources.memory.0);
        assert_eq!(read("MemoryReserved", None), (cpu_count, cpu_count * reserved));
        let counted = if value == "disabled" { 0.0 } else { 1.0 };
        assert_eq!(read("ContainerInstanceCount", None), (counted, counted), "{value}");
        assert_eq!(read("ServiceCount", None), (counted, 0.0), "{value}");
    }
}

#[tokio::test]
async fn what_is_old_is_forgotten_whenever_its_turn_comes_in_a_minute() {
    let mut world = World::new();
    world.put("load", 1.0, 0).await.unwrap();
    world.pass_s(2).await;
    let load = metrics::MetricId {
        account: world.test.root().account,
        namespace: "App".to_owned(),
        name: "load".to_owned(),
        dimensions: [].into(),
    };
    assert_eq!(world.it.metrics.units(&load), ["None"]);
    let days_ms = 64 * 86_400_000;
    world.test.env.advance_ms(days_ms + 90_000 - world.now().0 % 60_000);
    while world.driver.step().await {}
    assert!(world.it.metrics.units(&load).is_empty());
}

#[tokio::test]
async fn eventbridge_is_told_when_an_alarm_changes_its_state() {
    let world = World::new();
    world.test.control.set_event_sources(vec![world.it.event_source().unwrap()]);
    world.test.want(r#"{"source":["aws.cloudwatch"]}"#).await;
    world.alarm("high", |it| it.alarm_description = text("too much")).await.unwrap();
    let set = |state: &'static str| {
        let input = api::SetAlarmStateInput {
            alarm_name: text("high"),
            state_value: Some(state.into()),
            state_reason: text("a drill"),
            state_reason_data: text(r#"{"a":1}"#),
        };
        let caller = world.test.root();
        let it = Arc::clone(&world.it);
        async move { it.set_alarm_state(&caller, input).await }
    };
    assert_eq!(world.test.told(), Vec::<Value>::new());
    set("ALARM").await.unwrap();
    set("ALARM").await.unwrap();
    let told = world.test.told();
    assert_eq!(told.len(), 1, "{told:?}");
    let (event, arn) = (&told[0], "arn:aws:cloudwatch:us-east-1:000000000000:alarm:high");
    assert_eq!(event["detail-type"], "CloudWatch Alarm State Change");
    assert_eq!(event["resources"], serde_json::json!([arn]));
    let detail = &event["detail"];
    assert_eq!(detail["alarmName"], "high");
    assert_eq!(detail["state"]["value"], "ALARM");
    assert_eq!(detail["state"]["reason"], "a drill");
    assert_eq!(detail["state"]["reasonData"], r#"{"a":1}"#);
    assert!(detail["state"]["timestamp"].as_str().unwrap().ends_with("+0000"), "{detail}");
    assert_eq!(detail["previousState"]["value"], "INSUFFICIENT_DATA");
    assert_eq!(detail["configuration"]["description"], "too much");
    let metric = &detail["configuration"]["metrics"][0];
    let stat = serde_json::json!({
        "metric": { "namespace": "App", "name": "load", "dimensions": {} },
        "period": 60, "stat": "Average",
    });
    assert_eq!((&metric["metricStat"], &metric["returnData"]), (&stat, &Value::Bool(true)));
}
