//! Detects the architecture of the weights in a file.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::VggConfig;
use crate::error::Error;
use crate::select::{self, Prefix};
use crate::weights_file::WeightsFile;

/// Returns the architecture in [`VggConfig::NAMES`] that has the same convolution widths as a
/// weights file, and batch norm if and only if the file does. Returns `None` if there is no such
/// architecture. As in [`load_pretrained`](crate::load_pretrained), `path` can be `FILE#KEY`.
///
/// # Errors
///
/// Returns an error if the file cannot be read or is not a valid weights file, or if it contains
/// several networks and none has a usual name.
pub fn detect_architecture(path: impl AsRef<Path>) -> Result<Option<String>, Error> {
    let path = path.as_ref();
    let file = WeightsFile::open(path)?;
    let selection = select::select(&file, path, None)?;
    Ok(architecture(&file, &selection.prefix))
}

/// Returns the architecture in [`VggConfig::NAMES`] whose convolutions have the same channels, in
/// the same order, as the 3x3 weights with `prefix` in the file, and which has batch norm if and only
/// if the backbone in the file has a running mean.
pub(crate) fn architecture(file: &WeightsFile, prefix: &Prefix) -> Option<String> {
    let mut convolutions = BTreeMap::new();
    let mut has_batch_norm = false;
    for (name, shape) in file.shapes() {
        let name = prefix.torchvision_name(name);
        let Some(rest) = name
            .as_deref()
            .and_then(|name| name.strip_prefix("features."))
        else {
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
