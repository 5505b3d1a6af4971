//! `waggle report`: evaluates the model of a run on val again, and writes a page about the run.

use std::process::ExitCode;

use anyhow::bail;
use dataset::{ImageFolder, path_text};

use super::evaluation;
use crate::args::ReportArgs;
use crate::bad_images;
use crate::classifier::Classifier;
use crate::compare::predictions::Predictions;
use crate::config::Config;
use crate::error::{Diagnostic, warn};
use crate::escape::printable_path;
use crate::files::{TEMPORARY, write_atomically};
use crate::memory_limit;
use crate::metrics::Metrics;
use crate::report::{self, Report, Sources};

/// Runs `waggle report`.
pub fn run(args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let run = &args.run;
    let config = Config::read_run(run)?;
    let out = args.out.clone().unwrap_or_else(|| run.join(report::FILE));
    super::check_output_file(&out, args.overwrite || args.out.is_none(), "--out")?;
    let rows = Metrics::read(&run.join(Metrics::FILE))?;
    let trained_on = path_text::decode(&config.data.root);
    let root = evaluation::root(args.data.as_deref(), &trained_on)?;
    let device = super::open_device(&args.machine)?;
    let model = Classifier::open(run, &device)?.with_precision(args.machine.precision);
    memory_limit::check_confusion_matrix(model.classes().len())?;
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
    let batch_size = config.training.batch_size;
    let evaluation = evaluation::evaluate(&model, &val, batch_size, &device, &decode, workers)?;
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
