//! Which network a file holds, from the names and shapes of its convolutions.

use std::collections::BTreeMap;
use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::config::VggConfig;
use crate::error::Error;
use crate::names;

/// The name of the network of [`VggConfig::NAMES`] whose convolutions a file of weights holds; `None` if it is none of
/// them.
///
/// Errors: an unreadable or broken file.
pub fn recognise(path: &Path) -> Result<Option<String>, Error> {
    Ok(architecture(Checkpoint::open(path)?.shapes().into_iter()))
}

/// The name of the network of the table whose convolutions these are, with `_bn` where batch norm is among them.
/// `None` if it is none of them.
pub(crate) fn architecture<'a>(
    shapes: impl Iterator<Item = (&'a str, &'a [usize])>,
) -> Option<String> {
    let mut convolutions = BTreeMap::new();
    let mut normalised = false;
    for (name, shape) in shapes {
        let name = names::torchvision(name);
        let Some(rest) = name.strip_prefix("features.") else {
            continue;
        };
        normalised |= rest.ends_with(".running_mean");
        if let (Some(index), [k, c, 3, 3]) = (rest.strip_suffix(".weight"), shape)
            && let Ok(index) = index.parse::<usize>()
        {
            convolutions.insert(index, (*c, *k));
        }
    }
    let found: Vec<_> = convolutions.into_values().collect();
    VggConfig::NAMES.into_iter().find_map(|name| {
        let config = VggConfig::named(name, 1000).ok()?;
        let table = config.convolutions().ok()?;
        let widths = table.iter().map(|conv| (conv.input, conv.output));
        let fits = widths.eq(found.iter().copied()) && config.batch_norm == normalised;
        fits.then(|| name.to_string())
    })
}
