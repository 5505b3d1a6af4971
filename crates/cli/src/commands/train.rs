//! `waggle train`: resolves a plan, opens a session on it, trains, and reports the result.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use dataset::path_text;
use insight::wilson_interval;
use trainer::{Evaluation, pattern};
use vgg::{Summary, VggConfig};

use crate::args::TrainArgs;
use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::error;
use crate::escape::printable;
use crate::initial_model::InitialModel;
use crate::metrics::Score;
use crate::model_file;
use crate::plan::{Origin, Plan};
use crate::run_dir::FILES;
use crate::signals::Signals;
use crate::train::Session;
use crate::ui::{
    ClassRecall, Finished, JsonLines, Lines, Message, Page, Quiet, Renderer, Terminal,
    WeightsReport,
};

/// Runs `waggle train`. The exit code is that of success, or of the signal that stopped the run.
pub fn run(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let signals = Signals::install()?;
    let mut ui: Box<dyn Renderer> = match (args.quiet, args.json) {
        (true, _) => Box::new(Quiet(Lines::new(io::stdout()))),
        (_, true) => Box::new(JsonLines(Lines::new(io::stdout()))),
        _ => Box::new(Terminal::new(Page::stdout(), args.verbose)),
    };
    let ui = ui.as_mut();
    acknowledge_interrupt(&signals, ui)?;
    let Some(plan) = Plan::resolve(args, ui)? else {
        let directory = args.resume.iter().map(|path| path_text::encode(path));
        let directory = directory.collect();
        ui.show(&Message::AlreadyDone { directory })?;
        ui.finish()?;
        return Ok(ExitCode::SUCCESS);
    };
    let first = match &plan.origin {
        Origin::New(_) => 0,
        Origin::Resumed(_, checkpoint) => checkpoint.progress.stage,
    };
    describe(&plan.initial, &plan.identity.config, first, ui)?;
    if let Origin::Resumed(_, checkpoint) = &plan.origin {
        ui.show(&resumed(checkpoint))?;
    }
    let mut session = Session::open(plan, args.tensorboard, ui)?;
    // An interval of 0 means no checkpoints within an epoch.
    let every = Some(args.checkpoint_every).filter(|every| !every.is_zero());
    let Some((evaluation, calibration)) = session.train(every, &signals, ui)? else {
        return interrupted(&signals, session.directory(), ui);
    };
    let directory = session.directory();
    // A run can end without a report.
    let files = FILES.iter().filter(|name| directory.join(name).exists());
    let files: Vec<&str> = files.copied().collect();
    let (correct, images) = (evaluation.metrics.correct, evaluation.metrics.samples);
    ui.show(&Message::Done(Finished {
        directory: path_text::encode(directory),
        model: path_text::encode(&directory.join(model_file::FILE)),
        files: &files,
        score: Score {
            loss: evaluation.loss(),
            accuracy: evaluation.accuracy(),
        },
        correct,
        images,
        interval: wilson_interval(correct, images),
        worst_class: worst_class(&evaluation, session.classes()),
        calibration,
        seconds: started.elapsed().as_secs_f64(),
    }))?;
    ui.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a line at the first signal, because training stops only after the current batch.
fn acknowledge_interrupt(signals: &Signals, ui: &dyn Renderer) -> anyhow::Result<()> {
    let progress = ui.progress();
    signals.on_first(move |signal| {
        let again = match signal.is_ctrl_c() {
            true => "; press Ctrl-C again to stop now",
            false => "",
        };
        progress.suspend(|| error::print(&format!("stopping after this batch{again}\n")));
    })
}

/// The class with the lowest recall, of the classes that have val images. The lowest index wins a
/// tie. `None` if no class has val images.
fn worst_class<'a>(evaluation: &Evaluation, classes: &'a [String]) -> Option<ClassRecall<'a>> {
    let rows = evaluation.confusion.rows();
    let recall = evaluation.confusion.recall();
    let recalls = classes.iter().zip(rows).zip(recall);
    recalls
        .filter_map(|((class, row), recall)| {
            Some(ClassRecall {
                class,
                recall: recall?,
                images: row.iter().sum(),
            })
        })
        .min_by(|a, b| a.recall.total_cmp(&b.recall))
}

/// Reports how to resume a run stopped by a signal, and returns the exit code of the signal.
fn interrupted(signals: &Signals, run: &Path, ui: &mut dyn Renderer) -> anyhow::Result<ExitCode> {
    let signal = signals
        .pending()
        .context("training stopped unexpectedly (this is a bug)")?;
    let directory = path_text::encode(run);
    ui.show(&Message::Interrupted {
        signal: signal.to_string(),
        directory,
    })?;
    Ok(ExitCode::from(signal.exit_code()))
}

/// Shows the messages that describe the network and the origin of its initial weights. `first` is the
/// index of the first stage to run.
fn describe(
    initial: &InitialModel,
    config: &Config,
    first: usize,
    ui: &mut dyn Renderer,
) -> anyhow::Result<()> {
    let summary = Summary::new(&VggConfig {
        architecture: printable(&initial.config.architecture).into_owned(),
        ..initial.config.clone()
    })?;
    let stages = &config.stages;
    let first = stages.get(first).context("the run has no stages")?;
    let shapes = initial.config.tensor_shapes()?;
    let is_trainable = |name: &str| {
        let mut groups = first.groups.iter();
        !vgg::config::is_buffer(name) && groups.any(|group| pattern::covers(&group.layers, name))
    };
    let trainable = shapes.iter().filter(|(name, _)| is_trainable(name));
    ui.show(&Message::Network {
        architecture: &initial.config.architecture,
        input_size: initial.config.input_size,
        parameters: summary.parameters(),
        trainable_parameters: trainable
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum(),
        table: &summary.to_string(),
    })?;
    ui.show(&Message::Weights(WeightsReport {
        source: &initial.source(),
        classes: initial.config.classes,
        report: &initial.report,
    }))
}

/// The message that says where a run resumes.
fn resumed(checkpoint: &Checkpoint) -> Message<'static> {
    let progress = &checkpoint.progress;
    let stage = &checkpoint.identity.config.stages[progress.stage];
    Message::Resumed {
        file: path_text::encode(&checkpoint.path),
        stage: stage.name,
        // A checkpoint after the last epoch of a stage has no next epoch.
        epoch: (progress.state.epoch + 1).min(stage.epochs),
        phase: progress.state.phase,
        batches: progress.state.batch,
    }
}
