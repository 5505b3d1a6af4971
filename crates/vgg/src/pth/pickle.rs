//! Unpickles the output of `torch.save` without running code.
//!
//! A pickle is a program for a stack machine. Python's unpickler can call any function named in the
//! program. This module supports only the instructions written by `torch.save` (protocol 2) and the
//! globals in [`Global`]. Anything else is an error. The result is a list of [`Value`]s that refer
//! to each other by index. A pickle of n bytes creates fewer than n values, references do not copy
//! values, and unpickling is not recursive.
//!
//! `candle_core::pickle` is not used, because it copies objects for each reference (so a small file
//! can exhaust memory), indexes arguments without bounds checks, and ignores unsupported objects.

use std::collections::HashMap;

use super::value::{Global, Id, TensorView, Value};
use super::{Invalid, SAVE_STATE_DICT};

/// Instructions of the stack machine. CPython's Lib/pickletools.py documents them.
mod op {
    pub const PROTO: u8 = 0x80;
    pub const STOP: u8 = b'.';
    pub const MARK: u8 = b'(';
    pub const NONE: u8 = b'N';
    pub const NEWTRUE: u8 = 0x88;
    pub const NEWFALSE: u8 = 0x89;
    pub const BININT: u8 = b'J';
    pub const BININT1: u8 = b'K';
    pub const BININT2: u8 = b'M';
    pub const LONG1: u8 = 0x8a;
    pub const BINFLOAT: u8 = b'G';
    pub const BINUNICODE: u8 = b'X';
    pub const EMPTY_TUPLE: u8 = b')';
    pub const TUPLE: u8 = b't';
    pub const TUPLE1: u8 = 0x85;
    pub const TUPLE2: u8 = 0x86;
    pub const TUPLE3: u8 = 0x87;
    pub const EMPTY_LIST: u8 = b']';
    pub const APPEND: u8 = b'a';
    pub const APPENDS: u8 = b'e';
    pub const EMPTY_DICT: u8 = b'}';
    pub const SETITEM: u8 = b's';
    pub const SETITEMS: u8 = b'u';
    pub const BINPUT: u8 = b'q';
    pub const LONG_BINPUT: u8 = b'r';
    pub const BINGET: u8 = b'h';
    pub const LONG_BINGET: u8 = b'j';
    pub const GLOBAL: u8 = b'c';
    pub const REDUCE: u8 = b'R';
    pub const BUILD: u8 = b'b';
    pub const BINPERSID: u8 = b'Q';
}

/// The result of unpickling: values that refer to each other by index.
#[derive(Debug)]
pub(super) struct Pickle {
    /// All values created by the pickle.
    pub(super) values: Vec<Value>,
    /// The result of the program, which refers to the other values.
    pub(super) top: Id,
}

/// Unpickles `bytes`. The reason in an error includes the position of the failed instruction.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle, Invalid> {
    let mut machine = Machine {
        bytes,
        position: 0,
        values: Vec::new(),
        stack: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let position = machine.position;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(top)) => {
                return Ok(Pickle {
                    values: machine.values,
                    top,
                });
            }
            Err(reason) => {
                let reason = format!("{reason} (byte {position} of its pickle)");
                return Err(Invalid::new(reason, SAVE_STATE_DICT));
            }
        }
    }
}

/// An element of the stack: a value, or the mark before the items of a tuple, list or dictionary.
#[derive(Clone, Copy)]
enum Slot {
    Mark,
    Value(Id),
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value>,
    stack: Vec<Slot>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction. For the last one, `STOP`, returns the value on top of the stack.
    fn step(&mut self) -> Result<Option<Id>, String> {
        match self.byte()? {
            op::PROTO => match self.byte()? {
                2 => {}
                other => {
                    return Err(format!("its pickle has protocol {other} instead of 2"));
                }
            },
            op::STOP => return self.pop().map(Some),
            op::MARK => self.stack.push(Slot::Mark),
            op::NONE => self.push(Value::None),
            op::NEWTRUE | op::NEWFALSE => self.push(Value::Bool),
            op::BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            op::BININT1 => {
                let number = self.byte()?;
                self.push(Value::Int(number.into()));
            }
            op::BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            op::LONG1 => {
                let length = self.byte()?.into();
                let number = long(self.take(length)?);
                self.push(number);
            }
            op::BINFLOAT => {
                self.take(8)?;
                self.push(Value::Float);
            }
            op::BINUNICODE => {
                let length = u32::from_le_bytes(self.array()?) as usize;
                let text = std::str::from_utf8(self.take(length)?);
                let text = text.map_err(|_| "a string is not UTF-8")?.to_string();
                self.push(Value::Text(text));
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
            op::BINPUT => {
                let index = self.byte()?.into();
                self.put(index)?;
            }
            op::LONG_BINPUT => {
                let index = u32::from_le_bytes(self.array()?);
                self.put(index)?;
            }
            op::BINGET => {
                let index = self.byte()?.into();
                self.get(index)?;
            }
            op::LONG_BINGET => {
                let index = u32::from_le_bytes(self.array()?);
                self.get(index)?;
            }
            op::GLOBAL => {
                let (module, name) = (self.line()?, self.line()?);
                let global = Global::named(module, name)?;
                self.push(Value::Global(global));
            }
            op::REDUCE => self.reduce()?,
            op::BUILD => {
                self.pop()?;
                let top = self.top()?;
                // The state is ignored: module versions of an OrderedDict, or the fields of a NumPy
                // dtype.
                if !matches!(self.values[top], Value::Dict(_) | Value::Opaque) {
                    return Err("it sets attributes of a value that is not a dictionary".into());
                }
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

    /// Evaluates a call of one of the allowed globals.
    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(callee) = self.values[callee] else {
            return Err("it calls a value that is not a function".into());
        };
        let Value::Tuple(arguments) = &self.values[arguments] else {
            return Err("it calls a function without an argument tuple".into());
        };
        let value = match callee {
            Global::OrderedDict if arguments.is_empty() => Value::Dict(Vec::new()),
            Global::RebuildTensor => Value::Tensor(TensorView::new(&self.values, arguments)?),
            // The next two functions return their first argument. The id of the argument is pushed
            // again instead of a copy, because a short call can refer to a large value.
            Global::RebuildParameter => match arguments.first() {
                Some(&id) if matches!(self.values[id], Value::Tensor(_)) => {
                    return self.push_id(id);
                }
                _ => return Err("a parameter has no tensor".into()),
            },
            Global::Size => match arguments.first() {
                Some(&id) if matches!(self.values[id], Value::Tuple(_)) => return self.push_id(id),
                _ => return Err("a torch.Size has no sizes".into()),
            },
            Global::Opaque => Value::Opaque,
            Global::OrderedDict | Global::Storage(_) => {
                return Err("it calls a type with unsupported arguments".into());
            }
        };
        self.push(value);
        Ok(())
    }

    /// Pushes an existing value on the stack.
    fn push_id(&mut self, id: Id) -> Result<(), String> {
        self.stack.push(Slot::Value(id));
        Ok(())
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
            _ => return Err("it appends to a value that is not a list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), String> {
        let (pairs, rest) = items.as_chunks::<2>();
        let top = self.top()?;
        match &mut self.values[top] {
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
        self.push_id(id)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Slot::Value(self.values.len()));
        self.values.push(value);
    }

    fn top(&self) -> Result<Id, String> {
        match self.stack.last() {
            Some(Slot::Value(id)) => Ok(*id),
            _ => Err("a value is missing".into()),
        }
    }

    fn pop(&mut self) -> Result<Id, String> {
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

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..count).ok_or("it is truncated")?;
        self.position += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("`take` returns N bytes"))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or("it is truncated")?;
        self.position += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| "a name is not UTF-8".into())
    }
}

/// Parses a little-endian integer in two's complement. Integers of more than 64 bits cannot be
/// sizes, so their values are ignored.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Float;
    }
    let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

#[cfg(test)]
#[path = "pickle_tests.rs"]
mod tests;
