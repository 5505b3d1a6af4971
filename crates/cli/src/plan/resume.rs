//! `--resume`: opens an interrupted run, and checks that resuming it does not change its result.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};

use crate::checkpoint::Checkpoint;
use crate::config::{Config, DataConfig};
use crate::data_source::{Folder, Source};
use crate::error::Diagnostic;
use crate::metrics::Metrics;
use crate::model_file;
use crate::run_dir::RunDir;
use crate::shell::quote;
use crate::ui::{Message, Renderer};

/// Opens the run directory `path`, removes temporary files in it, and returns it with its newest
/// intact checkpoint. Shows a message for each damaged checkpoint that is newer. Returns `None` if
/// the run is finished and has no checkpoints.
///
/// # Errors
///
/// Returns an error if `path` is not a run directory, if another process uses it, if it has only
/// damaged checkpoints, if it has none and is not finished, if its newest intact checkpoint has
/// another format version, or if its files cannot be listed or removed. Errors of `ui` are returned.
pub(super) fn open(
    path: &Path,
    ui: &mut dyn Renderer,
) -> anyhow::Result<Option<(RunDir, Checkpoint)>> {
    // A run writes `config.toml` first. If that file was lost or damaged, the run is recognized by an
    // intact checkpoint. `RunDir::open` reports a path that is not a folder.
    let config = match Config::read(&path.join(Config::FILE)) {
        Err(error) if path.is_dir() && Checkpoint::newest(path)?.0.is_none() => bail!(
            Diagnostic::new(format!("{} is not a run directory", path.display()))
                .help("pass a directory that `waggle train` created, such as `runs/train`")
                .caused_by(error)
        ),
        config => config,
    };
    let run = RunDir::open(path)?;
    let (checkpoint, damaged) = Checkpoint::newest(path)?;
    for checkpoint in &damaged {
        ui.show(&Message::DamagedCheckpoint {
            file: checkpoint.path.display().to_string(),
            reason: &checkpoint.reason,
        })?;
    }
    let Some(checkpoint) = checkpoint else {
        if damaged.is_empty() && config.is_ok_and(|config| is_finished(&run, &config)) {
            return Ok(None);
        }
        let model = run.file(model_file::FILE);
        let help = if model.exists() {
            let weights = quote(&model);
            format!("start a new run, for example with the best weights: `--weights {weights}`")
        } else {
            "start a new run with `waggle train`, without `--resume`".to_string()
        };
        let message = format!("{} has no intact checkpoint to resume from", path.display());
        bail!(Diagnostic::new(message).help(help));
    };
    run.remove_leftovers()?;
    Ok(Some((run, checkpoint)))
}

/// Whether a run without checkpoints has its model and the metrics of all epochs. A run does not
/// remove its checkpoints before that.
fn is_finished(run: &RunDir, config: &Config) -> bool {
    let epochs: u64 = config.stages.iter().map(|stage| stage.epochs).sum();
    let rows = fs::read_to_string(run.file(Metrics::FILE)).unwrap_or_default();
    run.file(model_file::FILE).exists() && rows.lines().count() as u64 == epochs + 1
}

/// Opens the data set `given` with `--data`, by default the one recorded in the run. The sample is
/// written again if its files are missing, have other sizes or come from another version.
pub(super) fn folder(recorded: &DataConfig, given: Option<&Path>) -> anyhow::Result<Folder> {
    if let Some(path) = given {
        return Source::choose(Some(path)).open();
    }
    let root = Path::new(&recorded.root);
    let source = Source::from_name(&recorded.source, root);
    if source == Source::Sample {
        sample::write(root).context("cannot write the built-in sample")?;
    }
    source.open_at(root.to_path_buf())
}

/// Checks that `now` agrees with the recorded configuration in all settings that can differ on resume
/// and would change the result: the version of waggle, the instruction set and the classes.
/// [`InitialModel::load`](crate::initial_model::InitialModel::load) checks the weights.
pub(super) fn check_same_result(run: &Path, recorded: &Config, now: &Config) -> anyhow::Result<()> {
    let settings = |config: &Config| {
        [
            ("version of waggle", config.versions.waggle.clone()),
            ("instruction set", config.machine.kernels.clone()),
            ("classes", config.data.classes.join(", ")),
        ]
    };
    let pairs = settings(recorded).into_iter().zip(settings(now));
    let differences: Vec<String> = pairs
        .filter(|(recorded, now)| recorded != now)
        .map(|((name, recorded), (_, now))| format!("{name}: {recorded} in the run, {now} now"))
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    let run = run.display();
    bail!(
        Diagnostic::new(format!(
            "cannot resume the run {run} here, because its result would change"
        ))
        .items(differences)
        .help(
            "resume with the original version, CPU or WAGGLE_KERNELS, and data, or start a new run"
        )
    );
}
