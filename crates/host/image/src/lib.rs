//! Container images on this machine: what they are called, where their bytes lie, how they get here.
//!
//! [`Reference`] reads names as Docker does. [`BlobStore`] keeps content by its digest; the region's
//! registry uses it alone, [`ImageStore`] adds unpacked layers, which all images share and which
//! overlayfs mounts as they are. [`Puller`] brings an image from a registry, [`Pusher`] takes one
//! there, [`archive`] reads what `docker save` wrote. [`LayerSharing`] has hosts of a region give layers to each other.
//!
//! **Invariant:** what lies under its final name is complete, was verified against its digest and is
//! on disk. Everything else lies in directories that are swept when the store is opened.

#![allow(
    clippy::disallowed_types,
    reason = "maps that are looked up by key; no decision goes through them in order"
)]
#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests write files as they like"))]

pub mod archive;
mod blobs;
mod client;
mod config;
mod error;
mod evict;
mod flight;
mod format;
mod hash;
pub mod manifest;
mod mirrors;
mod progress;
mod pull;
mod push;
mod reference;
mod share;
mod shares;
mod store;
mod unpack;

pub use archive::{LoadedBlob, LoadedImage};
pub use blobs::{BlobError, BlobStore, BlobWriter, Mismatch};
pub use client::{
    Auth, Basic, ClientConfig, ClientError, Egress, NotARange, Range, Transport, Upstream,
};
pub use config::{HealthCheck, ImageConfig};
pub use error::{ImageError, PullError, PushError};
pub use flight::Flights;
pub use hash::Hasher;
pub use longshore_types::{Digest, ImageTag, RepositoryName};
pub use mirrors::Mirrors;
pub use progress::{Event, Progress};
pub use pull::{Puller, PullerConfig};
pub use push::Pusher;
pub use reference::{Reference, ReferenceError};
pub use share::{LAYER_PORT, LayerSharing, OfferedLayers, OfferedLimits, SharingConfig, Told};
pub use store::{Collected, ImageRecord, ImageStore, Lease, PulledImage, StoreConfig};
#[doc(hidden)]
pub use unpack::unpack_untrusted;
pub use unpack::{LayerError, LayerLimits, Ownership};
