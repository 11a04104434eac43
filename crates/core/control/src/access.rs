//! Who may come in: the access keys of a region, and what each kind of key may ask for.
//!
//! A first start draws a root key, a key for the machine's own agent and the secret that registry
//! tokens are signed with, and keeps them in `keys.json`, readable by its owner only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_wire::{ApiError, Caller, Principal, Session, Traveller};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use files::whole::{self, Durability};
use longshore_types::{AccountId, IdSource, TaskArn, Timestamp, Token, Uuid};
use model::instance::FARGATE_ATTRIBUTE;
use model::{IamAccessKey, Instance, Node, View};
use serde::{Deserialize, Serialize};
use vault::DataKey;

use crate::config::Config;
use crate::errors::not_authorized;
use crate::iam::access_keys::{self, LONG_TERM};
use crate::iam::guesses::Guesses;
use crate::iam::node_keys::{self, holder};
use crate::iam::session::{Holder, Sessions};
use crate::iam::{Entity, KeyUses, entity_of, managed_instances};
use crate::keyring::{RootKeys, parts};
use crate::seal::{Seal, derive};

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

impl KeyPair {
    fn secret(&self) -> Token {
        self.secret_access_key.clone()
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
    /// What registry tokens and page tokens are signed with, and the keys derived from of sessions and of what is
    /// said of denials.
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
    /// Of temporary keys of STS.
    pub session: Option<Arc<Session>>,
}

/// Finds access keys, and says what they may do.
#[derive(Clone, Debug)]
pub struct Access {
    pub keys: Keys,
    account_keys: Option<Token>,
    pub sessions: Sessions,
    /// When users' keys were last used, as far as it is not written down yet.
    pub uses: Arc<KeyUses>,
    /// Wrong passwords and codes of late.
    pub guesses: Arc<Guesses>,
    /// Wraps the keys that users' secrets are sealed by.
    root_keys: RootKeys,
    /// Sealed users' secrets before the root key did.
    user_keys: Seal,
    node_keys: Seal,
    denials: Seal,
}

/// What a host's key may do, which anybody can read: with this policy roles of container instances are made at
/// Amazon.
pub const NODE_POLICY: &str =
    "arn:aws:iam::aws:policy/service-role/AmazonEC2ContainerServiceforEC2Role";

/// The role whose permissions a task's execution has when its definition names none.
pub const TASK_EXECUTION_ROLE: &str = "ecsTaskExecutionRole";

impl Access {
    pub fn new(keys: Keys, root_keys: RootKeys, config: &Config) -> Self {
        let secret = &keys.registry_secret;
        Self {
            account_keys: config.account_keys.clone(),
            sessions: Sessions::new(secret),
            uses: Arc::default(),
            guesses: Arc::default(),
            root_keys,
            user_keys: Seal::new(secret, "user keys"),
            node_keys: Seal::new(secret, "node keys"),
            denials: Seal::new(secret, "denials"),
            keys,
        }
    }

    /// The key with this id, if there is one. `session_token` is what came with it: only with its token
    /// is a temporary key of STS known.
    pub fn find(
        &self,
        view: &View,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Option<AccessKey> {
        let of_root_account =
            |pair: &KeyPair, principal| lasting(Config::root_account(), principal, pair.secret());
        let Keys { root, node, .. } = &self.keys;
        if access_key_id == root.access_key_id {
            return Some(of_root_account(root, Principal::Root));
        }
        if access_key_id == node.access_key_id {
            return Some(of_root_account(node, Principal::Node { instance: None }));
        }
        if access_key_id.starts_with(LONG_TERM) {
            return self.user_key(view, access_key_id);
        }
        if let Some((node, key)) = node_keys::find(view, access_key_id) {
            let secret = self.node_keys.open(&key.id, &key.sealed_secret)?;
            let secret = Token::from_text(String::from_utf8(secret).ok()?);
            let expires = Some(key.expires_at);
            let principal = host_principal(view, &node)?;
            return Some(AccessKey { expires, ..lasting(node.tenant(), principal, secret) });
        }
        if let Some(token) = session_token.filter(|token| Sessions::is_token(token)) {
            return self.session_key(view, access_key_id, token);
        }
        let secret = self.account_keys.clone()?;
        Some(lasting(access_key_id.parse().ok()?, Principal::Root, secret))
    }

    /// Whether a caller has the key of the region's own machine, which its agent and its balancers' process share. Hosts
    /// that joined have keys of their own, with which they are [`Principal::Node`] as well.
    pub fn is_own_machine(&self, caller: &Caller) -> bool {
        matches!(caller.principal, Principal::Node { .. })
            && caller.access_key == self.keys.node.access_key_id
    }

    /// What a load balancer's cookies are sealed with, by its ARN: the same on all hosts that it is on, and another's is
    /// another.
    pub fn balancer_cookie_key(&self, arn: &str) -> [u8; 32] {
        derive(&self.keys.registry_secret, "balancer cookies", arn)
    }

    /// Whether an instance is the region's own machine.
    pub fn is_of_own_machine(&self, instance: &Instance) -> bool {
        instance.access_key.as_deref() == Some(&*self.keys.node.access_key_id)
    }

    /// An active key of a user.
    fn user_key(&self, view: &View, access_key_id: &str) -> Option<AccessKey> {
        let account = access_keys::account_of(access_key_id)?;
        let key = view.iam_access_keys.get(account, &access_key_id.into())?;
        let principal = user_principal(view, &key.user).filter(|_| key.is_active)?;
        Some(lasting(account, principal, self.open_secret(key)?))
    }

    /// A session of STS, as long as whoever it is of is there.
    fn session_key(&self, view: &View, access_key_id: &str, token: &str) -> Option<AccessKey> {
        let (holder, session, secret) = self.sessions.open(access_key_id, token)?;
        let principal = match holder {
            Holder::Root => Principal::Root,
            Holder::User { id } if session.by_password => {
                let Entity::User(row) = entity_of(view, &id)? else { return None };
                row.login.as_ref().filter(|login| login.set_at <= session.issued_at)?;
                user_principal(view, &id)?
            }
            Holder::User { id } => user_principal(view, &id)?,
            Holder::Role { id, session } => match entity_of(view, &id)? {
                Entity::Role(row) => Principal::Role {
                    name: Arc::clone(&row.name),
                    id: Arc::clone(&row.unique_id),
                    session: session.into(),
                },
                Entity::User(_) => return None,
            },
            Holder::Federated { name, user } => {
                let user = match user {
                    Some(id) => match entity_of(view, &id)? {
                        Entity::User(row) => {
                            Some((Arc::clone(&row.name), Arc::clone(&row.unique_id)))
                        }
                        Entity::Role(_) => return None,
                    },
                    None => None,
                };
                Principal::Federated { name: name.into(), user }
            }
        };
        Some(AccessKey {
            account: access_keys::account_of(access_key_id)?,
            principal,
            secret,
            session_token: Some(Token::from_text(token.to_owned())),
            expires: Some(session.expires),
            session: Some(Arc::new(session)),
        })
    }

    /// A session token that says of a caller with temporary keys of STS what its own said: for what acts as the
    /// caller later.
    pub fn session_token(&self, ids: &dyn IdSource, caller: &Caller) -> Option<String> {
        let (session, holder) = (caller.session.as_ref()?, Holder::of(&caller.principal)?);
        Some(self.sessions.token(ids, &caller.access_key, holder, Session::clone(session)))
    }

    /// What something of a task is called that only its agent may guess: the same for as long as it lives.
    pub fn task_id(&self, what: &str, task: &TaskArn) -> Uuid {
        let digest = derive(&self.keys.registry_secret, what, &task.to_string());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Uuid::from_random(bytes)
    }

    /// The secret of a host's key as its row keeps it: such a key lives for weeks and is renewed by the host itself.
    pub fn seal_node_secret(
        &self,
        ids: &dyn IdSource,
        access_key_id: &str,
        secret: &Token,
    ) -> String {
        self.node_keys.seal(ids, access_key_id, secret.reveal().as_bytes())
    }

    /// A user's secret as its row keeps it: a data key that the root key wraps, and what it sealed.
    pub fn seal_secret(&self, ids: &dyn IdSource, access_key_id: &str, secret: &Token) -> String {
        let (bound_to, key) = (secret_bound_to(access_key_id), DataKey::mint(ids));
        let wrapped = self.root_keys.wrap(ids, &bound_to, &key);
        let sealed = key.seal(ids, &bound_to, secret.reveal().as_bytes());
        format!("{wrapped}.{}", URL_SAFE_NO_PAD.encode(sealed))
    }

    /// As a release before the root key was asked sealed it.
    #[cfg(test)]
    pub(crate) fn seal_secret_as_before(
        &self,
        ids: &dyn IdSource,
        access_key_id: &str,
        secret: &Token,
    ) -> String {
        self.user_keys.seal(ids, access_key_id, secret.reveal().as_bytes())
    }

    pub(crate) fn open_secret(&self, key: &IamAccessKey) -> Option<Token> {
        let Some((wrapped, sealed)) = parts(&key.sealed_secret) else {
            let opened = self.user_keys.open(&key.id, &key.sealed_secret)?;
            return String::from_utf8(opened).ok().map(Token::from_text);
        };
        let bound_to = secret_bound_to(&key.id);
        let data_key = self.root_keys.unwrap(&bound_to, wrapped).ok()?;
        let opened = data_key.open(&bound_to, &URL_SAFE_NO_PAD.decode(sealed).ok()?)?;
        String::from_utf8(opened.to_vec()).ok().map(Token::from_text)
    }

    /// The same secret with its data key wrapped by the root key of now.
    pub(crate) fn rewrap_secret(
        &self,
        ids: &dyn IdSource,
        key: &IamAccessKey,
    ) -> Result<String, ApiError> {
        let failed = |why: String| {
            ApiError::fault(format!("failed to unwrap the access key {}", key.id), why)
        };
        let (wrapped, sealed) =
            parts(&key.sealed_secret).ok_or_else(|| failed("it is not wrapped".to_owned()))?;
        let bound_to = secret_bound_to(&key.id);
        let data_key = self.root_keys.unwrap(&bound_to, wrapped);
        let data_key = data_key.map_err(|why| failed(why.to_string()))?;
        Ok(format!("{}.{sealed}", self.root_keys.wrap(ids, &bound_to, &data_key)))
    }

    /// What is said of a refusal to whoever has no business in its reasons. `account` is the one that was refused.
    pub fn seal_denial(&self, ids: &dyn IdSource, account: AccountId, text: &str) -> String {
        self.denials.seal(ids, &format!("denial|{account}"), text.as_bytes())
    }

    /// The same, opened for who may know: one of that account.
    pub fn open_denial(&self, account: AccountId, sealed: &str) -> Option<String> {
        String::from_utf8(self.denials.open(&format!("denial|{account}"), sealed)?).ok()
    }

    /// Whether the caller's kind of key is for `operation` of `service`: asked before any handler runs, which
    /// asks again in its decision ([`crate::Control::authorize`]). What policies say is asked there alone.
    pub fn authorize(
        &self,
        caller: &Caller,
        service: &str,
        operation: &str,
    ) -> Result<(), ApiError> {
        match &caller.principal {
            Principal::Root
            | Principal::User { .. }
            | Principal::Role { .. }
            | Principal::Federated { .. }
            | Principal::Node { .. } => Ok(()),
            Principal::Anonymous => {
                let action = format!("{service}:{operation}");
                Err(not_authorized(&principal_arn(caller), &action))
            }
        }
    }
}

/// What a user's secret is sealed for.
fn secret_bound_to(access_key_id: &str) -> Vec<u8> {
    format!("access-key|{access_key_id}").into_bytes()
}

fn lasting(account: AccountId, principal: Principal, secret: Token) -> AccessKey {
    AccessKey { account, principal, secret, session_token: None, expires: None, session: None }
}

/// A managed instance acts as its role, and is nobody once that is gone.
fn host_principal(view: &View, node: &Node) -> Option<Principal> {
    let Some(managed) = &node.managed else { return Some(Principal::Node { instance: None }) };
    let role = managed_instances::role(view, managed.account, &managed.role)?;
    Some(Principal::Role {
        name: Arc::clone(&role.name),
        id: Arc::clone(&role.unique_id),
        session: Arc::clone(&managed.id),
    })
}

fn user_principal(view: &View, unique_id: &str) -> Option<Principal> {
    match entity_of(view, unique_id)? {
        Entity::User(row) => Some(Principal::User {
            name: Arc::clone(&row.name),
            path: Arc::clone(&row.path),
            id: Arc::clone(&row.unique_id),
        }),
        Entity::Role(_) => None,
    }
}

/// Who may be an instance's agent: hear what it has to run, with the credentials of that, and report of it. An
/// account's root, users and roles may for its instances, a host for those that it registered itself. An instance that
/// runs tasks of all accounts has no other agent than the region's own.
pub fn may_speak_for(caller: &Caller, instance: &Instance) -> bool {
    let is_shared = instance.has(FARGATE_ATTRIBUTE);
    match caller.principal {
        Principal::User { .. } | Principal::Role { .. } | Principal::Federated { .. } => {
            !is_shared && may_operate(caller, instance)
        }
        Principal::Root | Principal::Node { .. } | Principal::Anonymous => {
            may_operate(caller, instance)
        }
    }
}

/// Who may drain an instance or take it out of service.
pub fn may_operate(caller: &Caller, instance: &Instance) -> bool {
    let is_own_account = caller.account == instance.scope.account;
    if node_keys::is_host(caller) {
        return is_own_account
            && instance.access_key.as_deref() == Some(holder(&caller.access_key));
    }
    match caller.principal {
        Principal::Root
        | Principal::User { .. }
        | Principal::Role { .. }
        | Principal::Federated { .. } => is_own_account,
        Principal::Node { .. } | Principal::Anonymous => false,
    }
}

/// The ARN of whoever calls.
pub fn principal_arn(caller: &Caller) -> String {
    let account = caller.account;
    match &caller.principal {
        Principal::Root => format!("arn:aws:iam::{account}:root"),
        Principal::Node { .. } => format!("arn:aws:iam::{account}:user/longshore-node"),
        Principal::User { name, path, .. } => format!("arn:aws:iam::{account}:user{path}{name}"),
        Principal::Role { name, session, .. } => {
            format!("arn:aws:sts::{account}:assumed-role/{name}/{session}")
        }
        Principal::Federated { name, .. } => {
            format!("arn:aws:sts::{account}:federated-user/{name}")
        }
        Principal::Anonymous => "anonymous".to_owned(),
    }
}

/// A caller as its trail names it.
pub fn traveller(caller: &Caller) -> Traveller {
    Traveller {
        account: caller.account,
        principal: principal_arn(caller),
        access_key: caller.access_key.clone(),
        address: caller.origin.address,
        user_agent: caller.origin.user_agent.clone(),
        is_agent: match caller.principal {
            Principal::Node { .. } => true,
            Principal::Root
            | Principal::User { .. }
            | Principal::Role { .. }
            | Principal::Federated { .. }
            | Principal::Anonymous => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use longshore_types::{InstanceId, Resources, Scope, SeededEnv, Timestamp, Uuid};
    use model::instance::{AgentState, InstanceStatus};

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

    fn instance(attributes: &[&str]) -> Instance {
        let on = |name: &&str| ((*name).to_owned(), Some("true".to_owned()));
        Instance {
            id: InstanceId::from_bytes([1; 16]),
            scope: Scope { region: "us-east-1".parse().unwrap(), account: Config::root_account() },
            cluster: "default".parse().unwrap(),
            status: InstanceStatus::Active,
            total: Resources::default(),
            reserved_ports: [].into(),
            other_resources: vec![],
            attributes: attributes.iter().map(on).collect(),
            tags: [].into(),
            ec2_instance_id: None,
            capacity_provider: None,
            is_external: false,
            access_key: Some("AKIDNODE".to_owned()),
            registered_at: Timestamp(0),
            agent: AgentState::default(),
            health: vec![],
            version: 0,
        }
    }

    #[test]
    fn a_host_that_runs_all_accounts_tasks_has_no_user_for_an_agent() {
        let (shared, own) = (instance(&[FARGATE_ATTRIBUTE]), instance(&[]));
        let user = Principal::User { name: "ann".into(), path: "/".into(), id: "AIDA".into() };
        for (principal, key, speaks_for_own, speaks_for_shared) in [
            (Principal::Root, "AKIDROOT", true, true),
            (Principal::Node { instance: None }, "AKIDNODE", true, true),
            (Principal::Node { instance: None }, "AKIDOTHER", false, false),
            (user, "AKIDANN", true, false),
            (Principal::Anonymous, "", false, false),
        ] {
            let caller = Caller { principal, access_key: key.to_owned(), ..root_caller() };
            assert_eq!(may_speak_for(&caller, &own), speaks_for_own, "{caller:?}");
            assert_eq!(may_speak_for(&caller, &shared), speaks_for_shared, "{caller:?}");
            assert_eq!(may_operate(&caller, &shared), speaks_for_own, "{caller:?}");
        }
    }

    fn root_caller() -> Caller {
        Caller {
            account: Config::root_account(),
            region: "us-east-1".parse().unwrap(),
            access_key: String::new(),
            principal: Principal::Root,
            session: None,
            origin: aws_wire::Origin::default(),
            request_id: Uuid::from_random([0; 16]),
            now: Timestamp(0),
        }
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
        let root = RootKeys::of(vault::RootKey::mint(&SeededEnv::from_seed(2)));
        let of = |config: &Config| Access::new(keys.clone(), root.clone(), config);
        assert_eq!(find(&of(&config), "123456789012"), None);
        config.account_keys = Some(Token::from_text("secret".to_owned()));
        let access = of(&config);
        let key = find(&access, "123456789012").unwrap();
        assert_eq!((key.account.as_str(), key.principal), ("123456789012", Principal::Root));
        assert_eq!(find(&access, "12345678901"), None);
        assert_eq!(find(&access, ""), None);
    }

    fn find(access: &Access, id: &str) -> Option<AccessKey> {
        access.find(&View::default(), id, None)
    }

    fn config() -> Config {
        let listen = ([127, 0, 0, 1], 4566).into();
        Config::new("us-east-1".parse().unwrap(), listen, PathBuf::from("/nowhere"))
    }
}
