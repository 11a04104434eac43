//! The reconciler in a toy world that runs tasks, loses them, delays them and fails them.

mod breaker;
mod daemons;
mod lives;
mod reports;
mod rules;
mod scale_in;
mod shifts;
mod splits;
mod worlds;

mod world;
