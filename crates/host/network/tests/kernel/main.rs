//! What the kernel makes of our network: needs root, and no part of the machine's own network.
//!
//! Each test runs on a thread that has a network namespace of its own and plays the host there; a second
//! namespace plays the outside. Nothing here can be seen by other tests or by the machine.
#![allow(clippy::disallowed_methods, reason = "tests write files as they like")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod balancers;
mod bridged;
mod connect;
mod encryption;
mod feeds;
mod flow;
mod groups;
mod hosts;
mod life;
mod links;
mod names;
mod peerings;
mod plane;
mod ports;
mod ranges;
mod reach;
mod vpcs;
mod walls;
mod world;
