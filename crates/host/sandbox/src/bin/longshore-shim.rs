//! The shim alone, for this crate's tests and measurements; `longshore shim` is the same.

fn main() {
    sandbox::shim_main(std::env::args_os().skip(1))
}
