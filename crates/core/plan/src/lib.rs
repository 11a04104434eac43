//! The decisions of a region as functions from a snapshot to a plan: where tasks go, and what services do.
//!
//! [`placement`] finds instances for tasks and says why others would not do; [`fleet`] answers the same
//! from a snapshot that is kept and changed; [`service`] decides what starts and stops to keep a
//! service's promise; [`query`] is the cluster query language that constraints and list filters are
//! written in; [`refusal`] is the vocabulary of "why not"; [`capacity`] shares tasks among capacity
//! providers; [`balancers`] says where load balancers stand; [`ranges`] finds addresses that nobody else has; [`reach`] says whether a connection is let through;
//! [`alarms`] says how alarms stand, and [`metric_math`] computes what they watch; [`schedule`] says when a cron expression comes next. No clock, no IO, no randomness: a seed comes in as an argument.

#![warn(clippy::wildcard_enum_match_arm)]

pub mod alarms;
pub mod balancers;
pub mod capacity;
pub mod fargate;
mod fit;
pub mod fleet;
pub mod host;
pub mod metric_math;
pub mod network_feed;
pub mod placement;
pub mod query;
pub mod ranges;
pub mod reach;
pub mod refusal;
pub mod scaling;
pub mod schedule;
pub mod service;
pub mod service_scaling;
pub mod strategy;

pub use fargate::{FargatePool, NoPlace};
pub use fit::binding_zones;
pub use fleet::Fleet;
pub use host::{Host, Occupant};
pub use placement::{Ask, Constraint, Plan, Pool, fit, plan};
pub use query::{Expression, Facts, QueryError};
pub use refusal::{Refusals, Unfit};
pub use strategy::{Field, Strategy};
