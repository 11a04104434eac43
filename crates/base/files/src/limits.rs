//! What is bounded here, and by how much.

/// How often a lookup is repeated that a rename elsewhere disturbed.
pub const LOOKUPS_MAX: u32 = 64;

/// How many directories deep a tree is gone into at once while it is removed. What lies deeper is
/// moved up first, so that no tree needs more descriptors or stack than this.
pub const REMOVE_DEPTH_MAX: usize = 32;

/// How deep a tree may be that is copied.
pub const COPY_DEPTH_MAX: usize = 200;

/// The most that a file's extended attributes, or one of them, may have: as the kernel's own.
pub const XATTR_BYTES_MAX: usize = 64 << 10;

/// How many names one look at the modes of a data directory goes through at most.
pub const MEND_NAMES_MAX: usize = 4096;

/// The room that a reserve holds, at most: what some ten thousand changed rows take.
pub const RESERVE_BYTES_MAX: u64 = 64 << 20;

/// Of a small disk a reserve holds this part.
pub const RESERVE_DISK_PARTS: u64 = 32;

/// How many times a reserve can help out.
pub const RESERVE_PARTS: u64 = 16;

/// What must be free besides before a reserve takes room, at most; of a small disk two of its parts.
pub const RESERVE_ROOM_BYTES_MAX: u64 = 2 << 30;

/// The longest name of a file in a directory, as the kernel's own.
pub const NAME_BYTES_MAX: usize = 255;
