//! Hashing into a [`Digest`].

use longshore_types::Digest;
use sha2::{Digest as _, Sha256, Sha512};

/// Takes content piece by piece and says what it is called.
#[derive(Clone, Debug)]
pub enum Hasher {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    pub fn sha256() -> Self {
        Self::Sha256(Sha256::new())
    }

    /// A hasher of the algorithm that `digest` names.
    pub fn like(digest: &Digest) -> Self {
        match digest {
            Digest::Sha256(_) => Self::sha256(),
            Digest::Sha512(_) => Self::Sha512(Sha512::new()),
        }
    }

    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }

    /// The SHA-256 digest of `bytes`.
    pub fn digest(bytes: &[u8]) -> Digest {
        let mut hasher = Self::sha256();
        hasher.update(bytes);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_text_has_its_known_digests() {
        assert_eq!(
            Hasher::digest(b"").to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        let sha512 = Hasher::like(&Digest::Sha512([0; 64])).finish().to_string();
        assert!(sha512.starts_with("sha512:cf83e1357eefb8bdf1542850d66d8007"), "{sha512}");
    }
}
