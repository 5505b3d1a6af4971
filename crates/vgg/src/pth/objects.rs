//! Calls, new objects and attributes in a pickle. Nothing is run.

use super::pickle::Machine;
use super::value::{Global, Id, TensorView, Value};

impl Machine<'_> {
    /// Evaluates a call if the callee is a function that describes tensors or creates an ordinary
    /// container. The result of any other call is a placeholder.
    pub(super) fn call(&mut self, callee: Id, arguments: Id) -> Result<(), String> {
        let Value::Tuple(items) = &self.values[arguments] else {
            return Err("it calls a function without an argument tuple".into());
        };
        let first = items.first().copied();
        let value = match &self.values[callee] {
            Value::Global(Global::Dict) => Value::Dict(Vec::new()),
            Value::Global(Global::RebuildTensor) => {
                // The seventh argument holds the flags `conj` and `neg`, which change the values.
                let flags = items.get(6).map(|&id| &self.values[id]);
                match flags {
                    Some(Value::Dict(flags)) if !flags.is_empty() => {
                        Value::OtherTensor("a conjugate or negative view")
                    }
                    _ => TensorView::rebuild(&self.values, items, None)?,
                }
            }
            Value::Global(Global::RebuildTensorV3) => {
                let dtype = items.get(6).map(|&id| &self.values[id]);
                let Some(Value::Global(Global::Dtype(element))) = dtype else {
                    return Err("the dtype of a tensor is missing or unknown".into());
                };
                TensorView::rebuild(&self.values, items, Some(*element))?
            }
            // The next functions return an argument. Its id is pushed again instead of a copy,
            // because a short call can refer to a large value.
            Value::Global(Global::RebuildParameter) => match first {
                Some(id) if self.values[id].is_tensor() => {
                    self.push_id(id);
                    return Ok(());
                }
                _ => return Err("a parameter has no tensor".into()),
            },
            Value::Global(Global::Size) => match first {
                Some(id) if matches!(self.values[id], Value::Tuple(_)) => {
                    self.push_id(id);
                    return Ok(());
                }
                _ => return Err("a torch.Size has no sizes".into()),
            },
            // `_rebuild_from_type_v2(function, type, arguments, state)`: a tensor with attributes,
            // or of a subclass.
            Value::Global(Global::RebuildFromType) => match items[..] {
                [function, _, arguments, ..] => {
                    return self.call_inner(function, arguments);
                }
                _ => return Err("a tensor with attributes has no function".into()),
            },
            Value::Global(Global::OtherTensor(kind)) => Value::OtherTensor(kind),
            Value::Global(_) | Value::Object(_) => Value::Object(Some(callee)),
            _ => return Err("it calls a value that is not a function".into()),
        };
        self.push(value);
        Ok(())
    }

    /// Evaluates the call inside `_rebuild_from_type_v2`, which must not be such a call itself,
    /// because a chain of them would be recursive.
    fn call_inner(&mut self, function: Id, arguments: Id) -> Result<(), String> {
        match self.values[function] {
            Value::Global(Global::RebuildFromType) => {
                Err("a tensor with attributes is nested in another one".into())
            }
            _ => self.call(function, arguments),
        }
    }

    /// Creates an object of a class without calling the class.
    pub(super) fn new_object(&mut self, class: Id) -> Result<(), String> {
        let value = match &self.values[class] {
            Value::Global(Global::Dict) => Value::Dict(Vec::new()),
            Value::Global(_) | Value::Object(_) => Value::Object(Some(class)),
            _ => return Err("it creates an object of a value that is not a class".into()),
        };
        self.push(value);
        Ok(())
    }

    /// Ignores the attributes of the object on top of the stack, such as the module versions of an
    /// `OrderedDict`, but recognizes modules by theirs.
    pub(super) fn build(&mut self, state: Id) -> Result<(), String> {
        let top = self.top()?;
        let is_module = |(key, _): &(Id, Id)| matches!(self.values[*key], Value::Text("_modules"));
        let is_module =
            matches!(&self.values[state], Value::Dict(items) if items.iter().any(is_module));
        match &self.values[top] {
            &Value::Object(Some(class)) if is_module => self.values[top] = Value::Module(class),
            Value::Object(_) | Value::Module(_) | Value::Dict(_) | Value::Opaque => {}
            value if value.is_tensor() => {}
            _ => return Err("it sets attributes of a value that has none".into()),
        }
        Ok(())
    }
}
