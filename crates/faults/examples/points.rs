//! Passes every fault point, as a service does. A release build of it holds no name of a point and nothing that arms one:
//! `make check-points` looks.

use std::process::ExitCode;

use faults::Point;

fn main() -> ExitCode {
    if let Err(error) = faults::arm() {
        eprintln!("{error}");
        return ExitCode::from(64);
    }
    let mut failed = 0;
    for point in Point::ALL {
        faults::reach_blocking(*point);
        failed += u8::from(faults::fails(*point));
    }
    ExitCode::from(failed)
}
