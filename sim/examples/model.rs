//! Walks through every state of a forward within the larger bounds: minutes, and some gigabytes of memory.
//! `cargo run --release -p sim --example model`

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut broken = false;
    let walked = sim::model::explore(true, |name, report| {
        println!("{name}: {report}");
        broken |= report.failure.is_some() || !report.complete;
    });
    match walked {
        Ok(()) if !broken => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the channels do not open: {error}");
            ExitCode::FAILURE
        }
    }
}
