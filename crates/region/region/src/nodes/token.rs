//! CreateJoinToken, ListJoinTokens, RevokeJoinToken.

use aws_wire::{ApiError, Caller};
use control::{Config, Permission};
use longshore_types::{AccountId, Timestamp, Token};
use model::JoinToken;
use model::instance::FARGATE_ATTRIBUTE;
use model::node::NodePlan;
use store::Batch;

use super::Nodes;
use super::decide::over;
use super::shapes::{
    CreateJoinToken, CreatedJoinToken, Done, Listed, ListedJoinToken, RevokeJoinToken,
};

const MINUTE_MS: u64 = 60_000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;
const VALID_MS_MAX: u64 = 366 * DAY_MS;
const KEY_MS_MAX: u64 = 366 * DAY_MS;
/// A key of less would be renewed all the time.
const KEY_MS_MIN: u64 = 10_000;
const ATTRIBUTES_MAX: usize = 10;
/// Tokens that are kept, those that are over included; the oldest of those makes room.
const TOKENS_MAX: usize = 1_000;

impl Nodes {
    pub(super) async fn create_token(
        &self,
        caller: &Caller,
        input: CreateJoinToken,
    ) -> Result<CreatedJoinToken, ApiError> {
        Self::check_owner(caller)?;
        let zone = input.zone.as_deref().map(|zone| self.zone(zone)).transpose()?;
        check(&input)?;
        let token = trust::JoinToken::mint(self.control.ids.as_ref(), self.authority());
        let plan = NodePlan {
            cluster: input.cluster,
            zone,
            attributes: input.attributes,
            key_ms: input.key_ms,
        };
        let permission = Permission::to("longshore:CreateJoinToken");
        let (id, hash) = (token.id(), token.hash());
        let expires_at = self
            .control
            .change(caller, &permission, |view, now| {
                let mut batch = Batch::on(view);
                make_room(view, &mut batch, now)?;
                let expires_at = now.plus_ms(input.valid_ms);
                batch.put(JoinToken {
                    account: caller.account,
                    id: id.as_str().into(),
                    hash: hash.clone(),
                    plan: plan.clone(),
                    created_at: now,
                    expires_at,
                    uses_max: input.uses_max,
                    uses: 0,
                    revoked_at: None,
                });
                Ok((batch, expires_at))
            })
            .await?;
        let token: Token = token.reveal();
        Ok(CreatedJoinToken { id, token, endpoint: self.control.endpoint(), expires_at })
    }

    pub(super) fn list_tokens(&self, caller: &Caller) -> Result<Listed<ListedJoinToken>, ApiError> {
        Self::check_owner(caller)?;
        let view = self.control.read(caller, &Permission::to("longshore:ListJoinTokens"))?;
        let mut items: Vec<ListedJoinToken> =
            view.join_tokens.of(caller.account).map(|row| listed(row, caller.now)).collect();
        items.sort_by_key(|item| item.created_at);
        Ok(Listed { items })
    }

    /// Nobody joins by it any more; who has joined keeps its keys.
    pub(super) async fn revoke_token(
        &self,
        caller: &Caller,
        input: RevokeJoinToken,
    ) -> Result<Done, ApiError> {
        Self::check_owner(caller)?;
        let permission = Permission::to("longshore:RevokeJoinToken");
        let account: AccountId = Config::root_account();
        self.control
            .change(caller, &permission, |view, now| {
                let mut batch = Batch::on(view);
                let row = view.join_tokens.get(account, &input.id.as_str().into());
                let Some(row) = row else {
                    let message = format!("There is no token with the id {}.", input.id);
                    return Err(ApiError::client("ResourceNotFoundException", message));
                };
                if row.revoked_at.is_none() {
                    batch.put(JoinToken { revoked_at: Some(now), ..JoinToken::clone(row) });
                }
                Ok((batch, Done {}))
            })
            .await
    }

    /// `b`, or the whole name of a zone of this region.
    fn zone(&self, given: &str) -> Result<String, ApiError> {
        let region = self.control.config.region.as_str();
        let letter = given.strip_prefix(region).unwrap_or(given);
        let is_letter = letter.len() == 1 && letter.bytes().all(|it| it.is_ascii_lowercase());
        if is_letter {
            return Ok(format!("{region}{letter}"));
        }
        Err(invalid(format!("The zone {given} is none of this region: write {region}a, or a.")))
    }
}

fn check(input: &CreateJoinToken) -> Result<(), ApiError> {
    if !(MINUTE_MS..=VALID_MS_MAX).contains(&input.valid_ms) {
        return Err(invalid("A token is good for a minute at least and for 366 days at most."));
    }
    if !(KEY_MS_MIN..=KEY_MS_MAX).contains(&input.key_ms) {
        return Err(invalid(
            "A host's key is good for ten seconds at least and for 366 days at most.",
        ));
    }
    if input.uses_max == Some(0) {
        return Err(invalid("A token that no host may join by is of no use."));
    }
    let is_reserved = |name: &String| {
        let is_ours = name.starts_with("ecs.") || name.starts_with("longshore.");
        is_ours && name != FARGATE_ATTRIBUTE
    };
    if let Some(name) = input.attributes.keys().find(|name| is_reserved(name)) {
        return Err(invalid(format!("The attribute {name} is not a token's to give.")));
    }
    if ATTRIBUTES_MAX < input.attributes.len() {
        return Err(invalid(format!("A token gives {ATTRIBUTES_MAX} attributes at most.")));
    }
    Ok(())
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidParameterException", message.into())
}

fn make_room(view: &model::View, batch: &mut Batch, now: Timestamp) -> Result<(), ApiError> {
    let account = Config::root_account();
    let rows: Vec<_> = view.join_tokens.of(account).collect();
    if rows.len() < TOKENS_MAX {
        return Ok(());
    }
    let over = rows.into_iter().filter(|row| over(row, now).is_some());
    let Some(oldest) = over.min_by_key(|row| row.created_at) else {
        let message = format!("There are {TOKENS_MAX} tokens that hosts can join by: revoke some.");
        return Err(ApiError::client("LimitExceededException", message));
    };
    batch.delete(model::Key::JoinToken(account, oldest.id.clone()));
    Ok(())
}

fn listed(row: &JoinToken, now: Timestamp) -> ListedJoinToken {
    use super::decide::Refusal;
    let over = over(row, now).map(|why| match why {
        Refusal::Revoked => "revoked",
        Refusal::Expired => "expired",
        Refusal::UsedUp | Refusal::Unknown | Refusal::Replayed | Refusal::Taken => "used up",
    });
    ListedJoinToken {
        id: row.id.to_string(),
        cluster: row.plan.cluster.to_string(),
        zone: row.plan.zone.clone(),
        attributes: row.plan.attributes.clone(),
        created_at: row.created_at,
        expires_at: row.expires_at,
        uses: row.uses,
        uses_max: row.uses_max,
        over: over.map(str::to_owned),
    }
}
