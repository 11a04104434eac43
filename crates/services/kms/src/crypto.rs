//! Encrypt, Decrypt, ReEncrypt, data keys and random bytes.
//!
//! A ciphertext names its key and the version of its material, and opens with the encryption context that it was made
//! with, pair for pair.

use std::sync::Arc;

use aws_wire::{ApiError, Caller};
use bytes::Bytes;
use control::Permission;
use control::kms::{
    NamedKey, Unopened, current_version, key_of_sealed, material_id, version_of_sealed,
};
use kms_api as api;
use model::{KmsKey, View};

use crate::errors::{ciphertext, dry_run, invalid, named, unsupported};
use crate::grants::check_tokens;
use crate::{EncryptionContext, Kms};

/// What a text of a client is bound to. What services seal by the same key is bound to something that no context
/// makes.
fn bound_to(context: &EncryptionContext) -> Result<Vec<u8>, ApiError> {
    let text = serde_json::to_vec(context);
    let text = text.map_err(|why| ApiError::fault("failed to write an encryption context", why))?;
    Ok([b"kms|".as_slice(), &text].concat())
}

const ALGORITHM: api::EncryptionAlgorithmSpec = api::EncryptionAlgorithmSpec::SymmetricDefault;

/// What is said of the material that seals by a key now.
fn sealing(key: &KmsKey) -> Option<String> {
    Some(material_id(key, current_version(key)))
}

/// The same of what a text was sealed by.
fn sealed_by(key: &KmsKey, blob: &[u8]) -> Option<String> {
    version_of_sealed(blob).map(|version| material_id(key, version))
}

/// What a request may ask besides, and what of it is not here.
#[derive(Clone, Copy, Default)]
struct Besides<'a> {
    algorithm: Option<&'a api::EncryptionAlgorithmSpec>,
    grant_tokens: Option<&'a Vec<String>>,
    has_recipient: bool,
    is_dry_run: bool,
}

impl Besides<'_> {
    fn check(&self, view: &View) -> Result<(), ApiError> {
        if self.algorithm.is_some_and(|algorithm| *algorithm != ALGORITHM) {
            let message = "The key's only algorithm is SYMMETRIC_DEFAULT.";
            return Err(named("InvalidKeyUsageException", message));
        }
        check_tokens(view, self.grant_tokens)?;
        if self.has_recipient {
            return Err(unsupported("Nitro enclaves are not available in this region."));
        }
        match self.is_dry_run {
            true => Err(dry_run()),
            false => Ok(()),
        }
    }
}

impl Kms {
    /// A key to encrypt by.
    fn usable(
        &self,
        view: &View,
        caller: &Caller,
        action: &'static str,
        given: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<NamedKey, ApiError> {
        let key = self.key(view, caller, action, given.unwrap_or_default(), context, |it| it)?;
        self.control.check_key(&key.key).map_err(|refusal| refusal.to_api())?;
        Ok(key)
    }

    /// The key of a ciphertext, for a caller that may open it.
    fn key_of(
        &self,
        view: &View,
        caller: &Caller,
        action: &'static str,
        blob: &[u8],
        given: Option<&str>,
        context: &EncryptionContext,
    ) -> Result<Arc<KmsKey>, ApiError> {
        let Some(key) = key_of_sealed(view, blob) else {
            let permission = self.permission_on_nothing(caller, action, given.unwrap_or("*"));
            self.control.authorize(view, caller, &permission)?;
            return Err(ciphertext());
        };
        let arn = self.control.key_arn(key);
        let named = self.usable(view, caller, action, Some(&arn), context)?;
        if let Some(given) = given {
            let meant = self.control.find_key(view, caller.account, given);
            let meant = meant.map_err(|refusal| refusal.to_api())?.key;
            if (meant.account, meant.id) != (key.account, key.id) {
                let message = "The key ID in the request does not identify a CMK that can perform this operation.";
                return Err(crate::errors::named("IncorrectKeyException", message));
            }
        }
        Ok(named.key)
    }

    fn open(
        &self,
        view: &View,
        blob: &[u8],
        context: &EncryptionContext,
    ) -> Result<Vec<u8>, ApiError> {
        let opened = self.control.open_sealed(view, &bound_to(context)?, blob);
        match opened {
            Ok(plain) => Ok(plain.to_vec()),
            Err(Unopened::NotSealed | Unopened::Damaged) => Err(ciphertext()),
            Err(Unopened::Refused(refusal)) => Err(refusal.to_api()),
            Err(why @ Unopened::Unwrap(_)) => Err(why.fault("failed to open a ciphertext")),
        }
    }

    fn seal(
        &self,
        key: &KmsKey,
        context: &EncryptionContext,
        plain: &[u8],
    ) -> Result<Bytes, ApiError> {
        self.control.seal_by(key, &bound_to(context)?, plain).map(Bytes::from)
    }
}

pub(crate) async fn encrypt(
    it: &Kms,
    caller: &Caller,
    input: api::EncryptRequest,
) -> Result<api::EncryptResponse, ApiError> {
    let view = it.control.view();
    let context = input.encryption_context.unwrap_or_default();
    let key = it.usable(&view, caller, "kms:Encrypt", input.key_id.as_deref(), &context)?.key;
    let besides = Besides {
        algorithm: input.encryption_algorithm.as_ref(),
        grant_tokens: input.grant_tokens.as_ref(),
        has_recipient: false,
        is_dry_run: input.dry_run.unwrap_or(false),
    };
    besides.check(&view)?;
    let sealed = it.seal(&key, &context, &input.plaintext.unwrap_or_default())?;
    Ok(api::EncryptResponse {
        ciphertext_blob: Some(sealed),
        key_id: Some(it.control.key_arn(&key)),
        encryption_algorithm: Some(ALGORITHM),
    })
}

pub(crate) async fn decrypt(
    it: &Kms,
    caller: &Caller,
    input: api::DecryptRequest,
) -> Result<api::DecryptResponse, ApiError> {
    let view = it.control.view();
    let context = input.encryption_context.unwrap_or_default();
    let blob = input.ciphertext_blob.unwrap_or_default();
    let given = input.key_id.as_deref();
    let key = it.key_of(&view, caller, "kms:Decrypt", &blob, given, &context)?;
    let besides = Besides {
        algorithm: input.encryption_algorithm.as_ref(),
        grant_tokens: input.grant_tokens.as_ref(),
        has_recipient: input.recipient.is_some(),
        is_dry_run: input.dry_run.unwrap_or(false),
    };
    besides.check(&view)?;
    let plain = it.open(&view, &blob, &context)?;
    Ok(api::DecryptResponse {
        key_id: Some(it.control.key_arn(&key)),
        plaintext: Some(plain.into()),
        encryption_algorithm: Some(ALGORITHM),
        key_material_id: sealed_by(&key, &blob),
        ..api::DecryptResponse::default()
    })
}

pub(crate) async fn re_encrypt(
    it: &Kms,
    caller: &Caller,
    input: api::ReEncryptRequest,
) -> Result<api::ReEncryptResponse, ApiError> {
    let view = it.control.view();
    let from = input.source_encryption_context.unwrap_or_default();
    let to = input.destination_encryption_context.unwrap_or_default();
    let blob = input.ciphertext_blob.unwrap_or_default();
    let given = input.source_key_id.as_deref();
    let source = it.key_of(&view, caller, "kms:ReEncryptFrom", &blob, given, &from)?;
    let given = input.destination_key_id.as_deref();
    let target = it.usable(&view, caller, "kms:ReEncryptTo", given, &to)?.key;
    let algorithms = [&input.source_encryption_algorithm, &input.destination_encryption_algorithm];
    for algorithm in algorithms {
        Besides { algorithm: algorithm.as_ref(), ..Besides::default() }.check(&view)?;
    }
    let besides = Besides {
        grant_tokens: input.grant_tokens.as_ref(),
        is_dry_run: input.dry_run.unwrap_or(false),
        ..Besides::default()
    };
    besides.check(&view)?;
    let plain = it.open(&view, &blob, &from)?;
    Ok(api::ReEncryptResponse {
        ciphertext_blob: Some(it.seal(&target, &to, &plain)?),
        source_key_id: Some(it.control.key_arn(&source)),
        key_id: Some(it.control.key_arn(&target)),
        source_encryption_algorithm: Some(ALGORITHM),
        destination_encryption_algorithm: Some(ALGORITHM),
        source_key_material_id: sealed_by(&source, &blob),
        destination_key_material_id: sealing(&target),
    })
}

/// How many bytes a data key has.
fn length(bytes: Option<i32>, spec: Option<&api::DataKeySpec>) -> Result<usize, ApiError> {
    match (bytes, spec) {
        (Some(bytes), None) => Ok(usize::try_from(bytes).unwrap_or_default()),
        (None, Some(api::DataKeySpec::Aes256)) => Ok(32),
        (None, Some(api::DataKeySpec::Aes128)) => Ok(16),
        (Some(_), Some(_)) | (None, _) => {
            Err(invalid("Please specify either number of bytes or key spec."))
        }
    }
}

fn random(it: &Kms, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    it.control.ids.fill(&mut bytes);
    bytes
}

pub(crate) async fn generate_data_key(
    it: &Kms,
    caller: &Caller,
    input: api::GenerateDataKeyRequest,
) -> Result<api::GenerateDataKeyResponse, ApiError> {
    let view = it.control.view();
    let context = input.encryption_context.unwrap_or_default();
    let given = input.key_id.as_deref();
    let key = it.usable(&view, caller, "kms:GenerateDataKey", given, &context)?.key;
    let length = length(input.number_of_bytes, input.key_spec.as_ref())?;
    let besides = Besides {
        algorithm: None,
        grant_tokens: input.grant_tokens.as_ref(),
        has_recipient: input.recipient.is_some(),
        is_dry_run: input.dry_run.unwrap_or(false),
    };
    besides.check(&view)?;
    let plain = random(it, length);
    Ok(api::GenerateDataKeyResponse {
        ciphertext_blob: Some(it.seal(&key, &context, &plain)?),
        plaintext: Some(plain.into()),
        key_id: Some(it.control.key_arn(&key)),
        key_material_id: sealing(&key),
        ..api::GenerateDataKeyResponse::default()
    })
}

pub(crate) async fn generate_data_key_without_plaintext(
    it: &Kms,
    caller: &Caller,
    input: api::GenerateDataKeyWithoutPlaintextRequest,
) -> Result<api::GenerateDataKeyWithoutPlaintextResponse, ApiError> {
    let view = it.control.view();
    let context = input.encryption_context.unwrap_or_default();
    let action = "kms:GenerateDataKeyWithoutPlaintext";
    let key = it.usable(&view, caller, action, input.key_id.as_deref(), &context)?.key;
    let length = length(input.number_of_bytes, input.key_spec.as_ref())?;
    let besides = Besides {
        grant_tokens: input.grant_tokens.as_ref(),
        is_dry_run: input.dry_run.unwrap_or(false),
        ..Besides::default()
    };
    besides.check(&view)?;
    Ok(api::GenerateDataKeyWithoutPlaintextResponse {
        ciphertext_blob: Some(it.seal(&key, &context, &random(it, length))?),
        key_id: Some(it.control.key_arn(&key)),
        key_material_id: sealing(&key),
    })
}

pub(crate) async fn generate_random(
    it: &Kms,
    caller: &Caller,
    input: api::GenerateRandomRequest,
) -> Result<api::GenerateRandomResponse, ApiError> {
    it.control.read(caller, &Permission::to("kms:GenerateRandom").on("*"))?;
    if input.custom_key_store_id.is_some() || input.recipient.is_some() {
        return Err(unsupported("Key stores and Nitro enclaves are not available in this region."));
    }
    let length = input.number_of_bytes.and_then(|bytes| usize::try_from(bytes).ok());
    let length = length.ok_or_else(|| invalid("NumberOfBytes must be given."))?;
    Ok(api::GenerateRandomResponse {
        plaintext: Some(random(it, length).into()),
        ciphertext_for_recipient: None,
    })
}
