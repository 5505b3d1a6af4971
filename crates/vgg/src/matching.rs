//! Matches the tensors in a file with those of a network.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::VggConfig;
use crate::error::Error;
use crate::names;
use crate::select::{self, Selection};
use crate::weights_file::WeightsFile;

/// The layer that predicts the classes.
pub(crate) const HEAD: &str = "classifier.6";

/// Maximum number of unexpected or unused tensors that are listed. Others are only counted.
const MAX_LISTED: usize = 20;
/// Maximum number of tensors whose names are compared with those of missing tensors.
const MAX_COMPARED: usize = 1000;

/// A tensor in a file that the network needs.
pub(crate) struct Entry {
    /// Name in the file.
    pub(crate) name: String,
    /// Shape, converted to torchvision's layout.
    pub(crate) shape: Vec<usize>,
}

/// The entries of a file, by the torchvision name of the tensor.
pub(crate) type Entries<'a> = BTreeMap<&'a str, Entry>;

/// The tensors in a file, compared with those of a network.
pub(crate) struct Matched<'a> {
    pub(crate) entries: Entries<'a>,
    /// Tensors that seem to belong to the network, but that it does not have, each with the most
    /// similar expected name if there is one, or the name that it repeats.
    pub(crate) unexpected: List,
    /// Tensors that do not belong to the network, such as those of a loss or an optimizer.
    pub(crate) unused: List,
    /// The network whose tensors are used.
    pub(crate) selection: Selection,
}

/// Names, of which the first [`MAX_LISTED`] are kept.
#[derive(Default)]
pub(crate) struct List {
    names: Vec<String>,
    count: usize,
}

impl List {
    fn push(&mut self, name: impl FnOnce() -> String) {
        self.count += 1;
        if self.names.len() < MAX_LISTED {
            self.names.push(name());
        }
    }

    /// Moves the names of `other` to the end of the list.
    pub(crate) fn append(&mut self, other: Self) {
        self.count += other.count;
        self.names.extend(other.names);
        self.names.truncate(MAX_LISTED);
    }

    /// The kept names. The last element is the number of others, if any.
    pub(crate) fn into_names(mut self) -> Vec<String> {
        if self.count > self.names.len() {
            let others = self.count - self.names.len();
            self.names.push(format!("and {others} more"));
        }
        self.names
    }
}

/// Matches the tensors in `file`, which was opened from `path`, with the tensors of the network,
/// which have these `shapes`.
///
/// # Errors
///
/// Returns an error if it is not clear which weights in the file are those of the network, or if one
/// of them cannot be read. The head may be unreadable, because it can be replaced.
pub(crate) fn matched<'a>(
    file: &WeightsFile,
    path: &Path,
    config: &VggConfig,
    shapes: &'a [(String, Vec<usize>)],
) -> Result<Matched<'a>, Error> {
    let selection = select::select(file, path, Some(config))?;
    let expected = |converted: &str| {
        let mut shapes = shapes.iter();
        shapes
            .find(|(name, _)| name == converted)
            .map(|(name, _)| name.as_str())
    };
    let mut entries = Entries::new();
    let mut others = Vec::new();
    for (name, shape) in file.shapes() {
        let converted = selection.prefix.torchvision_name(name);
        if converted.as_deref().is_some_and(names::is_batch_counter) {
            continue;
        }
        match converted.as_deref().and_then(expected) {
            Some(expected) if !entries.contains_key(expected) => {
                let entry = Entry {
                    name: name.to_string(),
                    shape: names::torchvision_shape(expected, shape),
                };
                entries.insert(expected, entry);
            }
            _ => others.push((name, converted)),
        }
    }
    for (name, kind) in file.unreadable() {
        let converted = selection.prefix.torchvision_name(name);
        if let Some(expected) = converted.as_deref().and_then(expected)
            && !entries.contains_key(expected)
            && !expected.starts_with(HEAD)
        {
            return Err(Error::Unreadable {
                path: path.into(),
                tensor: name.into(),
                kind: kind.into(),
            });
        }
    }
    let missing: Vec<&str> = shapes
        .iter()
        .map(|(name, _)| name.as_str())
        .filter(|name| !entries.contains_key(name))
        .collect();
    let other_prefixes = selection.other_prefixes();
    let (mut unexpected, mut unused) = (List::default(), List::default());
    for (index, (name, converted)) in others.into_iter().enumerate() {
        if other_prefixes.contain(name) {
            continue;
        }
        let Some(converted) = converted.filter(|name| !is_other_classifier(name, shapes)) else {
            unused.push(|| name.to_string());
            continue;
        };
        let similar = || names::most_similar(&converted, missing.iter().copied());
        match (index < MAX_COMPARED).then(similar).flatten() {
            Some(similar) => unexpected.push(|| format!("{name} (did you mean {similar}?)")),
            // In a file with both the weights and their moving average, for example.
            None if expected(&converted).is_some() => {
                unexpected.push(|| format!("{name} (a second {converted})"));
            }
            None if converted.starts_with("features.") => unexpected.push(|| name.to_string()),
            None => unused.push(|| name.to_string()),
        }
    }
    Ok(Matched {
        entries,
        unexpected,
        unused,
        selection,
    })
}

/// Whether a tensor belongs to a layer of a classifier with another structure, such as
/// `classifier.1` or `classifier.6.0`.
fn is_other_classifier(name: &str, shapes: &[(String, Vec<usize>)]) -> bool {
    let layer = name.rsplit_once('.').map_or("", |(layer, _)| layer);
    let is_in_network = |(name, _): &(String, Vec<usize>)| {
        let rest = name.strip_prefix(layer);
        rest.is_some_and(|rest| rest.starts_with('.') && !rest[1..].contains('.'))
    };
    (layer == "classifier" || layer.starts_with("classifier.")) && !shapes.iter().any(is_in_network)
}
