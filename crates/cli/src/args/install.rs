//! Arguments of `waggle completions` and `waggle man`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Arguments of `waggle completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// Shell to print the script for
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Arguments of `waggle man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Folder for waggle.1, waggle-train.1 and so on. Existing pages are replaced
    #[arg(long, short, value_name = "DIR", default_value = "man")]
    pub out: PathBuf,
}
