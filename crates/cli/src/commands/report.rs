//! `waggle report`: evaluates the model of a run on val again, and writes a page about the run.

use std::ops::ControlFlow;
use std::process::ExitCode;

use anyhow::{Context, bail};
use dataset::{ImageFolder, Loader, LoaderConfig, path_text};
use trainer::FrozenCache;

use crate::args::ReportArgs;
use crate::bad_images;
use crate::classifier::Classifier;
use crate::compare::predictions::Predictions;
use crate::config::Config;
use crate::data_source::Source;
use crate::error::{Diagnostic, warn};
use crate::escape::printable_path;
use crate::files::{TEMPORARY, write_atomically};
use crate::metrics::Metrics;
use crate::report::{self, Report, Sources};

/// Runs `waggle report`.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let run = &args.run;
    let out = args.out.clone().unwrap_or_else(|| run.join(report::FILE));
    super::check_output_file(&out, args.overwrite || args.out.is_none(), "--out")?;
    let config = Config::read_run(run)?;
    let rows = Metrics::read(&run.join(Metrics::FILE))?;
    let root = match &args.data {
        Some(data) => Source::choose(Some(data)).root()?,
        None => path_text::decode(&config.data.root),
    };
    if !root.is_dir() {
        bail!(
            Diagnostic::new(format!(
                "the data set of the run, `{}`, does not exist",
                root.display()
            ))
            .help("pass its new location with `--data DIR`")
        );
    }
    let device = super::open_device(&args.machine)?;
    let model = Classifier::open(run, &device)?.with_precision(args.machine.precision);
    let (_, mut val) = ImageFolder::train_and_val(&root)?;
    if val.classes() != model.classes() {
        bail!(Diagnostic::new(format!(
            "the classes of `{}` differ from those of the model",
            root.display()
        )));
    }
    let skipped = bad_images::recorded(&val, &root, config.data.skipped.clone());
    bad_images::leave_out(&mut val, &skipped)?;
    let (decode, workers) = (config.decode_options(), args.machine.workers());
    let loader = LoaderConfig::eval(model.input_size())
        .batch_size(config.training.batch_size)
        .workers(workers)
        .normalize(model.normalize())
        .device(device.clone())
        .cache_bytes(0)
        .decode(decode.clone());
    let images = Loader::new(val.samples(), loader)?;
    let mut observe = |_: &_| ControlFlow::Continue(());
    let mut cache = FrozenCache::off();
    let evaluation = trainer::evaluate(model.network(), &images, &mut cache, &mut observe)
        .map_err(|error| bad_images::explain_batch(error, None))
        .map_err(|error| bad_images::explain(error, &val, &decode, workers))?
        .context("the evaluation stopped early")?;
    let mut report = Report::collect(Sources {
        run,
        config: &config,
        rows,
        root: &root,
        val: val.samples(),
        evaluation: &evaluation,
        network: model.network(),
        device: &device,
        metadata: &model.metadata,
        decode,
        workers,
    })?;
    let is_same = match Predictions::read(run) {
        Ok(Ok(predictions)) => predictions.are_of(&root, val.samples()),
        _ => val.len() == config.data.val_images,
    };
    if !is_same {
        let notice = format!(
            "the val images of `{}` are not those of the run, so the figures are of other data",
            root.display()
        );
        report.notice = Some(format!("Note: {notice}."));
        warn(Diagnostic::new(notice).help("pass the data set of the run with `--data DIR`"));
    }
    let page = report.page()?;
    write_atomically(&out, TEMPORARY, |out| Ok(out.write_all(page.as_bytes())?))?;
    super::print(&format!("Wrote {}\n", printable_path(&out)))?;
    Ok(ExitCode::SUCCESS)
}
