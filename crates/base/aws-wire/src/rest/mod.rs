//! restJson1: an operation is a method and a path; members travel in labels, query, headers and body.

mod read;
mod route;
mod write;

pub use read::read;
pub use route::find;
pub use write::answer;
