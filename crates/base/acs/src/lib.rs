//! Amazon's agent protocol, once for both sides: the messages of the work socket (ACS) and of the telemetry
//! socket (TCS), member for member as Amazon's agent reads and writes them.
//!
//! A type is written by one side and read by the other. What must be read leniently has defaults, so a member is an
//! `Option` wherever an agent of another make may leave it out; what is unset is not written.
//! Nothing here decides, and nothing opens a socket.

pub mod frame;
pub mod message;
pub mod task;
pub mod telemetry;

pub use frame::{Envelope, frame};
pub use task::{RoleCredentials, Task};
