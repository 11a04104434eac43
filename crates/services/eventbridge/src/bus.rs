//! The one event bus of an account.

use aws_wire::{ApiError, Caller};
use control::Permission;
use events_api as api;
use longshore_types::{AccountId, RegionName};

use crate::EventBridge;
use crate::errors::no_bus;
use crate::pages::cut;

const DEFAULT: &str = "default";

pub(crate) fn arn(region: &RegionName, account: AccountId) -> String {
    format!("arn:aws:events:{region}:{account}:event-bus/{DEFAULT}")
}

/// That a request is about the default bus, by its name, its ARN or by naming none.
pub(crate) fn check(caller: &Caller, given: Option<&str>) -> Result<(), ApiError> {
    match given {
        None | Some(DEFAULT) => Ok(()),
        Some(name) if *name == arn(&caller.region, caller.account) => Ok(()),
        Some(other) => Err(no_bus(other)),
    }
}

pub(crate) async fn describe_event_bus(
    it: &EventBridge,
    caller: &Caller,
    input: api::DescribeEventBusRequest,
) -> Result<api::DescribeEventBusResponse, ApiError> {
    let own = arn(&caller.region, caller.account);
    let asked = match input.name.as_deref() {
        Some(name) if name.starts_with("arn:") => name.to_owned(),
        name => own.replace(DEFAULT, name.unwrap_or(DEFAULT)),
    };
    it.control.read(caller, &Permission::to("events:DescribeEventBus").on(asked))?;
    check(caller, input.name.as_deref())?;
    let name = Some(DEFAULT.to_owned());
    Ok(api::DescribeEventBusResponse { name, arn: Some(own), ..Default::default() })
}

pub(crate) async fn list_event_buses(
    it: &EventBridge,
    caller: &Caller,
    input: api::ListEventBusesRequest,
) -> Result<api::ListEventBusesResponse, ApiError> {
    it.control.read(caller, &Permission::to("events:ListEventBuses").on("*"))?;
    let prefix = input.name_prefix.unwrap_or_default();
    let all = Some(DEFAULT).filter(|name| name.starts_with(&prefix)).map(|name| {
        let arn = Some(arn(&caller.region, caller.account));
        (name.to_owned(), api::EventBus { name: Some(name.to_owned()), arn, ..Default::default() })
    });
    let (buses, next_token) = cut(&input.next_token, input.limit, all.into_iter())?;
    Ok(api::ListEventBusesResponse { event_buses: Some(buses), next_token })
}
