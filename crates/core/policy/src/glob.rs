//! Matching wildcards in bounded time, whoever wrote them.
//!
//! A greedy match that only ever goes back to the last star is right for stars that match everything, and
//! quick on everything that people write. It counts its steps; a pattern that was made to be slow, or
//! that has stars which stop at colons, is matched by following all its positions at once, as bits: a
//! step for each character of the subject over a word for each 64 of the pattern.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// A piece of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    Text(Cow<'a, str>),
    /// `?`: one character.
    One,
    /// `?` among the first five fields of an ARN: one character, no colon.
    OneInSegment,
    /// `*`: any run of characters, none too.
    Star,
    /// `*` inside one of the first five fields of an ARN: a run without colons.
    StarInSegment,
}

pub(crate) fn matches(pieces: &[Piece<'_>], subject: &str) -> bool {
    let budget = 16 * (pieces.len() + subject.len()) + 64;
    greedy(pieces, subject, budget).unwrap_or_else(|| at_once(&tokens(pieces), subject))
}

/// Tests count steps, since times say nothing of a bound.
fn spent(_steps: usize) {
    #[cfg(test)]
    tests::STEPS.with(|steps| steps.set(steps.get() + _steps));
}

/// `None` if the budget is spent, or if it could not be right.
fn greedy(pieces: &[Piece<'_>], subject: &str, mut budget: usize) -> Option<bool> {
    let (mut at, mut index) = (0, 0);
    // Where to go on when what follows the last star does not match: its piece, and the subject's place.
    let mut last_star: Option<(usize, usize)> = None;
    loop {
        spent(1);
        budget = budget.checked_sub(1)?;
        let left = subject.get(at..)?;
        let taken = match pieces.get(index) {
            Some(Piece::Text(text)) => {
                budget = budget.checked_sub(text.len() / 16)?;
                left.starts_with(&**text).then_some(text.len())
            }
            Some(Piece::Star) => {
                index += 1;
                if index == pieces.len() {
                    return Some(true);
                }
                let Some(skipped) = skip(pieces.get(index), left) else { return Some(false) };
                at += skipped;
                last_star = Some((index, at));
                continue;
            }
            Some(Piece::StarInSegment) => return None,
            // What the star took can only grow, and there is too little left already.
            Some(Piece::One | Piece::OneInSegment) if left.is_empty() => return Some(false),
            Some(Piece::One) => first_len(left),
            Some(Piece::OneInSegment) => first_len(left).filter(|_| !left.starts_with(':')),
            None if left.is_empty() => return Some(true),
            None => None,
        };
        if let Some(taken) = taken {
            at += taken;
            index += 1;
            continue;
        }
        let Some((after, from)) = last_star else { return Some(false) };
        let Some(one) = subject.get(from..).and_then(first_len) else { return Some(false) };
        let left = subject.get(from + one..)?;
        let Some(skipped) = skip(pieces.get(after), left) else { return Some(false) };
        budget = budget.checked_sub(skipped / 16)?;
        at = from + one + skipped;
        index = after;
        last_star = Some((after, at));
    }
}

/// How far a star reaches at the least, by what follows it; `None` if that is nowhere.
fn skip(next: Option<&Piece<'_>>, subject: &str) -> Option<usize> {
    match next {
        // Looking for a long text one place after the other could take its length each time.
        Some(Piece::Text(text)) if text.len() > 16 => subject.find(&**text),
        Some(Piece::Text(text)) => {
            let (text, subject) = (text.as_bytes(), subject.as_bytes());
            let (first, last_place) = (text.first()?, subject.len().checked_sub(text.len())?);
            let places = subject.get(..=last_place)?.iter().enumerate();
            let mut places = places.filter(|(_, byte)| *byte == first).map(|(place, _)| place);
            places.find(|place| subject.get(*place..).is_some_and(|left| left.starts_with(text)))
        }
        Some(Piece::One | Piece::OneInSegment | Piece::Star | Piece::StarInSegment) | None => {
            Some(0)
        }
    }
}

fn first_len(subject: &str) -> Option<usize> {
    subject.chars().next().map(char::len_utf8)
}

/// A pattern by characters, as [`at_once`] takes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Char(char),
    One,
    OneInSegment,
    Star,
    StarInSegment,
}

fn tokens(pieces: &[Piece<'_>]) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match piece {
            Piece::Text(text) => tokens.extend(text.chars().map(Token::Char)),
            Piece::One => tokens.push(Token::One),
            Piece::OneInSegment => tokens.push(Token::OneInSegment),
            Piece::Star => tokens.push(Token::Star),
            Piece::StarInSegment => tokens.push(Token::StarInSegment),
        }
    }
    tokens
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
        spent(words);
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

    /// The same pattern with its characters joined to texts, or apart.
    fn pieces(tokens: &[Token], joined: bool) -> Vec<Piece<'static>> {
        let mut pieces: Vec<Piece<'static>> = Vec::new();
        for token in tokens {
            match (token, pieces.last_mut()) {
                (Token::Char(c), Some(Piece::Text(text))) if joined => text.to_mut().push(*c),
                (Token::Char(c), _) => pieces.push(Piece::Text(c.to_string().into())),
                (Token::One, _) => pieces.push(Piece::One),
                (Token::OneInSegment, _) => pieces.push(Piece::OneInSegment),
                (Token::Star, _) => pieces.push(Piece::Star),
                (Token::StarInSegment, _) => pieces.push(Piece::StarInSegment),
            }
        }
        pieces
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
            prop_assert_eq!(matches(&pieces(&tokens, true), &subject), wanted);
            prop_assert_eq!(matches(&pieces(&tokens, false), &subject), wanted);
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
            prop_assert!(matches(&pieces(&tokens, true), &subject), "{:?}", tokens);
            prop_assert!(at_once(&tokens, &subject), "{:?}", tokens);
        }
    }

    thread_local! {
        /// Steps of this thread's matches.
        pub(super) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
    }

    /// Ten kilobytes of what takes other matchers forever, against the longest subjects there are: the steps taken are
    /// those of one greedy try and of a pass over the subject with a word for each 64 tokens, whatever is in the pattern.
    #[test]
    fn the_steps_of_hostile_patterns_are_bounded_by_their_length_and_the_subjects() {
        let unit = |text: &str| text.repeat(10_240 / text.len());
        let of = |text: &str| {
            let token = |c| match c {
                '*' => Token::Star,
                '?' => Token::One,
                other => Token::Char(other),
            };
            text.chars().map(token).collect::<Vec<_>>()
        };
        let subjects = ["a".repeat(2_048), "ab".repeat(1_024), "a:".repeat(1_024)];
        for text in ["*a?", "*?", "*a*b", "*aab", "?*", "a*?a", "**a", "*:a*", "a", "?"] {
            let tokens = of(&format!("{}!", unit(text)));
            let pieces = pieces(&tokens, true);
            for subject in &subjects {
                STEPS.with(|steps| steps.set(0));
                assert!(!matches(&pieces, subject));
                let greedy = 16 * (pieces.len() + subject.len()) + 64;
                let at_once = subject.len() * (tokens.len() / 64 + 1);
                let steps = STEPS.with(std::cell::Cell::get);
                assert!(0 < steps && steps <= greedy + at_once, "{text}: {steps} steps");
            }
        }
    }

    #[test]
    fn hostile_patterns_are_left_to_the_bounded_way() {
        let subject = "a".repeat(2_048);
        let a_or_any = [Token::Char('a'), Token::One].repeat(500);
        let many_stars = [vec![Token::Star], a_or_any.clone()].concat().repeat(4);
        let one_star = [vec![Token::Star], a_or_any, vec![Token::Char('b')]].concat();
        let long_text = [vec![Token::Star], vec![Token::Char('a'); 1_000], vec![Token::Char('b')]];
        for tokens in [many_stars, one_star.clone(), long_text.concat()] {
            let pieces = pieces(&tokens, true);
            let wanted = at_once(&tokens, &subject);
            assert_eq!(matches(&pieces, &subject), wanted);
        }
        let pieces = pieces(&one_star, true);
        let budget = 16 * (pieces.len() + subject.len()) + 64;
        assert_eq!(greedy(&pieces, &subject, budget), None, "it would take 1,000,000 steps");
        assert!(!matches(&pieces, &subject));
        assert!(matches(&pieces, &(subject + "b")));
    }
}
