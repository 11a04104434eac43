//! Amazon ECR: each operation in the file of its name; those on layers are together.
//!
//! Rows are read and written here and by [`catalog`]; bytes go through the registry.
//! What nothing acts on is refused in so many words, such as encryption with KMS. That images are to be scanned
//! alone is kept without effect where there is no scanner, since most who make repositories ask for it; see [`scanning`].

mod account_settings;
mod authorizer;
mod batch_delete_image;
mod batch_get_image;
pub mod catalog;
mod create_repository;
mod delete_repository;
mod describe_images;
mod describe_registry;
mod describe_repositories;
mod errors;
mod get_authorization_token;
mod layers;
mod lifecycle;
mod limits;
mod list_images;
mod making;
#[cfg(test)]
mod making_tests;
mod pages;
mod policies;
mod pull_through;
mod put_image;
mod put_image_tag_mutability;
mod request;
#[cfg(test)]
mod rights_tests;
mod scanning;
mod sweep;
mod tag_resource;
mod tagged;
mod templates;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod told;

use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use catalog::RegionRegistry;
use control::Control;
use control::ports::{BoxFuture, EventSource, RegionService};
use control::reconcile::Driver;
use ecr_api::SERVICE;
use image::{Digest, Egress};
use registry::Holders;
use trust::{Fingerprint, LayerHolder};

pub use authorizer::RegionAuthorizer;
use pull_through::PullThrough;

/// The service with its registry.
#[derive(Debug)]
pub struct Ecr {
    pub control: Arc<Control>,
    pub registry: Arc<RegionRegistry>,
    pull_through: Arc<PullThrough>,
}

impl Ecr {
    /// `egress` says where images may be fetched from.
    pub fn new(control: Arc<Control>, registry: Arc<RegionRegistry>, egress: Egress) -> Self {
        let pull_through = PullThrough::new(Arc::clone(&control), &registry, egress);
        registry.supply_by(Arc::clone(&pull_through) as _);
        registry.held_by(Arc::new(KnownHolders(Arc::clone(&control))));
        Self { control, registry, pull_through }
    }
}

/// The region's directory of layers.
#[derive(Debug)]
struct KnownHolders(Arc<Control>);

impl Holders for KnownHolders {
    fn of(&self, layer: &Digest, asker: &Fingerprint) -> Vec<LayerHolder> {
        self.0.layers.holders(layer, asker, self.0.clock.now())
    }
}

impl RegionService for Ecr {
    fn service(&self) -> &'static Service {
        &SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(ecr_api::dispatch(self, caller, call))
    }

    fn event_source(&self) -> Option<&'static dyn EventSource> {
        Some(&told::EcrEvents)
    }

    fn register(self: Arc<Self>, driver: &mut Driver) {
        driver.register(lifecycle::Lifecycles::of(Arc::clone(&self)));
        if let Some(command) = self.control.config.image_scanner.clone() {
            self.clear_layouts();
            driver.register(scanning::Scans { ecr: Arc::clone(&self), command });
        }
        driver.register(sweep::RegistrySweep { ecr: self });
    }
}

ecr_api::forward! {
    Ecr {
        batch_check_layer_availability => layers::batch_check_layer_availability;
        batch_delete_image => batch_delete_image::batch_delete_image;
        batch_get_image => batch_get_image::batch_get_image;
        batch_get_repository_scanning_configuration => scanning::batch_get_repository_scanning_configuration;
        complete_layer_upload => layers::complete_layer_upload;
        create_pull_through_cache_rule => pull_through::create_pull_through_cache_rule;
        create_repository => create_repository::create_repository;
        create_repository_creation_template => templates::create_repository_creation_template;
        delete_lifecycle_policy => lifecycle::delete_lifecycle_policy;
        delete_pull_through_cache_rule => pull_through::delete_pull_through_cache_rule;
        delete_registry_policy => policies::delete_registry_policy;
        delete_repository => delete_repository::delete_repository;
        delete_repository_creation_template => templates::delete_repository_creation_template;
        delete_repository_policy => policies::delete_repository_policy;
        describe_image_scan_findings => scanning::describe_image_scan_findings;
        describe_images => describe_images::describe_images;
        describe_pull_through_cache_rules => pull_through::describe_pull_through_cache_rules;
        describe_registry => describe_registry::describe_registry;
        describe_repositories => describe_repositories::describe_repositories;
        describe_repository_creation_templates => templates::describe_repository_creation_templates;
        get_account_setting => account_settings::get_account_setting;
        get_authorization_token => get_authorization_token::get_authorization_token;
        get_download_url_for_layer => layers::get_download_url_for_layer;
        get_lifecycle_policy => lifecycle::get_lifecycle_policy;
        get_lifecycle_policy_preview => lifecycle::get_lifecycle_policy_preview;
        get_registry_policy => policies::get_registry_policy;
        get_registry_scanning_configuration => scanning::get_registry_scanning_configuration;
        get_repository_policy => policies::get_repository_policy;
        initiate_layer_upload => layers::initiate_layer_upload;
        list_images => list_images::list_images;
        list_tags_for_resource => tag_resource::list_tags_for_resource;
        put_account_setting => account_settings::put_account_setting;
        put_image => put_image::put_image;
        put_image_scanning_configuration => scanning::put_image_scanning_configuration;
        put_image_tag_mutability => put_image_tag_mutability::put_image_tag_mutability;
        put_lifecycle_policy => lifecycle::put_lifecycle_policy;
        put_registry_policy => policies::put_registry_policy;
        put_registry_scanning_configuration => scanning::put_registry_scanning_configuration;
        put_replication_configuration => describe_registry::put_replication_configuration;
        set_repository_policy => policies::set_repository_policy;
        start_image_scan => scanning::start_image_scan;
        start_lifecycle_policy_preview => lifecycle::start_lifecycle_policy_preview;
        tag_resource => tag_resource::tag_resource;
        untag_resource => tag_resource::untag_resource;
        update_pull_through_cache_rule => pull_through::update_pull_through_cache_rule;
        update_repository_creation_template => templates::update_repository_creation_template;
        upload_layer_part => layers::upload_layer_part;
        validate_pull_through_cache_rule => pull_through::validate_pull_through_cache_rule;
    }
}
