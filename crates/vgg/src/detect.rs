//! Detects the architecture of the weights in a file.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::VggConfig;
use crate::error::Error;
use crate::names;
use crate::weights_file::WeightsFile;

/// Returns the architecture in [`VggConfig::NAMES`] that has the same convolution widths as a
/// weights file, and batch norm if and only if the file does. Returns `None` if there is no such
/// architecture.
///
/// # Errors
///
/// Returns an error if the file cannot be read or is not a valid weights file.
pub fn detect_architecture(path: impl AsRef<Path>) -> Result<Option<String>, Error> {
    Ok(architecture(
        WeightsFile::open(path.as_ref())?.shapes().into_iter(),
    ))
}

/// Returns the architecture in [`VggConfig::NAMES`] whose convolutions have the same channels, in
/// the same order, as the 3x3 weights in `shapes`, and which has batch norm if and only if `shapes`
/// contains a running mean of the backbone.
pub(crate) fn architecture<'a>(
    shapes: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> Option<String> {
    let mut convolutions = BTreeMap::new();
    let mut has_batch_norm = false;
    for (name, shape) in shapes {
        let name = names::to_torchvision(name);
        let Some(rest) = name.strip_prefix("features.") else {
            continue;
        };
        has_batch_norm |= rest.ends_with(".running_mean");
        if let (Some(index), [k, c, 3, 3]) = (rest.strip_suffix(".weight"), shape)
            && let Ok(index) = index.parse::<usize>()
        {
            convolutions.insert(index, (*c, *k));
        }
    }
    let channels: Vec<_> = convolutions.into_values().collect();
    VggConfig::NAMES.into_iter().find_map(|name| {
        let config = VggConfig::named(name, 1000).ok()?;
        let convolutions = config.convolutions().ok()?;
        let expected = convolutions.iter().map(|conv| (conv.input, conv.output));
        let matches = expected.eq(channels.iter().copied()) && config.batch_norm == has_batch_norm;
        matches.then(|| name.to_string())
    })
}
