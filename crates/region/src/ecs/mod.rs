//! Amazon ECS: each operation in the file of its name.
