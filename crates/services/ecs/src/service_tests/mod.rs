//! Services as their callers meet them; no reconciler runs, so that what is written stays as it is.

mod creating;
mod deleting;
mod placing;
mod rolling;
mod rollouts;
mod settings;
mod updating;
mod world;
