//! Arguments of `waggle train` about checkpoints and going on from them.

use std::path::PathBuf;

use clap::Args;

use crate::typed::Typed;
use crate::values::Minutes;

/// How a training is interrupted without loss.
#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    /// Go on with a run that was interrupted, from its last checkpoint to the same result, bit for bit. Data, network
    /// and recipe are those of the run; only what cannot change the result may be given anew
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub resume: Option<PathBuf>,

    /// With --resume: go on although pictures were added, removed or modified
    #[arg(long, requires = "resume")]
    pub allow_changed_data: bool,

    /// Minutes between the checkpoints inside an epoch; 0 makes one after each epoch only. They take up to three
    /// times the size of the model, twice, and go when the run is done
    #[arg(long, value_name = "MINUTES", default_value = "5")]
    pub checkpoint_every: Minutes,

    /// Which arguments of `waggle train` were typed.
    #[arg(skip)]
    pub typed: Typed,
}
