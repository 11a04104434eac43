//! Where tasks go: placement as functions from a picture of the instances to a plan.
//!
//! [`placement`] finds instances for tasks and says why others would not do; [`query`] is the cluster
//! query language that constraints and list filters are written in; [`refusal`] is the vocabulary of
//! "why not". No clock, no IO, no randomness: a draw comes in as an argument.

pub mod host;
pub mod placement;
pub mod query;
pub mod refusal;
pub mod strategy;

pub use host::Host;
pub use placement::{Ask, Constraint, Plan, fit, plan, plan_fargate};
pub use query::{Expression, Facts, QueryError};
pub use refusal::{Refusals, Unfit};
pub use strategy::{Field, Strategy};
