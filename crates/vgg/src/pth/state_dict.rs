//! Finds the tensors in an unpickled value.

use std::collections::{BTreeMap, HashSet};

use super::pickle::Pickle;
use super::value::{Id, TensorView, Value};
use crate::python;

/// Maximum length in bytes of the name of a tensor. Longer names are ignored, because every name
/// repeats the keys of the containers around it. Also limits the depth of nested containers.
const MAX_NAME_LENGTH: usize = 200;

/// Maximum number of tensors and of values next to them. A pickle can refer to the same tensor a
/// million times, each time under another name.
const MAX_TENSORS: usize = 100_000;

/// The tensors of a file. A name consists of the keys of the dictionaries around the tensor and its
/// own key: `state_dict.features.0.weight`.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    pub(super) readable: BTreeMap<String, TensorView>,
    /// Names of values that cannot be read, and what each one is: tensors of other kinds, and
    /// anything else next to a tensor.
    pub(super) unreadable: BTreeMap<String, String>,
    /// Python subscripts of the first module in the file, such as `["model"]`; empty if it is the
    /// whole file.
    pub(super) module: Option<String>,
}

/// Collects the tensors in dictionaries, lists and tuples. Each container is visited once, also if
/// several others refer to it. The error is a reason to reject the file.
pub(super) fn tensors(pickle: &Pickle<'_>) -> Result<Tensors, String> {
    let mut search = Search {
        values: &pickle.values,
        visited: HashSet::from([pickle.top]),
        tensors: Tensors::default(),
    };
    search.visit(pickle.top, "", "")?;
    Ok(search.tensors)
}

struct Search<'a> {
    values: &'a [Value<'a>],
    visited: HashSet<Id>,
    tensors: Tensors,
}

impl Search<'_> {
    /// Visits a container. `prefix` is the keys that lead to it, each followed by a dot, and
    /// `subscripts` the same keys as Python subscripts.
    fn visit(&mut self, id: Id, prefix: &str, subscripts: &str) -> Result<(), String> {
        let values = self.values;
        if let Value::Module(_) = values[id] {
            self.tensors.module.get_or_insert_with(|| subscripts.into());
            return Ok(());
        }
        let mut items = items(values, id);
        let has_tensors = items.iter().any(|(_, item)| values[*item].is_tensor());
        let mut result = Ok(());
        // Keeps the containers, which are visited after all tensors next to them.
        items.retain(|(key, item)| {
            let name = format!("{prefix}{}", key.text());
            if result.is_err() || name.len() > MAX_NAME_LENGTH {
                return false;
            }
            if values[*item].is_container() {
                return self.visited.insert(*item);
            }
            if has_tensors {
                result = self.tensors.insert(name, values, *item);
            }
            false
        });
        result?;
        for (key, item) in items {
            let prefix = format!("{prefix}{}.", key.text());
            let subscripts = format!("{subscripts}[{}]", key.python());
            self.visit(item, &prefix, &subscripts)?;
        }
        Ok(())
    }
}

impl Tensors {
    fn insert(&mut self, name: String, values: &[Value<'_>], id: Id) -> Result<(), String> {
        if self.readable.contains_key(&name) || self.unreadable.contains_key(&name) {
            let name = name.escape_debug();
            return Err(format!("it contains two tensors called `{name}`"));
        }
        if self.readable.len() + self.unreadable.len() == MAX_TENSORS {
            return Err(format!("it contains more than {MAX_TENSORS} tensors"));
        }
        match &values[id] {
            Value::Tensor(view) => {
                self.readable.insert(name, view.clone());
            }
            _ => {
                self.unreadable.insert(name, Value::kind(values, id));
            }
        }
        Ok(())
    }
}

/// A key of a dictionary, or a position in a list.
enum Key<'a> {
    Text(&'a str),
    Number(i64),
}

impl Key<'_> {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => (*text).to_string(),
            Self::Number(number) => number.to_string(),
        }
    }

    fn python(&self) -> String {
        match self {
            Self::Text(text) => python::quote(text),
            Self::Number(number) => number.to_string(),
        }
    }
}

/// The items of a container. Keys that are neither strings nor numbers are left out, as are keys
/// that are too long for a name.
fn items<'a>(values: &[Value<'a>], id: Id) -> Vec<(Key<'a>, Id)> {
    match &values[id] {
        Value::Dict(items) => {
            let items = items.iter().filter_map(|&(key, value)| match &values[key] {
                Value::Text(key) if key.len() <= MAX_NAME_LENGTH => Some((Key::Text(key), value)),
                Value::Int(key) => Some((Key::Number(*key), value)),
                _ => None,
            });
            items.collect()
        }
        Value::List(items) | Value::Tuple(items) => {
            let items = (0..).zip(items);
            items.map(|(index, &id)| (Key::Number(index), id)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pth::pickle;

    const SPARSE_TENSOR: &[u8] = b"ctorch._utils\n_rebuild_sparse_tensor\n)R";

    fn collect(parts: &[&[u8]]) -> Result<Tensors, String> {
        tensors(&pickle::read(&parts.concat()).expect("a valid pickle"))
    }

    #[test]
    fn a_million_references_to_a_tensor_are_an_error() {
        let references = b"h\0".repeat(1_000_000);
        let reason = collect(&[SPARSE_TENSOR, b"q\0](", &references, b"e."]);
        let reason = reason.expect_err("many tensors");
        assert_eq!(reason, "it contains more than 100000 tensors");
    }

    #[test]
    fn a_million_containers_under_a_long_key_share_it() {
        // As a Python subscript, each character of the key has six.
        let key = [&b"X\xbe\0\0\0"[..], &[1; 190]].concat();
        let tensors = collect(&[b"}", &key, b"](", &b"]".repeat(2_000_000), b"es."]);
        let tensors = tensors.expect("no tensors");
        assert!(tensors.readable.is_empty() && tensors.unreadable.is_empty());
    }

    #[test]
    fn a_class_with_a_long_name_is_not_copied_for_each_object() {
        let name = vec![b'n'; 4 << 20];
        let objects = b"h\0".repeat(90_000);
        let start = std::time::Instant::now();
        let class = [b"cm\n", &name[..], b"\n)Rq\0"].concat();
        let tensors = collect(&[b"](", SPARSE_TENSOR, &class, &objects, b"e."]).expect("a list");
        assert_eq!(tensors.unreadable.len(), 90_002);
        assert!(tensors.unreadable["1"].len() < 300);
        assert!(start.elapsed().as_secs() < 30, "{:?}", start.elapsed());
    }

    #[test]
    fn nested_containers_end_at_the_longest_name() {
        // A list in a list in a list, one hundred thousand times.
        let depth = 100_000;
        let nested = [&b"]".repeat(depth)[..], &b"a".repeat(depth - 1), b"."].concat();
        assert!(collect(&[&nested]).expect("no tensors").readable.is_empty());
    }
}
