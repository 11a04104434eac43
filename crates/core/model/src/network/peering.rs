//! Connections between two VPCs.

use std::sync::Arc;

use longshore_types::{AccountId, SecurityGroupId, Timestamp, VpcId, VpcPeeringId};
use serde::{Deserialize, Serialize};
use traffic::feed::Vni;

use crate::rows::{Key, View};
use crate::table::Record;
use crate::view::Index;

/// How long a request waits for an answer.
pub const PEERING_EXPIRES_MS: u64 = 7 * 24 * 3_600_000;

/// A connection between two VPCs, or the request for one. It is the requester's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VpcPeering {
    pub id: VpcPeeringId,
    pub requester: PeeringEnd,
    pub accepter: PeeringEnd,
    pub state: PeeringState,
    pub created_at: Timestamp,
}

/// A VPC at an end of a connection, and what its owner allows the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeeringEnd {
    pub account: AccountId,
    pub vpc: VpcId,
    /// Whether public names of its interfaces lead, asked at the other end, to their own addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allows_names: bool,
}

/// As it was written: that a request has expired follows from the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PeeringState {
    Pending,
    Active,
    #[serde(rename_all = "camelCase")]
    Rejected {
        at: Timestamp,
    },
    #[serde(rename_all = "camelCase")]
    Deleted {
        at: Timestamp,
        by: AccountId,
    },
    #[serde(rename_all = "camelCase")]
    Failed {
        at: Timestamp,
    },
}

/// How a connection is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeeringStatus {
    Pending,
    Active,
    Rejected,
    Deleted,
    Failed,
    Expired,
}

impl PeeringStatus {
    /// EC2's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending-acceptance",
            Self::Active => "active",
            Self::Rejected => "rejected",
            Self::Deleted => "deleted",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }
}

impl VpcPeering {
    pub fn expires_at(&self) -> Timestamp {
        self.created_at.plus_ms(PEERING_EXPIRES_MS)
    }

    pub fn status(&self, now: Timestamp) -> PeeringStatus {
        match self.state {
            PeeringState::Pending if self.expires_at() <= now => PeeringStatus::Expired,
            PeeringState::Pending => PeeringStatus::Pending,
            PeeringState::Active => PeeringStatus::Active,
            PeeringState::Rejected { .. } => PeeringStatus::Rejected,
            PeeringState::Deleted { .. } => PeeringStatus::Deleted,
            PeeringState::Failed { .. } => PeeringStatus::Failed,
        }
    }

    /// When it came to an end; it is shown for a while after.
    pub fn ended_at(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state {
            PeeringState::Pending => Some(self.expires_at()).filter(|ended| *ended <= now),
            PeeringState::Active => None,
            PeeringState::Rejected { at }
            | PeeringState::Deleted { at, .. }
            | PeeringState::Failed { at } => Some(at),
        }
    }

    pub fn is_active(&self) -> bool {
        self.state == PeeringState::Active
    }

    /// Its end at a VPC, and the other one.
    pub fn seen_from(&self, vpc: &VpcId) -> Option<(&PeeringEnd, &PeeringEnd)> {
        let ends = [(&self.requester, &self.accepter), (&self.accepter, &self.requester)];
        ends.into_iter().find(|(near, _)| near.vpc == *vpc)
    }

    /// The numbers of packets to its end at a VPC, and to the other one.
    pub fn numbers_from(&self, vpc: &VpcId) -> [Vni; 2] {
        let [requester, accepter] = Vni::of_peering(&self.id);
        if self.requester.vpc == *vpc { [requester, accepter] } else { [accepter, requester] }
    }

    pub fn has(&self, account: AccountId) -> bool {
        self.requester.account == account || self.accepter.account == account
    }
}

impl Record for VpcPeering {
    type Id = VpcPeeringId;

    fn account(&self) -> AccountId {
        self.requester.account
    }

    fn id(&self) -> VpcPeeringId {
        self.id.clone()
    }

    fn indexes(&self) -> Vec<Index> {
        let ends = [&self.requester, &self.accepter];
        let mut indexes = vec![Index::VpcPeerings(self.requester.account)];
        // Of one that has failed nobody else hears: whom it names need not even be there.
        let is_failed = matches!(self.state, PeeringState::Failed { .. });
        if !is_failed && self.accepter.account != self.requester.account {
            indexes.push(Index::VpcPeerings(self.accepter.account));
        }
        indexes.extend(Vni::of_peering(&self.id).map(|number| Index::VpcNumber(number.value())));
        // A request holds nobody's VPC.
        if self.is_active() {
            let uses = ends.map(|end| Index::Ec2Uses(end.account, end.vpc.as_str().into()));
            indexes.extend(uses);
        }
        indexes
    }
}

/// A group of another VPC that a rule names. What it is of is kept, since the rule stays when it is gone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerGroup {
    pub account: AccountId,
    pub vpc: VpcId,
    pub group: SecurityGroupId,
}

impl View {
    /// The connections of an account's VPCs, whoever requested them, by id.
    pub fn peerings_of(&self, account: AccountId) -> Vec<&Arc<VpcPeering>> {
        let rows = self.members(&Index::VpcPeerings(account)).filter_map(|key| {
            let Key::VpcPeering(owner, id) = key else { return None };
            self.vpc_peerings.get(*owner, id)
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }

    /// A connection of one of an account's VPCs.
    pub fn peering_of(&self, account: AccountId, id: &VpcPeeringId) -> Option<&Arc<VpcPeering>> {
        let own = self.vpc_peerings.get(account, id);
        own.or_else(|| self.peerings_of(account).into_iter().find(|row| row.id == *id))
    }

    /// The active connections of a VPC, by id.
    pub fn active_peerings(&self, account: AccountId, vpc: &VpcId) -> Vec<&Arc<VpcPeering>> {
        let rows = self.members(&Index::Ec2Uses(account, vpc.as_str().into())).filter_map(|key| {
            let Key::VpcPeering(owner, id) = key else { return None };
            self.vpc_peerings.get(*owner, id).filter(|row| row.is_active())
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| a.id.cmp(&b.id));
        rows
    }

    /// The connection between two VPCs, of which the first is the account's: the active one, or the last that was.
    pub fn peering_between(
        &self,
        account: AccountId,
        vpc: &VpcId,
        peer: &VpcId,
    ) -> Option<&Arc<VpcPeering>> {
        let rows = self.peerings_of(account).into_iter();
        let between =
            rows.filter(|row| row.seen_from(vpc).is_some_and(|(_, far)| far.vpc == *peer));
        between.max_by_key(|row| (row.is_active(), row.created_at))
    }

    /// Whether a rule of a VPC's group names a group that is gone, or that nothing connects with it any more.
    pub fn is_stale(&self, account: AccountId, vpc: &VpcId, named: &PeerGroup) -> bool {
        let peering = self.peering_between(account, vpc, &named.vpc);
        !peering.is_some_and(|row| row.is_active())
            || self.security_group(named.account, &named.group).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Row;
    use crate::view::Seq;

    fn end(account: char, vpc: u8) -> PeeringEnd {
        PeeringEnd {
            account: account.to_string().repeat(12).parse().unwrap(),
            vpc: format!("vpc-0000000{vpc}").parse().unwrap(),
            allows_names: false,
        }
    }

    #[test]
    fn a_connection_is_found_from_both_ends_and_ends_for_both() {
        let mut view = View::default();
        let row = VpcPeering {
            id: "pcx-00000001".parse().unwrap(),
            requester: end('1', 1),
            accepter: end('2', 2),
            state: PeeringState::Pending,
            created_at: Timestamp(5),
        };
        assert_eq!(row.status(Timestamp(6)), PeeringStatus::Pending);
        let late = row.expires_at();
        assert_eq!((row.status(late), row.ended_at(late)), (PeeringStatus::Expired, Some(late)));
        view.put(Seq(1), &Row::from(row.clone()));
        let active = VpcPeering { state: PeeringState::Active, ..row.clone() };
        for (near, far) in [(&row.requester, &row.accepter), (&row.accepter, &row.requester)] {
            view.put(Seq(2), &Row::from(active.clone()));
            assert_eq!(view.peerings_of(near.account).len(), 1);
            assert!(view.peering_of(near.account, &row.id).is_some());
            assert_eq!(view.active_peerings(near.account, &near.vpc).len(), 1);
            let named = PeerGroup {
                account: far.account,
                vpc: far.vpc.clone(),
                group: "sg-00000001".parse().unwrap(),
            };
            assert!(view.is_stale(near.account, &near.vpc, &named), "there is no such group");
            let by = far.account;
            let state = PeeringState::Deleted { at: Timestamp(9), by };
            view.put(Seq(3), &Row::from(VpcPeering { state, ..row.clone() }));
            assert!(view.active_peerings(near.account, &near.vpc).is_empty());
            let last = view.peering_between(near.account, &near.vpc, &far.vpc).unwrap();
            assert_eq!(last.status(Timestamp(10)).word(), "deleted");
        }
        let [near, far] = row.numbers_from(&row.accepter.vpc).map(Vni::value);
        assert_eq!((near, far), (3, 2));
        assert_ne!(view.member_count(&Index::VpcNumber(3)), 0, "no VPC gets it");
    }
}
