//! Fetching a container's image, with the login that its registry asks for.

use std::sync::Arc;
use std::time::Duration;

use image::{Auth, PullError};

use super::context::Context;
use super::execute::ActionContext;
use super::failure::Failure;
use super::secrets;
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
    let reference: image::Reference = container
        .image
        .parse()
        .map_err(|why| Failure::ImageName { image: container.image.clone(), why })?;
    // Another key would open another account's registry: an agent that came back waits for the task's.
    let held = ctx.context.credentials.hold(&ctx.spec.arn);
    let role = match &container.registry {
        RegistryAuth::Ecr { execution_role: true, .. } => Some(held.execution().await),
        // A name without a host may mean the account's own image.
        RegistryAuth::None if ctx.spec.has_execution_role => Some(held.execution().await),
        RegistryAuth::Ecr { .. } | RegistryAuth::None | RegistryAuth::Secret { .. } => None,
    };
    let is_fargate = ctx.spec.is_fargate;
    if let RegistryAuth::Secret { reference: secret } = &container.registry {
        let login = secrets::read_login(&ctx.context, &held, secret, &reference.registry).await;
        let region = ctx.context.region_name.to_string();
        let login = login
            .map_err(|why| Failure::Secret { is_fargate, region, why: Arc::new(why) })?
            .owned_by(secret.as_str());
        return pull_with(ctx, index, reference, login).await;
    }
    let account = ctx.spec.arn.scope.account;
    if let (RegistryAuth::None, None) = (&container.registry, &role) {
        let nobody = Auth::none().owned_by(account.to_string());
        return pull_with(ctx, index, reference, nobody).await;
    }
    let pull = async || {
        let login = ctx.context.region.login(account, container.registry.clone(), role.clone());
        let image = container.image.clone();
        let login =
            login.await.map_err(|why| Failure::Login { image, is_fargate, why: Arc::new(why) })?;
        pull_with(ctx, index, reference.clone(), login).await
    };
    match pull().await {
        // The login is older than this task: whoever it acts as may be gone, and another have the name.
        Err(Failure::Pull { why }) if is_own_refusal(&ctx.context, &why) => {
            let role = role.as_ref();
            ctx.context.region.forget_login(account, &container.registry, role);
            pull().await
        }
        pulled => pulled,
    }
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
