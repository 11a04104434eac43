//! The port to whoever knows which hosts have a layer: `HEAD …/blobs/DIGEST?holders-for=CERTIFICATE` is answered with those,
//! to who may have the layer itself.

use std::fmt::Debug;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method, Uri};
use image::Digest;
use trust::{Fingerprint, LayerHolder, write_holders};

use crate::answer::Answer;
use crate::auth::Authorizer;
use crate::catalog::Catalog;
use crate::route::query;
use crate::{By, Registry};

/// The query's name of who asks.
const ASKER: &str = "holders-for";
const HOLDERS: HeaderName = HeaderName::from_static("longshore-layer-holders");

/// Knows which hosts have a layer.
pub trait Holders: Send + Sync + Debug + 'static {
    /// Those that give it to the host that shows this certificate, in the order in which it shall ask them.
    fn of(&self, layer: &Digest, asker: &Fingerprint) -> Vec<LayerHolder>;
}

/// The certificate of a host that asks who has a layer.
pub(crate) fn asker(uri: &Uri) -> Option<Fingerprint> {
    query(uri).get(ASKER)?.parse().ok()
}

impl<C: Catalog, A: Authorizer> Registry<C, A> {
    /// Has `holders` asked from now on; only the first one counts.
    pub fn held_by(&self, holders: Arc<dyn Holders>) {
        // A second one has no place.
        drop(self.holders.set(holders));
    }

    /// Adds to the answer about a layer that the caller may have who else has it.
    pub(crate) fn with_holders(
        &self,
        mut answer: Answer,
        by: &By<A::Caller>,
        (method, uri): (&Method, &Uri),
        layer: &Digest,
    ) -> Answer {
        let (Some(holders), By::Caller(_), &Method::HEAD) = (self.holders.get(), by, method) else {
            return answer;
        };
        let known = asker(uri).map(|asker| holders.of(layer, &asker)).unwrap_or_default();
        if let Ok(text) = HeaderValue::from_str(&write_holders(&known))
            && !known.is_empty()
        {
            answer.headers_mut().insert(HOLDERS, text);
        }
        answer
    }
}
