//! Certificates of AWS Certificate Manager. A private key is in its certificate's row, sealed by the account's key for
//! the service.

use std::fmt;

use longshore_types::{AccountId, Scope, Timestamp, Uuid};
use serde::{Deserialize, Serialize};

use crate::table::Record;
use crate::tags::Tags;

/// Where a certificate is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CertificateOrigin {
    /// Somebody gave it.
    Imported,
    /// The region's own authority signed it, and signs it again before it ends.
    Issued(IssuedKey),
}

/// The key of a certificate that the region signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum IssuedKey {
    P256,
    P384,
}

/// A certificate as it is now; renewed or imported anew it stays the same row.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AcmCertificate {
    pub scope: Scope,
    pub id: Uuid,
    pub origin: CertificateOrigin,
    /// What it was requested for, or its subject's name.
    pub domain: String,
    /// Every name that it is for, the domain first if it is one of them.
    pub names: Vec<String>,
    /// In PEM.
    pub certificate: String,
    /// Those between it and its authority, and maybe that, in PEM.
    #[serde(default)]
    pub chain: Option<String>,
    /// The private key in PEM, sealed, in base 64.
    pub sealed_key: String,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub created_at: Timestamp,
    /// When what is here now was signed or given.
    pub changed_at: Timestamp,
    /// When it was last signed again.
    #[serde(default)]
    pub renewed_at: Option<Timestamp>,
    /// Whoever asks with it again within an hour means the same certificate.
    #[serde(default)]
    pub token: Option<String>,
    /// `CertificateTransparencyLoggingPreference`. What a private authority signs is in no public log, whatever is
    /// preferred.
    #[serde(default)]
    pub is_log_preferred: bool,
    #[serde(default)]
    pub tags: Tags,
}

impl AcmCertificate {
    pub fn arn(&self) -> String {
        arn(&self.scope, self.id)
    }

    pub fn is_issued(&self) -> bool {
        matches!(self.origin, CertificateOrigin::Issued(_))
    }
}

/// `arn:aws:acm:<region>:<account>:certificate/<id>`
pub fn arn(scope: &Scope, id: Uuid) -> String {
    format!("arn:aws:acm:{}:{}:certificate/{id}", scope.region, scope.account)
}

/// The certificate that an ARN of the scope names; none of another's.
pub fn id_of(scope: &Scope, text: &str) -> Option<Uuid> {
    let found = text.rsplit_once('/').and_then(|(_, id)| id.parse().ok())?;
    (arn(scope, found) == text).then_some(found)
}

impl fmt::Debug for AcmCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcmCertificate").field("arn", &self.arn()).finish_non_exhaustive()
    }
}

impl Record for AcmCertificate {
    type Id = Uuid;

    fn account(&self) -> AccountId {
        self.scope.account
    }

    fn id(&self) -> Uuid {
        self.id
    }
}
