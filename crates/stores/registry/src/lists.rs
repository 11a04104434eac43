//! Lists: repositories, tags, and what refers to an image.

use std::fmt::Display;

use http::header::{CONTENT_TYPE, LINK};
use http::{HeaderName, StatusCode, Uri};
use image::Digest;
use image::manifest::{Descriptor, Index, OCI_INDEX};
use longshore_types::AccountId;
use serde_json::json;

use crate::answer::{self, Answer};
use crate::auth::Authorizer;
use crate::catalog::{Catalog, Repository};
use crate::error::RegistryError;
use crate::route::query;
use crate::{PAGE_MAX, Registry};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Which page of a list is asked for.
struct Page {
    after: Option<String>,
    limit: usize,
}

impl Page {
    fn read(uri: &Uri) -> Result<Self, RegistryError> {
        let mut asked = query(uri);
        let limit = match asked.remove("n") {
            None => PAGE_MAX,
            Some(n) => n.parse().map_err(|_| RegistryError::PaginationInvalid)?,
        };
        Ok(Self { after: asked.remove("last"), limit: limit.min(PAGE_MAX) })
    }

    /// Cuts off what was only asked for to see whether there is more, and says where that is.
    fn finish<T: Display>(&self, names: &mut Vec<T>, path: &str) -> Option<String> {
        let has_more = names.len() > self.limit;
        names.truncate(self.limit);
        let last = names.last().filter(|_| has_more)?;
        Some(format!("<{path}?n={}&last={last}>; rel=\"next\"", self.limit))
    }
}

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    pub(crate) fn list_repositories(
        &self,
        account: AccountId,
        uri: &Uri,
    ) -> Result<Answer, RegistryError> {
        let page = Page::read(uri)?;
        let mut names = self.catalog.repositories(account, page.after.as_deref(), page.limit + 1);
        let next = page.finish(&mut names, "/v2/_catalog");
        let body = json!({ "repositories": names });
        Ok(with_link(answer::json(StatusCode::OK, body.to_string()), next))
    }

    pub(crate) fn list_tags(
        &self,
        repository: &Repository,
        uri: &Uri,
    ) -> Result<Answer, RegistryError> {
        self.known(repository)?;
        let page = Page::read(uri)?;
        let mut tags = self.catalog.tags(repository, page.after.as_deref(), page.limit + 1);
        let next = page.finish(&mut tags, &format!("/v2/{}/tags/list", repository.name));
        let body = json!({ "name": repository.name, "tags": tags });
        Ok(with_link(answer::json(StatusCode::OK, body.to_string()), next))
    }

    pub(crate) fn list_referrers(
        &self,
        repository: &Repository,
        subject: &Digest,
        uri: &Uri,
    ) -> Result<Answer, RegistryError> {
        self.known(repository)?;
        let wanted = query(uri).remove("artifactType");
        let referrers = self.catalog.referrers(repository, subject).into_iter();
        let referrers = referrers
            .filter(|referrer| wanted.is_none() || referrer.artifact_type == wanted)
            .map(|referrer| Descriptor {
                artifact_type: referrer.artifact_type,
                annotations: referrer.annotations,
                ..Descriptor::of(&referrer.media_type, referrer.digest, referrer.bytes)
            });
        let index = Index {
            schema_version: 2,
            media_type: Some(OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: referrers.collect(),
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let body = serde_json::to_vec(&index).expect("an index is plain JSON");
        let mut answer = answer::json(StatusCode::OK, body);
        answer::set(&mut answer, CONTENT_TYPE, OCI_INDEX);
        if wanted.is_some() {
            answer::set(&mut answer, FILTERS_APPLIED, "artifactType");
        }
        Ok(answer)
    }
}

fn with_link(mut answer: Answer, next: Option<String>) -> Answer {
    if let Some(next) = next {
        answer::set(&mut answer, LINK, &next);
    }
    answer
}
