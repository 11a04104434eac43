//! Operations: what was done, for clients that wait for it. They are over when they are answered.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::reconcile::{FORGOTTEN_AT_ONCE_MAX, Forgetting};
use control::{Control, Permission};
use longshore_types::Timestamp;
use model::discovery::MapOperationKind;
use model::{Index, Key, MapOperation, View};
use servicediscovery_api as api;
use store::Batch;

use crate::CloudMap;
use crate::errors::no_operation;
use crate::limits::{OPERATION_MS, OPERATIONS_MAX};
use crate::pages::page;

impl CloudMap {
    /// An id such as operations have; one of later comes after it.
    pub(crate) fn mint_operation(&self) -> Arc<str> {
        let now = self.control.clock.now().0;
        let id = self.control.ids.id16();
        let digits: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (digits, tail) = digits.split_at(20);
        format!("{now:012x}{digits}-{tail}").into()
    }

    /// Writes down that something is done. Callers choose how often that is, so the oldest one goes where there are many.
    pub(crate) fn done(
        &self,
        view: &View,
        caller: &Caller,
        batch: &mut Batch,
        (kind, id): (MapOperationKind, &Arc<str>),
        targets: &[(&str, &str)],
        now: Timestamp,
    ) {
        let all = Index::MapOperations(caller.account);
        if OPERATIONS_MAX <= view.member_count(&all)
            && let Some(oldest) = view.members(&all).next()
        {
            batch.delete(oldest.clone());
        }
        let targets = targets.iter().map(|(of, id)| ((*of).to_owned(), (*id).to_owned()));
        batch.put(MapOperation {
            scope: self.control.scope(caller),
            id: Arc::clone(id),
            kind,
            targets: targets.collect(),
            done_at: now,
        });
    }
}

pub(crate) async fn get_operation(
    it: &CloudMap,
    caller: &Caller,
    input: api::GetOperationRequest,
) -> Result<api::GetOperationResponse, ApiError> {
    let view = it.control.read(caller, &Permission::to("servicediscovery:GetOperation").on("*"))?;
    let id = input.operation_id.unwrap_or_default();
    let row = view.map_operations.get(caller.account, &id.as_str().into());
    let row = row.ok_or_else(|| no_operation(&id))?;
    let operation = api::Operation {
        id: Some(row.id.to_string()),
        owner_account: Some(caller.account.to_string()),
        r#type: Some(row.kind.as_str().into()),
        status: Some(api::OperationStatus::Success),
        create_date: Some(row.done_at),
        update_date: Some(row.done_at),
        targets: Some(row.targets.clone()),
        ..api::Operation::default()
    };
    Ok(api::GetOperationResponse { operation: Some(operation) })
}

pub(crate) async fn list_operations(
    it: &CloudMap,
    caller: &Caller,
    input: api::ListOperationsRequest,
) -> Result<api::ListOperationsResponse, ApiError> {
    let permission = Permission::to("servicediscovery:ListOperations").on("*");
    let view = it.control.read(caller, &permission)?;
    let filters = input.filters.unwrap_or_default();
    for filter in &filters {
        if filter.name == Some(api::OperationFilterName::UpdateDate) {
            return Err(crate::errors::invalid(
                "The filter UPDATE_DATE is not available in this region.",
            ));
        }
    }
    let is_asked = |row: &MapOperation| {
        filters.iter().all(|filter| {
            let values = filter.values.as_deref().unwrap_or_default();
            let target = |of: &str| row.targets.get(of).is_some_and(|id| values.contains(id));
            match filter.name.as_ref() {
                Some(api::OperationFilterName::NamespaceId) => target("NAMESPACE"),
                Some(api::OperationFilterName::ServiceId) => target("SERVICE"),
                Some(api::OperationFilterName::Status) => values.iter().any(|it| it == "SUCCESS"),
                Some(api::OperationFilterName::Type) => {
                    values.iter().any(|it| it == row.kind.as_str())
                }
                Some(_) | None => false,
            }
        })
    };
    let rows = view.map_operations.of(caller.account).filter(|row| is_asked(row));
    let rows = rows.map(|row| {
        let summary = api::OperationSummary {
            id: Some(row.id.to_string()),
            status: Some(api::OperationStatus::Success),
        };
        (row.id.to_string(), summary)
    });
    let page = page(input.next_token, input.max_results, rows)?;
    Ok(api::ListOperationsResponse { operations: Some(page.items), next_token: page.token })
}

/// Forgets operations that nobody asks for any more.
pub(crate) fn forgetting(control: Arc<Control>) -> Forgetting {
    let name = "cloud-map-operations";
    Forgetting { control, name, period_ms: PERIOD_MS, over }
}

const PERIOD_MS: u64 = 600_000;

fn over(view: &View, now: Timestamp) -> Vec<Key> {
    let is_old = |row: &&Arc<MapOperation>| OPERATION_MS <= now.since_ms(row.done_at);
    let rows = view.map_operations.iter().filter(is_old).take(FORGOTTEN_AT_ONCE_MAX);
    rows.map(|row| Key::MapOperation(row.scope.account, Arc::clone(&row.id))).collect()
}
