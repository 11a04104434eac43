//! Who may do what: IAM's policy language, read once and then asked.
//!
//! [`Policy::parse`] checks a document as IAM does and compiles it: wildcards and variables are split,
//! dates, numbers and networks are read, so that nothing of it is looked at as text again. A policy is kept beside
//! the row that holds its document, in an `Arc`, and [`evaluate`] is asked for each request of each
//! service: it takes the caller, the action, the resource and the request's condition keys, and the policies that
//! concern them, and answers whether the request is allowed and *which* statement said so.
//! Where the same principal asks again, its policies are kept as a [`PolicySet`], and an [`Inquiry`] of it answers the
//! same about as many resources as a request has.
//! [`explain`] tells all that matched, for policy simulation and for the question why something was denied.
//!
//! Nothing here reads a clock or a row: `aws:CurrentTime` is a condition key like the others. Whatever a
//! document holds, its evaluation takes time in proportion to what is matched (`glob`).
//!
//! Service and resource control policies of organizations are not here; they would be one more layer.

mod condition;
mod context;
mod document;
mod element;
mod evaluate;
mod explain;
mod glob;
mod inquiry;
mod json;
pub mod limits;
mod malformed;
mod pattern;
mod policy_set;
mod principal;
mod render;
mod request;
mod scalar;
mod services;
mod sought;
mod statement;

pub use context::{Context, Contexts, KeyMask, KeyName, Value, Values};
pub use document::{Policy, PolicyKind};
pub use evaluate::{
    Decision, Grounds, Layer, Policies, ResourceKind, StatementRef, evaluate, strictest,
};
pub use explain::{Explanation, Outcome, explain};
pub use inquiry::{Beside, Inquiry};
pub use malformed::{Fault, Malformed, Syntax};
pub use policy_set::PolicySet;
pub use principal::Principal;
pub use request::{Action, Caller, NotAnAction, Request};
pub use statement::{Effect, Statement};
