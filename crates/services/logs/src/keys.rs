//! Keys of log groups: AssociateKmsKey and DisassociateKmsKey, and how the store has events sealed by them.
//!
//! The service itself seals and opens, as `logs.REGION.amazonaws.com`, which the key's policy must allow at every put and
//! every read; who reads needs no permission on the key. What is sealed is for its group alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::logs::{GroupName, Logs, Opener, SealError, SealedGroup, Sealer};
use aws_wire::{ApiError, Caller};
use bytes::Bytes;
use control::Control;
use control::kms::{KeyRefusal, NamedKey, OpeningKey, Unopened, key_of_sealed, name_in_sealed};
use logs_api::{AssociateKmsKeyRequest, DisassociateKmsKeyRequest};
use longshore_types::AccountId;
use model::{KmsKey, View};

use crate::common::{arn_of_group, group_of, to_api};
use crate::errors::Refusal;

const SEAL: &str = "kms:GenerateDataKey";
const OPEN: &str = "kms:Decrypt";

pub(crate) async fn associate_kms_key(
    control: &Control,
    logs: &Logs,
    caller: &Caller,
    input: AssociateKmsKeyRequest,
) -> Result<(), ApiError> {
    let name = group_of(caller, input.log_group_name, input.resource_identifier)?;
    logs.group(caller.account, &name).map_err(to_api)?;
    let key = check(control, caller.account, &name, &input.kms_key_id.unwrap_or_default())?;
    logs.set_key(caller.account, name, Some(key)).await.map_err(to_api)
}

pub(crate) async fn disassociate_kms_key(
    logs: &Logs,
    caller: &Caller,
    input: DisassociateKmsKeyRequest,
) -> Result<(), ApiError> {
    let name = group_of(caller, input.log_group_name, input.resource_identifier)?;
    logs.set_key(caller.account, name, None).await.map_err(to_api)
}

/// The ARN of a key that may seal a group's events from now on.
pub(crate) fn check(
    control: &Control,
    account: AccountId,
    group: &GroupName,
    given: &str,
) -> Result<String, ApiError> {
    let view = control.view();
    let found = match given.starts_with("arn:") {
        true => control.find_key(&view, account, given),
        false => return Err(Refusal::NotAKey(given.to_owned()).into()),
    };
    let group = SealedGroup { account, name: group.clone() };
    let not_allowed = || {
        let message = format!(
            "The specified KMS key does not exist or is not allowed to be used with LogGroup '{}'",
            arn(control, &group)
        );
        ApiError::client("AccessDeniedException", message)
    };
    // An alias may come to mean another key.
    let NamedKey { key, alias: None } = found.map_err(|_| not_allowed())? else {
        return Err(Refusal::NotAKey(given.to_owned()).into());
    };
    // Whoever may not use a key learns nothing of its state.
    if ![SEAL, OPEN].iter().all(|action| may(control, &key, &group, action)) {
        return Err(not_allowed());
    }
    control.check_key(&key).map_err(|why| Refusal::Key(why.to_string()))?;
    Ok(control.key_arn(&key))
}

fn arn(control: &Control, group: &SealedGroup) -> String {
    arn_of_group(&control.config.region, group.account, group.name.as_str())
}

fn may(control: &Control, key: &KmsKey, group: &SealedGroup, action: &'static str) -> bool {
    let service = format!("logs.{}.amazonaws.com", control.config.region);
    let arn = arn(control, group);
    let sealed_for = BTreeMap::from([("aws:logs:arn".to_owned(), arn.clone())]);
    control.service_may(key, &service, action, (&arn, group.account), &sealed_for)
}

fn denied(control: &Control, key: &KmsKey, group: &SealedGroup, action: &str) -> SealError {
    SealError::Refused(format!(
        "The policy of the key {} does not allow CloudWatch Logs to do {action} for the log group {}.",
        control.key_arn(key),
        group.name
    ))
}

/// Seals by keys of KMS.
#[derive(Debug)]
pub(crate) struct KeySealer(pub(crate) Arc<Control>);

impl Sealer for KeySealer {
    fn seal(
        &self,
        group: &SealedGroup,
        key: &str,
        texts: &[Bytes],
    ) -> Result<Vec<Vec<u8>>, SealError> {
        let Self(control) = self;
        let refused = |why: control::kms::KeyRefusal| SealError::Refused(why.to_string());
        let named = control.find_key(&control.view(), group.account, key).map_err(refused)?;
        control.check_key(&named.key).map_err(refused)?;
        if !may(control, &named.key, group, SEAL) {
            return Err(denied(control, &named.key, group, SEAL));
        }
        let bound_to = arn(control, group);
        let seal = |text: &Bytes| control.seal_by(&named.key, bound_to.as_bytes(), text);
        let sealed = texts.iter().map(seal).collect::<Result<_, _>>();
        sealed.map_err(|error: ApiError| SealError::Failed(format!("{error:?}")))
    }

    fn opener(&self, group: &SealedGroup) -> Box<dyn Opener> {
        let Self(control) = self;
        Box::new(KeyOpener {
            control: Arc::clone(control),
            view: control.view(),
            bound_to: arn(control, group),
            group: group.clone(),
            keys: BTreeMap::new(),
        })
    }
}

struct KeyOpener {
    control: Arc<Control>,
    view: Arc<View>,
    group: SealedGroup,
    bound_to: String,
    /// Those that may be used, by how what is sealed names them.
    keys: BTreeMap<Vec<u8>, OpeningKey>,
}

impl KeyOpener {
    fn key(&self, sealed: &[u8]) -> Result<OpeningKey, SealError> {
        let Self { control, view, group, .. } = self;
        if let Some(key) = key_of_sealed(view, sealed)
            && !may(control, key, group, OPEN)
        {
            return Err(denied(control, key, group, OPEN));
        }
        control.opening_key(view, sealed).map_err(unopened)
    }
}

impl Opener for KeyOpener {
    fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let name = name_in_sealed(sealed).ok_or_else(|| unopened(Unopened::NotSealed))?;
        if !self.keys.contains_key(name) {
            let key = self.key(sealed)?;
            self.keys.insert(name.to_vec(), key);
        }
        let key = self.keys.get(name).ok_or_else(|| unopened(Unopened::NotSealed))?;
        let opened = key.open(self.bound_to.as_bytes(), sealed);
        opened.map(|text| text.to_vec()).map_err(unopened)
    }
}

fn unopened(why: Unopened) -> SealError {
    match why {
        Unopened::Refused(why @ KeyRefusal::NoKey(_)) => SealError::Lost(why.to_string()),
        Unopened::Refused(why) => SealError::Refused(why.to_string()),
        Unopened::NotSealed | Unopened::Damaged | Unopened::Unwrap(_) => {
            SealError::Failed(format!("{why:?}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use ::logs::pattern::Pattern;
    use ::logs::{FilterQuery, GetQuery, GroupClass, GroupSettings, InputEvent, LogsError};
    use control::testing::TestControl;
    use longshore_types::{Clock as _, Uuid};
    use model::kms::{KeyManager, KeyState, MaterialCause};
    use model::{Key, ResourceText};
    use store::Batch;

    use super::*;

    const TEXT: &str = "a line that nobody else is to read";

    struct World {
        world: TestControl,
        logs: Logs,
        _dir: tempfile::TempDir,
    }

    fn group() -> GroupName {
        "/app".parse().unwrap()
    }

    impl World {
        /// With a group and a stream.
        async fn new() -> Self {
            let (world, dir) = (TestControl::new(), tempfile::tempdir().unwrap());
            let logs = Logs::open(dir.path(), Arc::clone(&world.env) as _).unwrap();
            logs.seal_with(Arc::new(KeySealer(Arc::clone(&world.control))));
            let account = world.root().account;
            logs.create_group(account, group(), GroupClass::Standard, GroupSettings::default())
                .await
                .unwrap();
            logs.create_stream(account, group(), "web".parse().unwrap()).await.unwrap();
            Self { world, logs, _dir: dir }
        }

        fn account(&self) -> AccountId {
            self.world.root().account
        }

        /// A key of this policy, in this state; its ARN.
        async fn key(&self, statement: &str, state: KeyState) -> String {
            let (control, account) = (&self.world.control, self.account());
            let policy = format!(r#"{{"Version":"2012-10-17","Statement":[{statement}]}}"#);
            let id = Uuid::mint(control.ids.as_ref());
            let made = control.decide(|view, now| {
                let material = control.mint_material(account, id, 0, MaterialCause::Creation, now);
                let row = KmsKey {
                    account,
                    id,
                    manager: KeyManager::Customer,
                    description: String::new(),
                    state,
                    created_at: now,
                    policy: ResourceText::new(&policy, BTreeMap::new()),
                    tags: BTreeMap::new(),
                    materials: vec![material],
                    rotation: None,
                    grants: BTreeMap::new(),
                };
                let arn = control.key_arn(&row);
                let mut batch = Batch::on(view);
                batch.put(row);
                Ok((batch, arn))
            });
            made.await.unwrap()
        }

        /// Changes all keys there are.
        async fn change(&self, change: impl Fn(&mut KmsKey) + Send + Sync) {
            let account = self.account();
            let changed = self.world.control.decide(|view, _| {
                let mut batch = Batch::on(view);
                for key in view.kms_keys.of(account) {
                    let mut next = KmsKey::clone(key);
                    change(&mut next);
                    batch.put(next);
                }
                Ok((batch, ()))
            });
            changed.await.unwrap();
        }

        /// As KMS does once their time is over.
        async fn delete_keys(&self) {
            let account = self.account();
            let deleted = self.world.control.decide(|view, _| {
                let mut batch = Batch::on(view);
                for key in view.kms_keys.of(account) {
                    batch.delete(Key::KmsKey(account, key.id));
                }
                Ok((batch, ()))
            });
            deleted.await.unwrap();
        }

        async fn associate(&self, key: &str) -> Result<(), ApiError> {
            let input = AssociateKmsKeyRequest {
                log_group_name: Some("/app".to_owned()),
                kms_key_id: Some(key.to_owned()),
                resource_identifier: None,
            };
            let root = self.world.root();
            associate_kms_key(&self.world.control, &self.logs, &root, input).await
        }

        async fn put(&self, text: &str) -> Result<(), LogsError> {
            let message = text.to_owned().into();
            let event = InputEvent { timestamp_ms: self.world.env.now().0, message };
            let stream = "web".parse().unwrap();
            self.logs.put(self.account(), group(), stream, vec![event], None).await.map(drop)
        }

        async fn lines(&self) -> Result<Vec<String>, LogsError> {
            let stream = "web".parse().unwrap();
            let got = self.logs.get(self.account(), &group(), &stream, GetQuery::default()).await?;
            Ok(got.events.iter().map(::logs::Event::text).collect())
        }

        async fn found(&self, pattern: &str) -> usize {
            let pattern = Pattern::parse(pattern).unwrap();
            let query = FilterQuery { pattern, ..FilterQuery::default() };
            self.logs.filter(self.account(), &group(), query).await.unwrap().events.len()
        }

        /// Whether a text is in any file of the store.
        fn is_on_disk(&self, text: &str) -> bool {
            let is_in = |dir: std::path::PathBuf| {
                let mut files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
                files.any(|path| {
                    let bytes = std::fs::read(path).unwrap_or_default();
                    bytes.windows(text.len()).any(|part| part == text.as_bytes())
                })
            };
            let root = self._dir.path();
            is_in(root.to_path_buf()) || is_in(root.join("streams"))
        }
    }

    const SERVICE: &str = r#"{"Effect":"Allow","Principal":{"Service":"logs.us-east-1.amazonaws.com"},
        "Action":["kms:Encrypt*","kms:Decrypt*","kms:GenerateDataKey*"],"Resource":"*","Condition":{"ArnEquals":
        {"kms:EncryptionContext:aws:logs:arn":"arn:aws:logs:us-east-1:000000000000:log-group:/app"}}}"#;

    #[tokio::test]
    async fn events_of_a_group_with_a_key_are_sealed_on_disk_and_read_as_they_were_put() {
        let world = World::new().await;
        world.put("in the clear").await.unwrap();
        let key = world.key(SERVICE, KeyState::Enabled).await;
        world.associate(&key).await.unwrap();
        assert_eq!(world.logs.group(world.account(), &group()).unwrap().settings.key, Some(key));
        world.put(TEXT).await.unwrap();
        assert!(world.is_on_disk("in the clear") && !world.is_on_disk(TEXT));
        assert_eq!(world.lines().await.unwrap(), ["in the clear", TEXT]);
        assert_eq!((world.found("nobody").await, world.found("somebody").await), (1, 0));

        let input = DisassociateKmsKeyRequest {
            log_group_name: Some("/app".to_owned()),
            resource_identifier: None,
        };
        disassociate_kms_key(&world.logs, &world.world.root(), input).await.unwrap();
        world.put("in the clear again").await.unwrap();
        assert!(world.is_on_disk("in the clear again"));
        assert_eq!(world.lines().await.unwrap(), ["in the clear", TEXT, "in the clear again"]);
    }

    #[tokio::test]
    async fn a_key_that_is_disabled_or_says_no_keeps_events_from_being_written_and_read() {
        let world = World::new().await;
        let key = world.key(SERVICE, KeyState::Enabled).await;
        world.associate(&key).await.unwrap();
        world.put(TEXT).await.unwrap();
        let refused = |answer: Result<(), LogsError>, word: &str| {
            let LogsError::Key(why) = answer.unwrap_err() else { panic!("{word}") };
            assert!(why.contains(word), "{why}");
        };
        world.change(|key| key.state = KeyState::Disabled).await;
        refused(world.put(TEXT).await, "disabled");
        refused(world.lines().await.map(drop), "disabled");
        let nobody = SERVICE.replace("logs.us-east-1", "logs.eu-west-9");
        let nobody = format!(r#"{{"Version":"2012-10-17","Statement":[{nobody}]}}"#);
        world
            .change(|key| {
                key.state = KeyState::Enabled;
                key.policy = ResourceText::new(&nobody, BTreeMap::new());
            })
            .await;
        refused(world.put(TEXT).await, "does not allow CloudWatch Logs");
        refused(world.lines().await.map(drop), "does not allow CloudWatch Logs");
    }

    #[tokio::test]
    async fn what_a_deleted_key_sealed_keeps_nobody_from_the_rest() {
        let world = World::new().await;
        world.put("in the clear").await.unwrap();
        let key = world.key(SERVICE, KeyState::Enabled).await;
        world.associate(&key).await.unwrap();
        world.put(TEXT).await.unwrap();
        world.delete_keys().await;
        let refused = world.put(TEXT).await.unwrap_err();
        assert!(matches!(refused, LogsError::Key(_)), "nothing is put in the clear: {refused}");
        let other = world.key(SERVICE, KeyState::Enabled).await;
        world.associate(&other).await.unwrap();
        world.put("by another key").await.unwrap();
        assert_eq!(world.lines().await.unwrap(), ["in the clear", "by another key"]);
        assert_eq!((world.found("another").await, world.found("nobody").await), (1, 0));
    }

    #[tokio::test]
    async fn a_group_gets_a_key_only_that_lets_the_service_use_it_for_the_group() {
        let world = World::new().await;
        let account = r#"{"Effect":"Allow","Principal":{"AWS":"000000000000"},"Action":"kms:*","Resource":"*"}"#;
        let other_group = SERVICE.replace("log-group:/app", "log-group:/other");
        let missing = "arn:aws:kms:us-east-1:000000000000:key/0b6fd0a7-2c6e-4f6b-9d5e-0123456789ab";
        for key in [
            world.key(account, KeyState::Enabled).await,
            world.key(account, KeyState::Disabled).await,
            world.key(&other_group, KeyState::Enabled).await,
            missing.to_owned(),
        ] {
            let refused = world.associate(&key).await.unwrap_err();
            assert_eq!(refused.code, "AccessDeniedException", "{key}");
            assert!(refused.message.contains("is not allowed to be used with LogGroup"));
        }
        let disabled = world.key(SERVICE, KeyState::Disabled).await;
        for key in [disabled.as_str(), "alias/logs", ""] {
            let refused = world.associate(key).await.unwrap_err();
            assert_eq!(refused.code, "InvalidParameterException", "{key}");
        }
        assert_eq!(world.logs.group(world.account(), &group()).unwrap().settings.key, None);
    }
}
