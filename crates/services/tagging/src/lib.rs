//! Resource Groups Tagging API: the tags of everything that is here, whichever service it is of.
//!
//! Tags stay where they are, in the rows of their resources: what is read here is read from those, and
//! what is written goes through the operations of the resource's own service, by their rules. A
//! resource that has no tag any more is not told from one that never had any.

mod errors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use aws_wire::service::{Answer, Call, Service};
use aws_wire::{ApiError, Caller};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::ports::{BoxFuture, RegionService, Tagged};
use control::{Control, Permission};
use longshore_types::Arn;
use model::Tags;
use tagging_api::{
    FailureInfo, GetResourcesInput, GetResourcesOutput, GetTagKeysInput, GetTagKeysOutput,
    GetTagValuesInput, GetTagValuesOutput, ResourceTagMapping, Tag, TagFilter, TagResourcesInput,
    TagResourcesOutput, UntagResourcesInput, UntagResourcesOutput,
};

use errors::Refusal;

/// The page size of a request that names none, and the largest.
const RESOURCES_PER_PAGE: usize = 50;
const RESOURCES_PER_PAGE_MAX: usize = 100;
/// Keys and values come in pages of this size.
const WORDS_PER_PAGE: usize = 100;
const TAGS_PER_PAGE: std::ops::RangeInclusive<i32> = 100..=500;
const VALUES_PER_FILTER_MAX: usize = 20;

/// The service, and those whose resources have tags.
#[derive(Debug)]
pub struct Tagging {
    control: Arc<Control>,
    services: Vec<Arc<dyn Tagged>>,
}

impl Tagging {
    pub fn new(control: Arc<Control>, services: Vec<Arc<dyn Tagged>>) -> Self {
        Self { control, services }
    }

    /// Every resource of the caller that has tags, by its ARN: those of the types that are asked for, such as
    /// `ecs` or `ecs:cluster`; of all if none is named.
    fn resources(&self, caller: &Caller, types: Option<&[String]>) -> BTreeMap<String, Tags> {
        let types = types.unwrap_or_default();
        let mut found = BTreeMap::new();
        for service in &self.services {
            let is_asked = |kind: &str| {
                let is_it = |asked: &String| match asked.split_once(':') {
                    Some((of, its)) => of == service.arn_service() && its == kind,
                    None => asked == service.arn_service(),
                };
                types.is_empty() || types.iter().any(is_it)
            };
            service
                .tagged(caller, &is_asked, &mut |arn, tags| drop(found.insert(arn, tags.clone())));
        }
        found
    }

    /// The service that an ARN is of.
    fn service_of(&self, arn: &str) -> Result<&dyn Tagged, ApiError> {
        let name = Arn::parse(arn).map(|arn| arn.service).ok();
        let service = self.services.iter().find(|service| name == Some(service.arn_service()));
        service.map(AsRef::as_ref).ok_or_else(|| Refusal::NoResource(arn.to_owned()).into())
    }

    async fn tag(&self, caller: &Caller, arn: &str, tags: &Tags) -> Result<(), ApiError> {
        self.service_of(arn)?.tag(caller, arn, tags).await
    }

    async fn untag(&self, caller: &Caller, arn: &str, keys: &[String]) -> Result<(), ApiError> {
        self.service_of(arn)?.untag(caller, arn, keys).await
    }
}

impl RegionService for Tagging {
    fn service(&self) -> &'static Service {
        &tagging_api::SERVICE
    }

    fn dispatch<'a>(
        &'a self,
        caller: &'a Caller,
        call: &'a Call<'a>,
    ) -> BoxFuture<'a, Result<Answer, ApiError>> {
        Box::pin(tagging_api::dispatch(self, caller, call))
    }
}

impl tagging_api::Tagging for Tagging {
    async fn get_resources(
        &self,
        caller: &Caller,
        input: GetResourcesInput,
    ) -> Result<GetResourcesOutput, ApiError> {
        self.control.read(caller, &Permission::to("tag:GetResources").on("*"))?;
        check_together(&input)?;
        let filters = input.tag_filters.unwrap_or_default();
        check_filters(&filters)?;
        let mut found = self.resources(caller, input.resource_type_filters.as_deref());
        if let Some(arns) = &input.resource_arn_list {
            let asked: BTreeSet<&String> = arns.iter().collect();
            found.retain(|arn, _| asked.contains(arn));
        }
        found.retain(|_, tags| filters.iter().all(|filter| passes(tags, filter)));
        let after = read_token(input.pagination_token.as_deref())?;
        let size = read_size(input.resources_per_page)?;
        let tags_max = read_tags_per_page(input.tags_per_page)?;
        let (mut shown, mut tags_shown, mut next) = (Vec::new(), 0, None);
        for (arn, tags) in found.into_iter().filter(|(arn, _)| is_after(arn, after.as_ref())) {
            tags_shown += tags.len();
            let is_full = shown.len() == size
                || (!shown.is_empty() && tags_max.is_some_and(|max| max < tags_shown));
            if is_full {
                next = shown.last().and_then(|last: &ResourceTagMapping| last.resource_arn.clone());
                break;
            }
            shown.push(render(arn, &tags));
        }
        Ok(GetResourcesOutput {
            pagination_token: Some(write_token(next)),
            resource_tag_mapping_list: Some(shown),
        })
    }

    async fn get_tag_keys(
        &self,
        caller: &Caller,
        input: GetTagKeysInput,
    ) -> Result<GetTagKeysOutput, ApiError> {
        self.control.read(caller, &Permission::to("tag:GetTagKeys").on("*"))?;
        let found = self.resources(caller, None);
        let keys: BTreeSet<String> = found.into_values().flat_map(Tags::into_keys).collect();
        let (keys, token) = page_of_words(keys, input.pagination_token.as_deref())?;
        Ok(GetTagKeysOutput { pagination_token: Some(token), tag_keys: Some(keys) })
    }

    async fn get_tag_values(
        &self,
        caller: &Caller,
        input: GetTagValuesInput,
    ) -> Result<GetTagValuesOutput, ApiError> {
        self.control.read(caller, &Permission::to("tag:GetTagValues").on("*"))?;
        let key = input.key.unwrap_or_default();
        let found = self.resources(caller, None);
        let values = found.into_values().filter_map(|mut tags| tags.remove(&key));
        let (values, token) = page_of_words(values.collect(), input.pagination_token.as_deref())?;
        Ok(GetTagValuesOutput { pagination_token: Some(token), tag_values: Some(values) })
    }

    async fn tag_resources(
        &self,
        caller: &Caller,
        input: TagResourcesInput,
    ) -> Result<TagResourcesOutput, ApiError> {
        self.control.read(caller, &Permission::to("tag:TagResources").on("*"))?;
        let tags = input.tags.unwrap_or_default();
        let mut failed = BTreeMap::new();
        for arn in input.resource_arn_list.unwrap_or_default() {
            if let Err(error) = self.tag(caller, &arn, &tags).await {
                failed.insert(arn, failure(error)?);
            }
        }
        Ok(TagResourcesOutput { failed_resources_map: Some(failed) })
    }

    async fn untag_resources(
        &self,
        caller: &Caller,
        input: UntagResourcesInput,
    ) -> Result<UntagResourcesOutput, ApiError> {
        self.control.read(caller, &Permission::to("tag:UntagResources").on("*"))?;
        let keys = input.tag_keys.unwrap_or_default();
        let mut failed = BTreeMap::new();
        for arn in input.resource_arn_list.unwrap_or_default() {
            if let Err(error) = self.untag(caller, &arn, &keys).await {
                failed.insert(arn, failure(error)?);
            }
        }
        Ok(UntagResourcesOutput { failed_resources_map: Some(failed) })
    }
}

/// A list of ARNs stands alone.
fn check_together(input: &GetResourcesInput) -> Result<(), ApiError> {
    if input.resource_arn_list.is_none() {
        return Ok(());
    }
    for (what, is_given) in [
        ("TagFilters", input.tag_filters.as_ref().is_some_and(|list| !list.is_empty())),
        (
            "ResourceTypeFilters",
            input.resource_type_filters.as_ref().is_some_and(|list| !list.is_empty()),
        ),
        ("ResourcesPerPage", input.resources_per_page.is_some()),
        ("TagsPerPage", input.tags_per_page.is_some()),
        ("PaginationToken", input.pagination_token.as_ref().is_some_and(|text| !text.is_empty())),
    ] {
        if is_given {
            return Err(Refusal::Beside(what).into());
        }
    }
    Ok(())
}

fn check_filters(filters: &[TagFilter]) -> Result<(), ApiError> {
    for filter in filters {
        if filter.key.as_ref().is_none_or(String::is_empty) {
            return Err(Refusal::NoKey.into());
        }
        if VALUES_PER_FILTER_MAX < filter.values.as_ref().map_or(0, Vec::len) {
            return Err(Refusal::TooManyValues.into());
        }
    }
    Ok(())
}

/// The key with one of the values, or with any if none is named.
fn passes(tags: &Tags, filter: &TagFilter) -> bool {
    let values = filter.values.as_deref().unwrap_or_default();
    let value = filter.key.as_ref().and_then(|key| tags.get(key));
    value.is_some_and(|value| values.is_empty() || values.contains(value))
}

fn render(arn: String, tags: &Tags) -> ResourceTagMapping {
    let tag = |(key, value): (&String, &String)| Tag {
        key: Some(key.clone()),
        value: Some(value.clone()),
    };
    ResourceTagMapping {
        resource_arn: Some(arn),
        tags: Some(tags.iter().map(tag).collect()),
        compliance_details: None,
    }
}

fn read_size(asked: Option<i32>) -> Result<usize, ApiError> {
    match asked.map(usize::try_from) {
        None => Ok(RESOURCES_PER_PAGE),
        Some(Ok(size)) if (1..=RESOURCES_PER_PAGE_MAX).contains(&size) => Ok(size),
        Some(_) => Err(Refusal::PageSize.into()),
    }
}

fn read_tags_per_page(asked: Option<i32>) -> Result<Option<usize>, ApiError> {
    let Some(asked) = asked else { return Ok(None) };
    match usize::try_from(asked) {
        Ok(max) if TAGS_PER_PAGE.contains(&asked) && max.is_multiple_of(100) => Ok(Some(max)),
        Ok(_) | Err(_) => Err(Refusal::TagsPerPage.into()),
    }
}

/// What the last page ended with.
fn read_token(token: Option<&str>) -> Result<Option<String>, ApiError> {
    let Some(token) = token.filter(|token| !token.is_empty()) else { return Ok(None) };
    let bad = || ApiError::from(Refusal::Token);
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    String::from_utf8(bytes).map(Some).map_err(|_| bad())
}

/// Empty where nothing is left, as these operations have it.
fn write_token(last: Option<String>) -> String {
    last.map(|last| URL_SAFE_NO_PAD.encode(last)).unwrap_or_default()
}

fn is_after(word: &str, after: Option<&String>) -> bool {
    after.is_none_or(|after| after.as_str() < word)
}

fn page_of_words(
    words: BTreeSet<String>,
    token: Option<&str>,
) -> Result<(Vec<String>, String), ApiError> {
    let after = read_token(token)?;
    let mut rest = words.into_iter().filter(|word| is_after(word, after.as_ref()));
    let page: Vec<String> = rest.by_ref().take(WORDS_PER_PAGE).collect();
    let next = rest.next().and_then(|_| page.last().cloned());
    Ok((page, write_token(next)))
}

/// Why one resource was not tagged; what is our own fault fails the whole request.
fn failure(error: ApiError) -> Result<FailureInfo, ApiError> {
    if error.is_fault() {
        return Err(error);
    }
    Ok(FailureInfo {
        status_code: Some(i32::from(error.status)),
        error_code: Some(error.code.as_ref().into()),
        error_message: Some(error.message),
    })
}
