//! The operator's command line. See `hub::hubctl_main`.

fn main() -> std::process::ExitCode {
    hub::hubctl_main(std::env::args_os())
}
