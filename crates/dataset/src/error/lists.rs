//! Lists in error messages.

use std::fmt;

use super::Error;
use crate::unused::KindCount;

/// Displays names as `` `a`, `b` ``, with the given separator.
pub(super) struct Quoted<'a>(pub(super) &'a [String], pub(super) &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            let separator = if i == 0 { "" } else { self.1 };
            write!(f, "{separator}`{name}`")?;
        }
        Ok(())
    }
}

/// Displays `, only 12 HEIC images, 3 text files`, or nothing without files.
pub(super) struct Only<'a>(pub(super) &'a [KindCount]);

impl fmt::Display for Only<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, count) in self.0.iter().enumerate() {
            let separator = if i == 0 { ", only" } else { "," };
            write!(f, "{separator} {count}")?;
        }
        Ok(())
    }
}

/// Displays each error on an indented line: `path: reason`, or the whole message if the error has no
/// path. The remedy of a single error is left to [`Error::help`].
pub(super) struct Lines<'a>(pub(super) &'a [Error]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for error in self.0 {
            match error.path() {
                Some(path) if self.0.len() == 1 => {
                    write!(f, "\n  {}: {}", path.display(), error.fact())?;
                }
                Some(path) => write!(f, "\n  {}: {}", path.display(), error.reason())?,
                None => write!(f, "\n  {error}")?,
            }
        }
        Ok(())
    }
}
