//! Which packets may pass: security groups as data, and the judgement of a packet by them.
//!
//! As on EC2 a rule only ever allows, an interface's groups add up, and the answer to what was allowed
//! is allowed. A host compiles the groups into its packet filter; [`judge`] says the same of one packet
//! that opens a connection, for whoever asks why it passes or does not. [`feed`] is what hosts know of VPCs, [`flows`]
//! what they tell of packets that are logged, and [`tunnels`] what they encrypt packets to each other by.

pub mod connect;
pub mod feed;
pub mod figures;
pub mod flows;
mod groups;
mod judge;
mod names;
pub mod path;
mod peering;
pub mod tunnels;

pub use groups::{GroupRule, Peer, SecurityGroup, Traffic};
pub use judge::{Admission, Content, Direction, Packet, judge};
pub use names::{Asker, HostNames, NameEntry, NamedInstance, NamedService};
