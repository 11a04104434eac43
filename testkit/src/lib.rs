//! What tests of several crates share: rows to store, and a process to kill.
//!
//! Clocks and ids that are seeded are in `longshore_types`; the store that lives in memory is in
//! `store`: both are real implementations, held to the same contracts as what they stand in for.

pub mod rows;
