//! What more than one service has a part in.

mod authorization;
mod ending;
mod tagging;
