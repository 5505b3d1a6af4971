//! `waggle labels`: lists the train images whose label is probably wrong.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use dataset::path_text;

use super::evaluation;
use crate::args::LabelsArgs;
use crate::bad_images;
use crate::data_source::Source;
use crate::error::{Diagnostic, warn};
use crate::escape::printable;
use crate::label_issues::{self, LabelIssues, Settings};
use crate::model_file::locate;
use crate::ui::table::push_table;
use crate::ui::text::{list, pad_left, percent, pluralize, shorten};

/// Maximum number of images in the text.
const MAX_LISTED: usize = 20;
/// Maximum width in columns of class names. Longer names are shortened.
const MAX_NAME_WIDTH: usize = 24;

/// Runs `waggle labels`.
pub fn run(args: &LabelsArgs) -> anyhow::Result<ExitCode> {
    let device = super::open_device(&args.machine)?;
    let weights = locate(&args.model)?;
    let (root, recorded) = evaluation::data(args.data.as_deref(), &weights)?;
    let mut folder = Source::choose(Some(&root)).open_at(root)?;
    let settings = Settings {
        device,
        precision: args.machine.precision,
        batch_size: args.batch_size.get(),
        workers: args.machine.workers(),
        decode: args.machine.decode.options(),
        seed: args.seed,
    };
    let (decode, workers) = (&settings.decode, settings.workers);
    let (train, root) = (&mut folder.train, &folder.root);
    bad_images::skip(train, root, args.on_bad, recorded, decode, workers)?;

    let bar = super::progress_bar();
    let issues = label_issues::find(&weights, &folder, None, &settings, &|verb, done, images| {
        bar.set_message(verb);
        bar.set_length(images as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let issues = issues?;
    if !issues.unjudged_classes.is_empty() {
        let classes = list(&issues.unjudged_classes);
        let what = "cannot judge the labels of classes without two different images";
        warn(Diagnostic::new(format!("{what}: {classes}")));
    }
    if args.json {
        let line = serde_json::to_string(&issues).context("cannot write the result as JSON")?;
        super::print(&(line + "\n"))?;
    } else if args.csv {
        super::print_bytes(&csv(&issues).context("cannot write the result as CSV")?)?;
    } else {
        super::print(&text(&issues))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line for each image, most doubtful first. Paths keep their bytes.
fn csv(issues: &LabelIssues) -> anyhow::Result<Vec<u8>> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record([
        "path",
        "label",
        "suggested",
        "self_confidence",
        "normalized_margin",
        "prune_by_noise_rate",
        "confident_learning",
    ])?;
    for image in &issues.images {
        let path = path_text::decode(&image.path);
        csv.write_field(path.as_os_str().as_encoded_bytes())?;
        csv.write_field(&image.label)?;
        csv.write_field(&image.suggested)?;
        csv.write_field(format!("{:.6}", image.self_confidence))?;
        csv.write_field(format!("{:.6}", image.normalized_margin))?;
        csv.write_field(image.prune_by_noise_rate.to_string())?;
        csv.write_field(image.confident_learning.to_string())?;
        csv.write_record(None::<&[u8]>)?;
    }
    Ok(csv.into_inner()?)
}

/// The suspected images as a table.
fn text(issues: &LabelIssues) -> String {
    let images = pluralize(issues.images.len(), "train image");
    let mut text = format!(
        "Model     {}\n\
         Data      {}, {images}, {} classes\n\
         Judged    by heads on the features of the backbone, in {} folds; {} of the labels match\n\n",
        printable(&issues.model),
        printable(&issues.data),
        issues.classes.len(),
        issues.folds,
        percent(issues.accuracy),
    );
    let suspected = &issues.images[..issues.suspected];
    if suspected.is_empty() {
        text.push_str("No suspected label errors.\n");
        return text;
    }
    // Writing into a string cannot fail.
    let _ = writeln!(
        text,
        "Suspected label errors: {} of {images}, most doubtful first\n",
        suspected.len()
    );
    let listed = &suspected[..suspected.len().min(MAX_LISTED)];
    let name = |class: &str| shorten(&printable(class), MAX_NAME_WIDTH);
    // `push_table` aligns the numbers left too, because a path follows them.
    let row = |mark: &str, label: &str, suggested: &str, confidence: &str, path: &str| {
        let confidence = pad_left(confidence, 8);
        [mark, label, suggested, &confidence, path].map(String::from)
    };
    let mut table = vec![row(" ", "label", "suggested", "p(label)", "image")];
    for image in listed {
        let is_sure = image.prune_by_noise_rate && image.confident_learning;
        table.push(row(
            if is_sure { "*" } else { " " },
            &name(&image.label),
            &name(&image.suggested),
            &percent(image.self_confidence),
            &printable(&image.path),
        ));
    }
    push_table(&mut text, &table, table[0].len());
    if suspected.len() > listed.len() {
        let more = suspected.len() - listed.len();
        let _ = writeln!(
            text,
            "and {more} more (`--json` and `--csv` list all images)"
        );
    }
    let both = suspected
        .iter()
        .filter(|image| image.prune_by_noise_rate && image.confident_learning);
    if both.count() > 0 {
        text.push_str("\n* suspected by both methods: noise rates and confident learning\n");
    }
    text
}
