//! Checkpoint and resume arguments of `waggle train`.

use std::path::PathBuf;

use clap::Args;

use crate::explicit_args::ExplicitArgs;
use crate::values::Minutes;

/// Whether to resume a run, and how often to write checkpoints.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Resume an interrupted run from its last checkpoint. The result is bit-identical to an
    /// uninterrupted run. Data, network and recipe are taken from the run; flags that would change
    /// the result are rejected
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub resume: Option<PathBuf>,

    /// With --resume: accept that images were added, removed or modified
    #[arg(long, requires = "resume")]
    pub allow_changed_data: bool,

    /// Minutes between checkpoints within an epoch; 0 writes one per epoch. The two newest are
    /// kept, each up to three times the size of the model, until the run is complete
    #[arg(long, value_name = "MINUTES", default_value = "5")]
    pub checkpoint_every: Minutes,

    /// The arguments given on the command line, as opposed to defaults.
    #[arg(skip)]
    pub explicit: ExplicitArgs,
}
