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
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    /// A floating-point number, or an integer beyond 64 bits.
    Float,
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(StorageRef),
    Tensor(TensorView),
    /// A NumPy scalar or a part of one. Training checkpoints may contain them in addition to the
    /// weights.
    Opaque,
}

/// The Python functions and classes that a pickle may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Element),
    /// A function or class for NumPy scalars, whose values are ignored.
    Opaque,
}

/// A PyTorch dtype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float,
    Half,
    BFloat16,
    /// A dtype that weights cannot have: name and size in bytes.
    Other(&'static str, usize),
}

/// Storage classes in torch/storage.py, with their dtypes.
const STORAGES: [(&str, Element); 10] = [
    ("FloatStorage", Element::Float),
    ("HalfStorage", Element::Half),
    ("BFloat16Storage", Element::BFloat16),
    ("DoubleStorage", Element::Other("float64", 8)),
    ("LongStorage", Element::Other("int64", 8)),
    ("IntStorage", Element::Other("int32", 4)),
    ("ShortStorage", Element::Other("int16", 2)),
    ("CharStorage", Element::Other("int8", 1)),
    ("ByteStorage", Element::Other("uint8", 1)),
    ("BoolStorage", Element::Other("bool", 1)),
];

impl Element {
    /// Size of an element in bytes.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Float => 4,
            Self::Half | Self::BFloat16 => 2,
            Self::Other(_, bytes) => bytes,
        }
    }
}

impl Global {
    /// Returns the allowed global `module.name`, or the reason why it is rejected.
    pub(super) fn named(module: &str, name: &str) -> Result<Self, String> {
        let storage = || {
            let entry = STORAGES.iter().find(|(class, _)| *class == name);
            entry.map(|&(_, element)| Self::Storage(element))
        };
        let global = match (module, name) {
            ("collections", "OrderedDict") => Some(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor_v2") => Some(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Some(Self::RebuildParameter),
            ("torch", "Size") => Some(Self::Size),
            ("torch", _) => storage(),
            ("numpy._core.multiarray" | "numpy.core.multiarray", "scalar")
            | ("numpy", "dtype")
            | ("_codecs", "encode") => Some(Self::Opaque),
            _ => None,
        };
        global.ok_or_else(|| {
            // The untrusted name is printed on a terminal, so control characters are escaped.
            let full = format!("{module}.{name}");
            let full: String = full.escape_debug().take(200).collect();
            format!("its pickle refers to `{full}`, which was not run")
        })
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

impl Value {
    /// Parses the persistent id of a storage: `("storage", class, key, location, count)`. The
    /// location (`cpu`, `cuda:0`) is ignored, because the caller selects the device.
    pub(super) fn storage(values: &[Self], id: Id) -> Result<Self, String> {
        let parts = match &values[id] {
            Self::Tuple(parts) => parts.iter().map(|&part| &values[part]).collect(),
            _ => Vec::new(),
        };
        match parts[..] {
            [
                Self::Text(kind),
                Self::Global(Global::Storage(element)),
                Self::Text(key),
                Self::Text(_),
                Self::Int(count),
            ] if kind == "storage" && key.len() <= MAX_KEY_LENGTH => {
                Ok(Self::Storage(StorageRef {
                    element: *element,
                    key: key.clone(),
                    count: usize::try_from(*count).map_err(|_| "a storage has a negative size")?,
                }))
            }
            _ => Err("a persistent id is not a storage, or its name is too long".into()),
        }
    }
}

impl TensorView {
    /// Creates a view from the arguments of `_rebuild_tensor_v2`: storage, offset, sizes and
    /// strides. Further arguments matter only for training in PyTorch and are ignored.
    pub(super) fn new(values: &[Value], arguments: &[Id]) -> Result<Self, String> {
        let argument = |index: usize| arguments.get(index).map(|&id| &values[id]);
        let (
            Some(Value::Storage(storage)),
            Some(Value::Int(offset)),
            Some(Value::Tuple(sizes)),
            Some(Value::Tuple(strides)),
        ) = (argument(0), argument(1), argument(2), argument(3))
        else {
            return Err(
                "the arguments of a tensor are not a storage, an offset, sizes and strides".into(),
            );
        };
        if sizes.len().max(strides.len()) > MAX_DIMENSIONS {
            return Err(format!(
                "a tensor has more than {MAX_DIMENSIONS} dimensions"
            ));
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
            storage: storage.clone(),
            offset,
            sizes,
            strides,
        };
        if view.sizes.len() != view.strides.len()
            || view.end().is_none_or(|end| end > storage.count)
        {
            return Err(format!(
                "a tensor with sizes {:?}, strides {:?} and offset {} is not a view of its storage of {} elements",
                view.sizes, view.strides, view.offset, storage.count
            ));
        }
        Ok(view)
    }

    /// The range of storage elements that contains all elements of the tensor.
    pub(super) fn span(&self) -> Range<usize> {
        // `new` checked that the end does not overflow.
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
