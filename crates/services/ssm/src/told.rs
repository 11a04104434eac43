//! What Parameter Store tells EventBridge of: parameters that are made, changed, labelled and deleted, and what their policies say.

use control::parameters::arn_of;
use control::ports::EventSource;
use control::told::{Changes, Told};
use events::Json;
use longshore_types::Timestamp;
use model::{Key, Kind, Parameter, ParameterVersion, View};

use crate::policies::{EXPIRATION, type_of};
use crate::render;

/// Tells of Parameter Store's rows. A value is in no event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SsmEvents;

impl EventSource for SsmEvents {
    fn source(&self) -> &'static str {
        "aws.ssm"
    }

    fn kinds(&self) -> &'static [Kind] {
        &[Kind::Parameter]
    }

    fn tell(&self, changes: &Changes<'_>) -> Vec<Told> {
        let (before, after) = (changes.before, changes.after);
        let told = changes.keys.iter().flat_map(|key| {
            let Key::Parameter(account, name) = key else { return Vec::new() };
            let was = before.parameters.get(*account, name);
            match (was, after.parameters.get(*account, name)) {
                (None, Some(is)) => vec![change(changes, after, is, "Create")],
                (Some(was), Some(is)) => of_change(changes, was, is),
                (Some(was), None) => of_end(changes, was),
                (None, None) => Vec::new(),
            }
        });
        told.collect()
    }
}

fn of_change(changes: &Changes<'_>, was: &Parameter, is: &Parameter) -> Vec<Told> {
    let after = changes.after;
    if (was.uid, was.latest) != (is.uid, is.latest) {
        return vec![change(changes, after, is, "Update")];
    }
    let mut told = Vec::new();
    if is.labels.iter().any(|(label, at)| was.labels.get(label) != Some(at)) {
        told.push(change(changes, after, is, "LabelParameterVersion"));
    }
    let is_news =
        |policy: usize| !was.notices.iter().any(|notice| notice.policy == policy && notice.is_told);
    let due = is.notices.iter().filter(|notice| notice.is_told && is_news(notice.policy));
    told.extend(due.filter_map(|notice| policy_action(changes, after, is, notice.policy)));
    told
}

/// Whoever deleted it: at its time a parameter has expired.
fn of_end(changes: &Changes<'_>, was: &Parameter) -> Vec<Told> {
    let before = changes.before;
    let has_expired = |at: Timestamp| at <= changes.now;
    let expired = was.expires_at.is_some_and(has_expired).then(|| {
        let is_expiration = |text: &String| type_of(text).as_deref() == Some(EXPIRATION);
        let policy = latest(before, was)?.policies.iter().position(is_expiration)?;
        policy_action(changes, before, was, policy)
    });
    let deleted = change(changes, before, was, "Delete");
    expired.flatten().into_iter().chain([deleted]).collect()
}

fn latest<'v>(view: &'v View, row: &Parameter) -> Option<&'v ParameterVersion> {
    view.parameter_versions.get(row.account, &row.version_id(row.latest)).map(|row| &**row)
}

fn member(name: &str, value: impl Into<String>) -> (String, Json) {
    (name.to_owned(), Json::from(value.into()))
}

fn kind(version: &ParameterVersion) -> String {
    render::kind(&version.value).to_string()
}

fn change(changes: &Changes<'_>, view: &View, row: &Parameter, operation: &str) -> Told {
    let mut detail = vec![member("operation", operation), member("name", row.shown_name())];
    if let Some(version) = latest(view, row) {
        detail.push(member("type", kind(version)));
        detail.extend(version.description.clone().map(|text| member("description", text)));
    }
    told("Parameter Store Change", changes, row, detail)
}

/// What a policy of the latest version has come to.
fn policy_action(
    changes: &Changes<'_>,
    view: &View,
    row: &Parameter,
    policy: usize,
) -> Option<Told> {
    let version = latest(view, row)?;
    let text = version.policies.get(policy)?;
    let detail = vec![
        member("parameter-name", row.shown_name()),
        member("parameter-type", kind(version)),
        member("policy-type", type_of(text)?),
        member("policy-content", text.as_str()),
    ];
    Some(told("Parameter Store Policy Action", changes, row, detail))
}

fn told(
    detail_type: &'static str,
    changes: &Changes<'_>,
    row: &Parameter,
    detail: Vec<(String, Json)>,
) -> Told {
    let resources = vec![arn_of(changes.region, row.account, &row.name)];
    Told { detail_type, resources, detail: Json::Object(detail) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use control::Control;
    use control::ports::RegionService as _;
    use control::reconcile::Reconciler as _;
    use control::testing::TestControl;
    use ssm_api as api;
    use ssm_api::Ssm as _;

    use crate::Ssm;
    use crate::expiry::ExpiringParameters;
    use crate::limits::{DAY_MS, HOUR_MS};

    struct World {
        core: TestControl,
        ssm: Arc<Ssm>,
    }

    impl World {
        async fn new() -> Self {
            let core = TestControl::new();
            let ssm = Arc::new(Ssm::new(Arc::clone(&core.control)));
            core.control.set_event_sources(vec![ssm.event_source().unwrap()]);
            core.want(r#"{"source":["aws.ssm"]}"#).await;
            Self { core, ssm }
        }

        async fn put(&self, value: &str, policies: Option<String>) {
            let put = api::PutParameterRequest {
                name: Some("/prod/db".to_owned()),
                description: Some("of ours".to_owned()),
                value: Some(value.to_owned()),
                r#type: Some(api::ParameterType::SecureString),
                tier: Some(api::ParameterTier::Advanced),
                overwrite: Some(true),
                policies,
                ..Default::default()
            };
            self.ssm.put_parameter(&self.core.root(), put).await.unwrap();
        }

        /// Looks at the parameter, whether something is due or not.
        async fn pass(&self) {
            let control: &Arc<Control> = &self.core.control;
            let which = (self.core.root().account, "/prod/db".into());
            for _ in 0..2 {
                ExpiringParameters(Arc::clone(control)).pass(&which).await.unwrap();
            }
        }

        /// The types of events that wait, with what they are about.
        fn told(&self) -> Vec<(String, String)> {
            let told = self.core.told();
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let of = |event: &serde_json::Value| {
                let detail = &event["detail"];
                let about = [&detail["operation"], &detail["policy-type"]].map(text).concat();
                (text(&event["detail-type"]), about)
            };
            told.iter().map(of).collect()
        }
    }

    fn said(told: &[(&str, &str)]) -> Vec<(String, String)> {
        told.iter().map(|(kind, what)| ((*kind).to_owned(), (*what).to_owned())).collect()
    }

    const CHANGE: &str = "Parameter Store Change";
    const ACTION: &str = "Parameter Store Policy Action";

    #[tokio::test]
    async fn a_parameter_tells_of_its_changes_and_not_of_its_value() {
        let world = World::new().await;
        world.put("first-secret", None).await;
        world.put("second-secret", None).await;
        let label = api::LabelParameterVersionRequest {
            name: Some("/prod/db".to_owned()),
            labels: Some(vec!["live".to_owned()]),
            ..Default::default()
        };
        let root = world.core.root();
        world.ssm.label_parameter_version(&root, label).await.unwrap();
        let delete = api::DeleteParameterRequest { name: Some("/prod/db".to_owned()) };
        world.ssm.delete_parameter(&root, delete).await.unwrap();
        let of = ["Create", "Update", "LabelParameterVersion", "Delete"].map(|it| (CHANGE, it));
        assert_eq!(world.told(), said(&of));
        for event in world.core.told() {
            let detail = &event["detail"];
            assert_eq!(event["source"], "aws.ssm");
            assert_eq!(
                event["resources"][0],
                "arn:aws:ssm:us-east-1:000000000000:parameter/prod/db"
            );
            assert_eq!(detail["name"], "/prod/db");
            assert_eq!(detail["type"], "SecureString");
            assert_eq!(detail["description"], "of ours");
            assert!(!event.to_string().contains("-secret"), "{event}");
        }
    }

    #[tokio::test]
    async fn policies_tell_before_the_end_at_the_end_and_when_nothing_changed() {
        let world = World::new().await;
        let end = world.core.control.clock.now().plus_ms(10 * DAY_MS);
        let policies = format!(
            r#"[{{"Type":"Expiration","Version":"1.0","Attributes":{{"Timestamp":"{}"}}}},
                {{"Type":"ExpirationNotification","Version":"1.0","Attributes":{{"Before":"4","Unit":"Days"}}}},
                {{"Type":"NoChangeNotification","Version":"1.0","Attributes":{{"After":"36","Unit":"Hours"}}}}]"#,
            end.iso8601()
        );
        world.put("x", Some(policies)).await;
        world.pass().await;
        let mut expected = vec![(CHANGE, "Create")];
        assert_eq!(world.told(), said(&expected));
        world.core.env.advance_ms(36 * HOUR_MS);
        world.pass().await;
        expected.push((ACTION, "NoChangeNotification"));
        assert_eq!(world.told(), said(&expected));
        // Changed, it has its policies still, and the time in which nothing changes begins anew.
        world.put("y", None).await;
        world.core.env.advance_ms(36 * HOUR_MS);
        world.pass().await;
        expected.extend([(CHANGE, "Update"), (ACTION, "NoChangeNotification")]);
        assert_eq!(world.told(), said(&expected));
        world.core.env.advance_ms(3 * DAY_MS);
        world.pass().await;
        expected.push((ACTION, "ExpirationNotification"));
        assert_eq!(world.told(), said(&expected));
        let described = api::DescribeParametersRequest::default();
        let described = world.ssm.describe_parameters(&world.core.root(), described).await.unwrap();
        let shown = described.parameters.unwrap()[0].policies.clone().unwrap();
        let shown: Vec<_> = shown
            .iter()
            .map(|it| [&it.policy_type, &it.policy_status].map(|it| it.clone().unwrap()).concat())
            .collect();
        let states =
            ["ExpirationPending", "ExpirationNotificationFinished", "NoChangeNotificationFinished"];
        assert_eq!(shown, states);
        world.core.env.advance_ms(4 * DAY_MS);
        world.pass().await;
        expected.extend([(ACTION, "Expiration"), (CHANGE, "Delete")]);
        assert_eq!(world.told(), said(&expected));
        let last = &world.core.told()[5];
        assert_eq!(last["detail"]["parameter-name"], "/prod/db");
        let content = last["detail"]["policy-content"].as_str().unwrap();
        assert!(content.contains("Timestamp"), "{content}");
    }

    #[tokio::test]
    async fn an_empty_policy_takes_the_others_away() {
        let world = World::new().await;
        let idle = r#"[{"Type":"NoChangeNotification","Version":"1.0","Attributes":{"After":"1","Unit":"Days"}}]"#;
        world.put("x", Some(idle.to_owned())).await;
        world.put("x", Some("[{}]".to_owned())).await;
        world.core.env.advance_ms(2 * DAY_MS);
        world.pass().await;
        assert_eq!(world.told(), said(&[(CHANGE, "Create"), (CHANGE, "Update")]));
    }
}
