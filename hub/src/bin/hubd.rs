//! The hub's server. See `hub::hubd_main`.

fn main() -> std::process::ExitCode {
    hub::hubd_main(std::env::args_os())
}
