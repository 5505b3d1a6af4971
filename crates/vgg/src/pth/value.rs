//! What a pickle of `torch.save` can hold, and the tensors in it as views of storages.

use std::ops::Range;

/// The most dimensions of a tensor, and the longest name of a storage. PyTorch writes numbers for names. Both are
/// copied into each tensor, so that without a limit a short pickle could fill the memory.
const MOST_DIMENSIONS: usize = 8;
const LONGEST_KEY: usize = 20;

/// A value by its number in the list of all.
pub(super) type Id = usize;

/// A value. What no weights depend on is kept by kind alone.
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
    /// What NumPy's numbers are made of, in a checkpoint beside the weights.
    Opaque,
}

/// The names that a pickle may use: what a state dict is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Size,
    Storage(Element),
    /// What a number of NumPy is put together with: its value matters to no weights.
    Opaque,
}

/// A number format of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Float,
    Half,
    BFloat16,
    /// One that no weights are kept in: its name and bytes.
    Other(&'static str, usize),
}

/// The storages of torch/storage.py, by the name of their class.
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
    /// Bytes of one number.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Float => 4,
            Self::Half | Self::BFloat16 => 2,
            Self::Other(_, bytes) => bytes,
        }
    }
}

impl Global {
    /// The known name, or why it is refused.
    pub(super) fn named(module: &str, name: &str) -> Result<Self, String> {
        let storage = || {
            let found = STORAGES.iter().find(|(known, _)| *known == name);
            found.map(|&(_, element)| Self::Storage(element))
        };
        let found = match (module, name) {
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
        found.ok_or_else(|| {
            // Quoted with its control characters made visible: the name is the file's, and goes to a terminal.
            let full = format!("{module}.{name}");
            let full: String = full.escape_debug().take(200).collect();
            format!(
                "it asks for `{full}`, which is no part of a state dict and was not run. If you trust the file, \
                 save its weights alone in Python: torch.save(model.state_dict(), \"weights.pth\")"
            )
        })
    }
}

/// A storage: a file of the archive, in one number format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StorageRef {
    pub(super) element: Element,
    /// Its name under `data/`.
    pub(super) key: String,
    /// Numbers in it.
    pub(super) count: usize,
}

/// A tensor: numbers of a storage from `offset` on, `strides` apart.
#[derive(Clone, Debug)]
pub(super) struct TensorView {
    pub(super) storage: StorageRef,
    pub(super) offset: usize,
    pub(super) sizes: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

impl Value {
    /// The storage that a persistent id means: `("storage", class, key, location, count)`. The location (`cpu`,
    /// `cuda:0`) is where it was; here it goes where the caller wants it.
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
            ] if kind == "storage" && key.len() <= LONGEST_KEY => Ok(Self::Storage(StorageRef {
                element: *element,
                key: key.clone(),
                count: usize::try_from(*count).map_err(|_| "a storage of negative size")?,
            })),
            _ => Err("it refers to something outside that is no storage".into()),
        }
    }
}

impl TensorView {
    /// From the arguments of `_rebuild_tensor_v2`: storage, offset, sizes, strides, and what matters only when
    /// training goes on in PyTorch.
    pub(super) fn new(values: &[Value], arguments: &[Id]) -> Result<Self, String> {
        let argument = |place: usize| arguments.get(place).map(|&id| &values[id]);
        let (
            Some(Value::Storage(storage)),
            Some(Value::Int(offset)),
            Some(Value::Tuple(sizes)),
            Some(Value::Tuple(strides)),
        ) = (argument(0), argument(1), argument(2), argument(3))
        else {
            return Err("a tensor without storage, offset, sizes and strides".into());
        };
        if sizes.len().max(strides.len()) > MOST_DIMENSIONS {
            return Err(format!(
                "a tensor of more than {MOST_DIMENSIONS} dimensions"
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
            return Err("a tensor with a negative size, stride or offset".into());
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
                "a tensor of sizes {:?} and strides {:?} from {} on does not fit its storage of {} numbers",
                view.sizes, view.strides, view.offset, storage.count
            ));
        }
        Ok(view)
    }

    /// The part of the storage that it uses.
    pub(super) fn span(&self) -> Range<usize> {
        // `new` has compared the end with the storage.
        self.offset..self.end().unwrap_or(self.offset)
    }

    /// One past the last number that it uses; `None` beyond all memory.
    fn end(&self) -> Option<usize> {
        // A size of 0 hides how large the others are, which no arithmetic after this one may meet.
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

    /// Whether its numbers lie one after the other, in row-major order: the common case.
    pub(super) fn is_in_order(&self) -> bool {
        let mut expected = 1;
        self.sizes
            .iter()
            .zip(&self.strides)
            .rev()
            .all(|(&size, &stride)| {
                let in_order = size == 1 || stride == expected;
                expected *= size;
                in_order
            })
    }

    /// Its numbers in row-major order, from those of its [`span`](Self::span).
    pub(super) fn gather(&self, span: &[f32]) -> Vec<f32> {
        let mut values = Vec::with_capacity(self.sizes.iter().product());
        gather(&self.sizes, &self.strides, span, 0, &mut values);
        values
    }
}

/// Appends the numbers below one place of the outer axes, `at` in the storage.
fn gather(sizes: &[usize], strides: &[usize], from: &[f32], at: usize, to: &mut Vec<f32>) {
    match (sizes, strides) {
        ([size, sizes @ ..], [stride, strides @ ..]) => {
            for step in 0..*size {
                gather(sizes, strides, from, at + step * stride, to);
            }
        }
        _ => to.push(from[at]),
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
    fn gathering_follows_strides() {
        let gathered = |view: TensorView| {
            let storage: Vec<f32> = (0..view.storage.count).map(|at| at as f32).collect();
            view.gather(&storage[view.span()])
        };
        let turned = gathered(view(1, &[2, 3], &[1, 2], 7));
        assert_eq!(turned, [1., 3., 5., 2., 4., 6.]);
        assert_eq!(gathered(view(1, &[2, 2], &[0, 3], 7)), [1., 4., 1., 4.]);
        assert_eq!(gathered(view(4, &[], &[], 5)), [4.]);
        assert_eq!(gathered(view(0, &[2, 0], &[1, 1], 5)), [0f32; 0]);
    }

    #[test]
    fn rows_one_after_the_other_are_in_order() {
        assert!(view(0, &[2, 3], &[3, 1], 6).is_in_order());
        assert!(view(1, &[2, 3], &[3, 1], 9).is_in_order());
        assert!(view(0, &[2, 1, 3], &[3, 99, 1], 6).is_in_order());
        assert!(!view(0, &[2, 3], &[1, 2], 6).is_in_order());
        assert!(!view(0, &[2, 3], &[4, 1], 7).is_in_order());
    }

    #[test]
    fn ends_beyond_all_memory_are_none() {
        assert_eq!(view(1, &[2, 3], &[1, 2], 7).end(), Some(7));
        assert_eq!(view(0, &[usize::MAX, 3], &[1, 2], 7).end(), None);
        assert_eq!(view(0, &[0, usize::MAX, 3], &[1; 3], 7).end(), None);
        assert_eq!(view(usize::MAX, &[1], &[1], 7).end(), None);
        assert_eq!(view(0, &[2], &[usize::MAX], 7).end(), None);
    }
}
