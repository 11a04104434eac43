//! One table a group of rules: the change to a good document, and what is said to it.

use aws_api::ecs;
