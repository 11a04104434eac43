//! The tests that need the whole system: `clients/` (real clients, in Python) and `src/bench/` (the figures).
