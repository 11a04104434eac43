//! Second factors: virtual devices that show one-time codes.
//!
//! **Invariant:** a code is taken once, and its being taken is durable before anything is given for it.

use aws_wire::ApiError;
use longshore_types::{AccountId, Timestamp};
use model::{IamMfaDevice, MfaAssignment, NameKey, View};
use store::Batch;
use vault::totp::{self, STEP_MS};

use super::guesses::Secret;
use super::{Entity, entity_of};
use crate::Control;
use crate::seal::derive;

/// A multiple of five, for base 32.
const SEED_LEN: usize = 30;
/// Codes before and after the one of now that are taken: a clock differs, and people type.
const NEAR: i64 = 1;

/// Why a code is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeRefusal {
    /// There is no such device, or it is not the user's.
    Unknown,
    Wrong,
    TooMany,
}

/// The device of a serial number.
pub fn device_of<'a>(view: &'a View, account: AccountId, serial: &str) -> Option<&'a IamMfaDevice> {
    let (_, name) = serial.split_once(":mfa")?;
    let row = view.iam_mfa_devices.get(account, &NameKey::of(name))?;
    Some(row.as_ref()).filter(|row| row.arn() == serial)
}

/// The number of the code of a moment.
pub fn step_of(now: Timestamp) -> i64 {
    i64::try_from(now.0 / STEP_MS).unwrap_or(i64::MAX)
}

fn is_code(seed: &[u8], step: i64, code: &str) -> bool {
    u64::try_from(step).is_ok_and(|step| totp::code(seed, step) == code)
}

impl Control {
    /// What a device makes its codes by.
    pub fn mfa_seed(&self, device: &IamMfaDevice) -> [u8; SEED_LEN] {
        let of = format!("{}|{}", device.account, device.unique_id);
        let digest = derive(&self.access.keys.registry_secret, "mfa seed", &of);
        let mut seed = [0; SEED_LEN];
        seed.copy_from_slice(&digest[..SEED_LEN]);
        seed
    }

    /// Two codes in a row that a device shows around now, up to so many codes off: how far it is ahead, and the number of
    /// the second one.
    pub fn two_codes(
        &self,
        device: &IamMfaDevice,
        codes: (&str, &str),
        off_max: i64,
        now: Timestamp,
    ) -> Option<(i64, i64)> {
        let (seed, now) = (self.mfa_seed(device), step_of(now));
        let mut steps = now - off_max..=now + off_max;
        let second = steps
            .find(|step| is_code(&seed, *step, codes.1) && is_code(&seed, *step - 1, codes.0))?;
        Some((second - now, second))
    }

    /// Takes a code of a user's device, of any of them if none is named.
    pub async fn take_code(
        &self,
        account: AccountId,
        user: &str,
        serial: Option<&str>,
        code: &str,
    ) -> Result<Result<(), CodeRefusal>, ApiError> {
        let guesses = &self.access.guesses;
        let Some(guess) = guesses.guess(account, Secret::Code, user, self.clock.now()) else {
            return Ok(Err(CodeRefusal::TooMany));
        };
        let taken = self
            .decide(|view, now| {
                let mut batch = Batch::on(view);
                Ok(match self.device_that_shows(view, account, user, serial, code, now) {
                    Ok(next) => {
                        batch.put(next);
                        (batch, Ok(()))
                    }
                    Err(refusal) => (batch, Err(refusal)),
                })
            })
            .await?;
        match taken {
            Ok(()) => guess.was_right(),
            Err(_) => guess.was_wrong(),
        }
        Ok(taken)
    }

    /// The device that shows the code now, as it is once the code is taken.
    fn device_that_shows(
        &self,
        view: &View,
        account: AccountId,
        user: &str,
        serial: Option<&str>,
        code: &str,
        now: Timestamp,
    ) -> Result<IamMfaDevice, CodeRefusal> {
        let Some(Entity::User(row)) = entity_of(view, user) else {
            return Err(CodeRefusal::Unknown);
        };
        let its = row.devices.iter().filter_map(|id| view.iam_mfa_devices.get(account, id));
        let named = its.filter(|device| serial.is_none_or(|serial| device.arn() == serial));
        let (mut refusal, now) = (CodeRefusal::Unknown, step_of(now));
        for device in named {
            let Some(assigned) = &device.assigned else { continue };
            refusal = CodeRefusal::Wrong;
            let (seed, middle) = (self.mfa_seed(device), now.saturating_add(assigned.drift));
            let mut steps = middle - NEAR..=middle + NEAR;
            let shown =
                steps.find(|step| assigned.last_step < *step && is_code(&seed, *step, code));
            if let Some(step) = shown {
                let next = MfaAssignment { drift: step - now, last_step: step, ..assigned.clone() };
                return Ok(IamMfaDevice { assigned: Some(next), ..IamMfaDevice::clone(device) });
            }
        }
        Err(refusal)
    }
}
