use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use api::Events as _;
use control::outbox::BLOCKS_MAX;
use control::ports::{LogLine, NotLogged};
use control::reconcile::Environment;
use control::testing::TestControl;
use events::{Json, RuleInfo};
use longshore_types::{Clock, Timestamp};
use model::event::{BLOCK_BYTES, RuleSchedule, TargetTry};
use model::{Grants, IamRole, Tally, TrustText};
use serde_json::{Value, json};
use store::Batch;

use super::*;
use crate::deliver::{Came, Then, is_final, then};
use crate::input::{Kind, check, kind_of, line, run_task, started_by};
use crate::schedules::{Due, next};

const CLUSTER: &str = "arn:aws:ecs:us-east-1:000000000000:cluster/demo";
const GROUP: &str = "arn:aws:logs:us-east-1:000000000000:log-group:/aws/events/all";
const ROLE: &str = "arn:aws:iam::000000000000:role/rules";
const DEFINITION: &str = "arn:aws:ecs:us-east-1:000000000000:task-definition/job";

/// Who asked for tasks, with what; and what they are answered before all is well.
#[derive(Debug, Default)]
struct Tasks {
    asked: Mutex<Vec<(Caller, Value)>>,
    refusals: Mutex<VecDeque<ApiError>>,
}

impl TaskStarter for Tasks {
    fn start<'a>(
        &'a self,
        caller: &'a Caller,
        request: &'a str,
    ) -> BoxFuture<'a, Result<(), ApiError>> {
        self.asked.lock().unwrap().push((caller.clone(), serde_json::from_str(request).unwrap()));
        let refusal = self.refusals.lock().unwrap().pop_front();
        Box::pin(async move { refusal.map_or(Ok(()), Err) })
    }
}

/// The lines of log groups, with their times.
#[derive(Debug, Default)]
struct Lines {
    written: Mutex<Vec<(String, String, Timestamp)>>,
    is_closed: Mutex<bool>,
}

impl LogWriter for Lines {
    fn write<'a>(&'a self, line: &'a LogLine<'a>) -> BoxFuture<'a, Result<(), NotLogged>> {
        assert_eq!(line.service, "events.amazonaws.com");
        let is_closed = *self.is_closed.lock().unwrap();
        if !is_closed {
            let said = (line.group.to_owned(), line.message.to_owned(), line.at);
            self.written.lock().unwrap().push(said);
        }
        Box::pin(async move {
            match is_closed {
                true => Err(NotLogged::NotLet { action: "logs:PutLogEvents" }),
                false => Ok(()),
            }
        })
    }
}

struct World {
    test: TestControl,
    it: Arc<EventBridge>,
    tasks: Arc<Tasks>,
    lines: Arc<Lines>,
    metrics: Arc<Metrics>,
    driver: Driver,
    _dir: tempfile::TempDir,
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn error<T>(answer: Result<T, ApiError>) -> (String, String) {
    let error = answer.err().expect("a refusal");
    (error.code.into_owned(), error.message)
}

fn driver(test: &TestControl, it: &Arc<EventBridge>) -> Driver {
    let mut driver = Driver::new(Environment::of(&test.control.store, &test.control.clock));
    Arc::clone(it).register(&mut driver);
    driver
}

impl World {
    async fn new() -> Self {
        let (test, dir) = (TestControl::new(), tempfile::tempdir().unwrap());
        let (tasks, lines) = (Arc::new(Tasks::default()), Arc::new(Lines::default()));
        let metrics = Arc::new(Metrics::open(dir.path(), test.env.clone()).unwrap());
        let control = Arc::clone(&test.control);
        let it = EventBridge::new(control, Arc::clone(&metrics), tasks.clone(), lines.clone());
        let it = Arc::new(it);
        let driver = driver(&test, &it);
        let world = Self { test, it, tasks, lines, metrics, driver, _dir: dir };
        world.role("events.amazonaws.com").await;
        world
    }

    /// The role of rules, which trusts a service.
    async fn role(&self, service: &str) {
        let trust = json!({"Version": "2012-10-17", "Statement": {
            "Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}});
        let role = IamRole {
            account: self.test.root().account,
            name: "rules".into(),
            path: "/".into(),
            unique_id: "AROA0123456789ABCDEF".into(),
            created_at: Timestamp(1),
            description: None,
            max_session_s: 3_600,
            trust: TrustText::new(&trust.to_string(), BTreeMap::new()),
            tags: BTreeMap::new(),
            boundary: None,
            grants: Grants::default(),
            service: None,
        };
        let decided = self.test.control.decide(|view, _| {
            let mut batch = Batch::on(view);
            batch.put(role.clone());
            Ok((batch, ()))
        });
        decided.await.unwrap();
    }

    async fn rule(&self, input: api::PutRuleRequest) -> Result<String, ApiError> {
        let input = api::PutRuleRequest { name: input.name.or_else(|| text("r")), ..input };
        let put = self.it.put_rule(&self.test.root(), input).await?;
        Ok(put.rule_arn.unwrap())
    }

    async fn scheduled(&self, expression: &str) {
        let schedule_expression = text(expression);
        self.rule(api::PutRuleRequest { schedule_expression, ..Default::default() }).await.unwrap();
    }

    async fn of_pattern(&self, pattern: &str) {
        let event_pattern = text(pattern);
        self.rule(api::PutRuleRequest { event_pattern, ..Default::default() }).await.unwrap();
    }

    async fn target(&self, target: api::Target) -> Result<(), ApiError> {
        let (rule, targets) = (text("r"), Some(vec![target]));
        let input = api::PutTargetsRequest { rule, targets, event_bus_name: None };
        self.it.put_targets(&self.test.root(), input).await.map(drop)
    }

    /// Puts an event, which must be taken.
    async fn event(&self, detail: &str) {
        let entry = api::PutEventsRequestEntry {
            source: text("app"),
            detail_type: text("done"),
            detail: text(detail),
            ..Default::default()
        };
        let entries = Some(vec![entry]);
        let input = api::PutEventsRequest { entries, endpoint_id: None };
        let put = self.it.put_events(&self.test.root(), input).await.unwrap();
        assert_eq!(put.failed_entry_count, Some(0));
    }

    async fn settle(&mut self) {
        while self.driver.step().await {}
    }

    async fn after(&mut self, ms: u64) {
        self.test.env.advance_ms(ms);
        self.settle().await;
    }

    fn written(&self) -> Vec<Value> {
        let written = self.lines.written.lock().unwrap();
        written.iter().map(|(_, line, _)| serde_json::from_str(line).unwrap()).collect()
    }

    fn asked(&self) -> Vec<Value> {
        self.tasks.asked.lock().unwrap().iter().map(|(_, request)| request.clone()).collect()
    }

    fn waiting(&self) -> usize {
        self.test.control.view().pending_events.len()
    }

    fn counted(&self, name: &str) -> f64 {
        let metric = metrics::MetricId {
            account: self.test.root().account,
            namespace: "AWS/Events".to_owned(),
            name: name.to_owned(),
            dimensions: BTreeMap::from([("RuleName".to_owned(), "r".to_owned())]),
        };
        let start = Timestamp(self.test.env.now().0.saturating_sub(3_600_000) / 60_000 * 60_000);
        let sets = self.metrics.read(&metric, Some("Count"), (start, 60), 120);
        sets.into_iter().flatten().map(|set| set.sum).sum()
    }
}

fn cluster_target() -> api::Target {
    api::Target {
        id: text("run"),
        arn: text(CLUSTER),
        role_arn: text(ROLE),
        ecs_parameters: Some(api::EcsParameters {
            task_definition_arn: text(DEFINITION),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn group_target() -> api::Target {
    api::Target { id: text("log"), arn: text(GROUP), ..Default::default() }
}

fn transformer(paths: &[(&str, &str)], template: &str) -> Option<api::InputTransformer> {
    let paths = paths.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned()));
    let (input_paths_map, input_template) = (Some(paths.collect()), text(template));
    Some(api::InputTransformer { input_paths_map, input_template })
}

const RULE: RuleInfo<'static> = RuleInfo { arn: "arn", name: "nightly", ingested: Timestamp(0) };

#[test]
fn a_task_is_asked_for_as_the_target_says_with_overrides_of_the_event() {
    let event = Json::parse(r#"{"detail":{"key":"in/1.csv"}}"#).unwrap();
    let mut target = cluster_target();
    target.input_transformer = transformer(
        &[("key", "$.detail.key")],
        r#"{"containerOverrides":[{"name":"app","environment":[{"name":"KEY","value":<key>}]}]}"#,
    );
    let given = target.ecs_parameters.as_mut().unwrap();
    given.task_count = Some(2);
    given.launch_type = Some(api::LaunchType::Fargate);
    given.tags = Some(vec![api::Tag { key: text("a"), value: text("b") }]);
    given.placement_constraints = Some(Vec::new());
    given.network_configuration = Some(api::NetworkConfiguration {
        awsvpc_configuration: Some(api::AwsVpcConfiguration {
            subnets: Some(vec!["subnet-1".to_owned()]),
            security_groups: None,
            assign_public_ip: Some(api::AssignPublicIp::Enabled),
        }),
    });
    let request = run_task(&target, &event, RULE, "token").unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&request).unwrap(),
        json!({
            "cluster": CLUSTER, "taskDefinition": DEFINITION, "count": 2, "launchType": "FARGATE",
            "networkConfiguration": {"awsvpcConfiguration": {"subnets": ["subnet-1"], "assignPublicIp": "ENABLED"}},
            "tags": [{"key": "a", "value": "b"}],
            "overrides": {"containerOverrides": [
                {"name": "app", "environment": [{"name": "KEY", "value": "in/1.csv"}]}]},
            "startedBy": "events-rule/nightly", "clientToken": "token",
        })
    );
    target.input_transformer = transformer(&[], r#""no overrides""#);
    assert!(run_task(&target, &event, RULE, "token").is_err());
    assert_eq!(started_by(&"n".repeat(64)).len(), 36);
}

#[test]
fn a_line_is_the_event_or_what_the_target_says() {
    let event = Json::parse(r#"{"detail":{"n":7}}"#).unwrap();
    let said = |target: &api::Target| line(target, &event, RULE, Timestamp(5)).unwrap();
    let mut target = group_target();
    assert_eq!(said(&target), (r#"{"detail":{"n":7}}"#.to_owned(), Timestamp(5)));
    target.input_path = text("$.detail");
    assert_eq!(said(&target), (r#"{"n":7}"#.to_owned(), Timestamp(5)));
    target.input_path = None;
    target.input_transformer =
        transformer(&[("n", "$.detail.n")], r#"{"timestamp":9,"message":"it was <n>"}"#);
    assert_eq!(said(&target), ("it was 7".to_owned(), Timestamp(9)));
}

#[test]
fn other_targets_are_refused_with_what_is_here() {
    let (region, account) = ("us-east-1".parse().unwrap(), "000000000000".parse().unwrap());
    let kind = |arn: &str| kind_of(arn, &region, account);
    assert_eq!(kind(CLUSTER).unwrap(), Kind::Cluster);
    for arn in [GROUP.to_owned(), format!("{GROUP}:*")] {
        assert_eq!(kind(&arn).unwrap(), Kind::Group("/aws/events/all".to_owned()));
    }
    for arn in [
        "arn:aws:lambda:us-east-1:000000000000:function:f",
        "arn:aws:sqs:us-east-1:000000000000:q",
        "arn:aws:ecs:us-east-1:111122223333:cluster/demo",
        "arn:aws:ecs:eu-west-1:000000000000:cluster/demo",
        "demo",
    ] {
        let (code, message) = error(kind(arn));
        assert_eq!(code, "ValidationException");
        assert!(
            message.starts_with(&format!("Parameter {arn} is not valid. Reason: ")),
            "{message}"
        );
    }
    let wrong = |change: &dyn Fn(&mut api::Target), word: &str| {
        let mut target = cluster_target();
        change(&mut target);
        let (_, message) = error(check(&target, &region, account));
        assert!(message.contains(word), "{message}");
    };
    wrong(&|it| it.role_arn = None, "RoleArn is required");
    wrong(&|it| it.ecs_parameters = None, "EcsParameters are required");
    wrong(&|it| it.input = text("{"), "Input");
    wrong(&|it| it.input = text("[]"), "overrides");
    wrong(&|it| (it.input, it.input_path) = (text("{}"), text("$")), "Only one of");
    wrong(&|it| it.input_path = text("detail"), "InputPath");
    wrong(&|it| it.input_transformer = transformer(&[], "{\"a\":<b>}"), "<b>");
    wrong(&|it| it.sqs_parameters = Some(Default::default()), "SqsParameters");
    wrong(
        &|it| {
            it.dead_letter_config = Some(api::DeadLetterConfig { arn: text("arn:aws:sqs:a:b:c") })
        },
        "DeadLetterConfig",
    );
    wrong(&|it| it.ecs_parameters.as_mut().unwrap().task_count = Some(11), "TaskCount");
    wrong(&|it| it.arn = text(GROUP), "EcsParameters are not supported");
    let role = api::Target { role_arn: text(ROLE), ..group_target() };
    assert!(error(check(&role, &region, account)).1.contains("resource policies"));
}

#[test]
fn a_target_is_tried_again_as_long_and_as_often_as_its_policy_says() {
    let failed = || Came::Failed(ApiError::client("ClientException", "full"));
    let tried = |failures| TargetTry { target: "run".to_owned(), failures, next_at: Timestamp(0) };
    let (began, now) = (Timestamp(0), Timestamp(10_000));
    let again = |failures, policy: Option<&api::RetryPolicy>| match then(
        &failed(),
        &tried(failures),
        policy,
        began,
        now,
    ) {
        Then::Again(tried) => Some((tried.failures, tried.next_at.since_ms(now))),
        Then::GivenUp => None,
        Then::Done => panic!("it failed"),
    };
    assert_eq!(again(0, None), Some((1, 1_000)));
    assert_eq!(again(3, None), Some((4, 8_000)));
    assert_eq!(again(100, None), Some((101, 480_000)));
    assert_eq!(again(185, None), None);
    let policy = |attempts, age| api::RetryPolicy {
        maximum_retry_attempts: attempts,
        maximum_event_age_in_seconds: age,
    };
    assert_eq!(again(0, Some(&policy(Some(0), None))), None);
    assert_eq!(again(5, Some(&policy(None, Some(60)))), Some((6, 32_000)));
    assert_eq!(again(6, Some(&policy(None, Some(60)))), None, "it would be too old");
    assert_eq!(then(&Came::Told, &tried(9), None, began, now), Then::Done);
    let refused = Came::Refused(ApiError::client("AccessDeniedException", "no"));
    assert_eq!(then(&refused, &tried(0), None, began, now), Then::GivenUp);
}

#[test]
fn permissions_and_names_are_final_and_room_is_not() {
    let is = |code: &'static str, message: &str| is_final(&ApiError::client(code, message));
    assert!(is("AccessDeniedException", "no") && is("ClusterNotFoundException", "no"));
    assert!(is("InvalidParameterException", "Override for container named x is not …"));
    assert!(!is("InvalidParameterException", "No Container Instances were found in your cluster."));
    assert!(!is("ClientException", "The task could not be placed: RESOURCE:CPU"));
    assert!(!is_final(&ApiError::fault("failed to write", "disk")));
}

#[test]
fn a_schedule_fires_once_for_all_that_was_missed() {
    const MINUTE: u64 = 60_000;
    const DAY: u64 = 1_440 * MINUTE;
    let schedule = |expression: &str, done_until| RuleSchedule {
        expression: expression.to_owned(),
        since: Timestamp(0),
        done_until: Timestamp(done_until),
    };
    let due = |expression, done_until, now| next(&schedule(expression, done_until), Timestamp(now));
    assert_eq!(due("rate(5 minutes)", 0, MINUTE), Due::At(Timestamp(5 * MINUTE)));
    assert_eq!(due("rate(5 minutes)", 0, 5 * MINUTE), Due::Fire(Timestamp(5 * MINUTE)));
    assert_eq!(due("rate(5 minutes)", 0, 17 * MINUTE), Due::Fire(Timestamp(15 * MINUTE)));
    assert_eq!(due("rate(5 minutes)", 17 * MINUTE, 17 * MINUTE), Due::At(Timestamp(20 * MINUTE)));
    let night = "cron(0 2 * * ? *)";
    let two = |day: u64| Timestamp(day * DAY + 120 * MINUTE);
    assert_eq!(due(night, DAY, DAY), Due::At(two(1)));
    assert_eq!(due(night, DAY, 4 * DAY), Due::Fire(two(3)));
    assert_eq!(due("cron(0 2 * * ? 1971)", 3 * 365 * DAY, 3 * 365 * DAY), Due::Never);
    // By a clock that was ahead it was looked at a day from now.
    assert_eq!(due(night, 2 * DAY, DAY), Due::At(two(1)));
}

#[tokio::test]
async fn a_rule_of_the_clock_runs_its_task_once_a_time_across_restarts() {
    let mut world = World::new().await;
    world.scheduled("rate(5 minutes)").await;
    let input = text(r#"{"containerOverrides":[{"name":"app","command":["sweep"]}]}"#);
    world.target(api::Target { input, ..cluster_target() }).await.unwrap();
    world.after(299_000).await;
    assert_eq!(world.asked().len(), 0);
    world.after(1_000).await;
    let asked = world.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["overrides"]["containerOverrides"][0]["command"], json!(["sweep"]));
    assert_eq!(asked[0]["startedBy"], "events-rule/r");
    let caller = world.tasks.asked.lock().unwrap()[0].0.clone();
    assert!(matches!(caller.principal, aws_wire::Principal::Role { session, .. }
        if *session == *"AWSEvents_r_run"));
    assert_eq!((world.waiting(), world.counted("Invocations")), (0, 1.0));
    // Who comes after a restart looks at everything, and has nothing to do.
    world.driver = driver(&world.test, &world.it);
    world.settle().await;
    assert_eq!(world.asked().len(), 1);
    // So it does after hours of being down: once.
    world.driver = driver(&world.test, &world.it);
    world.after(3_600_000).await;
    assert_eq!(world.asked().len(), 2);
    let tokens: Vec<Value> = world.asked().iter().map(|it| it["clientToken"].clone()).collect();
    assert_ne!(tokens[0], tokens[1]);
    let disable = api::DisableRuleRequest { name: text("r"), event_bus_name: None };
    world.it.disable_rule(&world.test.root(), disable).await.unwrap();
    world.after(3_600_000).await;
    assert_eq!(world.asked().len(), 2);
    let enable = api::EnableRuleRequest { name: text("r"), event_bus_name: None };
    world.it.enable_rule(&world.test.root(), enable).await.unwrap();
    world.after(299_000).await;
    assert_eq!(world.asked().len(), 2, "what was missed while it was disabled is not made up for");
    world.after(1_000).await;
    assert_eq!(world.asked().len(), 3);
}

#[tokio::test]
async fn a_task_that_finds_no_room_is_asked_for_again_as_the_same_task() {
    let mut world = World::new().await;
    world.of_pattern(r#"{"source":["app"]}"#).await;
    world.target(cluster_target()).await.unwrap();
    world.target(group_target()).await.unwrap();
    let full = || ApiError::client("ClientException", "The task could not be placed: RESOURCE:CPU");
    world.tasks.refusals.lock().unwrap().extend([full(), full()]);
    world.event("{}").await;
    world.settle().await;
    assert_eq!((world.asked().len(), world.written().len(), world.waiting()), (1, 1, 1));
    world.after(1_000).await;
    // A restart meanwhile.
    world.driver = driver(&world.test, &world.it);
    world.after(2_000).await;
    let asked = world.asked();
    assert_eq!((asked.len(), world.written().len(), world.waiting()), (3, 1, 0));
    assert_eq!(asked[0], asked[2]);
    let counted = ["Invocations", "RetryInvocationAttempts", "TriggeredRules"];
    assert_eq!(counted.map(|name| world.counted(name)), [4.0, 2.0, 1.0]);
    assert_eq!(world.counted("FailedInvocations"), 0.0);
    // What may not be done is given up at once, and what trusts no more is not assumed.
    let denied = ApiError::client("AccessDeniedException", "no");
    world.tasks.refusals.lock().unwrap().push_back(denied);
    world.event("{}").await;
    world.settle().await;
    world.role("lambda.amazonaws.com").await;
    *world.lines.is_closed.lock().unwrap() = true;
    world.event("{}").await;
    world.settle().await;
    assert_eq!((world.asked().len(), world.waiting()), (4, 0));
    assert_eq!(world.counted("FailedInvocations"), 3.0);
}

#[tokio::test]
async fn events_come_to_rules_that_want_them_and_bad_entries_are_answered_each() {
    let mut world = World::new().await;
    world.of_pattern(r#"{"source":["app"],"detail":{"n":[{"numeric":[">",3]}]}}"#).await;
    world.target(group_target()).await.unwrap();
    let entry = |source: &str, kind: &str, detail: &str| api::PutEventsRequestEntry {
        source: text(source),
        detail_type: text(kind),
        detail: text(detail),
        resources: Some(vec!["thing".to_owned()]),
        ..Default::default()
    };
    let bus = |name: &str| api::PutEventsRequestEntry {
        event_bus_name: text(name),
        ..entry("app", "done", r#"{"n":5}"#)
    };
    let entries = Some(vec![
        entry("app", "done", r#"{"n":4}"#),
        entry("app", "done", r#"{"n":3}"#),
        entry("app", "done", "[]"),
        entry("app", "", "{}"),
        entry("aws.ecs", "done", "{}"),
        bus("default"),
        bus("arn:aws:events:us-east-1:000000000000:event-bus/default"),
        bus("mine"),
    ]);
    let input = api::PutEventsRequest { entries, endpoint_id: None };
    let put = world.it.put_events(&world.test.root(), input).await.unwrap();
    assert_eq!(put.failed_entry_count, Some(4));
    let codes: Vec<_> = put.entries.unwrap().into_iter().map(|entry| entry.error_code).collect();
    let code = |code: &str| text(code);
    assert_eq!(
        codes,
        [
            None,
            None,
            code("MalformedDetail"),
            code("InvalidArgument"),
            code("NotAuthorizedForSourceException"),
            None,
            None,
            code("ResourceNotFoundException"),
        ]
    );
    world.settle().await;
    let mut written: Vec<_> = world.written().iter().map(|it| it["detail"]["n"].clone()).collect();
    written.sort_by_key(Value::as_u64);
    assert_eq!(written, [4, 5, 5]);
    let event = &world.written()[0];
    assert_eq!((&event["source"], &event["detail-type"]), (&json!("app"), &json!("done")));
    let big = "x".repeat(1 << 20);
    let entries = Some(vec![entry("app", "done", &format!(r#"{{"a":"{big}"}}"#))]);
    let input = api::PutEventsRequest { entries, endpoint_id: None };
    let (code, message) = error(world.it.put_events(&world.test.root(), input).await);
    assert_eq!(code, "ValidationException");
    assert!(message.starts_with("Total size"), "{message}");
}

#[tokio::test]
async fn what_waits_is_bounded_and_the_oldest_gives_way() {
    let world = World::new().await;
    world.of_pattern(r#"{"source":["app"]}"#).await;
    world.target(group_target()).await.unwrap();
    // Nobody delivers.
    let big = format!(r#"{{"a":"{}"}}"#, "x".repeat(900_000));
    let account = world.test.root().account;
    let taken = || world.test.control.view().tally(&Tally::PendingEvents(account));
    let each = 1 + 900_300 / BLOCK_BYTES;
    for _ in 0..BLOCKS_MAX / each + 3 {
        world.test.env.advance_ms(1);
        world.event(&big).await;
        assert!(taken() <= BLOCKS_MAX);
    }
    assert!(BLOCKS_MAX - each <= taken());
    let first = world.test.control.view().pending_events.iter().next().unwrap().at;
    assert!(Timestamp(world.test.env.now().0 - 40) < first);
    assert!(0 < world.test.control.outbox.take_dropped()[&account]);
}

#[tokio::test]
async fn a_rule_is_replaced_as_a_whole_and_goes_only_without_targets() {
    let world = World::new().await;
    let root = world.test.root();
    let refused = |input: api::PutRuleRequest| async { error(world.rule(input).await) };
    let (code, message) = refused(api::PutRuleRequest::default()).await;
    assert_eq!(code, "ValidationException");
    assert!(message.contains("EventPattern or ScheduleExpression"));
    for expression in ["rate(5 minute)", "at(2026-01-01T00:00:00)", "cron(0 2 * * * *)", "5m"] {
        let input =
            api::PutRuleRequest { schedule_expression: text(expression), ..Default::default() };
        assert_eq!(refused(input).await.1, "Parameter ScheduleExpression is not valid.");
    }
    let input = api::PutRuleRequest { event_pattern: text(r#"{"a":1}"#), ..Default::default() };
    let (code, message) = refused(input).await;
    assert_eq!(code, "InvalidEventPatternException");
    assert!(message.starts_with("Event pattern is not valid. Reason: "), "{message}");
    let pattern = || text(r#"{"source":["app"]}"#);
    let custom = api::PutRuleRequest {
        event_pattern: pattern(),
        event_bus_name: text("mine"),
        ..Default::default()
    };
    assert_eq!(refused(custom).await.0, "ResourceNotFoundException");
    let nobody = "arn:aws:iam::000000000000:role/nobody";
    let role = api::PutRuleRequest {
        event_pattern: pattern(),
        role_arn: text(nobody),
        ..Default::default()
    };
    assert!(refused(role).await.1.contains("cannot be assumed by principal"));

    let tag = |key: &str| Some(vec![api::Tag { key: text(key), value: text("1") }]);
    let arn = world
        .rule(api::PutRuleRequest {
            event_pattern: pattern(),
            description: text("all of the app"),
            state: Some(api::RuleState::Disabled),
            tags: tag("a"),
            ..Default::default()
        })
        .await
        .unwrap();
    assert_eq!(arn, "arn:aws:events:us-east-1:000000000000:rule/r");
    let late =
        error(world.target(api::Target { role_arn: text(nobody), ..cluster_target() }).await);
    assert!(late.1.contains("cannot be assumed by principal"), "{late:?}");
    world.target(cluster_target()).await.unwrap();
    let input = api::PutRuleRequest {
        schedule_expression: text("rate(1 day)"),
        tags: tag("b"),
        ..Default::default()
    };
    world.rule(input).await.unwrap();
    let name = api::DescribeRuleRequest { name: text("r"), event_bus_name: text("default") };
    let rule = world.it.describe_rule(&root, name).await.unwrap();
    assert_eq!((rule.description, rule.event_pattern), (None, None));
    assert_eq!(rule.state, Some(api::RuleState::Enabled));
    let tags = api::ListTagsForResourceRequest { resource_arn: Some(arn) };
    let tags = world.it.list_tags_for_resource(&root, tags).await.unwrap().tags.unwrap();
    assert!(tags.len() == 1 && tags[0].key == text("a"), "tags of an update are not looked at");
    let list = api::ListTargetsByRuleRequest { rule: text("r"), ..Default::default() };
    let targets = world.it.list_targets_by_rule(&root, list).await.unwrap().targets.unwrap();
    assert!(targets == [cluster_target()]);
    let by = api::ListRuleNamesByTargetRequest { target_arn: text(CLUSTER), ..Default::default() };
    let names = world.it.list_rule_names_by_target(&root, by).await.unwrap().rule_names;
    assert_eq!(names, Some(vec!["r".to_owned()]));

    let delete = || api::DeleteRuleRequest { name: text("r"), ..Default::default() };
    let (_, message) = error(world.it.delete_rule(&root, delete()).await);
    assert_eq!(message, "Rule can't be deleted since it has targets.");
    let ids = Some(vec!["run".to_owned(), "else".to_owned()]);
    let remove = api::RemoveTargetsRequest { rule: text("r"), ids, ..Default::default() };
    let removed = world.it.remove_targets(&root, remove).await.unwrap();
    assert_eq!(removed.failed_entry_count, Some(1));
    world.it.delete_rule(&root, delete()).await.unwrap();
    world.it.delete_rule(&root, delete()).await.unwrap();
    let name = api::DescribeRuleRequest { name: text("r"), event_bus_name: None };
    let gone = error(world.it.describe_rule(&root, name).await);
    let sentence = "Rule r does not exist on EventBus default.";
    assert_eq!(gone, ("ResourceNotFoundException".to_owned(), sentence.to_owned()));
    let (code, _) = error(world.target(group_target()).await);
    assert_eq!(code, "ResourceNotFoundException");
}

#[tokio::test]
async fn a_bus_has_so_many_rules_and_a_rule_so_many_targets() {
    let world = World::new().await;
    let rule = |number: u32| api::PutRuleRequest {
        name: Some(format!("r{number}")),
        schedule_expression: text("rate(1 day)"),
        ..Default::default()
    };
    for number in 0..300 {
        world.rule(rule(number)).await.unwrap();
    }
    assert_eq!(error(world.rule(rule(300)).await).0, "LimitExceededException");
    world.rule(rule(299)).await.unwrap();
    let target = |id: u32| api::Target { id: Some(id.to_string()), ..group_target() };
    let put = |ids: std::ops::Range<u32>| {
        let targets = Some(ids.map(target).collect());
        let input = api::PutTargetsRequest { rule: text("r1"), targets, event_bus_name: None };
        let root = world.test.root();
        let it = Arc::clone(&world.it);
        async move { it.put_targets(&root, input).await }
    };
    assert_eq!(error(put(0..6).await).0, "LimitExceededException");
    put(0..5).await.unwrap();
    put(0..5).await.unwrap();
    assert_eq!(error(put(5..6).await).0, "LimitExceededException");
    let mut seen = 0;
    let mut next_token = None;
    loop {
        let input = api::ListRulesRequest {
            name_prefix: text("r1"),
            limit: Some(50),
            next_token,
            ..Default::default()
        };
        let page = world.it.list_rules(&world.test.root(), input).await.unwrap();
        seen += page.rules.unwrap().len();
        next_token = page.next_token;
        if next_token.is_none() {
            break;
        }
    }
    assert_eq!(seen, 111);
}

#[tokio::test]
async fn a_user_passes_the_roles_of_targets_and_puts_events_of_its_sources() {
    let world = World::new().await;
    world.scheduled("rate(1 day)").await;
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"events:PutTargets","Resource":"*",
         "Condition":{"ForAllValues:ArnLike":{"events:TargetArn":"arn:aws:ecs:*:*:cluster/demo"}}},
        {"Effect":"Allow","Action":"events:PutEvents","Resource":"*","Condition":{"StringEquals":{"events:source":"app"}}}]}"#;
    let user = control::testing::people::user(&world.test, "000000000000", "ann", policy).await;
    let put = |target: api::Target| api::PutTargetsRequest {
        rule: text("r"),
        targets: Some(vec![target]),
        event_bus_name: None,
    };
    let (code, message) = error(world.it.put_targets(&user, put(cluster_target())).await);
    assert_eq!(code, "AccessDeniedException");
    assert!(message.contains("iam:PassRole"), "{message}");
    let (_, message) = error(world.it.put_targets(&user, put(group_target())).await);
    assert!(message.contains("events:PutTargets"), "{message}");
    let event = |source: &str| {
        let entry = api::PutEventsRequestEntry {
            source: text(source),
            detail_type: text("done"),
            detail: text("{}"),
            ..Default::default()
        };
        api::PutEventsRequest { entries: Some(vec![entry]), endpoint_id: None }
    };
    world.it.put_events(&user, event("app")).await.unwrap();
    assert_eq!(error(world.it.put_events(&user, event("other")).await).0, "AccessDeniedException");
}

#[tokio::test]
async fn an_event_that_takes_too_long_is_refused_and_the_others_are_not() {
    let mut world = World::new().await;
    let texts: Vec<_> = (0..200).map(|at| format!(r#"{{"wildcard":"*b{at}"}}"#)).collect();
    let pattern = format!(r#"{{"source":["app"],"detail":{{"t":[{}]}}}}"#, texts.join(","));
    world.of_pattern(&pattern).await;
    world.target(group_target()).await.unwrap();
    let entry = |detail: String| api::PutEventsRequestEntry {
        source: text("app"),
        detail_type: text("done"),
        detail: Some(detail),
        ..Default::default()
    };
    let long = "a".repeat(900_000);
    let dots = "x.".repeat(50_000);
    let entries = vec![
        entry(format!(r#"{{"t":"{long}"}}"#)),
        entry(r#"{"t":"xb7"}"#.to_owned()),
        entry(format!(r#"{{"{dots}":1}}"#)),
        api::PutEventsRequestEntry { source: Some("s".repeat(257)), ..entry("{}".to_owned()) },
    ];
    let input = api::PutEventsRequest { entries: Some(entries), endpoint_id: None };
    let put = world.it.put_events(&world.test.root(), input).await.unwrap();
    let codes: Vec<_> = put.entries.unwrap().into_iter().map(|entry| entry.error_code).collect();
    assert_eq!(codes, [text("InvalidArgument"), None, None, text("InvalidArgument")]);
    world.settle().await;
    assert_eq!(world.lines.written.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn however_many_rules_want_an_event_no_more_is_kept_than_may_wait() {
    let world = World::new().await;
    for at in 0..60 {
        let rule = api::PutRuleRequest {
            name: Some(format!("r{at}")),
            event_pattern: text(r#"{"source":["app"]}"#),
            ..Default::default()
        };
        world.rule(rule).await.unwrap();
    }
    world.event(&format!(r#"{{"a":"{}"}}"#, "x".repeat(900_000))).await;
    let account = world.test.root().account;
    let taken = world.test.control.view().tally(&Tally::PendingEvents(account));
    assert!(0 < taken && taken <= BLOCKS_MAX, "{taken}");
}

#[tokio::test]
async fn a_target_without_end_is_refused() {
    let world = World::new().await;
    world.of_pattern(r#"{"source":["app"]}"#).await;
    let mut target = cluster_target();
    let tag = |at: usize| api::Tag { key: Some(format!("k{at}")), value: Some("v".repeat(200)) };
    target.ecs_parameters.as_mut().unwrap().tags = Some((0..1_000).map(tag).collect());
    let (code, message) = error(world.target(target).await);
    assert_eq!(code, "ValidationException");
    assert!(message.contains("more than 131072 bytes"), "{message}");
}
