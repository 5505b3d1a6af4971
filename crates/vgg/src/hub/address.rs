//! A file on the hub, as typed: `OWNER/REPO[@REVISION][/FILE]`.

use std::fmt;
use std::str::FromStr;

/// The file that most repositories keep their weights in.
const DEFAULT_FILE: &str = "model.safetensors";
const DEFAULT_REVISION: &str = "main";

/// A file of a repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `OWNER/REPO`.
    pub repository: String,
    /// A branch, tag or commit; `main` unless told otherwise.
    pub revision: String,
    /// Its path in the repository; `model.safetensors` unless told otherwise.
    pub file: String,
}

impl Address {
    /// `model.safetensors` of a repository's main branch.
    pub fn of(repository: &str) -> Self {
        Self {
            repository: repository.into(),
            revision: DEFAULT_REVISION.into(),
            file: DEFAULT_FILE.into(),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// A revision ends at the next slash, but for the hub's own `refs/pr/N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("`{text}` is not OWNER/REPO[@REVISION][/FILE], such as timm/vgg16.tv_in1k");
        let (owner, rest) = text.split_once('/').ok_or_else(refused)?;
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let mut address = Self::of(&format!("{owner}/{name}"));
        let file = match rest.strip_prefix('@') {
            None => rest.strip_prefix('/'),
            Some(rest) => {
                let slashes = if rest.starts_with("refs/") { 2 } else { 0 };
                let end = rest
                    .match_indices('/')
                    .nth(slashes)
                    .map_or(rest.len(), |(at, _)| at);
                address.revision = rest[..end].into();
                rest[end..].strip_prefix('/')
            }
        };
        if let Some(file) = file {
            address.file = file.into();
        }
        // Each part becomes a part of a path in the cache.
        let parts = [owner, name].into_iter();
        let parts = parts
            .chain(address.revision.split('/'))
            .chain(address.file.split('/'));
        if parts.into_iter().all(is_plain) {
            Ok(address)
        } else {
            Err(refused())
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.repository)?;
        if self.revision != DEFAULT_REVISION {
            write!(f, "@{}", self.revision)?;
        }
        if self.file != DEFAULT_FILE {
            write!(f, "/{}", self.file)?;
        }
        Ok(())
    }
}

/// Whether a name is safe as a part of a path and of an address.
pub(super) fn is_plain(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+= ".contains(c);
    !name.is_empty() && name != "." && name != ".." && name.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for (text, repository, revision, file) in [
            (
                "timm/vgg16.tv_in1k",
                "timm/vgg16.tv_in1k",
                "main",
                "model.safetensors",
            ),
            ("a/b@v1.0", "a/b", "v1.0", "model.safetensors"),
            ("a/b/vgg/16.pth", "a/b", "main", "vgg/16.pth"),
            ("a/b@0123abc/x.bin", "a/b", "0123abc", "x.bin"),
            ("a/b@refs/pr/3", "a/b", "refs/pr/3", "model.safetensors"),
            ("a/b@refs/pr/3/x/y.pth", "a/b", "refs/pr/3", "x/y.pth"),
        ] {
            let address: Address = text.parse().expect(text);
            let found = (
                address.repository.as_str(),
                address.revision.as_str(),
                address.file.as_str(),
            );
            assert_eq!(found, (repository, revision, file), "{text}");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "", "a", "a/", "/b", "a/b@", "a/b/", "a/../b", "a/b/../x", "a/b?x", "a/b@../x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
