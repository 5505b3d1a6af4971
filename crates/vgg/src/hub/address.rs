//! The address of a file on the hub: `OWNER/REPO[@REVISION][/FILE]`.

use std::fmt;
use std::str::FromStr;

use super::HubError;

/// The usual name of the weights file in a repository.
const DEFAULT_FILE: &str = "model.safetensors";
const DEFAULT_REVISION: &str = "main";

/// The address of a file in a repository at a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name of the repository: `OWNER/REPO`.
    pub repository: String,
    /// A branch, tag, commit or other git reference; `main` by default.
    pub revision: String,
    /// Path of the file in the repository; `model.safetensors` by default.
    pub file: String,
}

impl Address {
    /// Returns the address of `model.safetensors` on the branch `main` of a repository. The name is
    /// not checked.
    pub fn new(repository: &str) -> Self {
        Self {
            repository: repository.into(),
            revision: DEFAULT_REVISION.into(),
            file: DEFAULT_FILE.into(),
        }
    }

    /// Returns [`HubError::Address`] unless all components are plain names, as in a parsed address.
    /// They become parts of paths in the cache, and must not change its folder.
    pub(super) fn check(&self) -> Result<(), HubError> {
        let paths = [&self.repository, &self.revision, &self.file];
        let is_plain = paths.iter().all(|path| is_plain_path(path));
        match is_plain && !self.repository.contains(' ') {
            true => Ok(()),
            false => Err(HubError::Address),
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// Parses `OWNER/REPO[@REVISION][/FILE]`. A revision ends at its first slash, or at its third
    /// slash if it starts with `refs/`, as in the hub's `refs/pr/N`.
    ///
    /// # Errors
    ///
    /// Returns a message if the format is different or if a component is not a plain name: 1 to 255
    /// ASCII letters, digits and `-_.+= `, without a dot or a space at the end.
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("`{text}` is not OWNER/REPO[@REVISION][/FILE], such as timm/vgg16.tv_in1k");
        let (owner, rest) = text.split_once('/').ok_or_else(invalid)?;
        let end = rest.find(['@', '/']).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        let mut address = Self::new(&format!("{owner}/{name}"));
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
        address.check().map_err(|_| invalid())?;
        Ok(address)
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

/// Whether a path is relative and consists of plain components.
pub(super) fn is_plain_path(path: &str) -> bool {
    path.split('/').all(is_plain_component)
}

/// Whether a component of a path has 1 to 255 ASCII letters, digits and `-_.+= `, and does not end
/// with a dot or a space, which Windows ignores. On all platforms, such a component does not refer
/// to a parent folder, a drive or a stream.
fn is_plain_component(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+= ".contains(c);
    (1..=255).contains(&name.len()) && !name.ends_with(['.', ' ']) && name.chars().all(is_allowed)
}

/// Whether an etag or a commit is a plain name: 1 to 128 ASCII letters, digits and `-_.`, without a
/// dot at the end.
pub(super) fn is_plain_id(id: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=128).contains(&id.len()) && !id.ends_with('.') && id.chars().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_displayed() {
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
            let parts = (
                address.repository.as_str(),
                address.revision.as_str(),
                address.file.as_str(),
            );
            assert_eq!(parts, (repository, revision, file), "{text}");
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn invalid_addresses_are_rejected() {
        for text in [
            "",
            "a",
            "a/",
            "/b",
            "a/b@",
            "a/b/",
            "a/../b",
            "a/b/../x",
            "a/b?x",
            "a/b@../x",
            "a/b/x\\..\\y",
            "a/b/.. /x",
            "a/b/x\n",
            "a/b/C:/x",
            "a b/c",
            "a/b c/x",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_plain_ids_are_accepted() {
        let longest = "a".repeat(128);
        for id in ["89abcdef", "main_2-x.y", &longest] {
            assert!(is_plain_id(id), "{id}");
        }
        let too_long = "a".repeat(129);
        for id in [
            "", ".", "..", "../x", "/etc/x", "..\\x", "a b", "a\0", "é", &too_long,
        ] {
            assert!(!is_plain_id(id), "{id}");
        }
    }
}
