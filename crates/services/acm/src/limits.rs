//! Certificate Manager's quotas.

pub(crate) const CERTIFICATES_MAX: usize = 2_500;
/// Names that one certificate is for.
pub(crate) const NAMES_MAX: usize = 100;
/// Of a certificate with those that it comes with: clients read no more in a handshake.
pub(crate) const SHOWN_BYTES_MAX: usize = 64 << 10;
/// The first name is the subject's too, which has so many characters at most.
pub(crate) const DOMAIN_LEN_MAX: usize = 64;
pub(crate) const PAGE_DEFAULT: usize = 100;
/// Names that a list shows of a certificate.
pub(crate) const NAMES_LISTED_MAX: usize = 100;
pub(crate) const DAY_MS: u64 = 24 * 3_600_000;
/// How long an issued certificate is good: thirteen months, as Amazon's.
pub(crate) const ISSUED_MS: u64 = 395 * DAY_MS;
/// It is signed anew so long before it ends.
pub(crate) const RENEW_BEFORE_MS: u64 = 60 * DAY_MS;
/// How long a token means the certificate that was asked for with it.
pub(crate) const TOKEN_MS: u64 = 3_600_000;
