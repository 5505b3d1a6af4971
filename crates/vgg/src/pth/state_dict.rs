//! Finds the tensors in an unpickled value.

use std::collections::{BTreeMap, HashSet};

use super::pickle::Pickle;
use super::value::{Id, TensorView, Value};
use crate::python;

/// Maximum length in bytes of the name of a tensor. Longer names are ignored, because every name
/// repeats the keys of the containers around it.
const MAX_NAME_LENGTH: usize = 200;

/// The tensors of a file. A name consists of the keys of the dictionaries around the tensor and its
/// own key: `state_dict.features.0.weight`.
#[derive(Debug, Default)]
pub(super) struct Tensors {
    pub(super) readable: BTreeMap<String, TensorView>,
    /// Names of values that cannot be read, and what each one is: tensors of other kinds, and
    /// anything else next to a tensor.
    pub(super) unreadable: BTreeMap<String, String>,
    /// Python subscripts of the modules in the file, such as `["model"]`; empty for the whole file.
    pub(super) modules: Vec<String>,
}

/// A container to visit.
struct Container {
    id: Id,
    /// The keys that lead to the container, each followed by a dot.
    prefix: String,
    /// The same keys as Python subscripts.
    subscripts: String,
}

/// Collects the tensors in dictionaries, lists and tuples. Each container is visited once, also if
/// several others refer to it. The error is a name that occurs twice.
pub(super) fn tensors(pickle: &Pickle<'_>) -> Result<Tensors, String> {
    let values = &pickle.values;
    let mut tensors = Tensors::default();
    let mut visited = HashSet::from([pickle.top]);
    let mut stack = vec![Container {
        id: pickle.top,
        prefix: String::new(),
        subscripts: String::new(),
    }];
    while let Some(container) = stack.pop() {
        if let Value::Module(_) = values[container.id] {
            tensors.modules.push(container.subscripts);
            continue;
        }
        let items = items(values, container.id);
        let has_tensors = items.iter().any(|(_, item)| values[*item].is_tensor());
        // Reversed, so that nested containers are popped in their order.
        for (key, item) in items.into_iter().rev() {
            let name = format!("{}{}", container.prefix, key.text());
            if name.len() > MAX_NAME_LENGTH {
                continue;
            }
            let is_new = match &values[item] {
                Value::Dict(_) | Value::List(_) | Value::Tuple(_) | Value::Module(_) => {
                    if visited.insert(item) {
                        stack.push(Container {
                            id: item,
                            prefix: name + ".",
                            subscripts: format!("{}[{}]", container.subscripts, key.python()),
                        });
                    }
                    continue;
                }
                Value::Tensor(view) => {
                    !tensors.unreadable.contains_key(&name)
                        && tensors
                            .readable
                            .insert(name.clone(), view.clone())
                            .is_none()
                }
                _ if has_tensors => {
                    let kind = Value::kind(values, item);
                    !tensors.readable.contains_key(&name)
                        && tensors.unreadable.insert(name.clone(), kind).is_none()
                }
                _ => true,
            };
            if !is_new {
                return Err(name);
            }
        }
    }
    Ok(tensors)
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
