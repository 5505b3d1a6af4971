//! `waggle show`: draws a training batch as the network sees it.

use std::process::ExitCode;

use anyhow::Context;
use dataset::{Loader, LoaderConfig};

use crate::args::ShowArgs;
use crate::args::types::OnBad;
use crate::data_source::Source;
use crate::device;
use crate::error::{Diagnostic, warn};
use crate::escape::printable_path;
use crate::files::{TEMPORARY, write_atomically};
use crate::ui::text::pluralize;
use crate::{bad_images, initial_model, memory_limit, plots};

/// Runs `waggle show`.
pub fn run(args: &ShowArgs) -> anyhow::Result<ExitCode> {
    super::check_output_file(&args.out, args.overwrite, "--out")?;
    device::start_threads(None)?;
    let mut folder = Source::choose(args.data.as_deref()).open()?;
    folder.refuse_output_file(&args.out)?;
    let size = match (args.input_size, &folder.source) {
        (Some(size), _) => size,
        (None, Source::Sample) => initial_model::sample_input_size()?,
        (None, _) => 224,
    };
    let config = LoaderConfig::train(u32::try_from(size).context("the input size is too large")?)
        .batch_size(args.batch_size.get())
        .seed(args.seed)
        .decode(args.decode.options());
    let (decode, normalize, workers) = (config.decode.clone(), config.normalize, config.workers);
    if args.on_bad == OnBad::Skip {
        let bad = bad_images::find(&folder.train, &folder.root, &decode, workers)?;
        for (_, image) in &bad {
            warn(Diagnostic::new(image.to_string()));
        }
        bad_images::leave_out(&mut folder.train, &bad)?;
    }
    let images = args.batch_size.get().min(folder.train.len());
    memory_limit::check_input(size, images)?;
    let loader = Loader::new(folder.train.samples(), config)?;
    // The command line counts epochs from 1, the loader from 0.
    let batch = loader
        .epoch(args.epoch.get() - 1)
        .next()
        .context("there is no training batch")?
        .map_err(|error| bad_images::explain(error.into(), &folder.train, &decode, workers))?;
    let png = plots::batch::draw(&batch, folder.classes(), normalize)?;
    write_atomically(&args.out, TEMPORARY, |out| Ok(out.write_all(&png)?))?;
    super::print(&format!(
        "Wrote {}: {} of {}\n",
        printable_path(&args.out),
        pluralize(batch.indices.len(), "image"),
        printable_path(&folder.root)
    ))?;
    Ok(ExitCode::SUCCESS)
}
