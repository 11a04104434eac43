//! DescribeParameters, and what lists are narrowed to.

use aws_wire::{ApiError, Caller};
use control::Permission;
use model::{Parameter, ParameterVersion};
use ssm_api as api;

use crate::errors::named;
use crate::limits::PAGE_MAX;
use crate::pages::page;
use crate::{Ssm, render};

/// How a filter's values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Equals,
    BeginsWith,
    Contains,
    /// Of paths: one level down, or all.
    OneLevel,
    Recursive,
}

/// One of its values must match.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    key: String,
    compare: Compare,
    values: Vec<String>,
}

/// The filters of a request, of which each key is one of `known`; `tag:` stands for `tag:…`.
pub(crate) fn filters(
    given: Option<Vec<api::ParameterStringFilter>>,
    known: &[&str],
) -> Result<Vec<Filter>, ApiError> {
    let read = |filter: api::ParameterStringFilter| {
        let key = filter.key.unwrap_or_default();
        let is_known = known.iter().any(|known| match known.ends_with(':') {
            true => key.starts_with(known),
            false => key == *known,
        });
        if !is_known {
            return Err(named(
                "InvalidFilterKey",
                format!("The specified filter key {key} is not valid."),
            ));
        }
        let compare = match (filter.option.as_deref(), key.as_str()) {
            (None | Some("OneLevel"), "Path") => Compare::OneLevel,
            (Some("Recursive"), "Path") => Compare::Recursive,
            (None | Some("Equals"), _) if key != "Path" => Compare::Equals,
            (Some("BeginsWith"), _) if key != "Path" => Compare::BeginsWith,
            (Some("Contains"), "Name") => Compare::Contains,
            (option, _) => {
                let option = option.unwrap_or_default();
                let message = format!("The filter option {option} is not valid for the key {key}.");
                return Err(named("InvalidFilterOption", message));
            }
        };
        Ok(Filter { key, compare, values: filter.values.unwrap_or_default() })
    };
    given.unwrap_or_default().into_iter().map(read).collect()
}

impl Filter {
    /// The labels that are asked for, of a filter by label.
    pub(crate) fn labels(&self) -> Option<&[String]> {
        (self.key == "Label").then_some(&self.values)
    }

    pub(crate) fn passes(&self, row: &Parameter, version: &ParameterVersion) -> bool {
        let is = |text: &str| self.values.iter().any(|value| self.compares(text, value));
        match self.key.as_str() {
            "Name" => {
                is(&row.name)
                    || row.name.strip_prefix('/').is_some_and(is)
                    || is(&format!("/{}", row.name))
            }
            "Type" => is(render::kind(&version.value).as_str()),
            "KeyId" => render::key_id(&version.value).is_some_and(|key| is(&key)),
            "Tier" => is(render::tier(version.tier).as_str()),
            "DataType" => is(&version.data_type),
            "Path" => is(&row.name),
            "Label" => row.labels_of(version.id.version).any(|label| is(label)),
            key => match key.strip_prefix("tag:").and_then(|tag| row.tags.get(tag)) {
                Some(value) => self.values.is_empty() || is(value),
                None => false,
            },
        }
    }

    fn compares(&self, text: &str, value: &str) -> bool {
        match self.compare {
            Compare::Equals => text == value,
            Compare::BeginsWith => text.starts_with(value),
            Compare::Contains => text.contains(value),
            Compare::OneLevel | Compare::Recursive => {
                let path = value.trim_end_matches('/');
                let tail = text.strip_prefix(path).and_then(|tail| tail.strip_prefix('/'));
                let tail = if path.is_empty() { tail.or(Some(text)) } else { tail };
                tail.is_some_and(|tail| self.compare == Compare::Recursive || !tail.contains('/'))
            }
        }
    }
}

/// The older form of filters.
fn older(given: Option<Vec<api::ParametersFilter>>) -> Vec<Filter> {
    let read = |filter: api::ParametersFilter| {
        let key = filter.key.map(|key| key.to_string()).unwrap_or_default();
        let compare = if key == "Name" { Compare::BeginsWith } else { Compare::Equals };
        Filter { key, compare, values: filter.values.unwrap_or_default() }
    };
    given.unwrap_or_default().into_iter().map(read).collect()
}

pub(crate) async fn describe_parameters(
    it: &Ssm,
    caller: &Caller,
    input: api::DescribeParametersRequest,
) -> Result<api::DescribeParametersResult, ApiError> {
    let view = it.control.read(caller, &Permission::to("ssm:DescribeParameters").on("*"))?;
    let known = ["tag:", "Name", "Type", "KeyId", "Path", "Tier", "DataType"];
    let mut filters = filters(input.parameter_filters, &known)?;
    filters.extend(older(input.filters));
    let none_is_shared = input.shared.unwrap_or(false);
    let rows = view.parameters.of(caller.account).filter(|_| !none_is_shared);
    let found = rows.filter_map(|row| {
        let version = view.parameter_versions.get(row.account, &row.version_id(row.latest))?;
        let passes = filters.iter().all(|filter| filter.passes(row, version));
        passes.then(|| (row.name.to_string(), render::metadata(&it.control, row, version)))
    });
    let page = page(input.next_token, input.max_results, PAGE_MAX, found)?;
    Ok(api::DescribeParametersResult { parameters: Some(page.items), next_token: page.next_token })
}
