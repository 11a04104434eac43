//! PutEvents and TestEventPattern.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use control::Permission;
use control::outbox::{may_be_wanted, wanting};
use events::{Effort, Event, Exhausted, Facts, Json, Pattern};
use events_api as api;
use longshore_types::Uuid;
use model::{EventRule, View};
use store::Batch;

use crate::errors::{invalid, parameter, pattern, unavailable};
use crate::figures::Figure;
use crate::limits::{EFFORT, PUT_BYTES_MAX, SOURCE_CHARS_MAX};
use crate::{EventBridge, bus};

/// Why an entry is not taken: a code and a sentence.
type Refused = (&'static str, String);

fn read(
    it: &EventBridge,
    caller: &Caller,
    entry: &api::PutEventsRequestEntry,
) -> Result<Event, Refused> {
    let text = |name: &str, value: &Option<String>| {
        value.clone().filter(|value| !value.is_empty()).ok_or_else(|| {
            let why =
                format!("Parameter {name} is not valid. Reason: {name} is a required argument.");
            ("InvalidArgument", why)
        })
    };
    let source = text("Source", &entry.source)?;
    let detail_type = text("DetailType", &entry.detail_type)?;
    let detail = text("Detail", &entry.detail)?;
    if source.starts_with("aws.") {
        return Err((
            "NotAuthorizedForSourceException",
            "Not authorized for the source.".to_owned(),
        ));
    }
    if SOURCE_CHARS_MAX < source.chars().count() {
        let why = format!(
            "Parameter Source is not valid. Reason: it is longer than {SOURCE_CHARS_MAX} characters."
        );
        return Err(("InvalidArgument", why));
    }
    if 128 < detail_type.chars().count() {
        let why = "Parameter DetailType is not valid. Reason: it is longer than 128 characters.";
        return Err(("InvalidArgument", why.to_owned()));
    }
    bus::check(caller, entry.event_bus_name.as_deref())
        .map_err(|why| ("ResourceNotFoundException", why.message))?;
    let detail = Json::parse(&detail).ok().filter(Json::is_object);
    let detail = detail.ok_or_else(|| ("MalformedDetail", "Detail is malformed.".to_owned()))?;
    Ok(Event {
        id: Uuid::mint(it.control.ids.as_ref()),
        source,
        detail_type,
        account: caller.account,
        region: caller.region.clone(),
        time: entry.time.unwrap_or(caller.now),
        resources: entry.resources.clone().unwrap_or_default(),
        detail,
    })
}

fn bytes(entry: &api::PutEventsRequestEntry) -> usize {
    let texts = [&entry.source, &entry.detail_type, &entry.detail];
    let texts = texts.into_iter().flatten().chain(entry.resources.iter().flatten());
    let time = if entry.time.is_some() { 14 } else { 0 };
    time + texts.map(String::len).sum::<usize>()
}

/// One entry's permission, and those of the others with it.
fn permission(caller: &Caller, entries: &[api::PutEventsRequestEntry]) -> Permission {
    let one = |entry: &api::PutEventsRequestEntry| {
        let bus = match entry.event_bus_name.as_deref() {
            Some(arn) if arn.starts_with("arn:") => arn.to_owned(),
            name => {
                let own = bus::arn(&caller.region, caller.account);
                own.replace("default", name.unwrap_or("default"))
            }
        };
        Permission::to("events:PutEvents")
            .on(bus)
            .with("events:source", entry.source.clone().unwrap_or_default())
            .with("events:detail-type", entry.detail_type.clone().unwrap_or_default())
            .with("events:eventBusInvocation", false)
    };
    let all = entries.iter().map(one).reduce(Permission::and);
    all.unwrap_or_else(|| one(&api::PutEventsRequestEntry::default()))
}

pub(crate) async fn put_events(
    it: &EventBridge,
    caller: &Caller,
    input: api::PutEventsRequest,
) -> Result<api::PutEventsResponse, ApiError> {
    let entries = input.entries.unwrap_or_default();
    let permission = permission(caller, &entries);
    it.control.read(caller, &permission)?;
    if input.endpoint_id.is_some() {
        return Err(unavailable("EndpointId"));
    }
    if PUT_BYTES_MAX < entries.iter().map(bytes).sum() {
        return Err(invalid("Total size of the entries in the request is over the limit."));
    }
    let read: Vec<_> = entries.iter().map(|entry| read(it, caller, entry)).collect();
    let read = wanted(it.control.view(), read).await?;
    let decided = it.control.change(caller, &permission, |view, now| {
        let mut batch = Batch::on(view);
        let mut matched = 0_u32;
        for (event, rules) in read.iter().flatten() {
            // One that is gone or disabled by now wants nothing any more.
            let known = |rule: &&Arc<EventRule>| {
                let row = view.event_rules.get(caller.account, &rule.name);
                row.is_some_and(|row| row.is_enabled)
            };
            let mut rules = rules.iter().filter(known).map(|rule| &rule.name).peekable();
            matched += u32::from(rules.peek().is_some());
            it.control.outbox.tell_rules(view, &mut batch, event, rules, now);
        }
        Ok((batch, matched))
    });
    let matched = decided.await?;
    it.count(caller.account, None, &[(Figure::MatchedEvents, matched)]).await;
    let entries: Vec<_> = read.into_iter().map(shown).collect();
    let failed = entries.iter().filter(|entry| entry.error_code.is_some()).count();
    Ok(api::PutEventsResponse {
        failed_entry_count: i32::try_from(failed).ok(),
        entries: Some(entries),
    })
}

type Wanted = (Event, Vec<Arc<EventRule>>);

/// The rules that want each event. It is found out beside everything else, and not for longer than it may take.
async fn wanted(
    view: Arc<View>,
    read: Vec<Result<Event, Refused>>,
) -> Result<Vec<Result<Wanted, Refused>>, ApiError> {
    let is_asked = |event: &Event| may_be_wanted(&view, event.account, &event.source);
    if !read.iter().flatten().any(is_asked) {
        return Ok(read.into_iter().map(|read| Ok((read?, Vec::new()))).collect());
    }
    let one = move |event: Event| {
        let (rules, is_all) = wanting(&view, &event, &Effort::of(EFFORT));
        is_all.map_err(|why: Exhausted| ("InvalidArgument", format!("{why}.")))?;
        let rules = rules.into_iter().map(Arc::clone).collect();
        Ok((event, rules))
    };
    let all = move || read.into_iter().map(|read| one(read?)).collect();
    let found = tokio::task::spawn_blocking(all).await;
    found.map_err(|why| ApiError::fault("failed to ask the rules' patterns", why))
}

fn shown(read: Result<Wanted, Refused>) -> api::PutEventsResultEntry {
    match read {
        Ok((event, _)) => {
            api::PutEventsResultEntry { event_id: Some(event.id.to_string()), ..Default::default() }
        }
        Err((code, message)) => api::PutEventsResultEntry {
            event_id: None,
            error_code: Some(code.to_owned()),
            error_message: Some(message),
        },
    }
}

/// What an event must say of itself to be tested.
const FIELDS: [&str; 7] = ["id", "account", "source", "time", "region", "resources", "detail-type"];

pub(crate) async fn test_event_pattern(
    it: &EventBridge,
    caller: &Caller,
    input: api::TestEventPatternRequest,
) -> Result<api::TestEventPatternResponse, ApiError> {
    it.control.read(caller, &Permission::to("events:TestEventPattern").on("*"))?;
    let text = input.event_pattern.as_deref().unwrap_or_default();
    let wanted = Pattern::parse(text).map_err(|why| pattern(&why))?;
    let event = crate::rules::json("Event", input.event.as_deref().unwrap_or_default())?;
    if let Some(field) = FIELDS.into_iter().find(|field| event.get(field).is_none()) {
        return Err(parameter("Event", format!("it has no {field}.")));
    }
    let asked = move || wanted.matches(&Facts::of(event), &Effort::of(EFFORT));
    let found = tokio::task::spawn_blocking(asked).await;
    let found = found.map_err(|why| ApiError::fault("failed to ask a pattern", why))?;
    let result = Some(found.map_err(|why: Exhausted| parameter("Event", format!("{why}.")))?);
    Ok(api::TestEventPatternResponse { result })
}
