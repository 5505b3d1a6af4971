//! A reader of the pickles that `torch.save` writes. It executes nothing.
//!
//! A pickle is a program for a small stack machine, and Python's own reader calls whatever functions the program
//! names. This one knows the instructions that `torch.save` writes (protocol 2) and the few names in [`Global`];
//! anything else ends with an error that says what was asked for. What is built are plain [`Value`]s in one list
//! that refer to each other by number: a pickle of n bytes makes fewer than n of them however often it repeats
//! itself, none is a copy of something long, and nothing here is recursive.
//!
//! Why not `candle_core::pickle`: it copies whole objects for each reference, which lets a small file fill the
//! memory, indexes arguments without looking, and passes over what it does not understand.

use std::collections::HashMap;

use super::value::{Global, Id, TensorView, Value};

/// Instructions of the pickle machine (CPython's Lib/pickletools.py has the table).
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

/// What a pickle holds: all values, and which of them is the whole.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) values: Vec<Value>,
    pub(super) top: Id,
}

/// Reads a pickle.
///
/// Errors: in words, what is wrong or not allowed, and at which byte.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(None) => {}
            Ok(Some(top)) => {
                return Ok(Pickle {
                    values: machine.values,
                    top,
                });
            }
            Err(reason) => return Err(format!("{reason} (byte {at} of its pickle)")),
        }
    }
}

/// A place on the stack: a value, or the mark that opens a tuple or a run of items.
#[derive(Clone, Copy)]
enum Slot {
    Mark,
    Value(Id),
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Slot>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction; the whole value at the last.
    fn step(&mut self) -> Result<Option<Id>, String> {
        match self.byte()? {
            op::PROTO => match self.byte()? {
                2 => {}
                other => {
                    return Err(format!(
                        "it is a pickle of protocol {other}, and torch.save writes 2 unless told otherwise"
                    ));
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
                let text = text.map_err(|_| "a text that is not UTF-8")?.to_string();
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
                let place = self.byte()?.into();
                self.remember(place)?;
            }
            op::LONG_BINPUT => {
                let place = u32::from_le_bytes(self.array()?);
                self.remember(place)?;
            }
            op::BINGET => {
                let place = self.byte()?.into();
                self.recall(place)?;
            }
            op::LONG_BINGET => {
                let place = u32::from_le_bytes(self.array()?);
                self.recall(place)?;
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
                // An OrderedDict of PyTorch's carries its modules' versions, which no weights depend on; a dtype of NumPy's, the
                // rest of what it is.
                if !matches!(self.values[top], Value::Dict(_) | Value::Opaque) {
                    return Err("it sets the attributes of something that is no dictionary".into());
                }
            }
            op::BINPERSID => {
                let place = self.pop()?;
                let storage = Value::storage(&self.values, place)?;
                self.push(storage);
            }
            other => {
                return Err(format!(
                    "it uses the pickle instruction {other:#04x}, which torch.save does not write"
                ));
            }
        }
        Ok(None)
    }

    /// Calls one of the known names: the only calls there are.
    fn reduce(&mut self) -> Result<(), String> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(callee) = self.values[callee] else {
            return Err("it calls something that is no function".into());
        };
        let Value::Tuple(arguments) = &self.values[arguments] else {
            return Err("it calls a function without arguments".into());
        };
        let value = match callee {
            Global::OrderedDict if arguments.is_empty() => Value::Dict(Vec::new()),
            Global::RebuildTensor => Value::Tensor(TensorView::new(&self.values, arguments)?),
            // These two stand for their first argument, which is not copied: a call is shorter than it may be.
            Global::RebuildParameter => match arguments.first() {
                Some(&id) if matches!(self.values[id], Value::Tensor(_)) => return self.again(id),
                _ => return Err("a parameter without a tensor".into()),
            },
            Global::Size => match arguments.first() {
                Some(&id) if matches!(self.values[id], Value::Tuple(_)) => return self.again(id),
                _ => return Err("a torch.Size without sizes".into()),
            },
            Global::Opaque => Value::Opaque,
            Global::OrderedDict | Global::Storage(_) => {
                return Err("it calls a type in a way that torch.save does not".into());
            }
        };
        self.push(value);
        Ok(())
    }

    /// Puts a value that is there already on the stack.
    fn again(&mut self, id: Id) -> Result<(), String> {
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
            _ => return Err("it appends to something that is no list".into()),
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
            _ => return Err("it sets items of something that is no dictionary".into()),
        }
        Ok(())
    }

    fn remember(&mut self, place: u32) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(place, top);
        Ok(())
    }

    fn recall(&mut self, place: u32) -> Result<(), String> {
        let id = self.memo.get(&place);
        let id = *id.ok_or("it refers to something that is not there")?;
        self.again(id)
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
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..count).ok_or("it ends in the middle")?;
        self.at += count;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let taken = self.take(N)?;
        Ok(taken.try_into().expect("N bytes were taken"))
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|&byte| byte == b'\n');
        let length = length.ok_or("it ends in the middle")?;
        self.at += length + 1;
        std::str::from_utf8(&rest[..length]).map_err(|_| "a name that is not UTF-8".into())
    }
}

/// A little-endian number in two's complement; beyond 64 bits it is no size of anything and only kept as such.
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
