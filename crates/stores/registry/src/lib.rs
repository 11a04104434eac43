//! The OCI distribution protocol over a [`image::BlobStore`]: what `docker push` and `pull` speak.
//!
//! [`Registry::handle`] answers every request below `/v2/`. Which repository has what is known by a
//! [`Catalog`], who asks by an [`Authorizer`]; bytes lie in the blob store, and an upload is a file
//! that outlives the process.
//!
//! **Invariant:** a blob or manifest is answered only if the catalog says that the caller's account
//! has it in that repository, and is acknowledged only when file and catalog entry are durable.

#![allow(
    clippy::disallowed_types,
    reason = "maps that are looked up by key; no decision goes through them in order"
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

mod answer;
mod auth;
mod blobs;
mod body;
mod catalog;
mod error;
mod gate;
mod holders;
mod lists;
mod manifests;
pub mod memory;
mod rights;
mod route;
mod supply;
mod uploads;

pub use answer::Answer;
pub use auth::{Admitted, Authorizer, Login, Operation, Target, TokenKey, USER};
pub use catalog::{Catalog, CatalogError, NewManifest, Referrer, Repository, StoredManifest};
pub use error::{RegistryError, UpstreamFailure};
pub use gate::Swept;
pub use holders::Holders;
pub use manifests::{Identifier, describe};
pub use supply::{Supplier, Supplying};
pub use uploads::{Upload, UploadError, Uploads};

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use aws_wire::Origin;
use bytes::Bytes;
use files::format::Step;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body::Body;
use image::{BlobError, BlobStore, Digest};
use longshore_types::{AccountId, Clock, IdSource};

use gate::Gate;
use route::{Endpoint, Route};

/// The largest layer, as ECR has it: 42,000 MiB.
pub const LAYER_BYTES_MAX: u64 = 42_000 << 20;
/// The most uploads that an account may have open; each is a file.
pub const UPLOADS_OF_ACCOUNT_MAX: usize = 1_000;
/// The most uploads that may be open into one repository.
pub const UPLOADS_OF_REPOSITORY_MAX: usize = 500;
/// An account's uploads whose files are held open between two requests. What is beyond is read and
/// hashed again when its next part comes.
pub const UPLOADS_KEPT_OF_ACCOUNT_MAX: usize = 64;
/// An upload that no byte came for in so long is removed.
pub const UPLOAD_IDLE_MS_MAX: u64 = 2 * 3600 * 1000;
/// A layer that no image names is kept for so long: its manifest may be on the way.
pub const ORPHAN_AGE_MS_MIN: u64 = 3600 * 1000;
/// The most names in one page of a list.
pub const PAGE_MAX: usize = 1000;

/// What raises a directory of blobs and uploads to the version of this release, in order. A member that an
/// upload's file has since later is an `Option` or has a default, and needs none.
const FORMAT_STEPS: &[Step] = &[];

/// What a registry is made of.
#[derive(Debug)]
pub struct Parts<C, A> {
    /// Where blobs and uploads lie.
    pub dir: PathBuf,
    pub catalog: C,
    pub authorizer: A,
    pub clock: Arc<dyn Clock>,
    pub ids: Arc<dyn IdSource>,
}

/// A registry. Shared as an `Arc`.
#[derive(Debug)]
pub struct Registry<C, A: Authorizer> {
    catalog: C,
    authorizer: A,
    clock: Arc<dyn Clock>,
    blobs: BlobStore,
    uploads: Uploads,
    gate: Gate,
    /// Set once, if anybody brings what is not there.
    supplier: OnceLock<Arc<dyn Supplier<A::Caller>>>,
    /// Set once, if hosts give layers to each other.
    holders: OnceLock<Arc<dyn Holders>>,
}

/// A request that was let in: who asks for what.
struct Asked<B, C> {
    registry: AccountId,
    by: By<C>,
    endpoint: Endpoint,
    request: Request<B>,
}

/// Whom a request's head lets in.
enum Who<C> {
    Admitted(Admitted<C>),
    Granted(AccountId),
}

/// Who a request is of.
enum By<C> {
    Caller(C),
    /// Whoever has the URL of one layer.
    Grant,
}

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    pub fn open(parts: Parts<C, A>) -> Result<Self, BlobError> {
        let Parts { dir, catalog, authorizer, clock, ids } = parts;
        let failed = |source| uploads::failed("open", &dir, source);
        files::private::make_dirs(&dir).map_err(failed)?;
        files::format::raise(&dir, FORMAT_STEPS).map_err(|error| failed(error.into()))?;
        let blobs = BlobStore::open(&dir)?;
        let uploads = Uploads::open(&dir, ids)?;
        let (gate, supplier, holders) = (Gate::default(), OnceLock::new(), OnceLock::new());
        Ok(Self { catalog, authorizer, clock, blobs, uploads, gate, supplier, holders })
    }

    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    pub fn catalog(&self) -> &C {
        &self.catalog
    }

    pub fn authorizer(&self) -> &A {
        &self.authorizer
    }

    /// The uploads, for whoever offers them by another protocol too.
    pub fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// Answers a request below `/v2/` that came from `origin`.
    pub async fn handle<B>(&self, request: Request<B>, origin: &Origin) -> Answer
    where
        B: Body<Data = Bytes> + Unpin + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let method = request.method().clone();
        let answer = match self.admit(request, origin) {
            Ok(asked) => self.dispatch(asked).await,
            Err(error) => Err(error),
        };
        let mut answer = answer.unwrap_or_else(|error| error.answer());
        let headers = answer.headers_mut();
        headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        if answer.status() == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("Basic realm=\"longshore\"");
            answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
        if method == Method::HEAD { answer::without_body(answer) } else { answer }
    }

    /// The account of whoever's token a request's head carries, or whose layer its grant is for.
    pub fn account(&self, uri: &Uri, headers: &HeaderMap) -> Option<AccountId> {
        match self.who(&Route::parse(uri), headers, &Origin::default())? {
            Who::Admitted(admitted) => Some(admitted.account),
            Who::Granted(account) => Some(account),
        }
    }

    fn who(
        &self,
        route: &Result<Route, RegistryError>,
        headers: &HeaderMap,
        origin: &Origin,
    ) -> Option<Who<A::Caller>> {
        let credentials = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
        match (credentials.and_then(auth::read_basic), route) {
            (Some((user, password)), _) => {
                self.authorizer.admit(&user, &password, origin).map(Who::Admitted)
            }
            (None, Ok(Route { grant: Some(grant), endpoint: Endpoint::Blob { name, digest } })) => {
                self.authorizer.grant(grant, name, digest).map(Who::Granted)
            }
            (None, _) => None,
        }
    }

    /// Who asks comes first: a stranger learns nothing, not even what exists.
    fn admit<B>(
        &self,
        request: Request<B>,
        origin: &Origin,
    ) -> Result<Asked<B, A::Caller>, RegistryError> {
        let route = Route::parse(request.uri());
        let who = self.who(&route, request.headers(), origin);
        let (registry, by) = match who.ok_or(RegistryError::Unauthorized)? {
            Who::Admitted(Admitted { registry, caller, .. }) => (registry, By::Caller(caller)),
            Who::Granted(account) => (account, By::Grant),
        };
        let Route { endpoint, grant } = route?;
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        if grant.is_some() && !is_read {
            return Err(RegistryError::Unsupported);
        }
        Ok(Asked { registry, by, endpoint, request })
    }

    async fn dispatch<B>(&self, asked: Asked<B, A::Caller>) -> Result<Answer, RegistryError>
    where
        B: Body<Data = Bytes> + Unpin + Send,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let Asked { registry, by, endpoint, request } = asked;
        let method = request.method().clone();
        let at = |name| Repository { account: registry, name };
        let repository = endpoint.name().cloned().map(at);
        let target = match &repository {
            Some(repository) => Target::Repository(repository),
            None => Target::Registry(registry),
        };
        self.check_rights(&by, &method, request.uri(), &endpoint, target)?;
        match (method, endpoint) {
            (Method::GET | Method::HEAD, Endpoint::Base) => Ok(answer::json(StatusCode::OK, "{}")),
            (Method::GET, Endpoint::Catalog) => self.list_repositories(registry, request.uri()),
            (Method::GET, Endpoint::Tags { name }) => self.list_tags(&at(name), request.uri()),
            (Method::GET, Endpoint::Referrers { name, digest }) => {
                self.list_referrers(&at(name), &digest, request.uri())
            }
            (Method::GET | Method::HEAD, Endpoint::Manifest { name, identifier }) => {
                let is_pull = request.method() == Method::GET;
                self.get_manifest(&at(name), &by, &identifier, is_pull).await
            }
            (Method::PUT, Endpoint::Manifest { name, identifier }) => {
                self.put_manifest(&at(name), &by, &identifier, request).await
            }
            (Method::DELETE, Endpoint::Manifest { name, identifier }) => {
                self.delete_manifest(&at(name), &identifier).await
            }
            (Method::GET | Method::HEAD, Endpoint::Blob { name, digest }) => {
                let answer =
                    self.get_blob(&at(name), &digest, request.method(), request.headers())?;
                Ok(self.with_holders(answer, &by, (request.method(), request.uri()), &digest))
            }
            (Method::DELETE, Endpoint::Blob { name, digest }) => {
                self.delete_blob(&at(name), &digest).await
            }
            (Method::POST, Endpoint::StartUpload { name }) => {
                self.start_upload(at(name), &by, request).await
            }
            (method, Endpoint::Upload { name, id }) => {
                self.continue_upload(&at(name), id, &method, request).await
            }
            _ => Err(RegistryError::Unsupported),
        }
    }

    /// Refuses what is asked of a repository that is not there.
    fn known(&self, repository: &Repository) -> Result<(), RegistryError> {
        if self.catalog.has_repository(repository) {
            Ok(())
        } else {
            Err(CatalogError::NoRepository(repository.clone()).into())
        }
    }

    /// The blob's length, if the repository has it.
    fn linked(&self, repository: &Repository, digest: &Digest) -> Result<u64, RegistryError> {
        self.known(repository)?;
        let size = self.catalog.layer(repository, digest);
        size.ok_or(RegistryError::BlobUnknown(*digest))
    }
}
