//! HTTP: clients' connections, the answer to a request, and the way to a target.

pub(crate) mod answers;
pub(crate) mod body;
pub(crate) mod connection;
mod cookies;
mod forward;
mod handle;
mod headers;
pub(crate) mod refusal;
pub(crate) mod tunnel;

pub(crate) use cookies::CookieKey;
