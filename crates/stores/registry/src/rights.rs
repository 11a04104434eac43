//! Which operations a request is, so that it can be asked whether its caller may do them.

use http::{Method, Uri};

use crate::auth::{Authorizer, Operation, Target};
use crate::catalog::{Catalog, Repository};
use crate::error::RegistryError;
use crate::holders::asker;
use crate::route::{Endpoint, query};
use crate::{By, Registry};

/// All that must be allowed for a request, in the order in which it is asked. None for what is only a
/// question whether the credentials are right, and for methods that an endpoint does not have.
fn operations(method: &Method, endpoint: &Endpoint, uri: &Uri) -> &'static [Operation] {
    match (endpoint, method.as_str()) {
        (Endpoint::Base, _) => &[],
        (Endpoint::Catalog, _) => &[Operation::ListRepositories],
        (Endpoint::Tags { .. }, _) => &[Operation::ListTags],
        (Endpoint::Referrers { .. }, _) => &[Operation::ListReferrers],
        (Endpoint::Manifest { .. }, "PUT") => &[Operation::PutManifest],
        (Endpoint::Manifest { .. }, "DELETE") => &[Operation::DeleteManifest],
        (Endpoint::Manifest { .. }, _) => &[Operation::GetManifest],
        // What it is answered with opens the layer.
        (Endpoint::Blob { .. }, "HEAD") if asker(uri).is_some() => &[Operation::GetBlob],
        (Endpoint::Blob { .. }, "HEAD") => &[Operation::CheckBlob],
        (Endpoint::Blob { .. }, "DELETE") => &[Operation::DeleteBlob],
        (Endpoint::Blob { .. }, _) => &[Operation::GetBlob],
        // With a digest the whole blob comes at once.
        (Endpoint::StartUpload { .. }, _) if query(uri).contains_key("digest") => {
            &[Operation::StartUpload, Operation::UploadPart, Operation::CompleteUpload]
        }
        (Endpoint::StartUpload { .. }, _) => &[Operation::StartUpload],
        (Endpoint::Upload { .. }, "PUT") => &[Operation::UploadPart, Operation::CompleteUpload],
        (Endpoint::Upload { .. }, _) => &[Operation::UploadPart],
    }
}

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    /// Refuses what the caller may not do, before anything is said of what there is.
    pub(crate) fn check_rights(
        &self,
        by: &By<A::Caller>,
        method: &Method,
        uri: &Uri,
        endpoint: &Endpoint,
        target: Target<'_>,
    ) -> Result<(), RegistryError> {
        let By::Caller(caller) = by else { return Ok(()) };
        let needed = operations(method, endpoint, uri).iter();
        needed.copied().try_for_each(|each| self.authorizer.authorize(caller, each, target))
    }

    /// Whether a blob may be taken from one repository into another without being sent.
    pub(crate) fn may_mount(
        &self,
        by: &By<A::Caller>,
        from: &Repository,
        into: &Repository,
    ) -> bool {
        let By::Caller(caller) = by else { return false };
        let may = |operation, on: &Repository| {
            self.authorizer.authorize(caller, operation, Target::Repository(on)).is_ok()
        };
        may(Operation::CheckBlob, from)
            && may(Operation::GetBlob, from)
            && may(Operation::CompleteUpload, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::Route;

    #[test]
    fn each_request_needs_the_permission_of_what_it_does() {
        use Operation::*;
        let digest = format!("sha256:{}", "a".repeat(64));
        let upload = "/v2/web/blobs/uploads/00112233-4455-4677-8899-aabbccddeeff";
        for (method, path, needed) in [
            ("GET", "/v2/".to_owned(), &[][..]),
            ("GET", "/v2/_catalog".to_owned(), &[ListRepositories]),
            ("GET", "/v2/web/tags/list".to_owned(), &[ListTags]),
            ("GET", format!("/v2/web/referrers/{digest}"), &[ListReferrers]),
            ("GET", "/v2/web/manifests/1".to_owned(), &[GetManifest]),
            ("HEAD", "/v2/web/manifests/1".to_owned(), &[GetManifest]),
            ("PUT", "/v2/web/manifests/1".to_owned(), &[PutManifest]),
            ("DELETE", "/v2/web/manifests/1".to_owned(), &[DeleteManifest]),
            ("HEAD", format!("/v2/web/blobs/{digest}"), &[CheckBlob]),
            ("HEAD", format!("/v2/web/blobs/{digest}?holders-for=x"), &[CheckBlob]),
            ("HEAD", format!("/v2/web/blobs/{digest}?holders-for={}", "b".repeat(64)), &[GetBlob]),
            ("GET", format!("/v2/web/blobs/{digest}"), &[GetBlob]),
            ("DELETE", format!("/v2/web/blobs/{digest}"), &[DeleteBlob]),
            ("POST", "/v2/web/blobs/uploads/".to_owned(), &[StartUpload]),
            ("POST", format!("/v2/web/blobs/uploads/?mount={digest}&from=api"), &[StartUpload]),
            (
                "POST",
                format!("/v2/web/blobs/uploads/?digest={digest}"),
                &[StartUpload, UploadPart, CompleteUpload],
            ),
            ("GET", upload.to_owned(), &[UploadPart]),
            ("PATCH", upload.to_owned(), &[UploadPart]),
            ("DELETE", upload.to_owned(), &[UploadPart]),
            ("PUT", format!("{upload}?digest={digest}"), &[UploadPart, CompleteUpload]),
        ] {
            let uri: Uri = path.parse().unwrap();
            let method = method.parse().unwrap();
            let endpoint = Route::parse(&uri).unwrap().endpoint;
            assert_eq!(operations(&method, &endpoint, &uri), needed, "{method} {path}");
        }
    }
}
