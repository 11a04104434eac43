//! Parameters of a form body or a query string, by name.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::codec::DecodeError;

/// How many parameters one request may have.
pub(super) const PARAMETERS_MAX: usize = 10_000;

/// Decoded parameters, sorted by name. Where a name comes twice, the last one counts.
#[derive(Clone, Debug, Default)]
pub struct Form {
    parameters: BTreeMap<String, String>,
}

impl Form {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &[u8]) -> Result<Self, DecodeError> {
        let mut form = Self::default();
        form.add(text)?;
        Ok(form)
    }

    /// Adds the parameters of another text, which override those that are there.
    pub fn add(&mut self, text: &[u8]) -> Result<(), DecodeError> {
        for pair in text.split(|&byte| byte == b'&').filter(|pair| !pair.is_empty()) {
            let split = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
            let name = decoded(&pair[..split])?;
            let value = decoded(pair.get(split + 1..).unwrap_or_default())?;
            self.parameters.insert(name, value);
            if PARAMETERS_MAX < self.parameters.len() {
                return Err(DecodeError::new("The request has too many parameters"));
            }
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Whether there is a parameter `name` or one below it, as `name.1`.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters.contains_key(name) || {
            let prefix = format!("{name}.");
            self.below(&prefix).next().is_some()
        }
    }

    /// The numbers that follow `prefix`, which ends with a dot, in order.
    pub(super) fn numbers(&self, prefix: &str) -> BTreeSet<u32> {
        self.below(prefix).filter_map(|rest| rest.split('.').next()?.parse().ok()).collect()
    }

    /// What follows `prefix` in each name that begins so.
    fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.parameters
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
            .map_while(move |(name, _)| name.strip_prefix(prefix))
    }
}

fn decoded(raw: &[u8]) -> Result<String, DecodeError> {
    let digit = |at: usize| raw.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut bytes = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = raw.get(at) {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match (digit(at + 1), digit(at + 2)) {
                (Some(high), Some(low)) => {
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                    at += 2;
                }
                _ => return Err(DecodeError::new("Malformed percent escape")),
            },
            _ => bytes.push(byte),
        }
        at += 1;
    }
    String::from_utf8(bytes).map_err(|_| DecodeError::new("Invalid UTF-8 in request"))
}
