//! Unpickles the output of `torch.save` without running code.
//!
//! A pickle is a program for a stack machine. Python's unpickler can call any function named in the
//! program. This module reads the instructions of protocols 2 to 5 and computes only containers,
//! numbers, strings and the functions in [`Global`] that describe tensors. Any other class or
//! function is a name, and the result of calling it is a placeholder, [`Value::Object`]. The result
//! is a list of [`Value`]s that refer to each other by index. References do not copy values, and
//! unpickling is not recursive.
//!
//! Each instruction creates at most one value and one element of the stack, and the number of
//! instructions is limited, so memory is bounded by [`MAX_INSTRUCTIONS`] and the length of the
//! pickle.
//!
//! `candle_core::pickle` is not used, because it copies objects for each reference (so a small file
//! can exhaust memory), indexes arguments without bounds checks, and ignores unsupported objects.

use std::collections::HashMap;

use super::op;
use super::reader::{Reader, long};
use super::value::{Global, Id, Value};

/// Maximum number of instructions. A state dict needs about 40 for each tensor. An instruction
/// creates a value of up to 200 bytes, and the list of values temporarily needs half as much memory
/// again when it grows.
const MAX_INSTRUCTIONS: usize = 2 << 20;

/// The result of unpickling: values that refer to each other by index.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    /// All values created by the pickle.
    pub(super) values: Vec<Value<'a>>,
    /// The result of the program, which refers to the other values.
    pub(super) top: Id,
}

impl Pickle<'_> {
    /// Whether the result is a dictionary with NumPy arrays.
    pub(super) fn has_arrays(&self) -> bool {
        let is_array = |&(_, value): &(Id, Id)| match &self.values[value] {
            Value::Object(Some(class)) => matches!(
                &self.values[*class],
                Value::Global(Global::Named(_, "_reconstruct"))
            ),
            _ => false,
        };
        matches!(&self.values[self.top], Value::Dict(items) if items.iter().any(is_array))
    }
}

/// Unpickles `bytes`. The reason in an error includes the position of the failed instruction.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    let mut machine = Machine {
        reader: Reader::new(bytes),
        values: Vec::new(),
        stack: Vec::new(),
        memo: HashMap::new(),
    };
    for _ in 0..MAX_INSTRUCTIONS {
        let position = machine.reader.position;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(top)) => {
                return Ok(Pickle {
                    values: machine.values,
                    top,
                });
            }
            Err(reason) => return Err(format!("{reason} (byte {position} of its pickle)")),
        }
    }
    Err(format!(
        "its pickle has more than {MAX_INSTRUCTIONS} instructions"
    ))
}

/// An element of the stack: a value, or the mark before the items of a tuple, list or dictionary.
#[derive(Clone, Copy)]
enum Slot {
    Mark,
    Value(Id),
}

pub(super) struct Machine<'a> {
    reader: Reader<'a>,
    pub(super) values: Vec<Value<'a>>,
    stack: Vec<Slot>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction. For the last one, `STOP`, returns the value on top of the stack.
    fn step(&mut self) -> Result<Option<Id>, String> {
        match self.reader.byte()? {
            op::PROTO => match self.reader.byte()? {
                2..=5 => {}
                other => return Err(format!("its pickle has the unknown protocol {other}")),
            },
            // A frame only announces the length of a group of instructions.
            op::FRAME => {
                self.reader.take(8)?;
            }
            op::STOP => return self.pop().map(Some),
            op::MARK => self.stack.push(Slot::Mark),
            op::POP => {
                self.stack.pop().ok_or("a value is missing")?;
            }
            op::POP_MARK => {
                self.pop_to_mark()?;
            }
            op::DUP => {
                let top = self.top()?;
                self.push_id(top);
            }
            op::NONE => self.push(Value::None),
            op::NEWTRUE | op::NEWFALSE => self.push(Value::Bool),
            op::BININT => {
                let number = i32::from_le_bytes(self.reader.array()?);
                self.push(Value::Int(number.into()));
            }
            op::BININT1 => {
                let number = self.reader.byte()?;
                self.push(Value::Int(number.into()));
            }
            op::BININT2 => {
                let number = u16::from_le_bytes(self.reader.array()?);
                self.push(Value::Int(number.into()));
            }
            op::LONG1 => {
                let length = self.reader.length::<1>()?;
                let number = long(self.reader.take(length)?);
                self.push(number);
            }
            op::LONG4 => {
                let length = self.reader.length::<4>()?;
                let number = long(self.reader.take(length)?);
                self.push(number);
            }
            op::BINFLOAT => {
                self.reader.take(8)?;
                self.push(Value::Float);
            }
            op::SHORT_BINUNICODE => self.text::<1>()?,
            op::BINUNICODE => self.text::<4>()?,
            op::BINUNICODE8 => self.text::<8>()?,
            op::SHORT_BINBYTES | op::SHORT_BINSTRING => self.opaque_bytes::<1>()?,
            op::BINBYTES | op::BINSTRING => self.opaque_bytes::<4>()?,
            op::BINBYTES8 | op::BYTEARRAY8 => self.opaque_bytes::<8>()?,
            op::NEXT_BUFFER | op::READONLY_BUFFER => {
                return Err("it refers to a buffer outside of the file".into());
            }
            op::EMPTY_TUPLE => self.push(Value::Tuple(Vec::new())),
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            op::TUPLE1 => self.tuple(1)?,
            op::TUPLE2 => self.tuple(2)?,
            op::TUPLE3 => self.tuple(3)?,
            op::EMPTY_LIST => self.push(Value::List(Vec::new())),
            op::APPEND => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            op::APPENDS => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            op::EMPTY_DICT => self.push(Value::Dict(Vec::new())),
            op::SETITEM => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set_items(&[key, value])?;
            }
            op::SETITEMS => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // The items of sets are ignored, because a set cannot contain a state dict.
            op::EMPTY_SET => self.push(Value::Opaque),
            op::ADDITEMS => {
                self.pop_to_mark()?;
                self.top()?;
            }
            op::FROZENSET => {
                self.pop_to_mark()?;
                self.push(Value::Opaque);
            }
            op::BINPUT => {
                let index = self.reader.byte()?.into();
                self.put(index)?;
            }
            op::LONG_BINPUT => {
                let index = u32::from_le_bytes(self.reader.array()?);
                self.put(index)?;
            }
            op::MEMOIZE => {
                // As in CPython, the next index is the number of entries. `MAX_INSTRUCTIONS` keeps
                // it in range.
                let index = self.memo.len() as u32;
                self.put(index)?;
            }
            op::BINGET => {
                let index = self.reader.byte()?.into();
                self.get(index)?;
            }
            op::LONG_BINGET => {
                let index = u32::from_le_bytes(self.reader.array()?);
                self.get(index)?;
            }
            op::GLOBAL => {
                let (module, name) = (self.reader.line()?, self.reader.line()?);
                self.push(Value::Global(Global::named(module, name)));
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (&Value::Text(module), &Value::Text(name)) =
                    (&self.values[module], &self.values[name])
                else {
                    return Err("the name of a class or function is not a string".into());
                };
                self.push(Value::Global(Global::named(module, name)));
            }
            op::REDUCE => {
                let (arguments, callee) = (self.pop()?, self.pop()?);
                self.call(callee, arguments)?;
            }
            op::NEWOBJ => {
                let (_, class) = (self.pop()?, self.pop()?);
                self.new_object(class)?;
            }
            op::NEWOBJ_EX => {
                let (_, _, class) = (self.pop()?, self.pop()?, self.pop()?);
                self.new_object(class)?;
            }
            op::BUILD => {
                let state = self.pop()?;
                self.build(state)?;
            }
            op::BINPERSID => {
                let id = self.pop()?;
                let storage = Value::storage(&self.values, id)?;
                self.push(storage);
            }
            other => {
                return Err(format!(
                    "it uses the unsupported pickle instruction {other:#04x}"
                ));
            }
        }
        Ok(None)
    }

    /// Pushes an existing value on the stack.
    pub(super) fn push_id(&mut self, id: Id) {
        self.stack.push(Slot::Value(id));
    }

    fn tuple(&mut self, count: usize) -> Result<(), String> {
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            // A `deque` or a subclass of `list`.
            Value::Object(_) => {}
            _ => return Err("it appends to a value that is not a list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let (pairs, rest) = items.as_chunks::<2>();
        let top = self.top()?;
        let value = &mut self.values[top];
        // A subclass of `dict`.
        if let Value::Object(_) = value {
            *value = Value::Dict(Vec::new());
        }
        match value {
            Value::Dict(dict) if rest.is_empty() => {
                dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
            }
            _ => {
                return Err(
                    "it sets items of a value that is not a dictionary, or a key without a value"
                        .into(),
                );
            }
        }
        Ok(())
    }

    /// Stores the value on top of the stack in the memo.
    fn put(&mut self, index: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    /// Pushes a value from the memo on the stack.
    fn get(&mut self, index: u32) -> Result<(), String> {
        let id = self.memo.get(&index);
        let id = *id.ok_or("it refers to a missing memo entry")?;
        self.push_id(id);
        Ok(())
    }

    pub(super) fn push(&mut self, value: Value<'a>) {
        self.stack.push(Slot::Value(self.values.len()));
        self.values.push(value);
    }

    pub(super) fn top(&self) -> Result<Id, String> {
        match self.stack.last() {
            Some(Slot::Value(id)) => Ok(*id),
            _ => Err("a value is missing".into()),
        }
    }

    pub(super) fn pop(&mut self) -> Result<Id, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mut items = Vec::new();
        loop {
            match self.stack.pop() {
                Some(Slot::Value(id)) => items.push(id),
                Some(Slot::Mark) => break,
                None => return Err("a mark is missing".into()),
            }
        }
        items.reverse();
        Ok(items)
    }

    /// Pushes a string that is preceded by its length in `N` bytes.
    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.reader.length::<N>()?;
        // Python also pickles lone surrogates, which UTF-8 does not allow.
        let value = match std::str::from_utf8(self.reader.take(length)?) {
            Ok(text) => Value::Text(text),
            Err(_) => Value::Opaque,
        };
        self.push(value);
        Ok(())
    }

    /// Pushes a placeholder for bytes that are preceded by their length in `N` bytes.
    fn opaque_bytes<const N: usize>(&mut self) -> Result<(), String> {
        let length = self.reader.length::<N>()?;
        self.reader.take(length)?;
        self.push(Value::Opaque);
        Ok(())
    }
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
