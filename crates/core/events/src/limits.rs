//! Every limit of the crate.

/// How deep objects and arrays may lie within each other, in events, patterns and templates.
pub const DEPTH_MAX: usize = 128;

/// How many ways a pattern's `$or`s may be combined.
pub const COMBINATIONS_MAX: usize = 1_000;

/// How many variables a transformer may have.
pub const VARIABLES_MAX: usize = 100;

/// How long the input may be that a transformer makes: as long as an event.
pub const INPUT_BYTES_MAX: usize = 1 << 20;
