//! EC2's filters, lists of ids and pages: honoured, or refused by name.

use ec2_api as api;
use ec2_api::Filter;

use crate::errors::{Kind, Refusal};
use crate::instance_types::Offering;
use crate::limits::{FILTER_VALUES_MAX, FILTERS_MAX};
use crate::tags::Described;

/// The fewest and most results of a page.
pub(crate) const PAGE_MIN: i32 = 5;
pub(crate) const PAGE_MAX: i32 = 1_000;

/// Whether one thing passes one filter: its values for the filter's name, or `None` if that name
/// is no filter of this operation.
pub(super) type ValuesOf<'a, T> = dyn Fn(&T, &str) -> Option<Vec<String>> + 'a;

/// What filters by tags look at.
pub(crate) trait Tagged {
    fn tags(&self) -> &[api::Tag];
}

/// The shapes that have tags, and the member that holds them; and those that never have any.
macro_rules! tagged {
    ($($with:ty => $member:ident),*; $($without:ty),*) => {
        $(impl Tagged for $with {
            fn tags(&self) -> &[api::Tag] {
                self.$member.as_deref().unwrap_or_default()
            }
        })*
        $(impl Tagged for $without {
            fn tags(&self) -> &[api::Tag] {
                &[]
            }
        })*
    };
}

tagged! {
    api::Address => tags,
    api::DhcpOptions => tags,
    api::FlowLog => tags,
    api::Image => tags,
    api::InternetGateway => tags,
    api::KeyPairInfo => tags,
    api::ManagedPrefixList => tags,
    api::NatGateway => tags,
    api::NetworkAcl => tags,
    api::NetworkInterface => tag_set,
    api::RouteTable => tags,
    api::SecurityGroup => tags,
    api::SecurityGroupForVpc => tags,
    api::SecurityGroupRule => tags,
    api::ServiceDetail => tags,
    api::Subnet => tags,
    api::Vpc => tags,
    api::VpcClassicLink => tags,
    api::VpcEndpoint => tags,
    api::VpcPeeringConnection => tags;
    api::AddressAttribute,
    api::AvailabilityZone,
    api::ClassicLinkDnsSupport,
    api::InstanceTypeInfo,
    api::PrefixList,
    api::Region,
    Described,
    Offering
}

/// Keeps what passes every filter. A filter that is unknown is an error, whatever there is.
pub(super) fn apply<T: Tagged>(
    all: Vec<T>,
    filters: Option<&[Filter]>,
    names: &[&str],
    values_of: &ValuesOf<'_, T>,
) -> Result<Vec<T>, Refusal> {
    let filters = filters.unwrap_or_default();
    let values = filters.iter().map(|filter| filter.values.iter().flatten().count());
    if filters.len() > FILTERS_MAX || values.sum::<usize>() > FILTER_VALUES_MAX {
        return Err(Refusal::TooManyFilters);
    }
    for filter in filters {
        let name = filter.name.as_deref().unwrap_or_default();
        if !names.contains(&name) && !is_tag(name) {
            return Err(Refusal::UnknownFilter(name.to_owned()));
        }
    }
    let passes = |thing: &T, filter: &Filter| {
        let name = filter.name.as_deref().unwrap_or_default();
        let actual = match is_tag(name) && !names.contains(&name) {
            true => tag_values(thing.tags(), name),
            false => values_of(thing, name).unwrap_or_default(),
        };
        let wanted = filter.values.as_deref().unwrap_or_default();
        wanted.iter().any(|wanted| actual.iter().any(|actual| matches(wanted, actual)))
    };
    Ok(all.into_iter().filter(|thing| filters.iter().all(|filter| passes(thing, filter))).collect())
}

/// Of `tag:Key` the tag's value, of `tag-key` all keys.
fn tag_values(tags: &[api::Tag], name: &str) -> Vec<String> {
    match name.strip_prefix("tag:") {
        Some(key) => {
            let tag = tags.iter().find(|tag| tag.key.as_deref() == Some(key));
            tag.map(|tag| tag.value.clone().unwrap_or_default()).into_iter().collect()
        }
        None => tags.iter().filter_map(|tag| tag.key.clone()).collect(),
    }
}

fn is_tag(name: &str) -> bool {
    name.starts_with("tag:") || name == "tag-key"
}

/// `*` stands for any characters and `?` for one or none; a backslash takes their meaning away.
fn matches(pattern: &str, text: &str) -> bool {
    #[derive(PartialEq)]
    enum Piece {
        Any,
        One,
        Exactly(char),
    }
    let mut pieces = Vec::new();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        pieces.push(match letter {
            '*' => Piece::Any,
            '?' => Piece::One,
            '\\' => Piece::Exactly(letters.next().unwrap_or('\\')),
            other => Piece::Exactly(other),
        });
    }
    // The set of pieces that could come next, letter by letter: linear, whatever the pattern.
    let mut next = vec![false; pieces.len() + 1];
    next[0] = true;
    let skip_empty = |next: &mut Vec<bool>| {
        for (index, piece) in pieces.iter().enumerate() {
            if next[index] && (*piece == Piece::Any || *piece == Piece::One) {
                next[index + 1] = true;
            }
        }
    };
    skip_empty(&mut next);
    for letter in text.chars() {
        let mut after = vec![false; pieces.len() + 1];
        for (index, piece) in pieces.iter().enumerate().filter(|(index, _)| next[*index]) {
            match piece {
                Piece::Any => after[index] = true,
                Piece::One => after[index + 1] = true,
                Piece::Exactly(wanted) => after[index + 1] |= *wanted == letter,
            }
        }
        skip_empty(&mut after);
        next = after;
    }
    next[pieces.len()]
}

/// What an operation can be asked for by filters, each with a thing's values for it.
pub(crate) type Filters<T> = &'static [(&'static str, fn(&T) -> Vec<String>)];

/// What a request asks for.
pub(crate) struct Asked<'a> {
    pub(crate) kind: Kind,
    pub(crate) ids: Option<&'a [String]>,
    pub(crate) filters: Option<&'a [Filter]>,
    pub(crate) token: Option<&'a str>,
    pub(crate) max: Option<i32>,
}

/// What of all, which is by id, a request asks for, and the token of the next page.
pub(crate) fn select<T: Tagged>(
    all: Vec<T>,
    asked: &Asked<'_>,
    id_of: fn(&T) -> Option<&str>,
    filters: Filters<T>,
) -> Result<(Vec<T>, Option<String>), Refusal> {
    let names: Vec<&str> = filters.iter().map(|(name, _)| *name).collect();
    let all = by_id(all, asked.ids, id_of, |id| asked.kind.absent(id))?;
    let all = apply(all, asked.filters, &names, &|thing, name| {
        let found = filters.iter().find(|(known, _)| *known == name);
        found.map(|(_, values_of)| values_of(thing))
    })?;
    let has_ids = asked.ids.is_some_and(|ids| !ids.is_empty());
    page(all, asked.token, asked.max, has_ids, id_of)
}

/// A filter's values of a member that has one or none.
pub(crate) fn one(value: Option<&String>) -> Vec<String> {
    value.into_iter().cloned().collect()
}

/// As [`one`], of a member that is no text.
pub(crate) fn shown<T: ToString>(value: Option<&T>) -> Vec<String> {
    value.into_iter().map(ToString::to_string).collect()
}

/// Keeps those that were asked for by id, and refuses the first id that is not there.
pub(super) fn by_id<T>(
    all: Vec<T>,
    ids: Option<&[String]>,
    id_of: impl Fn(&T) -> Option<&str>,
    missing: impl Fn(&str) -> Refusal,
) -> Result<Vec<T>, Refusal> {
    let Some(ids) = ids.filter(|ids| !ids.is_empty()) else { return Ok(all) };
    for id in ids {
        if !all.iter().any(|thing| id_of(thing) == Some(id.as_str())) {
            return Err(missing(id));
        }
    }
    let is_asked = |thing: &T| ids.iter().any(|id| id_of(thing) == Some(id.as_str()));
    Ok(all.into_iter().filter(is_asked).collect())
}

/// The size of a page that a request asks for is one that there is.
pub(crate) fn check_page_size(max: Option<i32>) -> Result<(), Refusal> {
    match max.filter(|max| !(PAGE_MIN..=PAGE_MAX).contains(max)) {
        Some(max) => Err(Refusal::PageSize(max)),
        None => Ok(()),
    }
}

/// Cuts a page out of what is sorted by id; the token is the last id of the page before.
pub(super) fn page<T>(
    all: Vec<T>,
    token: Option<&str>,
    max: Option<i32>,
    has_ids: bool,
    id_of: impl Fn(&T) -> Option<&str>,
) -> Result<(Vec<T>, Option<String>), Refusal> {
    if has_ids && max.is_some() {
        return Err(Refusal::PagesOfIds);
    }
    check_page_size(max)?;
    let start = match token.filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => {
            let is_token = |thing: &T| id_of(thing).is_some_and(|id| id <= token);
            if !token.contains(['-', '.']) {
                return Err(Refusal::NextToken);
            }
            all.iter().take_while(|thing| is_token(thing)).count()
        }
    };
    let size = usize::try_from(max.unwrap_or(PAGE_MAX)).unwrap_or(usize::MAX);
    let total = all.len();
    let page: Vec<T> = all.into_iter().skip(start).take(size).collect();
    let is_last = start + page.len() >= total;
    let next = page.last().and_then(&id_of).filter(|_| !is_last).map(str::to_owned);
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_match_as_ec2_has_them() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("default", "default", true),
            ("def*", "default", true),
            ("*a*t", "default", true),
            ("d?fault", "default", true),
            ("d?fault", "dfault", true),
            ("d?fault", "deefault", false),
            ("def", "default", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
    }

    #[test]
    fn tags_are_filtered_by_value_and_by_key() {
        let tag = |key: &str, value: &str| api::Tag {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        let vpc = |tags| api::Vpc { tags: Some(tags), ..api::Vpc::default() };
        let all = vec![vpc(vec![tag("Name", "web-1"), tag("empty", "")]), vpc(vec![])];
        let kept = |name: &str, values: &[&str]| {
            let filter = Filter {
                name: Some(name.to_owned()),
                values: Some(values.iter().map(|value| (*value).to_owned()).collect()),
            };
            apply(all.clone(), Some(&[filter]), &[], &|_, _| None).unwrap().len()
        };
        assert_eq!(kept("tag:Name", &["web-*"]), 1);
        assert_eq!(kept("tag:Name", &["db"]), 0);
        assert_eq!(kept("tag:name", &["*"]), 0, "keys are told apart by case");
        assert_eq!(kept("tag:empty", &[""]), 1);
        assert_eq!(kept("tag-key", &["x", "Na*"]), 1);
        let many = vec![Filter { name: Some("tag-key".to_owned()), values: None }; 51];
        let refused = apply(all.clone(), Some(&many), &[], &|_, _| None);
        assert_eq!(refused.unwrap_err(), Refusal::TooManyFilters);
    }

    #[test]
    fn pages_follow_each_other_without_loss() {
        let all: Vec<String> = (10..23).map(|number| format!("eni-{number}")).collect();
        let id = |each: &String| -> Option<&'static str> {
            Some(Box::leak(each.clone().into_boxed_str()))
        };
        let (mut seen, mut token) = (Vec::new(), None);
        loop {
            let (page, next) =
                page(all.clone(), token.as_deref(), Some(5), false, |each| id(each)).unwrap();
            seen.extend(page);
            token = next;
            if token.is_none() {
                break;
            }
        }
        assert_eq!(seen, all);
        assert!(page(all.clone(), None, Some(4), false, |each| id(each)).is_err());
        assert!(page(all.clone(), None, Some(5), true, |each| id(each)).is_err());
        assert!(page(all, Some("junk"), None, false, |each| id(each)).is_err());
    }
}
