//! Finds the tensors of a state dict in an unpickled value.

use std::collections::BTreeMap;

use super::pickle::Pickle;
use super::value::{Id, TensorView, Value};
use super::{Invalid, SAVE_STATE_DICT};

/// Keys under which training scripts store the weights in checkpoints, most common first.
const WRAPPER_KEYS: [&str; 5] = ["state_dict", "model_state_dict", "model", "net", "weights"];

/// Returns the tensors of a state dict, or of the state dict in a checkpoint.
pub(super) fn tensors(pickle: Pickle) -> Result<BTreeMap<String, TensorView>, Invalid> {
    let invalid = |reason: String| Invalid::new(reason, SAVE_STATE_DICT);
    let values = &pickle.values;
    let Value::Dict(dict) = &values[pickle.top] else {
        return Err(invalid(format!(
            "it contains {} instead of a dictionary",
            kind(&values[pickle.top])
        )));
    };
    let is_tensor = |&(_, value): &(Id, Id)| matches!(values[value], Value::Tensor(_));
    // A wrapper key takes precedence, because a checkpoint may contain other tensors, such as the
    // best accuracy. A state dict itself has no dictionaries as values.
    let wrapped = WRAPPER_KEYS.iter().find_map(|wrapper_key| {
        let item = dict
            .iter()
            .rfind(|(key, _)| matches!(&values[*key], Value::Text(key) if key == wrapper_key));
        match item.map(|&(_, value)| &values[value]) {
            Some(Value::Dict(inner)) if inner.iter().any(is_tensor) => Some(inner),
            _ => None,
        }
    });
    let Some(dict) = wrapped.or_else(|| dict.iter().any(is_tensor).then_some(dict)) else {
        return Err(invalid(format!(
            "neither its dictionary nor the ones under {} contain tensors",
            WRAPPER_KEYS.join(", ")
        )));
    };
    let mut tensors = BTreeMap::new();
    for &(key, value) in dict {
        let Value::Text(name) = &values[key] else {
            return Err(invalid(format!(
                "a key of its state dict is {}",
                kind(&values[key])
            )));
        };
        let Value::Tensor(view) = &values[value] else {
            return Err(invalid(format!(
                "`{}` in its state dict is {}, not a tensor",
                name.escape_debug(),
                kind(&values[value])
            )));
        };
        // As in Python, the last item with the same key takes precedence.
        tensors.insert(name.clone(), view.clone());
    }
    Ok(tensors)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool => "a boolean",
        Value::Int(_) | Value::Float => "a number",
        Value::Text(_) => "a string",
        Value::Tuple(_) => "a tuple",
        Value::List(_) => "a list",
        Value::Dict(_) => "a dictionary",
        Value::Global(_) => "a type or function",
        Value::Storage(_) => "a storage",
        Value::Tensor(_) => "a tensor",
        Value::Opaque => "a NumPy value",
    }
}
