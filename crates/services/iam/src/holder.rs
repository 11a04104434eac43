//! Users, groups and roles alike: what has policies. Their inline policies and attachments are handled here
//! once for all three.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::iam::policy_of;
use iam_api as api;
use longshore_types::AccountId;
use model::{Grants, IamGroup, IamRole, IamUser, NameKey, Row, View};

use crate::Iam;
use crate::errors::{Refusal, quota};
use crate::limits::ATTACHED_MAX;
use crate::pages::{Page, page};
use crate::read;
use crate::render;

/// What has policies.
pub(crate) trait Holder: Clone + Into<Row> + Send + Sync + 'static {
    /// `user`, as in messages and ARNs.
    const KIND: &'static str;
    /// Characters of all its inline policies together.
    const INLINE_MAX: usize;

    fn find<'a>(view: &'a View, account: AccountId, name: &str) -> Option<&'a Arc<Self>>;
    fn arn(&self) -> String;
    fn grants(&self) -> &Grants;
    fn grants_mut(&mut self) -> &mut Grants;

    /// The service that alone may change it.
    fn owner(&self) -> Option<&str> {
        None
    }

    fn need<'a>(view: &'a View, account: AccountId, name: &str) -> Result<&'a Arc<Self>, ApiError> {
        Self::find(view, account, name)
            .ok_or_else(|| Refusal::Missing(Self::KIND.to_owned(), name.to_owned()).wire())
    }

    /// One that users may change.
    fn need_own<'a>(
        view: &'a View,
        account: AccountId,
        name: &str,
    ) -> Result<&'a Arc<Self>, ApiError> {
        let row = Self::need(view, account, name)?;
        match row.owner() {
            Some(_) => Err(Refusal::AmazonsRole(name.to_owned()).wire()),
            None => Ok(row),
        }
    }

    /// An action on it. One that is not there has an ARN without a path.
    fn permission(view: &View, caller: &Caller, action: &'static str, name: &str) -> Permission {
        let arn = Self::find(view, caller.account, name).map(|row| row.arn());
        let kind = Self::KIND;
        let arn = arn.unwrap_or_else(|| format!("arn:aws:iam::{}:{kind}/{name}", caller.account));
        Permission::to(action).on(arn).shown_as(format!("{kind} {name}"))
    }
}

macro_rules! holder {
    ($row:ident, $table:ident, $kind:literal, $max:ident) => {
        impl Holder for $row {
            const KIND: &'static str = $kind;
            const INLINE_MAX: usize = policy::limits::$max;

            fn find<'a>(view: &'a View, account: AccountId, name: &str) -> Option<&'a Arc<Self>> {
                let row = view.$table.get(account, &NameKey::of(name));
                row.filter(|row| &*row.name == name)
            }

            fn arn(&self) -> String {
                self.arn()
            }

            fn grants(&self) -> &Grants {
                &self.grants
            }

            fn grants_mut(&mut self) -> &mut Grants {
                &mut self.grants
            }
        }
    };
}

holder!(IamUser, iam_users, "user", USER_INLINE_MAX);
holder!(IamGroup, iam_groups, "group", GROUP_INLINE_MAX);

impl Holder for IamRole {
    const KIND: &'static str = "role";
    const INLINE_MAX: usize = policy::limits::ROLE_INLINE_MAX;

    fn find<'a>(view: &'a View, account: AccountId, name: &str) -> Option<&'a Arc<Self>> {
        view.iam_roles.get(account, &NameKey::of(name)).filter(|row| &*row.name == name)
    }

    fn arn(&self) -> String {
        self.arn()
    }

    fn grants(&self) -> &Grants {
        &self.grants
    }

    fn grants_mut(&mut self) -> &mut Grants {
        &mut self.grants
    }

    fn owner(&self) -> Option<&str> {
        self.service.as_deref()
    }
}

impl Iam {
    /// Changes what has policies.
    pub(crate) async fn change_holder<H: Holder>(
        &self,
        caller: &Caller,
        name: &str,
        permission: impl Fn(Permission) -> Permission + Send + Sync,
        action: &'static str,
        change: impl Fn(&View, &mut H) -> Result<(), ApiError> + Send + Sync,
    ) -> Result<(), ApiError> {
        let account = caller.account;
        let permission = |view: &View| permission(H::permission(view, caller, action, name));
        self.change(caller, permission, |view, _, batch| {
            let row = H::need_own(view, account, name)?;
            let mut next = H::clone(row);
            change(view, &mut next)?;
            batch.put(next);
            Ok(())
        })
        .await
    }

    pub(crate) async fn put_inline<H: Holder>(
        &self,
        caller: &Caller,
        action: &'static str,
        name: Option<String>,
        policy_name: Option<String>,
        document: Option<String>,
    ) -> Result<(), ApiError> {
        let (name, policy_name) = (name.unwrap_or_default(), policy_name.unwrap_or_default());
        let text = read::document(document.as_deref())?;
        self.change_holder::<H>(
            caller,
            &name,
            |it| it,
            action,
            |_, row| {
                let inline = &mut row.grants_mut().inline;
                inline.insert(policy_name.clone(), text.clone());
                let size = |text: &model::PolicyText| policy::limits::counted_size(text.text());
                let all: usize = inline.values().map(size).sum();
                if H::INLINE_MAX < all {
                    return Err(Refusal::InlineSize(H::INLINE_MAX, H::KIND, name.clone()).wire());
                }
                Ok(())
            },
        )
        .await
    }

    pub(crate) async fn delete_inline<H: Holder>(
        &self,
        caller: &Caller,
        action: &'static str,
        name: Option<String>,
        policy_name: Option<String>,
    ) -> Result<(), ApiError> {
        let (name, policy_name) = (name.unwrap_or_default(), policy_name.unwrap_or_default());
        self.change_holder::<H>(
            caller,
            &name,
            |it| it,
            action,
            |_, row| match row.grants_mut().inline.remove(&policy_name) {
                Some(_) => Ok(()),
                None => Err(missing_inline::<H>(&policy_name)),
            },
        )
        .await
    }

    /// The document of an inline policy, as it is shown.
    pub(crate) fn get_inline<H: Holder>(
        &self,
        caller: &Caller,
        action: &'static str,
        name: &str,
        policy_name: &str,
    ) -> Result<String, ApiError> {
        let view = self.read(caller, |view| H::permission(view, caller, action, name))?;
        let row = H::need(&view, caller.account, name)?;
        let text = row.grants().inline.get(policy_name);
        let text = text.ok_or_else(|| missing_inline::<H>(policy_name))?;
        Ok(render::encoded(text.text()))
    }

    pub(crate) fn list_inline<H: Holder>(
        &self,
        caller: &Caller,
        action: &'static str,
        name: Option<String>,
        marker: Option<String>,
        max_items: Option<i32>,
    ) -> Result<Page<String>, ApiError> {
        let name = name.unwrap_or_default();
        let view = self.read(caller, |view| H::permission(view, caller, action, &name))?;
        let row = H::need(&view, caller.account, &name)?;
        let names = row.grants().inline.keys().map(|name| (name.clone(), name.clone()));
        page(marker, max_items, names)
    }

    pub(crate) async fn attach<H: Holder>(
        &self,
        caller: &Caller,
        action: &'static str,
        name: Option<String>,
        arn: Option<String>,
    ) -> Result<(), ApiError> {
        let name = name.unwrap_or_default();
        let arn: Arc<str> = read::policy_arn(caller.account, arn)?.into();
        let about = |it: Permission| it.with("iam:PolicyARN", arn.to_string());
        self.change_holder::<H>(caller, &name, about, action, |view, row| {
            if policy_of(view, &arn).is_none() {
                return Err(Refusal::NotAttachable(arn.to_string()).wire());
            }
            if arn.starts_with("arn:aws:iam::aws:policy/aws-service-role/") {
                return Err(Refusal::ServiceRolePolicy(H::KIND).wire());
            }
            let attached = &mut row.grants_mut().attached;
            if attached.contains(&arn) {
                return Ok(());
            }
            if ATTACHED_MAX <= attached.len() {
                let mut kind = H::KIND.to_owned();
                kind[..1].make_ascii_uppercase();
                return Err(quota(format!("PoliciesPer{kind}"), ATTACHED_MAX));
            }
            attached.push(Arc::clone(&arn));
            Ok(())
        })
        .await
    }

    pub(crate) async fn detach<H: Holder>(
        &self,
        caller: &Caller,
        action: &'static str,
        name: Option<String>,
        arn: Option<String>,
    ) -> Result<(), ApiError> {
        let name = name.unwrap_or_default();
        let arn = read::policy_arn(caller.account, arn)?;
        let about = |it: Permission| it.with("iam:PolicyARN", arn.clone());
        self.change_holder::<H>(caller, &name, about, action, |_, row| {
            let attached = &mut row.grants_mut().attached;
            let before = attached.len();
            attached.retain(|each| **each != *arn);
            match attached.len() < before {
                true => Ok(()),
                false => Err(Refusal::MissingPolicy(arn.to_string()).wire()),
            }
        })
        .await
    }

    pub(crate) fn list_attached<H: Holder>(
        &self,
        caller: &Caller,
        action: &'static str,
        name: Option<String>,
        path_prefix: Option<String>,
        marker: Option<String>,
        max_items: Option<i32>,
    ) -> Result<Page<api::AttachedPolicy>, ApiError> {
        let name = name.unwrap_or_default();
        let view = self.read(caller, |view| H::permission(view, caller, action, &name))?;
        let row = H::need(&view, caller.account, &name)?;
        let prefix = path_prefix.unwrap_or_else(|| "/".to_owned());
        let is_in = |policy: &api::AttachedPolicy| {
            let arn = policy.policy_arn.as_deref().unwrap_or_default();
            arn.split_once(":policy").is_some_and(|(_, path)| path.starts_with(&prefix))
        };
        let attached = render::attached(row.grants()).into_iter().filter(is_in);
        let key = |policy: &api::AttachedPolicy| {
            let (name, arn) = (policy.policy_name.as_deref(), policy.policy_arn.as_deref());
            format!("{} {}", name.unwrap_or_default(), arn.unwrap_or_default())
        };
        page(marker, max_items, attached.map(|policy| (key(&policy), policy)))
    }
}

fn missing_inline<H: Holder>(name: &str) -> ApiError {
    Refusal::Missing(format!("{} policy", H::KIND), name.to_owned()).wire()
}
