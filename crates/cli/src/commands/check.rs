//! `waggle check`: reports problems with a data set, as text or as one JSON object.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::Context;
use console::measure_text_width;
use dataset::InspectOptions;
use dataset::decode::Channels;
use dataset::inspect::{IgnoreReason, MostlyUnused, Report, Shape};
use serde::Serialize;

use crate::args::CheckArgs;
use crate::data_source::Source;
use crate::device;
use crate::escape::printable;
use crate::ui::text::{duplicates, pad_left, pad_right, pluralize, unused_files};

/// Maximum number of files that the text report lists per finding.
const MAX_LISTED: usize = 10;

/// Runs `waggle check`. The exit code is 1 if a finding is serious.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    device::start_threads(None)?;
    let source = Source::choose(args.data.as_deref().or(args.data_flag.as_deref()));
    let root = source.root()?;
    let options = InspectOptions::default()
        .workers(args.workers.get())
        .decode(args.decode.options());
    let bar = super::progress_bar().with_message("checking");
    let report = dataset::inspect(&root, &options, &|done, images| {
        bar.set_length(images as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let mut report = report?;
    if source == Source::Sample {
        report.ignored.retain(|file| file.path != sample::STAMP);
    }
    if args.json {
        super::print(&json(&report)?)?;
    } else {
        super::print(&table(&report))?;
    }
    Ok(if report.is_serious() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// The report as one JSON object on one line.
fn json(report: &Report) -> anyhow::Result<String> {
    #[derive(Serialize)]
    struct Judged<'a> {
        serious: bool,
        #[serde(flatten)]
        report: &'a Report,
    }
    let judged = Judged {
        serious: report.is_serious(),
        report,
    };
    let line = serde_json::to_string(&judged).context("cannot write the report as JSON")?;
    Ok(line + "\n")
}

/// The report as text: image counts, then the findings. Serious findings are marked with `!`.
fn table(report: &Report) -> String {
    let mut text = counts(report);
    let limits = &report.thresholds;

    if let [only] = report.splits[0].classes.as_slice() {
        let class = [only.class.clone()];
        section(&mut text, true, "Only one class (training fails)", &class);
    }
    section(
        &mut text,
        true,
        "Class folders without images (training fails)",
        &report.empty_classes,
    );
    section(
        &mut text,
        true,
        "Class folders found only in val (training fails)",
        &report.unknown_classes,
    );
    section(
        &mut text,
        false,
        "Classes without a folder in val (val metrics exclude them)",
        &report.classes_without_val,
    );
    let groups = report.similar_classes.iter();
    let lines: Vec<_> = groups.map(|names| names.join(", ")).collect();
    section(
        &mut text,
        false,
        "Classes whose names differ only in case",
        &lines,
    );
    let lines: Vec<_> = report
        .mostly_unused
        .iter()
        .map(mostly_unused_line)
        .collect();
    section(
        &mut text,
        true,
        "Class folders with more unused than used images",
        &lines,
    );
    let unusable = report.unusable.iter();
    let lines: Vec<_> = unusable
        .map(|file| {
            let flag = match file.exceeds_limit {
                true => "; scale it down, or pass a larger `--max-pixels`",
                false => "",
            };
            format!("{}: {}{flag}", file.path, file.reason)
        })
        .collect();
    section(&mut text, true, "Images that cannot be decoded", &lines);

    let (mut leaks, mut conflicts, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for group in &report.duplicates {
        if group.conflict {
            conflicts.push(duplicates(group, usize::MAX));
        }
        if group.leak {
            leaks.push(duplicates(group, usize::MAX));
        }
        if !group.conflict && !group.leak {
            rest.push(duplicates(group, usize::MAX));
        }
    }
    section(
        &mut text,
        true,
        "Images in both train and val (leaks)",
        &leaks,
    );
    section(
        &mut text,
        true,
        "Images in more than one class (conflicting labels)",
        &conflicts,
    );
    section(&mut text, false, "Duplicates within a class", &rest);

    if let Some(imbalance) = report.imbalance.filter(|&ratio| ratio > limits.balance) {
        let _ = writeln!(
            text,
            "\nUnbalanced classes: the largest has {imbalance:.1} times as many train images as the smallest \
             (reported above {}).",
            limits.balance
        );
    }
    let wrong = report.wrong_extension.iter();
    let lines: Vec<_> = wrong
        .map(|file| format!("{}: contains {}", file.path, file.content))
        .collect();
    section(
        &mut text,
        false,
        "Images whose extension does not match their format (used anyway)",
        &lines,
    );
    let shapes = report.odd_shapes.iter();
    let lines: Vec<_> = shapes
        .map(|file| {
            format!(
                "{}: {} × {}, {}",
                file.path,
                file.width,
                file.height,
                shape(file.shape)
            )
        })
        .collect();
    let title = format!(
        "Images of unusual size (tiny: a side below {} pixels; narrow: one side more than {} times the other; \
         huge: more than {} million pixels)",
        limits.tiny,
        limits.narrow,
        limits.huge / 1_000_000
    );
    section(&mut text, false, &title, &lines);
    let colors = report.odd_colors.iter();
    let lines: Vec<_> = colors
        .map(|file| {
            format!(
                "{}: {}, {} bits",
                file.path,
                channels(file.channels),
                file.bits
            )
        })
        .collect();
    section(
        &mut text,
        false,
        "Images that are not 8-bit RGB (converted)",
        &lines,
    );
    let ignored = report.ignored.iter();
    let lines: Vec<_> = ignored
        .map(|file| match &file.content {
            Some(content) => {
                format!("{}: {} ({content})", file.path, ignore_reason(file.reason))
            }
            None => format!("{}: {}", file.path, ignore_reason(file.reason)),
        })
        .collect();
    section(&mut text, false, "Ignored files and folders", &lines);

    text.push_str(if report.is_serious() {
        "\nFindings marked with `!` are serious.\n"
    } else {
        "\nNo serious problems found.\n"
    });
    text
}

/// Image counts by class and split.
fn counts(report: &Report) -> String {
    let [train, val] = &report.splits;
    let classes = train.classes.iter();
    let names: Vec<_> = classes.map(|count| printable(&count.class)).collect();
    let widths = names.iter().map(|name| measure_text_width(name));
    let width = widths.chain([5]).max().unwrap_or(0);
    let mut text = format!("{}\n\n", printable(&report.root));
    let mut row = |name: &str, train: &str, val: &str| {
        let cells = [
            pad_right(name, width),
            pad_left(train, 7),
            pad_left(val, 10),
        ];
        let _ = writeln!(text, "  {}", cells.join("  "));
    };
    row("class", &printable(&train.name), &printable(&val.name));
    for ((name, train), val) in names.iter().zip(&train.classes).zip(&val.classes) {
        row(name, &train.images.to_string(), &val.images.to_string());
    }
    let all = train.images + val.images;
    let images = pluralize(all, "image");
    let _ = match report.unusable.len() {
        0 => writeln!(text, "\n{images} read."),
        unusable => writeln!(text, "\n{} of {images} read.", all.saturating_sub(unusable)),
    };
    for split in &report.splits {
        if let Some(unused) = unused_files(&split.unused) {
            let _ = writeln!(text, "Not used in {}: {unused}.", split.name);
        }
    }
    text
}

fn mostly_unused_line(folder: &MostlyUnused) -> String {
    let unused = unused_files(&folder.unused).unwrap_or_default();
    let used = pluralize(folder.images, "image");
    let remedies: Vec<&str> = folder
        .unused
        .iter()
        .map(|count| count.remedy.as_str())
        .collect();
    let (path, remedies) = (&folder.folder, remedies.join(", "));
    format!("{path}: {unused} not used, {used} used; {remedies}")
}

/// Appends a finding: its title, the number of `lines`, and the first few of them. Appends nothing
/// if `lines` is empty.
fn section(text: &mut String, serious: bool, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let mark = if serious { "! " } else { "" };
    // Writing into a string cannot fail.
    let _ = writeln!(text, "\n{mark}{title}: {}", lines.len());
    for line in lines.iter().take(MAX_LISTED) {
        let _ = writeln!(text, "    {}", printable(line));
    }
    if lines.len() > MAX_LISTED {
        let _ = writeln!(
            text,
            "    and {} more (`--json` lists all)",
            lines.len() - MAX_LISTED
        );
    }
}

fn shape(shape: Shape) -> &'static str {
    match shape {
        Shape::Tiny => "tiny",
        Shape::Narrow => "narrow",
        Shape::Huge => "huge",
    }
}

fn channels(channels: Channels) -> &'static str {
    match channels {
        Channels::Gray => "gray",
        Channels::GrayAlpha => "gray with alpha",
        Channels::Rgb => "RGB",
        Channels::RgbAlpha => "RGB with alpha",
        Channels::Cmyk => "CMYK",
    }
}

fn ignore_reason(reason: IgnoreReason) -> &'static str {
    match reason {
        IgnoreReason::Hidden => "hidden",
        IgnoreReason::Extension => "no image extension",
        IgnoreReason::OutsideSplits => "outside the train and val folders",
        IgnoreReason::OutsideClasses => "outside the class folders",
        IgnoreReason::NotASplit => "neither train nor val",
        IgnoreReason::SymlinkLoop => "a link to a folder that contains it",
        IgnoreReason::Repeated => "a folder that is listed under another path",
        IgnoreReason::BrokenLink => "a broken link",
        IgnoreReason::NotAFile => "neither a file nor a folder",
    }
}
