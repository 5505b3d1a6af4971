//! `--resume`: opens an interrupted run, and checks that resuming it does not change its result.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use dataset::path_text;

use crate::checkpoint::{self, Checkpoint, Fault, IgnoredCheckpoint};
use crate::config::{Config, DataConfig};
use crate::data_source::{Folder, Source};
use crate::dataset_hash::DatasetHash;
use crate::error::Diagnostic;
use crate::model_file;
use crate::run_dir::{FILES, LOCK, Marker, RunDir};
use crate::shell::quote;
use crate::ui::text::list;
use crate::ui::{Message, Renderer};

/// Names of files and folders that `waggle export` writes to a run directory by default.
const EXPORTS: [&str; 3] = ["exported.safetensors", "model.onnx", "timm"];

/// Opens the run directory `path`, removes temporary files of the run, and returns it with its newest
/// intact checkpoint. Shows a message for each file that is newer but not an intact checkpoint, and for
/// files that are not part of the run. Restores a marker that is missing or invalid from the
/// checkpoints, with a message. Returns `None` if the run is finished, and removes its checkpoints then.
///
/// # Errors
///
/// Returns the errors of [`checkpoint::lost_marker`], [`RunDir::open`] and [`Checkpoint::newest`]. Also returns an error if the run
/// is not finished and has no intact checkpoint, or if its files cannot be listed, removed or created.
/// Errors of `ui` are returned.
pub(super) fn open(
    path: &Path,
    ui: &mut dyn Renderer,
) -> anyhow::Result<Option<(RunDir, Checkpoint)>> {
    let lost = match Marker::read(path) {
        Err(_) if path.is_dir() => checkpoint::lost_marker(path)?,
        _ => None,
    };
    let run = RunDir::open(path, lost.as_ref())?;
    let model = run.file(model_file::FILE);
    if run.is_finished() && model.is_file() {
        // The process may have been killed before it removed them.
        checkpoint::remove_all(&run)?;
        return Ok(None);
    }
    let (checkpoint, ignored) = Checkpoint::newest(&run)?;
    for IgnoredCheckpoint { path, fault } in &ignored {
        let file = path_text::encode(path);
        ui.show(&match fault {
            Fault::Damaged(reason) => Message::DamagedCheckpoint { file, reason },
            Fault::NotCheckpoint(kind) => Message::NotCheckpoint { file, kind },
        })?;
    }
    let Some(checkpoint) = checkpoint else {
        let help = if model.is_file() {
            let weights = quote(&model);
            format!("start a new run, for example with the best weights: `--weights {weights}`")
        } else {
            "start a new run with `waggle train`, without `--resume`".to_string()
        };
        let message = format!("{} has no intact checkpoint to resume from", path.display());
        bail!(Diagnostic::new(message).help(help));
    };
    run.check_writable()?;
    run.remove_leftovers()?;
    if let Some(difference) = run.restore_marker()? {
        let file = path_text::encode(&run.file(Marker::FILE));
        ui.show(&Message::Restored { file, difference })?;
    }
    let files = other_files(&run, &ignored)?;
    if !files.is_empty() {
        ui.show(&Message::OtherFiles { files: &files })?;
    }
    Ok(Some((run, checkpoint)))
}

/// The names of the files in a run directory that are not part of the run, sorted, except for those in
/// `ignored`. Folders, links and pipes with the name of a checkpoint are not part of the run either.
fn other_files(run: &RunDir, ignored: &[IgnoredCheckpoint]) -> anyhow::Result<Vec<String>> {
    let ignored = ignored.iter().map(|checkpoint| checkpoint.path.clone());
    let names = FILES.iter().chain(&EXPORTS).chain(&[Marker::FILE, LOCK]);
    let mut known = checkpoint::paths(run)?;
    known.extend(names.map(|name| run.file(name)).chain(ignored));
    let read = || format!("cannot read {}", run.path().display());
    let mut files = Vec::new();
    for entry in fs::read_dir(run.path()).with_context(read)? {
        let entry = entry.with_context(read)?;
        if !known.contains(&entry.path()) {
            files.push(path_text::encode(entry.file_name().as_ref()));
        }
    }
    files.sort();
    Ok(files)
}

/// Opens the data set `given` with `--data`, by default the one recorded in the run. The sample is
/// written again if its files are missing, have other sizes or come from another version.
pub(super) fn folder(recorded: &DataConfig, given: Option<&Path>) -> anyhow::Result<Folder> {
    if let Some(path) = given {
        return Source::choose(Some(path)).open();
    }
    let root = path_text::decode(&recorded.root);
    let source = Source::from_name(&recorded.source, &root);
    if source == Source::Sample {
        sample::write(&root).context("cannot write the built-in sample")?;
    }
    source.open_at(root)
}

/// Checks that `now` agrees with the recorded configuration in all settings that can differ on resume
/// and would change the result: the version of waggle, the instruction set and the classes.
/// [`InitialModel::load`](crate::initial_model::InitialModel::load) checks the weights.
pub(super) fn check_same_result(run: &Path, recorded: &Config, now: &Config) -> anyhow::Result<()> {
    let settings = |config: &Config| {
        [
            ("version of waggle", vec![config.versions.waggle.clone()]),
            ("instruction set", vec![config.machine.kernels.clone()]),
            ("classes", config.data.classes.clone()),
        ]
    };
    let pairs = settings(recorded).into_iter().zip(settings(now));
    let differences: Vec<String> = pairs
        .filter(|(recorded, now)| recorded != now)
        .map(|((name, recorded), (_, now))| {
            let (recorded, now) = (list(&recorded), list(&now));
            format!("{name}: {recorded} in the run, {now} now")
        })
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

/// The changes of the images between `recorded`, the start of the run, and `now`, one line for each
/// kind. `None` if there are none.
///
/// # Errors
///
/// Returns an error if there are changes and they are not allowed.
pub(super) fn accepted_changes(
    recorded: &DatasetHash,
    now: &DatasetHash,
    allowed: bool,
) -> anyhow::Result<Option<String>> {
    let changes = recorded.changes(now);
    if let Some(changes) = changes.as_ref().filter(|_| !allowed) {
        bail!(
            Diagnostic::new("the images have changed since the run started")
                .items(changes.lines())
                .help("restore the images, or pass `--allow-changed-data` to accept the changes")
        );
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_whose_names_contain_commas_are_told_apart() {
        let config = |classes: [&str; 2]| {
            let mut config = Config::example();
            config.data.classes = classes.map(String::from).to_vec();
            config
        };
        let recorded = config(["a, b", "c"]);
        let check = |now: &Config| check_same_result(Path::new("run"), &recorded, now);
        check(&recorded).unwrap();
        check(&config(["a", "b, c"])).unwrap_err();
    }
}
