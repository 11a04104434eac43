//! The port to whoever brings what is asked for and is not there: an image from another registry, a repository that is
//! made when something is pushed to it.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::auth::Authorizer;
use crate::catalog::{Catalog, Repository};
use crate::error::RegistryError;
use crate::manifests::Identifier;
use crate::{By, Registry};

/// A future of a supplier.
pub type Supplying<'a> = Pin<Box<dyn Future<Output = Result<(), RegistryError>> + Send + 'a>>;

/// Brings what is not there, for a caller that may have it brought.
///
/// It is asked after the caller's right to the request itself. What it need not or cannot bring is no failure: the
/// registry then says what it has.
pub trait Supplier<P>: Send + Sync + Debug + 'static {
    /// Before an image is looked for.
    fn image<'a>(
        &'a self,
        caller: &'a P,
        repository: &'a Repository,
        wanted: &'a Identifier,
    ) -> Supplying<'a>;

    /// Before something is put into a repository that is not there.
    fn repository<'a>(&'a self, caller: &'a P, repository: &'a Repository) -> Supplying<'a>;
}

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    /// Has what is not there brought by `supplier` from now on; only the first one counts.
    pub fn supply_by(&self, supplier: Arc<dyn Supplier<A::Caller>>) {
        // A second one has no place.
        drop(self.supplier.set(supplier));
    }

    pub(crate) async fn make_repository(
        &self,
        repository: &Repository,
        by: &By<A::Caller>,
    ) -> Result<(), RegistryError> {
        match (self.supplier.get(), by) {
            (Some(supplier), By::Caller(caller)) if !self.catalog.has_repository(repository) => {
                supplier.repository(caller, repository).await
            }
            (Some(_) | None, By::Caller(_) | By::Grant) => Ok(()),
        }
    }
}
