//! An account with a server, and orders by it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use files::whole::{self, Durability};
use instant_acme::{
    Account, AccountCredentials, AuthorizationStatus, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, Order, OrderStatus, RetryPolicy,
};
use longshore_types::Chain;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use serde_json::Value;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::http_client::Https;
use crate::{Issued, Method, NotACertificate, Proof, Settings, Show, ShowError};

/// The file of the accounts, by the URLs of their servers' directories, within the directory that is given.
const ACCOUNT_FILE: &str = "account.json";
/// How long the server may look for proofs, and how long it may take to sign.
const LOOKING_MAX: Duration = Duration::from_secs(120);
const NO_ACCOUNT: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    #[error("failed to {doing} {}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{} holds no account", path.display())]
    Account { path: PathBuf },
    #[error("the ACME server {server} did not {doing}: {why}")]
    Server { server: String, doing: &'static str, why: String },
    #[error("the ACME server {server} offers no {method} for {name}, only {offered}")]
    NotOffered { server: String, method: &'static str, name: String, offered: String },
    #[error("the ACME server {server} did not find the proof for {name}: {why}")]
    NotProven { server: String, name: String, why: String },
    #[error("the proof for {name} can't be shown")]
    Show { name: String, source: ShowError },
    #[error("failed to make a key and a request")]
    Request { source: rcgen::Error },
    #[error(
        "the ACME server {server} sent what is no certificate for {names} with the key that was made"
    )]
    Certificate { server: String, names: String },
}

/// By the URL of the server's directory.
type Accounts = serde_json::Map<String, Value>;

/// An account with a server, made when it is first needed.
#[derive(Debug)]
pub struct Acme {
    settings: Settings,
    dir: PathBuf,
}

impl Acme {
    /// With the file of accounts in `dir`, which is there.
    pub fn new(settings: Settings, dir: &Path) -> Self {
        Self { settings, dir: dir.to_owned() }
    }

    /// A certificate for these names, with a key of its own.
    pub async fn order(
        &self,
        names: &[String],
        method: Method,
        shown: &dyn Show,
    ) -> Result<Issued, AcmeError> {
        let made = self.ordered(names, method, shown).await;
        shown.hide();
        made
    }

    async fn ordered(
        &self,
        names: &[String],
        method: Method,
        shown: &dyn Show,
    ) -> Result<Issued, AcmeError> {
        let account = self.account().await?;
        let identifiers: Vec<_> = names.iter().cloned().map(Identifier::Dns).collect();
        let order = account.new_order(&NewOrder::new(&identifiers)).await;
        let mut order = order.map_err(|why| self.failed("take the order", &why))?;
        self.prove(&mut order, method, shown).await?;
        let waiting = RetryPolicy::new().initial_delay(Duration::from_millis(250));
        let waiting = waiting.backoff(1.5).timeout(LOOKING_MAX);
        let status = match order.poll_ready(&waiting).await {
            Ok(status) => status,
            Err(why @ Error::Api(_)) => return Err(self.unproven(&mut order, &why).await),
            Err(why) => return Err(self.failed("say that the names are ours", &why)),
        };
        if status != OrderStatus::Ready {
            let why = Error::Str("the order became invalid");
            return Err(self.unproven(&mut order, &why).await);
        }
        let (request, key_pem) = request(names).map_err(|source| AcmeError::Request { source })?;
        let sent = order.finalize_csr(&request).await;
        sent.map_err(|why| self.failed("take the request", &why))?;
        let chain = order.poll_certificate(&waiting).await;
        let chain = chain.map_err(|why| self.failed("sign", &why))?;
        let issued =
            Issued::read(&chain, key_pem).map_err(|NotACertificate| self.no_good(names))?;
        let is_good = issued.is_for(names) && issued.is_pair();
        if is_good { Ok(issued) } else { Err(self.no_good(names)) }
    }

    /// Shows what the server wants to see of each name, and tells it to look.
    async fn prove(
        &self,
        order: &mut Order,
        method: Method,
        shown: &dyn Show,
    ) -> Result<(), AcmeError> {
        let wanted = match method {
            Method::Http => ChallengeType::Http01,
            Method::Tls => ChallengeType::TlsAlpn01,
        };
        let doing = "say what proves a name";
        let mut authorizations = order.authorizations();
        while let Some(found) = authorizations.next().await {
            let mut found = found.map_err(|why| self.failed(doing, &why))?;
            let name = found.identifier().to_string();
            match found.status {
                AuthorizationStatus::Pending => {}
                AuthorizationStatus::Valid => continue,
                ref other => {
                    let why = format!("its authorization is {other:?}");
                    return Err(self.not_proven(name, why));
                }
            }
            let offered: Vec<_> =
                found.challenges.iter().map(|it| format!("{:?}", it.r#type)).collect();
            let Some(mut challenge) = found.challenge(wanted.clone()) else {
                return Err(AcmeError::NotOffered {
                    server: self.settings.directory.clone(),
                    method: method.name(),
                    name,
                    offered: offered.join(", "),
                });
            };
            let key = challenge.key_authorization();
            let digest = key.digest();
            let proof = Proof {
                name: name.clone(),
                token: challenge.token.clone(),
                answer: key.as_str().to_owned(),
                digest: digest.as_ref().try_into().unwrap_or_default(),
            };
            shown.show(proof).map_err(|source| AcmeError::Show { name, source })?;
            challenge.set_ready().await.map_err(|why| self.failed("look for a proof", &why))?;
        }
        Ok(())
    }

    /// Which name it was, and what the server says of it.
    async fn unproven(&self, order: &mut Order, why: &Error) -> AcmeError {
        let mut authorizations = order.authorizations();
        while let Some(Ok(mut found)) = authorizations.next().await {
            let name = found.identifier().to_string();
            let Ok(state) = found.refresh().await else { continue };
            let mut told = state.challenges.iter().filter_map(|it| it.error.as_ref());
            if let Some(told) = told.next() {
                return self.not_proven(name, told.to_string());
            }
        }
        self.failed("find the names to be ours", why)
    }

    async fn account(&self) -> Result<Account, AcmeError> {
        let http = || Account::builder_with_http(Box::new(Https::trusting(&self.settings.trust)));
        if let Some(known) = self.known()? {
            let account = http().from_credentials(known).await;
            return account.map_err(|why| self.failed("answer", &why));
        }
        let contacts: Vec<String> =
            self.settings.contacts.iter().map(|address| format!("mailto:{address}")).collect();
        let contacts: Vec<&str> = contacts.iter().map(String::as_str).collect();
        let wanted = NewAccount {
            contact: &contacts,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let binding = self.settings.binding.as_ref();
        let binding = binding.map(|it| ExternalAccountKey::new(it.key_id.clone(), &it.key));
        let directory = self.settings.directory.clone();
        let made = http().create(&wanted, directory, binding.as_ref()).await;
        let (account, credentials) = made.map_err(|why| self.failed("make an account", &why))?;
        let credentials = serde_json::to_value(credentials);
        let credentials =
            credentials.map_err(|_| AcmeError::Account { path: self.account_file() })?;
        self.change_accounts(|all| drop(all.insert(self.settings.directory.clone(), credentials)))?;
        info!(server = %self.settings.directory, account = account.id(), "ACME account made");
        Ok(account)
    }

    /// The account with this server.
    fn known(&self) -> Result<Option<AccountCredentials>, AcmeError> {
        let Some(known) = self.accounts()?.remove(&self.settings.directory) else {
            return Ok(None);
        };
        let bad = |_| AcmeError::Account { path: self.account_file() };
        serde_json::from_value(known).map(Some).map_err(bad)
    }

    fn account_file(&self) -> PathBuf {
        self.dir.join(ACCOUNT_FILE)
    }

    /// Those of the file, with all servers that were ever asked.
    fn accounts(&self) -> Result<Accounts, AcmeError> {
        let path = self.account_file();
        let text = match std::fs::read(&path) {
            Ok(text) => Zeroizing::new(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Accounts::default());
            }
            Err(source) => return Err(AcmeError::Io { doing: "read", path, source }),
        };
        let mut kept: Accounts = serde_json::from_slice(&text).unwrap_or_default();
        match (kept.remove("accounts"), kept.remove("directory"), kept.remove("account")) {
            (Some(Value::Object(accounts)), ..) => Ok(accounts),
            // As it was when there was room for one.
            (None, Some(Value::String(directory)), Some(account)) => {
                Ok(Accounts::from_iter([(directory, account)]))
            }
            _ => Err(AcmeError::Account { path }),
        }
    }

    fn change_accounts(&self, change: impl FnOnce(&mut Accounts)) -> Result<(), AcmeError> {
        let (path, mut accounts) = (self.account_file(), self.accounts()?);
        change(&mut accounts);
        let text = Zeroizing::new(serde_json::json!({ "accounts": accounts }).to_string());
        whole::write(&path, text.as_bytes(), Durability::Synced).map_err(|source| AcmeError::Io {
            doing: "write",
            path,
            source,
        })
    }

    /// A server that has forgotten the account is given another one the next time.
    fn failed(&self, doing: &'static str, why: &Error) -> AcmeError {
        if let Error::Api(problem) = why
            && problem.r#type.as_deref() == Some(NO_ACCOUNT)
        {
            let forgotten = self.change_accounts(|all| drop(all.remove(&self.settings.directory)));
            if let Err(error) = forgotten {
                warn!(error = %Chain(&error), "an ACME account that is no more stays in its file");
            }
        }
        let (server, why) = (self.settings.directory.clone(), Chain(why).to_string());
        AcmeError::Server { server, doing, why }
    }

    fn not_proven(&self, name: String, why: String) -> AcmeError {
        AcmeError::NotProven { server: self.settings.directory.clone(), name, why }
    }

    fn no_good(&self, names: &[String]) -> AcmeError {
        let server = self.settings.directory.clone();
        AcmeError::Certificate { server, names: names.join(", ") }
    }
}

/// A request in DER for a new key, and the key in PEM.
fn request(names: &[String]) -> Result<(Vec<u8>, Zeroizing<String>), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name = DistinguishedName::new();
    let request = params.serialize_request(&key)?;
    Ok((request.der().to_vec(), Zeroizing::new(key.serialize_pem())))
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_an_account_of_its_own_and_the_only_one_of_before_is_still_known() {
        let dir = tempfile::tempdir().unwrap();
        let of = |directory: &str| {
            let settings = Settings {
                directory: directory.to_owned(),
                contacts: vec![],
                trust: trust::Trust::system(),
                binding: None,
            };
            Acme::new(settings, dir.path())
        };
        let (one, two) = (of("https://one/dir"), of("https://two/dir"));
        assert!(one.known().unwrap().is_none() && one.accounts().unwrap().is_empty());
        let before = r#"{"directory":"https://one/dir","account":1}"#;
        let write = |text: &str| {
            whole::write(&one.account_file(), text.as_bytes(), Durability::Synced).unwrap();
        };
        write(before);
        two.change_accounts(|all| drop(all.insert("https://two/dir".to_owned(), 2.into())))
            .unwrap();
        let kept = one.accounts().unwrap().into_iter().collect::<Vec<_>>();
        let expected = [("one", 1), ("two", 2)];
        let expected =
            expected.map(|(name, account)| (format!("https://{name}/dir"), Value::from(account)));
        assert_eq!(kept, expected);
        assert!(of("https://three/dir").known().unwrap().is_none());
        for bad in ["{}", "no JSON"] {
            write(bad);
            assert!(matches!(one.known(), Err(AcmeError::Account { .. })), "{bad}");
        }
    }
}
