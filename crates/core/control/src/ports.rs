//! What the region asks of every service, and what crosses services and is no row: small traits that one
//! service implements and another asks.
//!
//! A service never calls another's handlers.

use std::fmt::Debug;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use model::Tags;

use crate::reconcile::Driver;

/// A future that is boxed because its kind depends on the service.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A service of the region, as its listener and its driver know it.
pub trait RegionService: Debug + Send + Sync {
    /// What the generated code says of it.
    fn service(&self) -> &'static Service;

    /// Has a call's operation done.
    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>>;

    /// Readies the rows that a crash may have left behind, before requests are served.
    fn prepare(&self) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(ready(Ok(())))
    }

    /// Registers what the service does by itself.
    fn register(self: Arc<Self>, _driver: &mut Driver) {}
}

/// A service whose resources have tags: what the Resource Groups Tagging API asks.
pub trait Tagged: Debug + Send + Sync {
    /// The service's name in its ARNs.
    fn arn_service(&self) -> &'static str;

    /// Hands to `add` the ARN and the tags of every resource of the caller that has some, of the types that
    /// `is_asked` names, such as `cluster`.
    fn tagged(
        &self,
        caller: &Caller,
        is_asked: &dyn Fn(&str) -> bool,
        add: &mut dyn FnMut(String, &Tags),
    );

    /// Adds tags to a resource, as the service's own operation does.
    fn tag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        tags: &'a Tags,
    ) -> BoxFuture<'a, Result<(), ApiError>>;

    /// Takes tags away from a resource, as the service's own operation does.
    fn untag<'a>(
        &'a self,
        caller: &'a Caller,
        arn: &'a str,
        keys: &'a [String],
    ) -> BoxFuture<'a, Result<(), ApiError>>;
}
