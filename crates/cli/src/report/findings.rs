//! The section about the data set: counts, unused files, and problems that `waggle check` reports.

use dataset::inspect::DuplicateGroup;
use maud::{Markup, html};

use super::{Report, Section, text};
use crate::ui::text::{duplicates, percent, pluralize, unused_files};

/// Most files in the list of a finding.
const MAX_LISTED: usize = 20;
/// Most paths in the line of a group of duplicates.
const MAX_PATHS: usize = 4;

/// The section of the data set.
pub fn section(report: &Report) -> Markup {
    let config = &report.config.data;
    let val = config.val_images as f64 / (config.train_images + config.val_images).max(1) as f64;
    html! {
        p {
            (text::path(&config.root)) ": " (pluralize(config.train_images, "train image")) " and "
            (pluralize(config.val_images, "val image")) " (" (percent(val)) ") in "
            (pluralize(report.classes.len(), "class")) "."
        }
        @if !config.skipped.is_empty() {
            (list("Skipped images", config.skipped.iter().map(|image| format!("{}: {}", image.path, image.reason))))
        }
        @match &report.data {
            Section::Missing(reason) => p { (text::sentence(reason)) },
            Section::Shown(data) => (findings(data)),
        }
    }
}

fn findings(data: &dataset::Report) -> Markup {
    let unused = data.splits.iter().filter_map(|split| {
        let files = unused_files(&split.unused)?;
        Some(format!("{}: {files}", split.name))
    });
    let unusable = data
        .unusable
        .iter()
        .map(|file| format!("{}: {}", file.path, file.reason));
    let rest = data
        .duplicates
        .iter()
        .filter(|group| !group.leak && !group.conflict);
    let mostly_unused = data
        .mostly_unused
        .iter()
        .map(|folder| folder.folder.clone());
    let line = |group: &DuplicateGroup| duplicates(group, MAX_PATHS);
    let lists = [
        (
            "Leaks: images in both train and val",
            data.leaks().map(line).collect::<Vec<_>>(),
        ),
        (
            "Conflicting labels: images in more than one class",
            data.conflicts().map(line).collect(),
        ),
        ("Duplicates within a class", rest.map(line).collect()),
        ("Images that cannot be decoded", unusable.collect()),
        (
            "Class folders with mostly unused images",
            mostly_unused.collect(),
        ),
        (
            "Classes without val images",
            data.classes_without_val.clone(),
        ),
        ("Unused files", unused.collect()),
    ];
    let is_clean = lists.iter().all(|(_, items)| items.is_empty());
    html! {
        @if let Some(ratio) = data.imbalance.filter(|ratio| *ratio > data.thresholds.balance) {
            p { "The largest class has " (format!("{ratio:.1}")) " times as many train images as the smallest." }
        }
        @if is_clean { p { "No leaks, duplicates, damaged images or unused files were found." } }
        @for (title, items) in lists {
            @if !items.is_empty() { (list(title, items.into_iter())) }
        }
    }
}

fn list(title: &str, items: impl ExactSizeIterator<Item = String>) -> Markup {
    let count = items.len();
    html! {
        details open[count <= 5] {
            summary { (title) ": " (count) }
            ul {
                @for item in items.take(MAX_LISTED) { li { (text::path(&item)) } }
                @if count > MAX_LISTED { li { (count - MAX_LISTED) " more: " code { "waggle check" } " lists them." } }
            }
        }
    }
}
