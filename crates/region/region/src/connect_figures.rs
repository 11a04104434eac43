//! ListConnectFigures: what was asked at an account's endpoints of Service Connect, by whom, and how it was answered.

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::connect_figures::EndpointFigures;
use serde::{Deserialize, Serialize};
use traffic::figures::Counted;

use crate::region::Region;

/// Rows of one answer.
const ROWS_MAX: usize = 10_000;

/// What is known of an account's endpoints.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListedConnectFigures {
    pub endpoints: Vec<ConnectRow>,
    /// Rows that are there and not in the answer.
    pub left_off: usize,
}

/// What a service asked at an endpoint, since the region began.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectRow {
    pub namespace: String,
    pub discovery_name: String,
    /// `cluster/service`, whose tasks serve.
    pub service: String,
    /// `cluster/service`, whose tasks asked; none: what came in to the proxy before those who serve.
    pub client: Option<String>,
    pub counted: Counted,
}

impl From<EndpointFigures> for ConnectRow {
    fn from(it: EndpointFigures) -> Self {
        let EndpointFigures { account: _, namespace, discovery_name, service, client, counted } =
            it;
        Self { namespace, discovery_name, service, client, counted }
    }
}

impl Region {
    pub(crate) fn list_connect_figures(
        &self,
        caller: &Caller,
    ) -> Result<ListedConnectFigures, ApiError> {
        let permission = Permission::to("longshore:ListConnectFigures").on("*");
        let view = self.control.read(caller, &permission)?;
        let all = self.control.connect_figures.of(&view, caller.account);
        let left_off = all.len().saturating_sub(ROWS_MAX);
        let endpoints = all.into_iter().take(ROWS_MAX).map(ConnectRow::from).collect();
        Ok(ListedConnectFigures { endpoints, left_off })
    }
}
