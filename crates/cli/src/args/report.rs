//! Arguments of `waggle report`.

use std::path::PathBuf;

use clap::Args;

use super::MachineArgs;

/// Arguments of `waggle report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Directory of a finished run
    pub run: PathBuf,

    /// HTML file to write [default: report.html in RUN, which is replaced]
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Replace an existing FILE
    #[arg(long, requires = "out")]
    pub overwrite: bool,

    /// The data set of the run, if it has moved
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,

    #[command(flatten)]
    /// Threads, device, precision and image decoding.
    pub machine: MachineArgs,
}
