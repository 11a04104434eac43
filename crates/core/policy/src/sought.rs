//! A resource that patterns are tried on, and what tells quickly that one does not match it.
//!
//! A pattern's own texts must be in what it matches, and with them every pair of neighbouring bytes. So a pattern that
//! has a pair which the resource has not is passed over by one look at bits: of many policies that speak of one
//! service, most name other resources.

use std::cell::{Cell, OnceCell};

use crate::glob::Piece;

/// As many looks are taken at a resource before it is worth to go through it.
const TRIED_FIRST: u32 = 6;

/// Pairs of neighbouring bytes, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairs(u128);

impl Pairs {
    pub(crate) fn of(text: &str) -> Self {
        let pairs = text.as_bytes().windows(2).filter_map(|pair| pair.try_into().ok());
        pairs.fold(Self::default(), |all, pair: [u8; 2]| {
            let bit = u32::from(u16::from_be_bytes(pair)).wrapping_mul(0x9e37_79b1) >> 25;
            all.or(Self(1 << bit))
        })
    }

    pub(crate) fn of_piece(piece: &Piece<'_>) -> Self {
        match piece {
            Piece::Text(text) => Self::of(text),
            Piece::One | Piece::OneInSegment | Piece::Star | Piece::StarInSegment => {
                Self::default()
            }
        }
    }

    pub(crate) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

/// A resource, and what is known of it so far.
#[derive(Debug)]
pub(crate) struct Sought<'a> {
    text: &'a str,
    tried: Cell<u32>,
    pairs: OnceCell<Pairs>,
}

impl<'a> Sought<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, tried: Cell::new(0), pairs: OnceCell::new() }
    }

    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// Whether what has these pairs may match; surely not if this says so.
    pub(crate) fn may_have(&self, needed: Pairs) -> bool {
        if needed == Pairs::default() {
            return true;
        }
        if self.tried.get() < TRIED_FIRST {
            self.tried.set(self.tried.get() + 1);
            return true;
        }
        let has = self.pairs.get_or_init(|| Pairs::of(self.text));
        needed.0 & has.0 == needed.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::Context;
    use crate::pattern::{Grammar, Pattern};
    use crate::statement::Resources;

    use proptest::prelude::*;

    fn has(text: &str, needed: Pairs) -> bool {
        let sought = Sought::new(text);
        // As of one that was looked at often.
        sought.tried.set(TRIED_FIRST);
        sought.may_have(needed)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

        #[test]
        fn nothing_that_a_pattern_matches_is_passed_over(
            text in "arn:aws:ecs:us-east-1:[0-9]{3}:[a-cA-Cé:/*?$-]{0,40}",
            cuts in prop::collection::vec((0..70_usize, 0..8_usize, 0..6_usize), 0..5),
            (arn, other) in (any::<bool>(), "[a-c:/]{0,9}"),
        ) {
            let mut pattern: Vec<char> = text.chars().collect();
            for (from, length, what) in cuts {
                let from = from % (pattern.len() + 1);
                let to = (from + length).min(pattern.len());
                let by = ["*", "?", "${aws:username}", "${*}", "${?}", "${aws:userid, 'bc'}"][what];
                pattern.splice(from..to, by.chars());
            }
            let pattern: String = pattern.into_iter().collect();
            let grammar = Grammar { wildcards: true, variables: true, arn };
            if let Ok(pattern) = Pattern::compile(&pattern, grammar) {
                let mut context = Context::new();
                context.set("aws:username", "abc");
                let is_matched = pattern.matches(&text, (&context).into()) == Some(true);
                prop_assert!(!is_matched || has(&text, pattern.needed()));
                // Nor by what several have in common.
                let other = Pattern::compile(&other, grammar).expect("a plain text");
                let either = Resources { is_negated: false, patterns: vec![other, pattern] };
                prop_assert!(!is_matched || has(&text, either.needed()));
            }
        }
    }

    #[test]
    fn what_names_another_resource_is_passed_over() {
        let text = "arn:aws:ecs:us-east-1:111122223333:service/prod/web-49";
        for (other, wanted) in [
            ("arn:aws:ecs:us-east-1:111122223333:service/prod/web-58", false),
            ("arn:aws:ecs:us-east-1:111122223333:service/prod/web-4", true),
            ("service/prod", true),
            ("task/prod", false),
        ] {
            assert_eq!(has(text, Pairs::of(other)), wanted, "{other}");
        }
        assert!(Sought::new(text).may_have(Pairs::of("task/prod")), "it is not worth it yet");
    }
}
