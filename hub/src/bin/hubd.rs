//! The hub's server. See `hub::hubd_main`.

const _: () = assert!(!channel::bug::COMPILED_IN, "a program that people use has no faults made on purpose");

fn main() -> std::process::ExitCode {
    hub::hubd_main(std::env::args_os())
}
