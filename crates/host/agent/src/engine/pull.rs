//! Fetching a container's image, with the login that its registry asks for.

use std::sync::Arc;
use std::time::Duration;

use acs::RoleCredentials;
use acs::message::PrePullImage;
use futures_util::future::BoxFuture;
use image::{Auth, PullError};
use longshore_types::AccountId;

use super::context::Context;
use super::execute::ActionContext;
use super::failure::Failure;
use super::secrets::{self, Executing, SecretError};
use super::step::{Input, Pulled};
use super::worker::Message;
use crate::client::Backoff;
use crate::limits::PULL_MS_MAX;
use crate::ports::LocalImage;
use crate::spec::RegistryAuth;

pub(super) async fn pull(ctx: &ActionContext, index: usize) -> (Vec<Input>, Option<LocalImage>) {
    ctx.tell(Input::PullStarted { at: ctx.now() }).await;
    let limit = Duration::from_millis(PULL_MS_MAX);
    let result = tokio::time::timeout(limit, pull_image(ctx, index)).await;
    let late = || Err(Failure::TimedOut { what: "pulled", after: limit });
    let result = result.unwrap_or_else(|_| late());
    let at = ctx.now();
    match result {
        Ok(image) => {
            let container = &ctx.spec.containers[index];
            let stop_signal =
                container.process.stop_signal.clone().or(image.config.stop_signal.clone());
            let pulled = Pulled { digest: Some(image.digest.clone()), stop_signal };
            (vec![Input::Pulled { container: index, at, result: Ok(pulled) }], Some(image))
        }
        Err(why) => (vec![Input::Pulled { container: index, at, result: Err(why) }], None),
    }
}

async fn pull_image(ctx: &ActionContext, index: usize) -> Result<LocalImage, Failure> {
    let container = &ctx.spec.containers[index];
    let reference = parse_reference(&container.image)?;
    // Another key would open another account's registry: an agent that came back waits for the task's.
    let held = ctx.context.credentials.hold(&ctx.spec.arn);
    let role = match &container.registry {
        RegistryAuth::Ecr { execution_role: true, .. } => Some(held.execution().await),
        // A name without a host may mean the account's own image.
        RegistryAuth::None if ctx.spec.has_execution_role => Some(held.execution().await),
        RegistryAuth::Ecr { .. } | RegistryAuth::None | RegistryAuth::Secret { .. } => None,
    };
    let wanted = Wanted {
        context: &ctx.context,
        account: ctx.spec.arn.scope.account,
        image: &container.image,
        registry: &container.registry,
        is_fargate: ctx.spec.is_fargate,
    };
    let pull = |login| Box::pin(pull_with(ctx, index, reference.clone(), login)) as Pulling<'_>;
    wanted.fetch(role, Some(&Executing::Task(&held)), &reference, pull).await
}

type Pulling<'a> = BoxFuture<'a, Result<LocalImage, Failure>>;

/// An image, and by what right it is asked for.
struct Wanted<'a> {
    context: &'a Context,
    account: AccountId,
    image: &'a str,
    registry: &'a RegistryAuth,
    is_fargate: bool,
}

impl<'a> Wanted<'a> {
    /// Finds the login for it, and has it pulled by that.
    async fn fetch(
        &self,
        role: Option<RoleCredentials>,
        executing: Option<&Executing<'_>>,
        reference: &image::Reference,
        pull: impl Fn(Auth) -> Pulling<'a> + Send + Sync,
    ) -> Result<LocalImage, Failure> {
        let (account, is_fargate) = (self.account, self.is_fargate);
        if let RegistryAuth::Secret { reference: secret } = self.registry {
            let host = &reference.registry;
            let login = match executing {
                Some(role) => secrets::read_login(self.context, role, secret, host).await,
                None => Err(SecretError::NoRole),
            };
            let region = self.context.region_name.to_string();
            let login = login
                .map_err(|why| Failure::Secret { is_fargate, region, why: Arc::new(why) })?
                .owned_by(secret.as_str());
            return pull(login).await;
        }
        if let (RegistryAuth::None, None) = (self.registry, &role) {
            return pull(Auth::none().owned_by(account.to_string())).await;
        }
        let with_login = async || {
            let login = self.context.region.login(account, self.registry.clone(), role.clone());
            let image = self.image.to_owned();
            let failed = |why| Failure::Login { image, is_fargate, why: Arc::new(why) };
            pull(login.await.map_err(failed)?).await
        };
        match with_login().await {
            // The login is older than this task: whoever it acts as may be gone, and another have the name.
            Err(Failure::Pull { why }) if is_own_refusal(self.context, &why) => {
                self.context.region.forget_login(account, self.registry, role.as_ref());
                with_login().await
            }
            pulled => pulled,
        }
    }
}

fn parse_reference(image: &str) -> Result<image::Reference, Failure> {
    image.parse().map_err(|why| Failure::ImageName { image: image.to_owned(), why })
}

/// Fetches an image before a task asks for it.
pub(super) async fn pull_ahead(
    context: &Context,
    account: AccountId,
    named: &PrePullImage,
    role: Option<RoleCredentials>,
) -> Result<LocalImage, Failure> {
    let registry = RegistryAuth::of(named.registry_authentication.as_ref());
    let reference = parse_reference(&named.image)?;
    let role = match &registry {
        RegistryAuth::Ecr { execution_role: false, .. } => None,
        RegistryAuth::Ecr { .. } | RegistryAuth::None | RegistryAuth::Secret { .. } => role,
    };
    let wanted =
        Wanted { context, account, image: &named.image, registry: &registry, is_fargate: false };
    let pull = |login| {
        let heard = Box::new(|_digest: String| {});
        let pull = context.images.pull(reference.clone(), login, heard);
        Box::pin(async move { pull.await.map_err(|why| Failure::Pull { why }) }) as Pulling<'_>
    };
    let executing = role.clone().map(Executing::Ahead);
    wanted.fetch(role, executing.as_ref(), &reference, pull).await
}

/// Whether the region's registry does not know who asks.
fn is_own_refusal(context: &Context, why: &PullError) -> bool {
    why.is_login_refused() && why.host().is_some_and(|host| context.region.is_own(host))
}

/// Pulls with the login that was found, and says as soon as it is known which image it is.
async fn pull_with(
    ctx: &ActionContext,
    index: usize,
    reference: image::Reference,
    login: Auth,
) -> Result<LocalImage, Failure> {
    let own = ctx.own.clone();
    let on_digest = move |digest: String| {
        if let Some(own) = own.upgrade() {
            let input = Input::Resolved { container: index, digest };
            // A full inbox only means that the digest is told together with the image.
            let _ = own.try_send(Message::Input(input));
        }
    };
    pull_patiently(&ctx.context, reference, login, on_digest)
        .await
        .map_err(|why| Failure::Pull { why })
}

/// Pulls, and waits for as long as it takes where the region's own registry is out of reach: that it is
/// being started again, or is not to be had over the network for a while, is no fault of the task's.
async fn pull_patiently(
    context: &Context,
    reference: image::Reference,
    login: Auth,
    on_digest: impl Fn(String) + Clone + Send + 'static,
) -> Result<LocalImage, Arc<PullError>> {
    let mut backoff = Backoff::call();
    loop {
        let heard = Box::new(on_digest.clone());
        let error = match context.images.pull(reference.clone(), login.clone(), heard).await {
            Ok(image) => return Ok(image),
            Err(error) => error,
        };
        if !(error.is_away() && error.host().is_some_and(|host| context.region.is_own(host))) {
            return Err(error);
        }
        tracing::debug!(image = %reference, %error, "the region's registry is waited for");
        tokio::time::sleep(Duration::from_millis(backoff.next_ms(&*context.ids))).await;
    }
}
