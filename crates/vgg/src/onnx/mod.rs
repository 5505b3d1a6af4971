//! A network as an ONNX model, for other runtimes: opset 13, any number of pictures at once.
//!
//! ```text
//! pixels (batch, 3, S, S) ─ Conv, Relu, MaxPool … ─ average ─ Flatten ─ Gemm, Relu, Gemm, Relu, Gemm ─▶ logits (batch, classes)
//! ```
//!
//! S is the input size that the network was made for; pixels are normalised as for training, by the mean and std
//! that stand in the model's metadata beside the classes. Batch norms are folded into their convolutions. The
//! average pool is left out where the convolutions already end in its size, and is else two products with
//! matrices of weights, because ONNX has no adaptive pool: averaging rows and averaging columns are independent.
//!
//! The messages and their field numbers are those of onnx.proto3 (github.com/onnx/onnx).

mod protobuf;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::config::VggConfig;
use crate::error::Error;
use crate::file;
use crate::metadata::Metadata;
use crate::model::Vgg;
use protobuf::Message;

/// The version of the operators; the oldest with softmax over one axis.
const OPSET: u64 = 13;
/// The version of the file format that came with it.
const IR_VERSION: u64 = 7;
/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;
/// Protocol buffers end here.
const LARGEST: usize = i32::MAX as usize;

/// The name of the input.
pub const INPUT: &str = "pixels";

/// What the model answers with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// `logits`, as the network does.
    Logits,
    /// `probabilities`: the softmax of the logits.
    Probabilities,
}

impl Output {
    /// The name of the output.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Probabilities => "probabilities",
        }
    }
}

/// Writes a model as ONNX, atomically, the same bytes for the same model.
///
/// Errors: tensors that are missing; a model beyond the 2 GiB of the format; a file that cannot be written.
pub fn save(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
    output: Output,
) -> Result<(), Error> {
    let wrong = |what: String| Error::Metadata {
        path: path.into(),
        what,
    };
    metadata.check().map_err(wrong)?;
    let model = model(tensors, metadata, output)?;
    if model.len() > LARGEST {
        return Err(wrong(format!(
            "it would have {} bytes, and an ONNX file has 2 GiB at most",
            model.len()
        )));
    }
    file::atomically(path, |out| {
        model
            .write(out)
            .map_err(|error| Error::io("write", path, error))
    })
}

/// `ModelProto`.
fn model(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
    output: Output,
) -> Result<Message, Error> {
    let mut model = Message::default()
        .number(1, IR_VERSION)
        .text(2, env!("CARGO_PKG_NAME"))
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, graph(tensors, &metadata.config, output)?)
        .message(8, Message::default().text(1, "").number(2, OPSET));
    for (key, value) in metadata.to_strings() {
        model = model.message(14, Message::default().text(1, &key).text(2, &value));
    }
    Ok(model)
}

/// `GraphProto`.
fn graph(
    tensors: &BTreeMap<String, Tensor>,
    config: &VggConfig,
    output: Output,
) -> Result<Message, Error> {
    let on_cpu = |(name, tensor): (&String, &Tensor)| {
        let tensor = tensor
            .to_device(&Device::Cpu)?
            .to_dtype(DType::F32)?
            .detach();
        Ok((name.clone(), tensor))
    };
    let tensors = tensors.iter().map(on_cpu).collect::<Result<_, Error>>()?;
    let network = Vgg::new(
        config,
        VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu),
    )?;
    let mut graph = Graph {
        message: Message::default(),
        last: INPUT.into(),
    };
    let mut side = config.input_size;
    for (conv, weights) in config
        .convolutions()?
        .iter()
        .zip(network.folded_convolutions()?)
    {
        let name = format!("features.{}", conv.index);
        let [weight, bias] = graph.weights(&name, weights)?;
        let square = [
            ("kernel_shape", &[3, 3][..]),
            ("pads", &[1; 4][..]),
            ("strides", &[1; 2][..]),
        ];
        graph.node("Conv", &name, &[&weight, &bias], &square);
        graph.node("Relu", &format!("{name}.relu"), &[], &[]);
        if conv.pool {
            let square = [("kernel_shape", &[2, 2][..]), ("strides", &[2, 2][..])];
            graph.node("MaxPool", &format!("{name}.pool"), &[], &square);
            side /= 2;
        }
    }
    if side != config.avgpool {
        let rows = averages(side, config.avgpool)?;
        let columns = graph.weight("avgpool.columns", rows.t()?)?;
        graph.node("MatMul", "avgpool.x", &[&columns], &[]);
        let rows = graph.weight("avgpool.rows", rows)?;
        graph.node_of("MatMul", "avgpool.y", |last| vec![rows, last], &[]);
    }
    graph.node("Flatten", "flatten", &[], &[]);
    let linears = network.linear_layers();
    for (place, (name, weights)) in linears.iter().enumerate() {
        let [weight, bias] = graph.weights(name, weights.clone())?;
        let output_name = if place + 1 == linears.len() {
            "logits"
        } else {
            name
        };
        graph.node("Gemm", output_name, &[&weight, &bias], &[]);
        if place + 1 < linears.len() {
            graph.node("Relu", &format!("{name}.relu"), &[], &[]);
        }
    }
    if output == Output::Probabilities {
        graph.node("Softmax", output.name(), &[], &[]);
    }
    let size = Some(config.input_size as u64);
    Ok(graph
        .message
        .text(2, &config.architecture)
        .message(11, value(INPUT, &[None, Some(3), size, size]))
        .message(
            12,
            value(output.name(), &[None, Some(config.classes as u64)]),
        ))
}

/// The nodes and weights of a chain: each node takes the output of the one before it, and is called as its output.
struct Graph {
    message: Message,
    last: String,
}

impl Graph {
    /// `NodeProto` on the last output and `weights`. Gemm multiplies by its weight transposed, as PyTorch does.
    fn node(&mut self, kind: &str, name: &str, weights: &[&str], attributes: &[(&str, &[u64])]) {
        let inputs = |last: String| {
            let weights = weights.iter().map(|weight| weight.to_string());
            std::iter::once(last).chain(weights).collect()
        };
        self.node_of(kind, name, inputs, attributes);
    }

    fn node_of(
        &mut self,
        kind: &str,
        name: &str,
        inputs: impl FnOnce(String) -> Vec<String>,
        attributes: &[(&str, &[u64])],
    ) {
        /// `AttributeProto.AttributeType`.
        const INT: u64 = 2;
        const INTS: u64 = 7;
        let last = std::mem::replace(&mut self.last, name.into());
        let mut node = Message::default();
        for input in inputs(last) {
            node = node.text(1, &input);
        }
        node = node.text(2, name).text(3, name).text(4, kind);
        for &(attribute, values) in attributes {
            let mut message = Message::default().text(1, attribute);
            for &value in values {
                message = message.number(8, value);
            }
            node = node.message(5, message.number(20, INTS));
        }
        if kind == "Gemm" {
            let transposed = Message::default().text(1, "transB").number(3, 1);
            node = node.message(5, transposed.number(20, INT));
        }
        let message = std::mem::take(&mut self.message);
        self.message = message.message(1, node);
    }

    fn weights(&mut self, layer: &str, [weight, bias]: [Tensor; 2]) -> Result<[String; 2], Error> {
        Ok([
            self.weight(&format!("{layer}.weight"), weight)?,
            self.weight(&format!("{layer}.bias"), bias)?,
        ])
    }

    /// `TensorProto` as an initializer; its name.
    fn weight(&mut self, name: &str, tensor: Tensor) -> Result<String, Error> {
        let mut weight = Message::default();
        for &size in tensor.dims() {
            weight = weight.number(1, size as u64);
        }
        let weight = weight.number(2, FLOAT).text(8, name);
        let weight = weight.values(9, tensor.contiguous()?);
        let message = std::mem::take(&mut self.message);
        self.message = message.message(5, weight);
        Ok(name.into())
    }
}

/// `ValueInfoProto` of a float tensor; `None` is the batch.
fn value(name: &str, shape: &[Option<u64>]) -> Message {
    let mut dims = Message::default();
    for size in shape {
        let dim = Message::default();
        let dim = match size {
            Some(size) => dim.number(1, *size),
            None => dim.text(2, "batch"),
        };
        dims = dims.message(1, dim);
    }
    let tensor = Message::default().number(1, FLOAT).message(2, dims);
    Message::default()
        .text(1, name)
        .message(2, Message::default().message(1, tensor))
}

/// The matrix (to, from) that averages `from` numbers into `to` as an adaptive pool does: bin i covers
/// ⌊i·from/to⌋ .. ⌈(i+1)·from/to⌉.
fn averages(from: usize, to: usize) -> Result<Tensor, Error> {
    let mut rows = vec![0f32; to * from];
    for (bin, row) in rows.chunks_mut(from).enumerate() {
        let covered = bin * from / to..((bin + 1) * from).div_ceil(to);
        let share = 1.0 / covered.len() as f32;
        row[covered].fill(share);
    }
    Ok(Tensor::from_vec(rows, (to, from), &Device::Cpu)?)
}
