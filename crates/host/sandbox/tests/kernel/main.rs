//! Containers on the real kernel. Needs root; each test owns its directories and control groups,
//! and fails if it leaves anything behind.

#![allow(clippy::disallowed_methods, reason = "tests write files as they like")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod crash;
mod isolation;
mod life;
mod limits;
mod output;
mod paths;
mod shims;
mod storage;
mod world;
