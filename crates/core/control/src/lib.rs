//! What every service of a region shares: how rows are reconciled.

pub mod reconcile;
