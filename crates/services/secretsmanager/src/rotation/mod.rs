//! Rotation: a secret's next version is made, set, tried and made current by somebody else, in four steps that the region
//! asks for one after the other.
//!
//! Who does the steps is a task of ECS or an HTTP hook ([`target`]); when, [`rules`] say. [`plan`] looks at a row and says
//! what is next, and [`reconcile`] does it. All that is known of a rotation is in the secret's row.
//!
//! **Invariant:** no value of a secret is handed to whoever does a step; they read and write it with permissions of their
//! own.

pub(crate) mod cancel;
pub(crate) mod plan;
pub(crate) mod reconcile;
pub(crate) mod rotate;
pub(crate) mod rules;
pub(crate) mod target;
#[cfg(test)]
mod tests;
