//! Arguments of `waggle compare`.

use std::path::PathBuf;

use clap::Args;

/// Arguments of `waggle compare`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  waggle compare runs/a runs/b
  waggle compare runs/a runs/b runs/c -o compare.html

McNemar's test compares two runs on the same val images. A small p-value means that the difference in \
accuracy is unlikely to be chance.")]
pub struct CompareArgs {
    /// Directories of finished runs, 2 to 8
    #[arg(required = true, num_args = 2..=8, value_name = "RUN")]
    pub runs: Vec<PathBuf>,

    /// Also write an HTML page with the curves of all runs in one plot
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,

    /// Replace an existing FILE
    #[arg(long, requires = "out")]
    pub overwrite: bool,
}
