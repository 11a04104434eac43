//! What more than one service has a part in.

mod tagging;
