//! AWS KMS: symmetric keys, their aliases and policies, and what they encrypt.
//!
//! A key's material is in its row, wrapped by the region's root key; it leaves this process in no form. What it
//! encrypts for clients is bound to their encryption context. What other services of the region seal by the same keys
//! is in `control::kms`.
//!
//! **Invariants:** a key's policy or one of its grants must say yes to whatever is done with it, or pass the question on to
//! its account; a key that is destroyed takes its material with it.

mod aliases;
mod chores;
mod crypto;
mod errors;
mod grants;
mod keys;
mod limits;
mod pages;
mod policies;
mod rotation;
mod states;
mod tagged;
mod tags;

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use control::kms::{KeyRefusal, KeyUse, NamedKey};
use control::ports::{BoxFuture, RegionService};
use control::reconcile::Driver;
use control::{Control, Permission};
use kms_api as api;
use longshore_types::Timestamp;
use model::kms::KeyState;
use model::{KmsKey, View};
use store::Batch;

/// The service.
#[derive(Debug)]
pub struct Kms {
    pub control: Arc<Control>,
}

/// What a client binds a text to.
pub(crate) type EncryptionContext = BTreeMap<String, String>;

impl Kms {
    pub fn new(control: Arc<Control>) -> Self {
        Self { control }
    }

    /// The key that a request names, for a caller that may do `action` with it.
    pub(crate) fn key(
        &self,
        view: &View,
        caller: &Caller,
        action: &'static str,
        given: &str,
        context: &EncryptionContext,
        about: impl Fn(Permission) -> Permission,
    ) -> Result<NamedKey, ApiError> {
        match self.control.find_key(view, caller.account, given) {
            Ok(named) => {
                let asked = KeyUse { action, via: None, context };
                let permission = self.control.key_permission(caller, view, &named, &asked);
                self.control.authorize(view, caller, &about(permission))?;
                Ok(named)
            }
            Err(refusal) => {
                let permission = self.permission_on_nothing(caller, action, given);
                self.control.authorize(view, caller, &about(permission))?;
                Err(refusal.to_api())
            }
        }
    }

    /// For a key that is not there, and so has no policy.
    pub(crate) fn permission_on_nothing(
        &self,
        caller: &Caller,
        action: &'static str,
        given: &str,
    ) -> Permission {
        let arn = match given {
            arn if arn.starts_with("arn:") => arn.to_owned(),
            alias if alias.starts_with("alias/") => self.control.kms_arn(caller.account, alias),
            id => self.control.kms_arn(caller.account, &format!("key/{id}")),
        };
        Permission::to(action).on(arn)
    }

    /// The same to look at it.
    pub(crate) fn read(
        &self,
        caller: &Caller,
        action: &'static str,
        given: Option<String>,
    ) -> Result<(Arc<View>, Arc<KmsKey>), ApiError> {
        let (view, given) = (self.control.view(), given.unwrap_or_default());
        let named = self.key(&view, caller, action, &given, &EncryptionContext::new(), |it| it)?;
        check_not_alias(&named, &given)?;
        Ok((view, named.key))
    }

    /// Changes a key for a caller that may do so, and writes what became of it.
    pub(crate) async fn change<T: Send>(
        &self,
        caller: &Caller,
        action: &'static str,
        given: &str,
        about: impl Fn(Permission) -> Permission + Send + Sync,
        change: impl Fn(&View, Timestamp, &mut KmsKey) -> Result<T, ApiError> + Send + Sync,
    ) -> Result<T, ApiError> {
        self.control
            .decide(|view, now| {
                let named = self.key(view, caller, action, given, &BTreeMap::new(), &about)?;
                check_not_alias(&named, given)?;
                let mut next = KmsKey::clone(&named.key);
                let mut batch = Batch::on(view);
                let answer = change(view, now, &mut next)?;
                if next != *named.key {
                    batch.put(next);
                }
                Ok((batch, answer))
            })
            .await
    }

    /// That a key is not about to be destroyed.
    pub(crate) fn check_lasting(&self, key: &KmsKey) -> Result<(), ApiError> {
        match key.state {
            KeyState::Enabled | KeyState::Disabled => Ok(()),
            KeyState::PendingDeletion(_) => {
                Err(KeyRefusal::PendingDeletion(self.control.key_arn(key)).to_api())
            }
        }
    }
}

/// A key is changed by its own name.
pub(crate) fn check_not_alias(named: &NamedKey, given: &str) -> Result<(), ApiError> {
    match named.alias {
        None => Ok(()),
        Some(_) => Err(KeyRefusal::NotAKeyId(given.to_owned()).to_api()),
    }
}

impl RegionService for Kms {
    fn service(&self) -> &'static Service {
        &api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(api::dispatch(self, caller, call))
    }

    fn register(self: Arc<Self>, driver: &mut Driver) {
        driver.register(chores::KeyChores(Arc::clone(&self.control)));
    }
}

api::forward! {
    Kms {
        cancel_key_deletion => states::cancel_key_deletion;
        create_alias => aliases::create_alias;
        create_grant => grants::create_grant;
        create_key => keys::create_key;
        decrypt => crypto::decrypt;
        delete_alias => aliases::delete_alias;
        describe_key => keys::describe_key;
        disable_key => states::disable_key;
        disable_key_rotation => rotation::disable_key_rotation;
        enable_key => states::enable_key;
        enable_key_rotation => rotation::enable_key_rotation;
        encrypt => crypto::encrypt;
        generate_data_key => crypto::generate_data_key;
        generate_data_key_without_plaintext => crypto::generate_data_key_without_plaintext;
        generate_random => crypto::generate_random;
        get_key_policy => policies::get_key_policy;
        get_key_rotation_status => rotation::get_key_rotation_status;
        list_aliases => aliases::list_aliases;
        list_grants => grants::list_grants;
        list_key_policies => policies::list_key_policies;
        list_key_rotations => rotation::list_key_rotations;
        list_keys => keys::list_keys;
        list_resource_tags => tags::list_resource_tags;
        list_retirable_grants => grants::list_retirable_grants;
        put_key_policy => policies::put_key_policy;
        re_encrypt => crypto::re_encrypt;
        retire_grant => grants::retire_grant;
        revoke_grant => grants::revoke_grant;
        rotate_key_on_demand => rotation::rotate_key_on_demand;
        schedule_key_deletion => states::schedule_key_deletion;
        tag_resource => tags::tag_resource;
        untag_resource => tags::untag_resource;
        update_alias => aliases::update_alias;
        update_key_description => keys::update_key_description;
    }
}

#[cfg(test)]
mod tests;
