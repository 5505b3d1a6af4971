//! From the value of a pickle to tensors by name.

use std::collections::BTreeMap;

use super::pickle::Pickle;
use super::value::{Id, TensorView, Value};

/// Where training scripts keep the weights in a checkpoint that holds more, the usual names first.
const WRAPPERS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];

/// The tensors of a state dict, or of the one inside a checkpoint.
///
/// Errors: in words, what it is instead.
pub(super) fn tensors(pickle: Pickle) -> Result<BTreeMap<String, TensorView>, String> {
    let values = &pickle.values;
    let Value::Dict(dict) = &values[pickle.top] else {
        return Err(format!(
            "it holds {} instead of a state dict",
            kind(&values[pickle.top])
        ));
    };
    let is_tensor = |&(_, value): &(Id, Id)| matches!(values[value], Value::Tensor(_));
    // A wrapper first: a checkpoint may hold single tensors beside it, such as the best accuracy, and no state dict a
    // dictionary.
    let wrapped = WRAPPERS.iter().find_map(|wrapper| {
        let found = dict
            .iter()
            .rfind(|(key, _)| matches!(&values[*key], Value::Text(key) if key == wrapper));
        match found.map(|&(_, value)| &values[value]) {
            Some(Value::Dict(inner)) if inner.iter().any(is_tensor) => Some(inner),
            _ => None,
        }
    });
    let Some(dict) = wrapped.or_else(|| dict.iter().any(is_tensor).then_some(dict)) else {
        return Err(format!(
            "it is a dictionary without tensors, also under {}",
            WRAPPERS.join(", ")
        ));
    };
    let mut tensors = BTreeMap::new();
    for &(key, value) in dict {
        let Value::Text(name) = &values[key] else {
            return Err(format!(
                "its state dict has {} for a name",
                kind(&values[key])
            ));
        };
        let Value::Tensor(view) = &values[value] else {
            return Err(format!(
                "`{}` in its state dict is {}, not a tensor",
                name.escape_debug(),
                kind(&values[value])
            ));
        };
        // As in Python, the last of two with the same name counts.
        tensors.insert(name.clone(), view.clone());
    }
    Ok(tensors)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool => "a truth value",
        Value::Int(_) | Value::Float => "a number",
        Value::Text(_) => "a text",
        Value::Tuple(_) => "a tuple",
        Value::List(_) => "a list",
        Value::Dict(_) => "a dictionary",
        Value::Global(_) => "a type",
        Value::Storage(_) => "a storage",
        Value::Tensor(_) => "a single tensor",
        Value::Opaque => "a value of NumPy",
    }
}
