//! One-time codes by time (RFC 6238): six digits for each half minute, by HMAC-SHA-1, as people's devices make them.

use ring::hmac;

/// How long a code is the one of its time.
pub const STEP_MS: u64 = 30_000;
const DIGITS: u32 = 6;
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// The code of a step.
pub fn code(seed: &[u8], step: u64) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, seed);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let from = usize::from(tag.last().copied().unwrap_or_default() & 0x0F);
    let word = tag[from..from + 4].iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
    format!("{:06}", (word & 0x7FFF_FFFF) % 10_u32.pow(DIGITS))
}

/// A seed as devices are told it: in base 32. Its length is a multiple of five bytes, so that nothing is padded.
pub fn base32(seed: &[u8]) -> String {
    let of = |five: &[u8]| {
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        let letter = move |place: u32| {
            let index = usize::try_from(bits >> (5 * place) & 31).unwrap_or_default();
            char::from(ALPHABET[index])
        };
        (0..8).rev().map(letter).collect::<String>()
    };
    seed.chunks_exact(5).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 6238, appendix B, whose codes have eight digits of which these are the last six.
    #[test]
    fn codes_are_those_of_the_standard() {
        let seed = b"12345678901234567890";
        for (seconds, expected) in [
            (59_u64, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(code(seed, seconds * 1000 / STEP_MS), expected, "{seconds}");
        }
    }

    #[test]
    fn a_seed_is_told_in_base_32() {
        assert_eq!(base32(b"12345678901234567890"), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert_eq!(base32(b""), "");
    }
}
