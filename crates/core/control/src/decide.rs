//! From a decision to an answer: look, decide, commit; look again if someone was quicker.

use std::sync::PoisonError;

use aws_wire::ApiError;
use longshore_types::Timestamp;
use model::View;
use store::{Batch, Pending};

use crate::Control;
use crate::errors::commit_failed;

/// How often a decision is made again before the caller is told that it is our fault.
const TRIES_MAX: u32 = 100;

impl Control {
    /// Makes a decision durable and answers with what it says.
    ///
    /// `decide` is called with the latest view, and again if that has changed meanwhile. It must be
    /// quick and do nothing but decide: no others decide while it does. A refusal is answered at
    /// once; an empty batch answers when everything that was seen is durable.
    pub async fn decide<T, F>(&self, mut decide: F) -> Result<T, ApiError>
    where
        F: FnMut(&View, Timestamp) -> Result<(Batch, T), ApiError> + Send,
        T: Send,
    {
        let mut tries = 0;
        loop {
            let (submitted, answer) = self.attempt(&mut decide)?;
            let error = match submitted {
                Ok(pending) => match pending.await {
                    Ok(_) => return Ok(answer),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            tries += 1;
            if !error.is_stale() || TRIES_MAX <= tries {
                return Err(commit_failed(error));
            }
        }
    }

    fn attempt<T, F>(
        &self,
        decide: &mut F,
    ) -> Result<(Result<Pending, store::CommitError>, T), ApiError>
    where
        F: FnMut(&View, Timestamp) -> Result<(Batch, T), ApiError>,
    {
        let _turn = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.store.latest();
        let now = self.clock.now();
        let (mut batch, answer) = decide(&view, now)?;
        self.tell_of(&view, &mut batch, now);
        // The store changes in place what nobody looks at.
        drop(view);
        Ok((self.store.submit(batch), answer))
    }
}

#[cfg(test)]
mod tests {
    use model::{AccountSetting, SettingId, SettingPrincipal};

    use super::*;
    use crate::Config;
    use crate::testing::TestControl;

    #[tokio::test]
    async fn a_decision_is_answered_once_it_is_durable() {
        let world = TestControl::new();
        let answer = world.control.decide(|view, _| Ok((put(view, "1"), 7))).await.unwrap();
        assert_eq!(answer, 7);
        assert_eq!(world.control.view().account_settings.len(), 1);
    }

    #[tokio::test]
    async fn a_decider_that_was_overtaken_decides_again() {
        let world = TestControl::new();
        let mut looks = 0;
        let decided = world.control.decide(|view, _| {
            looks += 1;
            if looks == 1 {
                // Someone who does not queue up writes the row in between.
                world.control.store.submit(put(view, "theirs")).unwrap();
            }
            Ok((put(view, "ours"), ()))
        });
        decided.await.unwrap();
        assert_eq!(looks, 2);
        let view = world.control.view();
        assert_eq!(view.account_settings.iter().next().unwrap().value, "ours");
    }

    #[tokio::test]
    async fn a_refusal_writes_nothing() {
        let world = TestControl::new();
        let refused: Result<(), ApiError> =
            world.control.decide(|_, _| Err(ApiError::client("No", "no"))).await;
        assert_eq!(refused.unwrap_err().code, "No");
        assert_eq!(world.control.view().seq, store::Seq(0));
    }

    fn put(view: &View, value: &str) -> Batch {
        let setting = SettingId { principal: SettingPrincipal::Default, name: "x".to_owned() };
        let account = Config::root_account();
        let mut batch = Batch::on(view);
        batch.put(AccountSetting { account, setting, value: value.to_owned() });
        batch
    }
}
