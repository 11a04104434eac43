//! The whole of it on real sockets of loopback: a region that is a table, targets good and bad, clients that write bytes.

mod bad_targets;
mod draining;
mod protocols;
mod requests;
mod smuggling;
mod world;
