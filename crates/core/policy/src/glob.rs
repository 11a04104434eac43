//! Matching wildcards in bounded time, whoever wrote them.
//!
//! A greedy match that only ever goes back to the last star is right for stars that match everything, and
//! quick on everything that people write. It counts its steps; a pattern that was made to be slow, or
//! that has stars which stop at colons, is matched by following all its positions at once, as bits: a
//! step for each character of the subject over a word for each 64 of the pattern.

use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Char(char),
    /// `?`: one character.
    One,
    /// `?` among the first five fields of an ARN: one character, no colon.
    OneInSegment,
    /// `*`: any run of characters, none too.
    Star,
    /// `*` inside one of the first five fields of an ARN: a run without colons.
    StarInSegment,
}

pub(crate) fn matches(tokens: &[Token], subject: &str) -> bool {
    let budget = 16 * (tokens.len() + subject.len()) + 64;
    greedy(tokens, subject, budget).unwrap_or_else(|| at_once(tokens, subject))
}

/// `None` if the budget is spent, or if it could not be right.
fn greedy(tokens: &[Token], subject: &str, mut budget: usize) -> Option<bool> {
    let (mut at, mut token) = (0, 0);
    // Where to go on when what follows the last star does not match: its token, and the subject's place.
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        budget = budget.checked_sub(1)?;
        let here = char_at(subject, at);
        let fits = match (tokens.get(token), here) {
            (None, None) => return Some(true),
            (Some(Token::StarInSegment), _) => return None,
            (Some(Token::Star), _) => {
                token += 1;
                if token == tokens.len() {
                    return Some(true);
                }
                last_star = Some((token, at));
                continue;
            }
            // What the star took can only grow, and there is too little left already.
            (Some(_), None) => return Some(false),
            (None, Some(_)) => false,
            (Some(Token::Char(wanted)), Some(c)) => *wanted == c,
            (Some(Token::One), Some(_)) => true,
            (Some(Token::OneInSegment), Some(c)) => c != ':',
        };
        if fits {
            at += here.map_or(0, char::len_utf8);
            token += 1;
            continue;
        }
        let Some((after, from)) = last_star else { return Some(false) };
        let Some(taken) = char_at(subject, from) else { return Some(false) };
        at = from + taken.len_utf8();
        token = after;
        last_star = Some((after, at));
    }
}

fn char_at(subject: &str, at: usize) -> Option<char> {
    match subject.as_bytes().get(at) {
        Some(byte) if byte.is_ascii() => Some(char::from(*byte)),
        Some(_) => subject.get(at..)?.chars().next(),
        None => None,
    }
}

/// Follows all positions of the pattern at once. Bit `i` says that the first `i` tokens match what was read.
fn at_once(tokens: &[Token], subject: &str) -> bool {
    let tokens = without_double_stars(tokens);
    let words = tokens.len() / 64 + 1;
    let stars = bits(&tokens, words, |token| matches!(token, Token::Star | Token::StarInSegment));
    let mut state = vec![0_u64; words];
    state[0] = 1;
    skip_stars(&mut state, &stars);
    // For each character that occurs: the tokens that it steps over, and the stars that keep it.
    let mut known: BTreeMap<char, (Vec<u64>, Vec<u64>)> = BTreeMap::new();
    for c in subject.chars() {
        let (steps, keeps) = known.entry(c).or_insert_with(|| {
            let steps = bits(&tokens, words, |token| match token {
                Token::Char(wanted) => *wanted == c,
                Token::One => true,
                Token::OneInSegment => c != ':',
                Token::Star | Token::StarInSegment => false,
            });
            let keeps = bits(&tokens, words, |token| match token {
                Token::Star => true,
                Token::StarInSegment => c != ':',
                Token::Char(_) | Token::One | Token::OneInSegment => false,
            });
            (steps, keeps)
        });
        let mut carry = 0;
        let mut is_alive = false;
        for ((word, steps), keeps) in state.iter_mut().zip(steps).zip(keeps) {
            let stepped = *word & *steps;
            let next = (stepped << 1) | carry | (*word & *keeps);
            carry = stepped >> 63;
            is_alive |= next != 0;
            *word = next;
        }
        if !is_alive {
            return false;
        }
        skip_stars(&mut state, &stars);
    }
    state[tokens.len() / 64] >> (tokens.len() % 64) & 1 == 1
}

/// A star also matches nothing. No two of them stand together, so once is enough.
fn skip_stars(state: &mut [u64], stars: &[u64]) {
    let mut carry = 0;
    for (word, stars) in state.iter_mut().zip(stars) {
        let skipped = *word & *stars;
        *word |= (skipped << 1) | carry;
        carry = skipped >> 63;
        // A carry may put a bit on a star's successor only; stars never follow one another.
    }
}

fn bits(tokens: &[Token], words: usize, is_set: impl Fn(&Token) -> bool) -> Vec<u64> {
    let mut bits = vec![0; words];
    for (index, _) in tokens.iter().enumerate().filter(|(_, token)| is_set(token)) {
        bits[index / 64] |= 1 << (index % 64);
    }
    bits
}

fn without_double_stars(tokens: &[Token]) -> Vec<Token> {
    let mut kept: Vec<Token> = Vec::with_capacity(tokens.len());
    for token in tokens {
        match (kept.last_mut(), token) {
            (Some(Token::Star), Token::Star | Token::StarInSegment) => {}
            (Some(Token::StarInSegment), Token::StarInSegment) => {}
            (Some(last @ Token::StarInSegment), Token::Star) => *last = Token::Star,
            _ => kept.push(*token),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    /// Every prefix of the pattern against every prefix of the subject: slow, and plainly right.
    fn reference(tokens: &[Token], subject: &[char]) -> bool {
        let mut table = vec![vec![false; subject.len() + 1]; tokens.len() + 1];
        table[0][0] = true;
        for (i, token) in tokens.iter().enumerate() {
            for j in 0..=subject.len() {
                let taken = j.checked_sub(1).map(|last| subject[last]);
                let is_matched = match token {
                    Token::Char(wanted) => taken == Some(*wanted) && table[i][j - 1],
                    Token::One => taken.is_some() && table[i][j - 1],
                    Token::OneInSegment => taken.is_some_and(|c| c != ':') && table[i][j - 1],
                    Token::Star => table[i][j] || (j > 0 && table[i + 1][j - 1]),
                    Token::StarInSegment => {
                        table[i][j] || (taken.is_some_and(|c| c != ':') && table[i + 1][j - 1])
                    }
                };
                table[i + 1][j] = is_matched;
            }
        }
        table[tokens.len()][subject.len()]
    }

    fn token() -> impl Strategy<Value = Token> {
        prop_oneof![
            4 => prop::sample::select(vec!['a', 'b', ':', 'é']).prop_map(Token::Char),
            1 => Just(Token::One),
            1 => Just(Token::OneInSegment),
            2 => Just(Token::Star),
            1 => Just(Token::StarInSegment),
        ]
    }

    proptest! {
        #[test]
        fn both_ways_agree_with_the_reference(
            tokens in prop::collection::vec(token(), 0..150),
            subject in "[ab:é]{0,90}",
        ) {
            let chars: Vec<char> = subject.chars().collect();
            let wanted = reference(&tokens, &chars);
            prop_assert_eq!(at_once(&tokens, &subject), wanted);
            prop_assert_eq!(matches(&tokens, &subject), wanted);
        }

        #[test]
        fn what_a_pattern_was_made_from_matches_it(
            subject in "[ab:é]{0,200}",
            cuts in prop::collection::vec((0..200_usize, 0..4_usize), 0..20),
        ) {
            let mut tokens: Vec<Token> = subject.chars().map(Token::Char).collect();
            for (at, what) in cuts {
                let at = at % (tokens.len() + 1);
                match what {
                    0 => tokens.insert(at, Token::Star),
                    1 => tokens.insert(at, Token::StarInSegment),
                    2 if at < tokens.len() && matches!(tokens[at], Token::Char(_)) => {
                        tokens[at] = Token::One;
                    }
                    _ if at < tokens.len() => tokens[at] = Token::Star,
                    _ => {}
                }
            }
            prop_assert!(matches(&tokens, &subject), "{:?}", tokens);
            prop_assert!(at_once(&tokens, &subject), "{:?}", tokens);
        }
    }

    #[test]
    fn hostile_patterns_are_left_to_the_bounded_way() {
        let mut tokens = Vec::new();
        for _ in 0..1_000 {
            tokens.extend([Token::Star, Token::Char('a'), Token::One, Token::Char('a')]);
        }
        tokens.push(Token::Char('b'));
        let subject = "a".repeat(2_048);
        let one_long = [vec![Token::Star], vec![Token::Char('a'); 1_000], vec![Token::Char('b')]];
        let one_long: Vec<Token> = one_long.concat();
        assert!(!matches(&tokens, &subject));
        let budget = 16 * (one_long.len() + subject.len()) + 64;
        assert_eq!(
            greedy(&one_long, &subject, budget),
            None,
            "it would have taken 1,000,000 steps"
        );
        assert!(!matches(&one_long, &subject));
        assert!(matches(&one_long, &(subject + "b")));
    }
}
