//! Names of files and folders in a data set.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::Path;

use image::ImageFormat;

/// Extensions of image files, in any case: torchvision's list, which lacks `gif`, and the other
/// extensions of its formats.
pub const EXTENSIONS: [&str; 14] = [
    "jpg", "jpeg", "jfif", "jpe", "png", "apng", "ppm", "pgm", "pbm", "pnm", "bmp", "tif", "tiff",
    "webp",
];

/// Accepted folder names of the training split.
pub(crate) const TRAIN: [&str; 1] = ["train"];
/// Accepted folder names of the validation split. The first that exists is used.
pub(crate) const VAL: [&str; 3] = ["val", "valid", "validation"];

/// Returns whether the extension of `path` is in [`EXTENSIONS`], in any case.
pub fn is_image(path: impl AsRef<Path>) -> bool {
    let extension = path
        .as_ref()
        .extension()
        .and_then(|extension| extension.to_str());
    extension.is_some_and(|given| {
        EXTENSIONS
            .iter()
            .any(|accepted| accepted.eq_ignore_ascii_case(given))
    })
}

/// The format that the extension of `path` stands for.
pub(crate) fn format_of(path: &Path) -> Option<ImageFormat> {
    match path.extension()? {
        // `image` does not know it.
        extension if extension.eq_ignore_ascii_case("jpe") => Some(ImageFormat::Jpeg),
        extension => ImageFormat::from_extension(extension),
    }
}

/// Whether `name` begins with a dot, or is one that an operating system gives to its own files.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    let system = ["Thumbs.db", "desktop.ini", "__MACOSX"];
    name.as_encoded_bytes().starts_with(b".")
        || system.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Returns the names in `folder` that are not hidden, sorted by code point.
pub(crate) fn visible_names(folder: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if !is_hidden(&name) {
            names.push(name);
        }
    }
    // The byte order of UTF-8 is the order of code points.
    names.sort();
    Ok(names)
}
