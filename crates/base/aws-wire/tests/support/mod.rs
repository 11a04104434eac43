//! What the tests over botocore's data share.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_types,
    unreachable_pub
)]

pub mod botocore;
pub mod model;
pub mod value;
