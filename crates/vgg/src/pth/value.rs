//! Values in a pickle written by `torch.save`, and tensors as views of storages.

use std::ops::Range;

/// Maximum number of dimensions of a tensor. Every tensor has its own copy of its sizes, so without
/// this limit a short pickle could exhaust memory.
const MAX_DIMENSIONS: usize = 8;
/// Maximum length of a storage name in bytes, limited for the same reason. PyTorch uses short
/// numbers as names.
const MAX_KEY_LENGTH: usize = 20;

/// Index of a value in [`Pickle::values`](super::pickle::Pickle::values).
pub(super) type Id = usize;

/// A value in a pickle. Variants without data represent values that weights do not depend on.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool,
    Int(i64),
    /// A floating-point number, or an integer beyond 64 bits.
    Float,
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global<'a>),
    Storage(StorageRef),
    Tensor(TensorView),
    /// A tensor that cannot be read, and its kind, such as `a sparse tensor`.
    OtherTensor(&'static str),
    /// A placeholder for an object, or the result of a call, which was not run. Refers to its class
    /// or function.
    Object(Option<Id>),
    /// A placeholder for a `torch.nn.Module`. Refers to its class.
    Module(Id),
    /// Bytes or a set.
    Opaque,
}

/// A Python function or class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global<'a> {
    /// `dict` or one of its subclasses in the standard library.
    Dict,
    RebuildTensor,
    RebuildTensorV3,
    RebuildParameter,
    RebuildFromType,
    Size,
    Storage(Element),
    Dtype(Element),
    /// A function that creates a tensor of a kind that cannot be read.
    OtherTensor(&'static str),
    /// Any other function or class: its module and name.
    Named(&'a str, &'a str),
}

/// A PyTorch dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float,
    Half,
    BFloat16,
    Double,
    /// A dtype that weights cannot have: name and size in bytes.
    Other(&'static str, usize),
    /// A storage of bytes, whose tensors state their dtypes.
    Untyped,
}

/// Storage classes in torch/storage.py and the dtypes in torch with their elements.
const DTYPES: [(&str, &str, Element); 23] = [
    ("FloatStorage", "float32", Element::Float),
    ("HalfStorage", "float16", Element::Half),
    ("BFloat16Storage", "bfloat16", Element::BFloat16),
    ("DoubleStorage", "float64", Element::Double),
    ("LongStorage", "int64", Element::Other("int64", 8)),
    ("IntStorage", "int32", Element::Other("int32", 4)),
    ("ShortStorage", "int16", Element::Other("int16", 2)),
    ("CharStorage", "int8", Element::Other("int8", 1)),
    ("ByteStorage", "uint8", Element::Other("uint8", 1)),
    ("BoolStorage", "bool", Element::Other("bool", 1)),
    (
        "ComplexFloatStorage",
        "complex64",
        Element::Other("complex64", 8),
    ),
    (
        "ComplexDoubleStorage",
        "complex128",
        Element::Other("complex128", 16),
    ),
    ("QInt8Storage", "qint8", Element::Other("qint8", 1)),
    ("QUInt8Storage", "quint8", Element::Other("quint8", 1)),
    ("QInt32Storage", "qint32", Element::Other("qint32", 4)),
    ("UntypedStorage", "", Element::Untyped),
    ("", "uint16", Element::Other("uint16", 2)),
    ("", "uint32", Element::Other("uint32", 4)),
    ("", "uint64", Element::Other("uint64", 8)),
    ("", "float8_e4m3fn", Element::Other("float8_e4m3fn", 1)),
    ("", "float8_e5m2", Element::Other("float8_e5m2", 1)),
    ("", "float8_e4m3fnuz", Element::Other("float8_e4m3fnuz", 1)),
    ("", "float8_e5m2fnuz", Element::Other("float8_e5m2fnuz", 1)),
];

/// Subclasses of `dict` in the standard library.
const DICTS: [(&str, &str); 5] = [
    ("collections", "OrderedDict"),
    ("collections", "defaultdict"),
    ("collections", "Counter"),
    ("builtins", "dict"),
    ("__builtin__", "dict"),
];

impl Element {
    /// Size of an element in bytes.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Double => 8,
            Self::Float => 4,
            Self::Half | Self::BFloat16 => 2,
            Self::Untyped => 1,
            Self::Other(_, bytes) => bytes,
        }
    }
}

impl<'a> Global<'a> {
    /// Returns the global `module.name`.
    pub(super) fn named(module: &'a str, name: &'a str) -> Self {
        if DICTS.contains(&(module, name)) {
            return Self::Dict;
        }
        let element = |index: fn(&(&'static str, &'static str, Element)) -> &'static str| {
            let mut dtypes = DTYPES.iter();
            dtypes
                .find(|dtype| !name.is_empty() && index(dtype) == name)
                .map(|&(.., element)| element)
        };
        let global = match (module, name) {
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::RebuildTensorV3),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Some(Self::RebuildParameter)
            }
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Self::RebuildFromType),
            ("torch._utils", "_rebuild_sparse_tensor" | "_rebuild_sparse_csr_tensor") => {
                Some(Self::OtherTensor("a sparse tensor"))
            }
            ("torch._utils", "_rebuild_qtensor") => Some(Self::OtherTensor("a quantized tensor")),
            ("torch._utils", "_rebuild_nested_tensor") => {
                Some(Self::OtherTensor("a nested tensor"))
            }
            ("torch._utils", "_rebuild_meta_tensor_no_storage") => {
                Some(Self::OtherTensor("a tensor without values (device `meta`)"))
            }
            ("torch", "Size") => Some(Self::Size),
            ("torch" | "torch.storage", _) => element(|dtype| dtype.0)
                .map(Self::Storage)
                .or_else(|| element(|dtype| dtype.1).map(Self::Dtype)),
            _ => None,
        };
        global.unwrap_or(Self::Named(module, name))
    }
}

/// A storage: an entry in the archive that contains elements of one dtype.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StorageRef {
    pub(super) element: Element,
    /// Name of the entry in `data/`.
    pub(super) key: String,
    /// Number of elements in the storage.
    pub(super) count: usize,
}

/// A tensor: a strided view of a storage. Offset and strides count elements.
#[derive(Clone, Debug)]
pub(super) struct TensorView {
    pub(super) storage: StorageRef,
    pub(super) offset: usize,
    pub(super) sizes: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Value<'_> {
    /// Parses the persistent id of a storage: `("storage", class, key, location, count)`. The
    /// location (`cpu`, `cuda:0`) is ignored, because the caller selects the device. A storage of an
    /// unknown class, or whose key PyTorch would not write, is a placeholder.
    pub(super) fn storage(values: &[Self], id: Id) -> Result<Self, String> {
        let parts = match &values[id] {
            Self::Tuple(parts) => parts.iter().map(|&part| &values[part]).collect(),
            _ => Vec::new(),
        };
        match parts[..] {
            [
                Self::Text("storage"),
                Self::Global(Global::Storage(element)),
                Self::Text(key),
                Self::Text(_),
                Self::Int(count),
            ] if key.len() <= MAX_KEY_LENGTH && !key.chars().any(char::is_control) => {
                Ok(Self::Storage(StorageRef {
                    element: *element,
                    key: key.to_string(),
                    count: usize::try_from(*count).map_err(|_| "a storage has a negative size")?,
                }))
            }
            [Self::Text("storage"), Self::Global(_), ..] if parts.len() == 5 => {
                Ok(Self::Object(None))
            }
            _ => Err("a persistent id is not a storage".into()),
        }
    }

    pub(super) fn is_tensor(&self) -> bool {
        matches!(self, Self::Tensor(_) | Self::OtherTensor(_))
    }

    pub(super) fn is_container(&self) -> bool {
        matches!(
            self,
            Self::Dict(_) | Self::List(_) | Self::Tuple(_) | Self::Module(_)
        )
    }

    /// The kind of a value, with an article.
    pub(super) fn kind(values: &[Self], id: Id) -> String {
        let kind = match &values[id] {
            Self::None => "None",
            Self::Bool => "a boolean",
            Self::Int(_) | Self::Float => "a number",
            Self::Text(_) => "a string",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Global(_) => "a class or function",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
            Self::OtherTensor(kind) => kind,
            Self::Opaque => "bytes or a set",
            Self::Module(class) | Self::Object(Some(class)) => {
                return match &values[*class] {
                    // The untrusted name is printed on a terminal, so control characters are
                    // escaped.
                    Self::Global(Global::Named(module, name)) => {
                        // The name may have megabytes, and many objects may have this class.
                        let full = [*module, ".", *name]
                            .into_iter()
                            .flat_map(str::escape_debug);
                        let full: String = full.take(200).collect();
                        format!("an object of `{full}`, which was not run")
                    }
                    _ => "an object".into(),
                };
            }
            Self::Object(None) => "an object",
        };
        kind.into()
    }
}

impl TensorView {
    /// Creates a tensor from the arguments of `_rebuild_tensor_v2` or `_rebuild_tensor_v3`: storage,
    /// offset, sizes and strides. In version 3, the storage has bytes, and `dtype` is the dtype of
    /// the tensor. Further arguments matter only for training in PyTorch and are ignored.
    pub(super) fn rebuild<'a>(
        values: &[Value<'a>],
        arguments: &[Id],
        dtype: Option<Element>,
    ) -> Result<Value<'a>, String> {
        let argument = |index: usize| arguments.get(index).map(|&id| &values[id]);
        let (
            Some(storage),
            Some(Value::Int(offset)),
            Some(Value::Tuple(sizes)),
            Some(Value::Tuple(strides)),
        ) = (argument(0), argument(1), argument(2), argument(3))
        else {
            return Err(
                "the arguments of a tensor are not a storage, an offset, sizes and strides".into(),
            );
        };
        let mut storage = match storage {
            Value::Storage(storage) => storage.clone(),
            Value::Object(_) => return Ok(Value::OtherTensor("a tensor of an unknown dtype")),
            _ => return Err("a tensor has no storage".into()),
        };
        if let Some(element) = dtype {
            storage.count = storage.count.saturating_mul(storage.element.bytes()) / element.bytes();
            storage.element = element;
        }
        if sizes.len().max(strides.len()) > MAX_DIMENSIONS {
            return Ok(Value::OtherTensor("a tensor of more than 8 dimensions"));
        }
        let number = |id: &Id| match &values[*id] {
            Value::Int(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        let numbers = |ids: &[Id]| ids.iter().map(number).collect::<Option<Vec<_>>>();
        let (Ok(offset), Some(sizes), Some(strides)) =
            (usize::try_from(*offset), numbers(sizes), numbers(strides))
        else {
            return Err("a size, stride or offset of a tensor is negative or not a number".into());
        };
        let view = Self {
            storage,
            offset,
            sizes,
            strides,
        };
        if view.sizes.len() != view.strides.len()
            || view.end().is_none_or(|end| end > view.storage.count)
        {
            return Err(format!(
                "a tensor with sizes {:?}, strides {:?} and offset {} is not a view of its storage of {} elements",
                view.sizes, view.strides, view.offset, view.storage.count
            ));
        }
        Ok(Value::Tensor(view))
    }

    /// The range of storage elements that contains all elements of the tensor.
    pub(super) fn span(&self) -> Range<usize> {
        // `rebuild` checked that the end does not overflow.
        self.offset..self.end().unwrap_or(self.offset)
    }

    /// The end of the [`span`](Self::span), or `None` if a size or an index overflows.
    fn end(&self) -> Option<usize> {
        // The product of the nonzero sizes must not overflow either, because `is_contiguous`
        // multiplies sizes before it reaches one that is 0.
        self.sizes
            .iter()
            .try_fold(1usize, |count, &size| count.checked_mul(size.max(1)))?;
        if self.sizes.contains(&0) {
            return Some(self.offset);
        }
        let steps = self.sizes.iter().zip(&self.strides);
        let last = steps.map(|(size, stride)| (size - 1).checked_mul(*stride));
        let last = last
            .into_iter()
            .try_fold(self.offset, |sum, step| sum.checked_add(step?))?;
        last.checked_add(1)
    }

    /// Whether the elements are contiguous in row-major order.
    pub(super) fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.sizes
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&size, &stride)| {
                let is_expected = size == 1 || stride == expected;
                expected *= size;
                is_expected
            })
    }

    /// Copies the elements in row-major order from `span`, the values in the range
    /// [`span`](Self::span).
    pub(super) fn gather(&self, span: &[f32]) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.sizes.iter().product());
        gather(&self.sizes, &self.strides, span, 0, &mut values);
        values
    }
}

/// Appends the elements of the view that starts at `offset` in `span` to `values`.
fn gather(sizes: &[usize], strides: &[usize], span: &[f32], offset: usize, values: &mut Vec<f32>) {
    match (sizes, strides) {
        ([size, sizes @ ..], [stride, strides @ ..]) => {
            for index in 0..*size {
                gather(sizes, strides, span, offset + index * stride, values);
            }
        }
        _ => values.push(span[offset]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(offset: usize, sizes: &[usize], strides: &[usize], count: usize) -> TensorView {
        TensorView {
            storage: StorageRef {
                element: Element::Float,
                key: "0".into(),
                count,
            },
            offset,
            sizes: sizes.into(),
            strides: strides.into(),
        }
    }

    #[test]
    fn gather_follows_strides() {
        let gathered = |view: TensorView| {
            let storage: Vec<f32> = (0..view.storage.count).map(|index| index as f32).collect();
            view.gather(&storage[view.span()])
        };
        let transposed = gathered(view(1, &[2, 3], &[1, 2], 7));
        assert_eq!(transposed, [1., 3., 5., 2., 4., 6.]);
        assert_eq!(gathered(view(1, &[2, 2], &[0, 3], 7)), [1., 4., 1., 4.]);
        assert_eq!(gathered(view(4, &[], &[], 5)), [4.]);
        assert_eq!(gathered(view(0, &[2, 0], &[1, 1], 5)), [0f32; 0]);
    }

    #[test]
    fn row_major_strides_are_contiguous() {
        assert!(view(0, &[2, 3], &[3, 1], 6).is_contiguous());
        assert!(view(1, &[2, 3], &[3, 1], 9).is_contiguous());
        assert!(view(0, &[2, 1, 3], &[3, 99, 1], 6).is_contiguous());
        assert!(!view(0, &[2, 3], &[1, 2], 6).is_contiguous());
        assert!(!view(0, &[2, 3], &[4, 1], 7).is_contiguous());
    }

    #[test]
    fn overflowing_ends_are_none() {
        assert_eq!(view(1, &[2, 3], &[1, 2], 7).end(), Some(7));
        assert_eq!(view(0, &[usize::MAX, 3], &[1, 2], 7).end(), None);
        assert_eq!(view(0, &[0, usize::MAX, 3], &[1; 3], 7).end(), None);
        assert_eq!(view(usize::MAX, &[1], &[1], 7).end(), None);
        assert_eq!(view(0, &[2], &[usize::MAX], 7).end(), None);
    }
}
