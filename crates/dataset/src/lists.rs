//! Lists in error messages.

use std::fmt;

use crate::unused::KindCount;

/// Displays names as `` `a`, `b` ``, with the given separator.
pub(crate) struct Quoted<'a>(pub &'a [String], pub &'a str);

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
pub(crate) struct Only<'a>(pub &'a [KindCount]);

impl fmt::Display for Only<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, count) in self.0.iter().enumerate() {
            let separator = if i == 0 { ", only" } else { "," };
            write!(f, "{separator} {count}")?;
        }
        Ok(())
    }
}
