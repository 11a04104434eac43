//! The default VPC that every account has: it follows from the region's plan of addresses.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use longshore_types::AccountId;
use model::View;
use model::network::Network;
use model::vpc::{AddressPlan, AddressPlanId, Vpc, region_account};

use crate::Control;

/// No private range of addresses is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "all private ranges of addresses are used on this machine already, so that none are left for tasks \
     (ip route show table all lists them)"
)]
pub struct NoAddresses;

impl Control {
    /// The default VPC of an account as it comes; `None` before the region has chosen its addresses.
    pub fn vpc(&self, view: &View, account: AccountId) -> Option<Vpc> {
        let plan: &Arc<AddressPlan> = view.address_plans.get(region_account(), &AddressPlanId)?;
        Some(plan.default_vpc(account, &self.config.region))
    }

    /// The default VPC of an account as it is; `None` where it was deleted.
    pub fn default_vpc(&self, view: &View, account: AccountId) -> Option<Vpc> {
        let network = self.network(view, account);
        network.whole_vpc(&network.default_vpc()?.id)
    }

    /// An account's network as a view has it.
    pub fn network<'v>(&self, view: &'v View, account: AccountId) -> Network<'v> {
        Network::new(view, account, &self.config.region)
    }

    /// As [`Control::vpc`], for answers.
    pub fn own_vpc(&self, view: &View, caller: &Caller) -> Result<Vpc, ApiError> {
        self.vpc(view, caller.account)
            .ok_or_else(|| ApiError::fault("failed to find the default VPC", NoAddresses))
    }
}
