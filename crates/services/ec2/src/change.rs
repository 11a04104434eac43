//! What every change of the network has in common: one view, what is found on it and relied on, and the rows that
//! are to be written.

use std::str::FromStr;
use std::sync::Arc;

use aws_wire::codec::Record;
use aws_wire::{ApiError, Caller};
use control::Permission;
use ec2_api as api;
use longshore_types::{AccountId, IdSource, RegionName, Timestamp, VpcId};
use model::network::{
    DhcpOptions, InternetGateway, Network, NetworkAcl, RouteTable, SubnetRow, VpcRow,
};
use model::{ClientToken, ClientTokenId, Ec2Tags, Index, Key, Row, Tags};
use sha2::{Digest, Sha256};
use store::Batch;

use crate::Ec2;
use crate::errors::{Kind, Refusal, unless_dry};
use crate::refusal::NetworkRefusal;
use crate::tags;

/// One decision about the network of an account.
pub(crate) struct Change<'v> {
    pub(crate) network: Network<'v>,
    pub(crate) batch: Batch,
    pub(crate) now: Timestamp,
    pub(crate) ids: &'v dyn IdSource,
    pub(crate) account: AccountId,
    pub(crate) region: &'v RegionName,
    /// Whether all of the default VPC becomes rows with it.
    changes_default: bool,
}

impl Ec2 {
    /// Has a change made, for a caller that may have it made.
    pub(crate) async fn change<T: Send>(
        &self,
        caller: &Caller,
        permission: &Permission,
        dry_run: Option<bool>,
        mut make: impl FnMut(&mut Change<'_>) -> Result<T, Refusal> + Send,
    ) -> Result<T, ApiError> {
        let decided = self.control.change(caller, permission, |view, now| {
            let mut change = Change {
                network: self.control.network(view, caller.account),
                batch: Batch::on(view),
                now,
                ids: self.control.ids.as_ref(),
                account: caller.account,
                region: &caller.region,
                changes_default: false,
            };
            let made = make(&mut change)?;
            unless_dry(dry_run)?;
            change.write_default();
            Ok((change.batch, made))
        });
        decided.await
    }
}

/// An id that a request must name.
pub(crate) fn id_of<T: FromStr>(
    kind: Kind,
    parameter: &'static str,
    given: Option<&str>,
) -> Result<T, Refusal> {
    let given = given.filter(|given| !given.is_empty()).ok_or(Refusal::Parameter(parameter))?;
    given.parse().map_err(|_| Refusal::Malformed(kind, given.to_owned()))
}

/// A thing of a kind by the id that a request names: it is there, and stays for as long as the decision holds.
macro_rules! named {
    ($($one:ident: $row:ty, $kind:expr, $parameter:literal, $key:path;)*) => {
        impl Change<'_> {
            $(
                pub(crate) fn $one(&mut self, given: Option<&str>) -> Result<Arc<$row>, Refusal> {
                    let id = id_of($kind, $parameter, given)?;
                    let found = self.network.$one(&id);
                    let found = found.ok_or_else(|| $kind.refused()(&id.to_string()))?;
                    self.batch.rely($key(self.account, id));
                    Ok(found)
                }
            )*
        }
    };
}

named! {
    vpc: VpcRow, Kind::Vpc, "vpcId", Key::Vpc;
    subnet: SubnetRow, Kind::Subnet, "subnetId", Key::Subnet;
    table: RouteTable, Kind::RouteTable, "routeTableId", Key::RouteTable;
    gateway: InternetGateway, Kind::InternetGateway, "internetGatewayId", Key::InternetGateway;
    acl: NetworkAcl, Kind::NetworkAcl, "networkAclId", Key::NetworkAcl;
    dhcp: DhcpOptions, Kind::DhcpOptions, "dhcpOptionsId", Key::DhcpOptions;
}

impl Change<'_> {
    pub(crate) fn put(&mut self, row: impl Into<Row>) {
        self.batch.put(row);
    }

    /// Deletes a row, and the tags of what it is about.
    pub(crate) fn delete(&mut self, key: Key) {
        let id: Arc<str> = key.id_text().into();
        if self.network.view().tags_on(self.account, &id).is_some() {
            self.batch.delete(Key::Ec2Tags(self.account, id));
        }
        self.batch.delete(key);
    }

    /// Something in a VPC is changed, or made. The default one becomes rows with that, if it was none.
    pub(crate) fn change_vpc(&mut self, vpc: &VpcId) {
        let unchanged = self.network.unchanged_default();
        self.changes_default |= unchanged.is_some_and(|default| default.vpc.id == *vpc);
    }

    /// Adds what of the default VPC the change itself has not written.
    fn write_default(&mut self) {
        let Some(default) = self.network.unchanged_default().filter(|_| self.changes_default)
        else {
            return;
        };
        for row in default.rows() {
            let key = row.key();
            if !self.batch.writes.iter().any(|written| written.key() == key) {
                self.batch.put(row);
            }
        }
    }

    /// Nothing names a thing but what goes with it.
    pub(crate) fn check_unused(
        &mut self,
        what: &'static str,
        id: &str,
        goes_too: &[Key],
    ) -> Result<(), Refusal> {
        self.batch.rely(Index::Ec2Uses(self.account, id.into()));
        let others = self.network.users(id).filter(|key| !goes_too.contains(key));
        let by: Vec<String> = others.map(Key::id_text).collect();
        if by.is_empty() {
            return Ok(());
        }
        Err(NetworkRefusal::InUse { what, id: id.to_owned(), by }.into())
    }

    /// Gives a new thing its tags.
    pub(crate) fn tag(&mut self, id: &str, tags: &Tags) {
        if !tags.is_empty() {
            let (account, tags) = (self.account, tags.clone());
            self.batch.put(Ec2Tags { account, resource: id.into(), tags });
        }
    }

    /// What the same request made before, if its token was used; another request with the token is refused.
    pub(crate) fn made_before(&mut self, once: &Once) -> Result<Option<String>, Refusal> {
        let Some(token) = &once.0 else { return Ok(None) };
        let key = Key::ClientToken(self.account, token.call.clone());
        let earlier = self.network.view().client_tokens.get(self.account, &token.call);
        self.batch.rely(key);
        let Some(earlier) = earlier.filter(|earlier| self.now < earlier.expires_at) else {
            return Ok(None);
        };
        if earlier.request_digest != token.request_digest {
            return Err(NetworkRefusal::TokenOfAnother.into());
        }
        Ok(earlier.made.first().cloned())
    }

    /// Remembers what a request with a token made.
    pub(crate) fn remember(&mut self, once: &Once, id: &str) {
        if let Some(token) = &once.0 {
            self.batch.put(ClientToken { made: vec![id.to_owned()], ..token.clone() });
        }
    }
}

/// A request that makes one thing, however often it is sent with its token.
pub(crate) struct Once(Option<ClientToken>);

impl Once {
    /// `request` without its token.
    pub(crate) fn new<R: Record>(
        ec2: &Ec2,
        caller: &Caller,
        operation: &str,
        token: Option<&String>,
        request: &R,
    ) -> Self {
        let token = token.filter(|token| !token.is_empty());
        Self(token.map(|token| ClientToken {
            account: caller.account,
            call: ClientTokenId { operation: operation.to_owned(), token: token.clone() },
            request_digest: hex::encode(Sha256::digest(aws_wire::json::to_vec(request))),
            made: vec![],
            expires_at: caller.now.plus_ms(ec2.control.config.retention.client_tokens_ms),
        }))
    }
}

/// A request that makes something with tags.
pub(crate) struct Make {
    tags: Result<Tags, Refusal>,
    action: &'static str,
    arn: String,
}

impl Make {
    /// `kind` as it is in ARNs and in TagSpecifications.
    pub(crate) fn new(
        caller: &Caller,
        action: &'static str,
        kind: &'static str,
        given: Option<&[api::TagSpecification]>,
    ) -> Self {
        Self { tags: tags::specified(given, kind), action, arn: arn(caller, kind, "*") }
    }

    pub(crate) fn permission(&self, caller: &Caller) -> Permission {
        let requested = self.tags.as_ref().ok().cloned().unwrap_or_default();
        Permission::to(self.action).on(self.arn.clone()).tagging_new(
            caller,
            "ec2:CreateTags",
            self.arn.clone(),
            &requested,
        )
    }

    pub(crate) fn tags(&self) -> Result<Tags, Refusal> {
        self.tags.clone()
    }
}

/// What permissions are asked on; everything of the kind where a request names none.
pub(crate) fn arn(caller: &Caller, kind: &str, id: &str) -> String {
    let id = if id.is_empty() { "*" } else { id };
    format!("arn:aws:ec2:{}:{}:{kind}/{id}", caller.region, caller.account)
}

/// A permission on one thing that a request names.
pub(crate) fn on(
    caller: &Caller,
    action: &'static str,
    kind: &str,
    id: Option<&String>,
) -> Permission {
    Permission::to(action).on(arn(caller, kind, id.map_or("", String::as_str)))
}
