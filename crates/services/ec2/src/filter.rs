//! EC2's filters, lists of ids and pages: honoured, or refused by name.

use ec2_api::Filter;

use crate::errors::Refusal;

/// The fewest and most results of a page.
pub(crate) const PAGE_MIN: i32 = 5;
pub(crate) const PAGE_MAX: i32 = 1_000;

/// Whether one thing passes one filter: its values for the filter's name, or `None` if that name
/// is no filter of this operation.
pub(super) type ValuesOf<'a, T> = dyn Fn(&T, &str) -> Option<Vec<String>> + 'a;

/// Keeps what passes every filter. A filter that is unknown is an error, whatever there is.
pub(super) fn apply<T>(
    all: Vec<T>,
    filters: Option<&[Filter]>,
    names: &[&str],
    values_of: &ValuesOf<'_, T>,
) -> Result<Vec<T>, Refusal> {
    let filters = filters.unwrap_or_default();
    for filter in filters {
        let name = filter.name.as_deref().unwrap_or_default();
        if !names.contains(&name) && !is_tag(name) {
            return Err(Refusal::UnknownFilter(name.to_owned()));
        }
    }
    let passes = |thing: &T, filter: &Filter| {
        let name = filter.name.as_deref().unwrap_or_default();
        // Nothing here has tags yet, so that no tag matches.
        let actual = values_of(thing, name).unwrap_or_default();
        let wanted = filter.values.as_deref().unwrap_or_default();
        wanted.iter().any(|wanted| actual.iter().any(|actual| matches(wanted, actual)))
    };
    Ok(all.into_iter().filter(|thing| filters.iter().all(|filter| passes(thing, filter))).collect())
}

fn is_tag(name: &str) -> bool {
    name.starts_with("tag:") || name == "tag-key"
}

/// `*` stands for any characters and `?` for one; a backslash takes their meaning away.
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
    let skip_any = |next: &mut Vec<bool>| {
        for (index, piece) in pieces.iter().enumerate() {
            if next[index] && *piece == Piece::Any {
                next[index + 1] = true;
            }
        }
    };
    skip_any(&mut next);
    for letter in text.chars() {
        let mut after = vec![false; pieces.len() + 1];
        for (index, piece) in pieces.iter().enumerate().filter(|(index, _)| next[*index]) {
            match piece {
                Piece::Any => after[index] = true,
                Piece::One => after[index + 1] = true,
                Piece::Exactly(wanted) => after[index + 1] |= *wanted == letter,
            }
        }
        skip_any(&mut after);
        next = after;
    }
    next[pieces.len()]
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
    if let Some(max) = max.filter(|max| !(PAGE_MIN..=PAGE_MAX).contains(max)) {
        return Err(Refusal::PageSize(max));
    }
    let start = match token.filter(|token| !token.is_empty()) {
        None => 0,
        Some(token) => {
            let is_token = |thing: &T| id_of(thing).is_some_and(|id| id <= token);
            if !token.contains('-') {
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
            ("d?fault", "dfault", false),
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
