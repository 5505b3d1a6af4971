//! Chooses the weights of a network in a file that contains other tensors, or several networks.
//!
//! The names of a network's tensors may share a prefix: the key of a dictionary (`state_dict.`), the
//! field of a class (`net.`) or a wrapper (`module.`). The prefixes in a file are those before
//! `features.N.weight`, where the tensor is a 3x3 convolution.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::config::VggConfig;
use crate::error::Error;
use crate::names;
use crate::weights_file::WeightsFile;

/// Keys and fields under which training scripts store the weights of the model that they train, most
/// common first.
const USUAL: [&str; 11] = [
    "state_dict",
    "model_state_dict",
    "model",
    "net",
    "weights",
    "network",
    "params",
    "module",
    "_orig_mod",
    "backbone",
    "encoder",
];

/// Maximum number of prefixes that an error or a report lists.
const MAX_LISTED: usize = 20;

/// The tensors of one network in a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Prefix {
    /// The keys before the name in torchvision or timm, each followed by a dot. May be empty.
    text: String,
    /// Whether `features.` is missing, as in the state dict of `model.features`.
    is_bare: bool,
}

/// The chosen network of a file.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) prefix: Prefix,
    /// The other networks in the file.
    pub(crate) others: Vec<Prefix>,
}

/// Input and output channels of convolutions, by index in `features`.
type Channels = BTreeMap<usize, (usize, usize)>;

impl Prefix {
    /// The prefix without the last dot, by which users choose it.
    pub(crate) fn key(&self) -> &str {
        self.text.trim_end_matches('.')
    }

    /// Returns torchvision's name for the tensor called `name` in the file, or `None` if it does not
    /// have this prefix.
    pub(crate) fn torchvision_name(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(&self.text)?;
        if self.is_bare && rest.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(format!("features.{rest}"));
        }
        Some(match rest.strip_prefix("features.") {
            // `features` alone may be wrapped, as in PyTorch's ImageNet example.
            Some(rest) => format!("features.{}", names::without_wrappers(rest)),
            None => names::translated(rest),
        })
    }

    /// The name in the file of a tensor of the backbone with this name in torchvision.
    pub(crate) fn name_in_file(&self, name: &str) -> String {
        let rest = match self.is_bare {
            true => name.strip_prefix("features.").unwrap_or(name),
            false => name,
        };
        format!("{}{rest}", self.text)
    }

    /// Ranks prefixes that consist of usual keys; lower is more usual. `None` for all others, such as
    /// averages of weights.
    fn rank(&self) -> Option<(usize, usize)> {
        if self.text.is_empty() {
            return Some((0, 0));
        }
        let keys = self.key().split('.');
        let positions: Option<Vec<_>> = keys
            .map(|key| USUAL.iter().position(|usual| *usual == key))
            .collect();
        let positions = positions?;
        Some((positions[0] + 1, positions.len()))
    }
}

/// Sorted prefixes of other networks than the chosen one, of which none begins with another.
pub(crate) struct OtherPrefixes<'a>(Vec<&'a str>);

impl Selection {
    pub(crate) fn other_prefixes(&self) -> OtherPrefixes<'_> {
        let mut prefixes: Vec<&str> = Vec::new();
        // `others` is sorted.
        for Prefix { text, .. } in &self.others {
            // The chosen network may be inside another one, whose prefix it shares.
            let is_outer = self.prefix.text.starts_with(text);
            let is_inner = prefixes.last().is_some_and(|last| text.starts_with(last));
            if !is_outer && !is_inner {
                prefixes.push(text);
            }
        }
        OtherPrefixes(prefixes)
    }
}

impl OtherPrefixes<'_> {
    /// Whether the tensor called `name` has one of the prefixes.
    pub(crate) fn contain(&self, name: &str) -> bool {
        // Since no prefix begins with another, only the last one up to `name` can be one of `name`.
        let end = self.0.partition_point(|prefix| *prefix <= name);
        end > 0 && name.starts_with(self.0[end - 1])
    }
}

/// Parses the name of a convolution's weight: the prefix and the index in `features`.
fn convolution(name: &str) -> Option<(Prefix, usize)> {
    let stem = name.strip_suffix(".weight")?;
    let (parents, index) = stem
        .rfind('.')
        .map_or(("", stem), |dot| stem.split_at(dot + 1));
    let index = index.parse().ok()?;
    let outer = names::without_wrapper_suffixes(parents);
    let (text, is_bare) = match outer.strip_suffix("features.") {
        Some(text) if text.is_empty() || text.ends_with('.') => (text, false),
        _ => (parents, true),
    };
    let text = text.to_string();
    Some((Prefix { text, is_bare }, index))
}

/// Chooses the prefix of the network in a file: the one with the file's key, the one whose
/// convolutions have the channels of `config` or of a named architecture, or the most usual one.
///
/// If no prefix is found, the prefix is empty.
pub(crate) fn select(
    file: &WeightsFile,
    path: &Path,
    config: Option<&VggConfig>,
) -> Result<Selection, Error> {
    let mut groups: BTreeMap<Prefix, Channels> = BTreeMap::new();
    for (name, shape) in file.shapes() {
        if let [output, input, 3, 3] = *shape
            && let Some((prefix, index)) = convolution(name)
            && !prefix.text.starts_with("optim")
        {
            groups
                .entry(prefix)
                .or_default()
                .insert(index, (input, output));
        }
    }
    let expected = match config {
        Some(config) => BTreeSet::from([channels(config)?]),
        None => {
            let named = VggConfig::NAMES.iter();
            let named = named.map(|name| channels(&VggConfig::named(name, 1)?));
            named.collect::<Result<_, Error>>()?
        }
    };
    let fits = |found: &Channels| {
        let found: Vec<_> = found.values().copied().collect();
        expected.contains(&found)
    };
    // Many networks have numbered convolutions, so a prefix without `features.` has to fit.
    groups.retain(|prefix, found| !prefix.is_bare || fits(found));
    if groups.keys().any(|prefix| !prefix.is_bare) {
        groups.retain(|prefix, _| !prefix.is_bare);
    }
    let all: Vec<Prefix> = groups.keys().cloned().collect();
    if let Some(key) = file.key() {
        let is_inside = |prefix: &Prefix| {
            let rest = prefix.text.strip_prefix(key);
            rest.is_some_and(|rest| rest.starts_with('.'))
        };
        groups.retain(|prefix, _| is_inside(prefix));
        if groups.is_empty() {
            return Err(Error::NoKey {
                path: path.into(),
                key: key.into(),
                keys: listed(&all),
            });
        }
    }
    if groups.values().any(fits) {
        groups.retain(|_, found| fits(found));
    }
    let candidates: Vec<Prefix> = groups.into_keys().collect();
    // The rank of the rest of the prefix, if its start was chosen.
    let rank = |prefix: &Prefix| match file.key() {
        Some(key) => Prefix {
            text: prefix.text[key.len()..].trim_start_matches('.').into(),
            ..prefix.clone()
        }
        .rank(),
        None => prefix.rank(),
    };
    let best = candidates.iter().filter_map(rank).min();
    let mut chosen = match best {
        Some(_) => candidates
            .iter()
            .filter(|prefix| rank(prefix) == best)
            .collect(),
        None => candidates.iter().collect::<Vec<_>>(),
    };
    let prefix = chosen.pop().cloned().unwrap_or_default();
    if !chosen.is_empty() {
        return Err(Error::AmbiguousKey {
            path: path.into(),
            keys: listed(&candidates),
        });
    }
    let others = all.into_iter().filter(|other| *other != prefix).collect();
    Ok(Selection { prefix, others })
}

/// The input and output channels of a network's convolutions.
fn channels(config: &VggConfig) -> Result<Vec<(usize, usize)>, Error> {
    let convolutions = config.convolutions()?;
    let channels = convolutions.iter().map(|conv| (conv.input, conv.output));
    Ok(channels.collect())
}

/// The keys of the first [`MAX_LISTED`] prefixes that have one.
pub(crate) fn listed(prefixes: &[Prefix]) -> Vec<String> {
    let keys = prefixes.iter().map(Prefix::key);
    let mut keys: Vec<String> = keys.filter(|key| !key.is_empty()).map(Into::into).collect();
    if keys.len() > MAX_LISTED {
        let others = keys.len() - MAX_LISTED;
        keys.truncate(MAX_LISTED);
        keys.push(format!("and {others} more"));
    }
    keys
}
