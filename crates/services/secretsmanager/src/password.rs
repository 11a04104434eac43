//! GetRandomPassword.

use aws_wire::{ApiError, Caller};
use control::Permission;
use longshore_types::IdSource;
use secretsmanager_api as api;

use crate::SecretsManager;
use crate::errors::invalid;
use crate::limits::{PASSWORD_LEN_DEFAULT, PASSWORD_LEN_MAX};

const LOWERCASE: &str = "abcdefghijklmnopqrstuvwxyz";
const UPPERCASE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
const NUMBERS: &str = "0123456789";
const PUNCTUATION: &str = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~";

pub(crate) async fn get_random_password(
    it: &SecretsManager,
    caller: &Caller,
    input: api::GetRandomPasswordRequest,
) -> Result<api::GetRandomPasswordResponse, ApiError> {
    it.control.read(caller, &Permission::to("secretsmanager:GetRandomPassword").on("*"))?;
    let length = input.password_length.unwrap_or(PASSWORD_LEN_DEFAULT);
    let length = usize::try_from(length).ok().filter(|_| (1..=PASSWORD_LEN_MAX).contains(&length));
    let length = length.ok_or_else(|| {
        invalid(format!("The password length must be between 1 and {PASSWORD_LEN_MAX}."))
    })?;
    let kinds = [
        (LOWERCASE, input.exclude_lowercase),
        (UPPERCASE, input.exclude_uppercase),
        (NUMBERS, input.exclude_numbers),
        (PUNCTUATION, input.exclude_punctuation),
        (" ", Some(!input.include_space.unwrap_or(false))),
    ];
    let excluded = input.exclude_characters.unwrap_or_default();
    let kinds = kinds.into_iter().filter(|(_, is_excluded)| *is_excluded != Some(true));
    let kinds = kinds.map(|(kind, _)| kind.chars().filter(|c| !excluded.contains(*c)).collect());
    let kinds: Vec<Vec<char>> = kinds.filter(|kind: &Vec<char>| !kind.is_empty()).collect();
    let needs_each = input.require_each_included_type.unwrap_or(true);
    let password = draw(it.control.ids.as_ref(), &kinds, length, needs_each)?;
    Ok(api::GetRandomPasswordResponse { random_password: Some(password) })
}

fn draw(
    ids: &dyn IdSource,
    kinds: &[Vec<char>],
    length: usize,
    needs_each: bool,
) -> Result<String, ApiError> {
    if kinds.is_empty() {
        return Err(invalid("All characters are excluded: there is nothing left to draw from."));
    }
    if needs_each && length < kinds.len() {
        return Err(invalid("The password is too short to have a character of each type."));
    }
    let all: Vec<char> = kinds.iter().flatten().copied().collect();
    let mut password: Vec<char> = match needs_each {
        true => kinds.iter().map(|kind| kind[below(ids, kind.len())]).collect(),
        false => vec![],
    };
    while password.len() < length {
        password.push(all[below(ids, all.len())]);
    }
    // Those of each type came first: their places are drawn too.
    for place in (1..password.len()).rev() {
        password.swap(place, below(ids, place + 1));
    }
    Ok(password.into_iter().collect())
}

/// A number below `bound`, each as likely as the others.
fn below(ids: &dyn IdSource, bound: usize) -> usize {
    let bound = u32::try_from(bound).unwrap_or(1).max(1);
    // The largest multiple of the bound: what is beyond would favour the smaller numbers.
    let fair = u32::MAX - u32::MAX % bound;
    loop {
        let mut bytes = [0; 4];
        ids.fill(&mut bytes);
        let drawn = u32::from_be_bytes(bytes);
        if drawn < fair {
            return usize::try_from(drawn % bound).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use longshore_types::SeededEnv;

    use super::*;

    #[test]
    fn a_password_has_a_character_of_each_type_and_no_other() {
        let env = SeededEnv::from_seed(1);
        let kinds: Vec<Vec<char>> =
            [LOWERCASE, NUMBERS].map(|kind| kind.chars().collect()).into_iter().collect();
        for _ in 0..200 {
            let password = draw(&env, &kinds, 2, true).unwrap();
            assert!(password.contains(char::is_numeric), "{password}");
            assert!(password.contains(char::is_alphabetic), "{password}");
        }
        assert!(draw(&env, &kinds, 1, true).is_err());
        assert_eq!(draw(&env, &kinds, 1, false).unwrap().len(), 1);
        assert!(draw(&env, &[], 1, false).is_err());
        let drawn: std::collections::BTreeSet<usize> = (0..200).map(|_| below(&env, 3)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [0, 1, 2]);
    }
}
