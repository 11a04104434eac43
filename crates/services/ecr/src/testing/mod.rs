//! ECR on a core in memory.

pub(crate) mod upstream;

use std::sync::Arc;

use aws_wire::{Caller, Origin};
use bytes::Bytes;
use control::testing::{TestControl, people};
use ecr_api::{Ecr as _, GetAuthorizationTokenRequest};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use image::Egress;
use longshore_types::{SeededEnv, Token};

use crate::{Ecr, catalog};

#[derive(Debug)]
pub(crate) struct TestEcr {
    pub(crate) ecr: Arc<Ecr>,
    pub(crate) env: Arc<SeededEnv>,
    pub(crate) core: TestControl,
}

impl TestEcr {
    pub(crate) fn new() -> Self {
        Self::with_config(|_| {})
    }

    pub(crate) fn with_config(change: impl FnOnce(&mut control::Config)) -> Self {
        let keys = Some(Token::from_text("secret".to_owned()));
        let core = TestControl::with_config(|config| {
            config.account_keys = keys;
            change(config);
        });
        let registry = catalog::open(&core.control).unwrap();
        let ecr =
            Arc::new(Ecr::new(Arc::clone(&core.control), Arc::new(registry), Egress::anywhere()));
        Self { ecr, env: Arc::clone(&core.env), core }
    }

    pub(crate) fn root(&self) -> Caller {
        self.core.root()
    }

    /// The root user of another account, by its account key.
    pub(crate) fn root_of(&self, account: &str) -> Caller {
        Caller { access_key: account.to_owned(), ..self.core.root_of(account) }
    }

    /// A user of an account with this policy, and a key of it.
    pub(crate) async fn user(&self, account: &str, name: &str, policy: &str) -> Caller {
        people::user(&self.core, account, name, policy).await
    }

    /// What the registry answers to a request with a password that the caller asks for.
    pub(crate) async fn ask(
        &self,
        caller: &Caller,
        registry: Option<&str>,
        method: &str,
        path: &str,
    ) -> (StatusCode, String) {
        let registry_ids = registry.map(|id| vec![id.to_owned()]);
        let input = GetAuthorizationTokenRequest { registry_ids };
        let answer = self.ecr.get_authorization_token(caller, input).await.unwrap();
        let data = answer.authorization_data.unwrap().remove(0);
        self.ask_with(&data.authorization_token.unwrap(), method, path).await
    }

    /// The same with a password that is there already.
    pub(crate) async fn ask_with(
        &self,
        login: &str,
        method: &str,
        path: &str,
    ) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:4566{path}"))
            .header("authorization", format!("Basic {login}"))
            .body(Full::<Bytes>::default())
            .unwrap();
        let answer = self.ecr.registry.handle(request, &Origin::default()).await;
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = body["errors"][0]["message"].as_str().unwrap_or_default();
        (status, message.to_owned())
    }
}
