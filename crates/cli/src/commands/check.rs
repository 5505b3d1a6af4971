//! `waggle check`: what is wrong with a data set, as a table for people or as one JSON object.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use dataset::check::{Group, Likeness, Report, Shape, Why};
use dataset::decode::Channels;
use dataset::{CheckOptions, DecodeOptions};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::args::CheckArgs;
use crate::data_source::Source;
use crate::words::counted;

/// Files that a table names before it says how many more there are.
const NAMED: usize = 10;

/// Runs the command. The exit code is 1 when something serious was found.
pub fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let root = Source::choose(args.data.as_deref()).root()?;
    let options = CheckOptions {
        workers: args.workers.get(),
        decode: DecodeOptions {
            ignore_exif: args.ignore_exif,
            ..DecodeOptions::default()
        },
    };
    // Drawn on standard error, and only when that is a terminal.
    let bar = ProgressBar::new(0).with_style(
        ProgressStyle::with_template("checking {bar:32} {pos}/{len} pictures, {eta} left")
            .expect("the template is a constant"),
    );
    bar.enable_steady_tick(Duration::from_millis(500));
    let report = dataset::check(&root, &options, &|done, pictures| {
        bar.set_length(pictures as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
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

/// The report and the verdict, as one object on one line.
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

/// The report for people: counts first, then every kind of finding that there is, the serious ones marked.
fn table(report: &Report) -> String {
    let mut text = counts(report);
    let limits = &report.thresholds;

    section(
        &mut text,
        true,
        "Class folders without a picture, which train refuses",
        &report.empty_classes,
    );
    section(
        &mut text,
        true,
        "Class folders of val that train does not have",
        &report.unknown_classes,
    );
    section(
        &mut text,
        false,
        "Classes without a folder in val: train goes on, and val does not measure them",
        &report.unmeasured_classes,
    );
    let unusable = report.unusable.iter();
    let lines: Vec<_> = unusable
        .map(|it| format!("{}: {}", it.path, it.reason))
        .collect();
    section(&mut text, true, "Pictures that cannot be decoded", &lines);

    let (mut leaks, mut conflicts, mut rest) = (Vec::new(), Vec::new(), Vec::new());
    for group in &report.duplicates {
        if group.conflict {
            conflicts.push(shown(group));
        }
        if group.leak {
            leaks.push(shown(group));
        }
        if !group.conflict && !group.leak {
            rest.push(shown(group));
        }
    }
    section(
        &mut text,
        true,
        "Pictures both in train and in val (leaks)",
        &leaks,
    );
    section(
        &mut text,
        true,
        "Pictures in more than one class (contradicting labels)",
        &conflicts,
    );
    section(
        &mut text,
        false,
        "Pictures more than once in one class of one split",
        &rest,
    );

    if let Some(imbalance) = report.imbalance.filter(|&it| it > limits.balance) {
        let _ = writeln!(
            text,
            "\nThe largest class of train has {imbalance:.1} times the pictures of the smallest (noted above {}).",
            limits.balance
        );
    }
    let wrong = report.wrong_extension.iter();
    let lines: Vec<_> = wrong
        .map(|it| format!("{}: is {}", it.path, it.content))
        .collect();
    section(
        &mut text,
        false,
        "Pictures with another format's extension; they are used",
        &lines,
    );
    let shapes = report.odd_shapes.iter();
    let lines: Vec<_> = shapes
        .map(|it| {
            format!(
                "{}: {} × {}, {}",
                it.path,
                it.width,
                it.height,
                shape(it.shape)
            )
        })
        .collect();
    let title = format!(
        "Pictures of unusual shape (tiny: a side below {} pixels; narrow: one side above {} times the other; \
         huge: above {} million pixels)",
        limits.tiny,
        limits.narrow,
        limits.huge / 1_000_000
    );
    section(&mut text, false, &title, &lines);
    let colours = report.odd_colours.iter();
    let lines: Vec<_> = colours
        .map(|it| format!("{}: {}, {} bits", it.path, channels(it.channels), it.bits))
        .collect();
    section(
        &mut text,
        false,
        "Pictures that are not RGB of 8 bits; they are converted",
        &lines,
    );
    let ignored = report.ignored.iter();
    let lines: Vec<_> = ignored
        .map(|it| match &it.content {
            Some(content) => format!("{}: {}; it is a picture, {content}", it.path, why(it.why)),
            None => format!("{}: {}", it.path, why(it.why)),
        })
        .collect();
    section(
        &mut text,
        false,
        "Files and folders that are not used",
        &lines,
    );

    text.push_str(if report.is_serious() {
        "\nSerious findings are marked with `!`.\n"
    } else {
        "\nNothing serious.\n"
    });
    text
}

/// Pictures by class and split.
fn counts(report: &Report) -> String {
    let [train, val] = &report.splits;
    let names = train.classes.iter().map(|count| count.class.as_str());
    let width = names
        .clone()
        .chain(["class"])
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let mut text = format!("{}\n\n", report.root);
    let mut row = |name: &str, train: &str, val: &str| {
        let padded = format!("{name}{}", " ".repeat(width - name.chars().count()));
        let _ = writeln!(text, "  {padded}  {train:>7}  {val:>10}");
    };
    row("class", &train.name, &val.name);
    for ((name, train), val) in names.zip(&train.classes).zip(&val.classes) {
        row(name, &train.pictures.to_string(), &val.pictures.to_string());
    }
    let pictures = counted(train.pictures + val.pictures, "picture");
    let _ = writeln!(text, "\n{pictures} read.");
    text
}

/// A kind of finding: what, how many, and the first of them. Nothing where there are none.
fn section(text: &mut String, serious: bool, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    let mark = if serious { "! " } else { "" };
    // Writing into a string cannot fail.
    let _ = writeln!(text, "\n{mark}{title}: {}", lines.len());
    for line in lines.iter().take(NAMED) {
        let _ = writeln!(text, "    {line}");
    }
    if lines.len() > NAMED {
        let _ = writeln!(
            text,
            "    and {} more; --json names all",
            lines.len() - NAMED
        );
    }
}

fn shown(group: &Group) -> String {
    let what = match group.likeness {
        Likeness::File => "the same file",
        Likeness::Pixels => "the same pixels",
        Likeness::Near => "nearly the same",
    };
    let paths: Vec<_> = group
        .pictures
        .iter()
        .map(|picture| picture.path.as_str())
        .collect();
    format!("{what}: {}", paths.join(", "))
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
        Channels::Grey => "grey",
        Channels::GreyAlpha => "grey with alpha",
        Channels::Rgb => "RGB",
        Channels::RgbAlpha => "RGB with alpha",
        Channels::Cmyk => "CMYK",
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::Hidden => "hidden",
        Why::Extension => "no extension of a picture",
        Why::BesideTheSplits => "beside the folders train and val",
        Why::BesideTheClasses => "beside the class folders",
        Why::NoSplit => "neither train nor val",
        Why::LinkLoop => "a link to a folder above itself",
    }
}
