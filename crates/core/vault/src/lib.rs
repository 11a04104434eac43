//! Envelope encryption of what a region keeps secret.
//!
//! A [`RootKey`], which is kept apart from the data, wraps [`DataKey`]s; a data key seals values, each under a
//! key of its own that is derived from it. Everything is AES-256 in Galois counter mode, and says in its
//! associated data what it belongs to: what was sealed for one row opens for no other.
//!
//! Changing the root key wraps the data keys anew and touches no value.
//!
//! **Invariant:** no key and no plain value is printed, and each is overwritten when it is dropped.

mod cipher;
mod data_key;
mod password;
mod root_key;
pub mod totp;

pub use cipher::Cipher;
pub use data_key::{DataKey, SALT_LEN};
pub use password::PasswordHash;
pub use root_key::{Fingerprint, NotARootKey, RootKey, Unwrap};
pub use zeroize::Zeroizing;
