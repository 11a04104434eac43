//! Who speaks to the registry, and what they may do: a password acts as whoever asked for it, with what
//! policies allow them at the moment of each request.
//!
//! A password is good for as long as the key that it was asked for with: a key that is made inactive, a user or a role that
//! is deleted, take it with them.

use std::sync::Arc;

use aws_wire::{ApiError, Caller, Origin};
use control::access::traveller;
use control::{Control, Permission};
use longshore_types::{AccountId, Digest, RepositoryName, Timestamp, Uuid};
use registry::{
    Admitted, Authorizer, Login, Operation, RegistryError, Repository, Target, TokenKey,
};

use crate::create_repository::{check_key, of_key};
use crate::request::repository_arn;

/// As long as ECR's.
const PASSWORD_MS: u64 = 12 * 3600 * 1000;

/// Lets in whoever shows a password or a grant that this region signed.
#[derive(Debug)]
pub struct RegionAuthorizer {
    key: TokenKey,
    control: Arc<Control>,
}

impl RegionAuthorizer {
    pub(crate) fn new(control: &Arc<Control>) -> Self {
        let secret = control.access.keys.registry_secret.reveal();
        Self { key: TokenKey::from_secret(secret.as_bytes()), control: Arc::clone(control) }
    }

    /// A password that opens a registry to its caller, and until when. It does not outlive the caller's key.
    pub(crate) fn password(&self, caller: &Caller, registry: AccountId) -> (String, Timestamp) {
        let Control { access, ids, .. } = &*self.control;
        let login = Login {
            registry,
            access_key: caller.access_key.clone(),
            session_token: access.session_token(ids.as_ref(), caller),
        };
        let longest = caller.now.plus_ms(PASSWORD_MS);
        let key = self.find(&login);
        let expires = key.and_then(|key| key.expires).map_or(longest, |ends| ends.min(longest));
        (self.key.password(&login, expires), expires)
    }

    fn find(&self, login: &Login) -> Option<control::AccessKey> {
        let view = self.control.view();
        self.control.access.find(&view, &login.access_key, login.session_token.as_deref())
    }

    /// What lets anybody download one layer until `expires`.
    pub(crate) fn layer_grant(
        &self,
        repository: &Repository,
        digest: &Digest,
        expires: Timestamp,
    ) -> String {
        self.key.grant(repository.account, &repository.name, digest, expires)
    }
}

impl Authorizer for RegionAuthorizer {
    type Caller = Caller;

    fn admit(&self, user: &str, password: &str, origin: &Origin) -> Option<Admitted<Caller>> {
        let now = self.control.clock.now();
        let login = self.key.check_password(user, password, now)?;
        let key = self.find(&login)?;
        if key.expires.is_some_and(|ends| ends <= now) {
            return None;
        }
        let caller = Caller {
            account: key.account,
            region: self.control.config.region.clone(),
            access_key: login.access_key,
            principal: key.principal,
            session: key.session,
            origin: origin.clone(),
            request_id: Uuid::mint(self.control.ids.as_ref()),
            now,
        };
        origin.trail.is_of(traveller(&caller));
        Some(Admitted { registry: login.registry, account: key.account, caller })
    }

    fn grant(&self, grant: &str, name: &RepositoryName, digest: &Digest) -> Option<AccountId> {
        let account = self.key.check_grant(grant, name, digest, self.control.clock.now())?;
        let view = self.control.view();
        let row = view.ecr_repositories.get(account, name)?;
        // It may have been given before the key was taken away.
        check_key(&self.control, &view, row).ok().map(|()| account)
    }

    fn authorize(
        &self,
        caller: &Caller,
        operation: Operation,
        on: Target<'_>,
    ) -> Result<(), RegistryError> {
        let region = &self.control.config.region;
        let resource = match on {
            Target::Registry(account) => repository_arn(region, account, "*"),
            Target::Repository(at) => repository_arn(region, at.account, at.name.as_str()),
        };
        let permission = Permission::to(action(operation)).on(resource);
        let view = self.control.read(caller, &permission).map_err(refusal)?;
        if let Target::Repository(at) = on
            && needs_key(operation)
            && let Some(row) = view.ecr_repositories.get(at.account, &at.name)
        {
            let ready = check_key(&self.control, &view, row);
            ready.map_err(|why| RegistryError::Denied(of_key(why).message))?;
        }
        Ok(())
    }
}

pub(crate) fn refusal(error: ApiError) -> RegistryError {
    match error.is_fault() {
        true => RegistryError::Unauthorizable(Box::new(error)),
        false => RegistryError::Denied(error.message),
    }
}

/// Whether it reads or writes what a repository's key is for.
fn needs_key(operation: Operation) -> bool {
    match operation {
        Operation::GetManifest
        | Operation::PutManifest
        | Operation::GetBlob
        | Operation::StartUpload
        | Operation::UploadPart
        | Operation::CompleteUpload => true,
        Operation::ListRepositories
        | Operation::ListTags
        | Operation::ListReferrers
        | Operation::DeleteManifest
        | Operation::DeleteBlob
        | Operation::CheckBlob => false,
    }
}

/// ECR's name for what a request of the protocol does.
fn action(operation: Operation) -> &'static str {
    match operation {
        Operation::ListRepositories => "ecr:DescribeRepositories",
        Operation::ListTags => "ecr:ListImages",
        Operation::ListReferrers => "ecr:ListImageReferrers",
        Operation::GetManifest => "ecr:BatchGetImage",
        Operation::PutManifest => "ecr:PutImage",
        Operation::DeleteManifest | Operation::DeleteBlob => "ecr:BatchDeleteImage",
        Operation::CheckBlob => "ecr:BatchCheckLayerAvailability",
        Operation::GetBlob => "ecr:GetDownloadUrlForLayer",
        Operation::StartUpload => "ecr:InitiateLayerUpload",
        Operation::UploadPart => "ecr:UploadLayerPart",
        Operation::CompleteUpload => "ecr:CompleteLayerUpload",
    }
}
