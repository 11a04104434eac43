//! Who may come in: the access keys of a region, and what each kind of key may ask for.
//!
//! A first start draws a root key, a key for the machine's own agent and the secret that registry
//! tokens are signed with, and keeps them in `keys.json`, readable by its owner only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_wire::{ApiError, Caller, Principal};
use files::whole::{self, Durability};
use longshore_types::{AccountId, IdSource, Timestamp, Token};
use model::Instance;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::errors::not_authorized;
use crate::temporary;

/// The file's name within the data directory.
pub const KEYS_FILE: &str = "keys.json";

/// Why the keys can't be had.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("failed to read {path}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not a file of keys")]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("failed to write {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// A pair as people configure it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyPair {
    pub access_key_id: String,
    pub secret_access_key: Token,
}

impl KeyPair {
    /// `AKIA` and 16 characters, as Amazon's, with a secret of 40.
    pub fn mint(ids: &dyn IdSource) -> Self {
        const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let letters = ids.id16().map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
        Self {
            access_key_id: format!("AKIA{}", String::from_iter(letters)),
            secret_access_key: Token::mint(ids, 40),
        }
    }
}

/// What `keys.json` holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keys {
    /// The root user of [`crate::config::ROOT_ACCOUNT`].
    pub root: KeyPair,
    /// The agent on the region's own machine.
    pub node: KeyPair,
    /// What registry tokens and page tokens are signed with, and temporary keys derived from.
    pub registry_secret: Token,
}

impl Keys {
    pub fn mint(ids: &dyn IdSource) -> Self {
        Self {
            root: KeyPair::mint(ids),
            node: KeyPair::mint(ids),
            registry_secret: Token::mint(ids, 64),
        }
    }

    pub fn load(data_dir: &Path) -> Result<Self, KeysError> {
        let path = data_dir.join(KEYS_FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(KeysError::Read { path, source }),
        };
        serde_json::from_str(&text).map_err(|source| KeysError::Parse { path, source })
    }

    /// Reads the keys, or draws them if there are none yet.
    pub fn load_or_create(data_dir: &Path, ids: &dyn IdSource) -> Result<Self, KeysError> {
        match Self::load(data_dir) {
            Err(KeysError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            loaded => return loaded,
        }
        let keys = Self::mint(ids);
        let path = data_dir.join(KEYS_FILE);
        match keys.write(&path) {
            Ok(()) => Ok(keys),
            Err(source) => Err(KeysError::Write { path, source }),
        }
    }

    /// Whole or not at all: written beside, synced, then moved into place.
    fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        whole::write(path, text.as_bytes(), Durability::Synced)
    }
}

/// What an access key id stands for, and the secret that proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    pub account: AccountId,
    pub principal: Principal,
    pub secret: Token,
    /// Of temporary keys only, as is the next.
    pub session_token: Option<Token>,
    pub expires: Option<Timestamp>,
}

/// Finds access keys, and says what they may do.
#[derive(Clone, Debug)]
pub struct Access {
    pub keys: Keys,
    account_keys: Option<Token>,
}

/// What an agent calls, besides what it reads of its own tasks. `service:Operation`.
const NODE_ACTIONS: &[&str] = &[
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "ecs:CreateCluster",
    "ecs:DeregisterContainerInstance",
    "ecs:DiscoverPollEndpoint",
    "ecs:ListTagsForResource",
    "ecs:Poll",
    "ecs:RegisterContainerInstance",
    "ecs:StartTelemetrySession",
    "ecs:SubmitAttachmentStateChanges",
    "ecs:SubmitContainerStateChange",
    "ecs:SubmitTaskStateChange",
    "ecs:UpdateContainerInstancesState",
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogGroups",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
    "sts:GetCallerIdentity",
];

/// What may be done in a task's name before and beside its containers.
const TASK_EXECUTION_ACTIONS: &[&str] = &[
    "ecr:BatchCheckLayerAvailability",
    "ecr:BatchGetImage",
    "ecr:GetAuthorizationToken",
    "ecr:GetDownloadUrlForLayer",
    "logs:CreateLogGroup",
    "logs:CreateLogStream",
    "logs:DescribeLogGroups",
    "logs:DescribeLogStreams",
    "logs:PutLogEvents",
    "sts:GetCallerIdentity",
];

/// The role whose permissions a task's execution has when its definition names none.
pub const TASK_EXECUTION_ROLE: &str = "ecsTaskExecutionRole";

impl Access {
    pub fn new(keys: Keys, config: &Config) -> Self {
        Self { keys, account_keys: config.account_keys.clone() }
    }

    /// The key with this id, if there is one.
    pub fn find(&self, access_key_id: &str) -> Option<AccessKey> {
        let of_root_account = |pair: &KeyPair, principal| AccessKey {
            account: Config::root_account(),
            principal,
            secret: pair.secret_access_key.clone(),
            session_token: None,
            expires: None,
        };
        let Keys { root, node, .. } = &self.keys;
        if access_key_id == root.access_key_id {
            return Some(of_root_account(root, Principal::Root));
        }
        if access_key_id == node.access_key_id {
            return Some(of_root_account(node, Principal::Node { instance: None }));
        }
        if let Some(key) = temporary::read(&self.keys.registry_secret, access_key_id) {
            return Some(AccessKey {
                account: key.account,
                principal: Principal::TaskExecution,
                secret: key.secret,
                session_token: Some(key.session_token),
                expires: Some(key.expires),
            });
        }
        let secret = self.account_keys.clone()?;
        let account = access_key_id.parse().ok()?;
        let principal = Principal::Root;
        Some(AccessKey { account, principal, secret, session_token: None, expires: None })
    }

    /// Whether `caller` may call `operation` of `service`: asked before any handler runs, which asks again
    /// in its decision ([`crate::authorize()`]).
    pub fn authorize(
        &self,
        caller: &Caller,
        service: &str,
        operation: &str,
    ) -> Result<(), ApiError> {
        let action = format!("{service}:{operation}");
        if may(&caller.principal, &action) {
            return Ok(());
        }
        Err(not_authorized(&principal_arn(caller), &action))
    }
}

/// Whether callers of this kind may do an action, `service:Operation`.
pub(crate) fn may(principal: &Principal, action: &str) -> bool {
    match principal {
        Principal::Root => true,
        Principal::Node { .. } => NODE_ACTIONS.contains(&action),
        Principal::TaskExecution => TASK_EXECUTION_ACTIONS.contains(&action),
    }
}

/// An account's root speaks for its instances, a node for those that it registered itself.
pub fn may_speak_for(caller: &Caller, instance: &Instance) -> bool {
    let is_own_account = caller.account == instance.scope.account;
    match caller.principal {
        Principal::Root => is_own_account,
        Principal::Node { .. } => {
            is_own_account && instance.access_key.as_deref() == Some(caller.access_key.as_str())
        }
        Principal::TaskExecution => false,
    }
}

/// The ARN of whoever calls.
pub fn principal_arn(caller: &Caller) -> String {
    let account = caller.account;
    match caller.principal {
        Principal::Root => format!("arn:aws:iam::{account}:root"),
        Principal::Node { .. } => format!("arn:aws:iam::{account}:user/longshore-node"),
        Principal::TaskExecution => {
            let session = &caller.access_key;
            format!("arn:aws:sts::{account}:assumed-role/{TASK_EXECUTION_ROLE}/{session}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use longshore_types::{SeededEnv, Timestamp, Uuid};

    use super::*;

    #[test]
    fn keys_are_drawn_once_and_only_their_owner_reads_them() {
        let dir = tempfile::tempdir().unwrap();
        let env = SeededEnv::from_seed(1);
        let keys = Keys::load_or_create(dir.path(), &env).unwrap();
        assert_eq!(Keys::load_or_create(dir.path(), &env).unwrap(), keys);
        let mode = fs::metadata(dir.path().join(KEYS_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(keys.root.access_key_id.len(), 20);
        assert!(!format!("{keys:?}").contains(keys.root.secret_access_key.reveal()));
    }

    #[test]
    fn a_broken_file_of_keys_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEYS_FILE), "{").unwrap();
        let error = Keys::load_or_create(dir.path(), &SeededEnv::from_seed(1)).unwrap_err();
        assert!(matches!(error, KeysError::Parse { .. }), "{error}");
    }

    #[test]
    fn account_keys_work_only_where_they_were_asked_for() {
        let mut config = config();
        let keys = Keys::mint(&SeededEnv::from_seed(1));
        assert_eq!(Access::new(keys.clone(), &config).find("123456789012"), None);
        config.account_keys = Some(Token::from_text("secret".to_owned()));
        let access = Access::new(keys, &config);
        let key = access.find("123456789012").unwrap();
        assert_eq!((key.account.as_str(), key.principal), ("123456789012", Principal::Root));
        assert_eq!(access.find("12345678901"), None);
        assert_eq!(access.find(""), None);
    }

    #[test]
    fn an_agent_may_not_run_tasks() {
        let keys = Keys::mint(&SeededEnv::from_seed(1));
        let access = Access::new(keys.clone(), &config());
        let caller = Caller {
            account: Config::root_account(),
            region: "us-east-1".parse().unwrap(),
            access_key: keys.node.access_key_id,
            principal: Principal::Node { instance: None },
            request_id: Uuid::from_random([0; 16]),
            now: Timestamp(0),
        };
        assert!(access.authorize(&caller, "ecs", "SubmitTaskStateChange").is_ok());
        let error = access.authorize(&caller, "ecs", "RunTask").unwrap_err();
        assert_eq!(error.code, "AccessDeniedException");
        let root = Caller { principal: Principal::Root, ..caller };
        assert!(access.authorize(&root, "ecs", "RunTask").is_ok());
    }

    #[test]
    fn a_tasks_key_writes_logs_and_fetches_images_of_its_account_and_no_more() {
        let keys = Keys::mint(&SeededEnv::from_seed(1));
        let access = Access::new(keys.clone(), &config());
        let arn = "arn:aws:ecs:us-east-1:111122223333:task/demo/0123456789abcdef0123456789abcdef";
        let key =
            temporary::of_task(&keys.registry_secret, &arn.parse().unwrap(), Timestamp(7_200_000));
        let found = access.find(&key.access_key_id).unwrap();
        assert_eq!(found.account.as_str(), "111122223333");
        assert_eq!((&found.secret, found.expires), (&key.secret, Some(key.expires)));
        assert_eq!(found.session_token, Some(key.session_token));
        let caller = Caller {
            account: found.account,
            region: "us-east-1".parse().unwrap(),
            access_key: key.access_key_id,
            principal: found.principal,
            request_id: Uuid::from_random([0; 16]),
            now: Timestamp(0),
        };
        assert!(access.authorize(&caller, "logs", "PutLogEvents").is_ok());
        assert!(access.authorize(&caller, "ecr", "GetAuthorizationToken").is_ok());
        for (service, operation) in
            [("ecs", "RunTask"), ("ecs", "Poll"), ("logs", "GetLogEvents"), ("ecr", "PutImage")]
        {
            let error = access.authorize(&caller, service, operation).unwrap_err();
            assert_eq!(error.code, "AccessDeniedException", "{operation}");
        }
    }

    fn config() -> Config {
        let listen = ([127, 0, 0, 1], 4566).into();
        Config::new("us-east-1".parse().unwrap(), listen, PathBuf::from("/nowhere"))
    }
}
