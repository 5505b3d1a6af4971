//! Export to ONNX (opset 13) with a dynamic batch size.
//!
//! ```text
//! pixels (batch, 3, S, S) ─ Conv, Relu, MaxPool … ─ average ─ Flatten ─ Gemm, Relu, Gemm, Relu, Gemm ─▶ logits (batch, classes)
//! ```
//!
//! S is the input size of the configuration. With [`Output::Probabilities`], a Softmax follows; if
//! the model is calibrated, after a Div by the temperature in its metadata.
//! `pixels` are normalized with the mean and std in the metadata of the model, which also contains
//! the classes. Batch norms are folded into convolutions.
//!
//! ONNX has no adaptive pool. The average pool is omitted if the features already have its output
//! size. Otherwise it is two matrix products, because the averages over rows and over columns are
//! separable.
//!
//! The protobuf messages and field numbers are defined in onnx.proto3 (github.com/onnx/onnx).

mod protobuf;

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use crate::error::Error;
use crate::file;
use crate::metadata::Metadata;
use crate::model::Vgg;
use crate::save::check;
use protobuf::Message;

/// Version of the operator set: the first one with a softmax over a single axis.
const OPSET: u64 = 13;
/// Version of the file format published with the operator set.
const IR_VERSION: u64 = 7;
/// The value of `TensorProto.DataType.FLOAT`, which is f32.
const FLOAT: u64 = 1;
/// Maximum size of a protobuf message in bytes.
const MAX_SIZE: usize = i32::MAX as usize;

/// Name of the model input: a batch of normalized images.
pub const INPUT: &str = "pixels";

/// The values that an exported model outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// The logits, named `logits`.
    Logits,
    /// The softmax of the logits divided by the temperature, named `probabilities`.
    Probabilities,
}

impl Output {
    /// Name of the output in the ONNX graph.
    pub fn name(self) -> &'static str {
        match self {
            Self::Logits => "logits",
            Self::Probabilities => "probabilities",
        }
    }
}

/// Saves a model as ONNX. The file is replaced atomically. The same model gives the same bytes.
///
/// # Errors
///
/// Returns an error if the metadata is invalid, if the tensors do not exactly match the network, if
/// the model exceeds the limit of 2 GiB, or if the file cannot be written.
pub fn save(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
    output: Output,
) -> Result<(), Error> {
    let path = path.as_ref();
    check(path, tensors, metadata)?;
    let model = model(tensors, metadata, output)?;
    if model.len() > MAX_SIZE {
        return Err(Error::Export {
            path: path.into(),
            reason: format!(
                "the model has {} bytes, but the limit of ONNX is 2 GiB",
                model.len()
            ),
            help: Some("export the model as safetensors"),
        });
    }
    file::write_atomically(path, |out| {
        model
            .write(out)
            .map_err(|error| Error::io("write", path, error))
    })
}

/// Builds the `ModelProto`, the outermost message of the file.
fn model(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
    output: Output,
) -> Result<Message, Error> {
    let mut model = Message::default()
        .number(1, IR_VERSION)
        .text(2, env!("CARGO_PKG_NAME"))
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, graph(tensors, metadata, output)?)
        .message(8, Message::default().text(1, "").number(2, OPSET));
    for (key, value) in metadata.to_strings() {
        model = model.message(14, Message::default().text(1, &key).text(2, &value));
    }
    Ok(model)
}

/// Builds the `GraphProto`, which contains the nodes and weights.
fn graph(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &Metadata,
    output: Output,
) -> Result<Message, Error> {
    let config = &metadata.config;
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
        let attributes = [
            ("kernel_shape", &[3, 3][..]),
            ("pads", &[1; 4][..]),
            ("strides", &[1; 2][..]),
        ];
        graph.node("Conv", &name, &[&weight, &bias], &attributes);
        graph.node("Relu", &format!("{name}.relu"), &[], &[]);
        if conv.pool {
            let attributes = [("kernel_shape", &[2, 2][..]), ("strides", &[2, 2][..])];
            graph.node("MaxPool", &format!("{name}.pool"), &[], &attributes);
            side /= 2;
        }
    }
    if side != config.avgpool {
        let rows = averages(side, config.avgpool)?;
        let columns = graph.weight("avgpool.columns", rows.t()?)?;
        graph.node("MatMul", "avgpool.x", &[&columns], &[]);
        let rows = graph.weight("avgpool.rows", rows)?;
        graph.add_node("MatMul", "avgpool.y", |last| vec![rows, last], &[]);
    }
    graph.node("Flatten", "flatten", &[], &[]);
    let linears = network.linear_layers();
    for (index, (name, weights)) in linears.iter().enumerate() {
        let [weight, bias] = graph.weights(name, weights.clone())?;
        let output_name = if index + 1 == linears.len() {
            "logits"
        } else {
            name
        };
        graph.node("Gemm", output_name, &[&weight, &bias], &[]);
        if index + 1 < linears.len() {
            graph.node("Relu", &format!("{name}.relu"), &[], &[]);
        }
    }
    if output == Output::Probabilities {
        if metadata.temperature != 1.0 {
            let temperature = Tensor::new(metadata.temperature as f32, &Device::Cpu)?;
            let temperature = graph.weight("temperature", temperature)?;
            graph.node("Div", "scaled_logits", &[&temperature], &[]);
        }
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

/// A chain of nodes with their weights. Each node has the output of the preceding node as an input.
/// A node and its output have the same name.
struct Graph {
    message: Message,
    /// Name of the output of the last node.
    last: String,
}

impl Graph {
    /// Adds a node whose inputs are the last output and `weights`.
    fn node(&mut self, kind: &str, name: &str, weights: &[&str], attributes: &[(&str, &[u64])]) {
        let inputs = |last: String| {
            let weights = weights.iter().map(|weight| weight.to_string());
            std::iter::once(last).chain(weights).collect()
        };
        self.add_node(kind, name, inputs, attributes);
    }

    /// Adds a `NodeProto` with the inputs that `inputs` returns for the last output. A Gemm
    /// transposes its weight, which is stored as (out, in).
    fn add_node(
        &mut self,
        kind: &str,
        name: &str,
        inputs: impl FnOnce(String) -> Vec<String>,
        attributes: &[(&str, &[u64])],
    ) {
        /// The values of `AttributeProto.AttributeType` that are used.
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

    /// Adds a `TensorProto` as an initializer. Returns its name.
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

/// Builds the `ValueInfoProto` of an f32 tensor. In `shape`, `None` is the batch dimension.
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

/// Returns the matrix (outputs, inputs) of a one-dimensional adaptive average pool. Output i is the
/// average of the inputs ⌊i·inputs/outputs⌋ .. ⌈(i+1)·inputs/outputs⌉.
fn averages(inputs: usize, outputs: usize) -> Result<Tensor, Error> {
    let mut rows = vec![0f32; outputs * inputs];
    for (output, row) in rows.chunks_mut(inputs).enumerate() {
        let window = output * inputs / outputs..((output + 1) * inputs).div_ceil(outputs);
        let share = 1.0 / window.len() as f32;
        row[window].fill(share);
    }
    Ok(Tensor::from_vec(rows, (outputs, inputs), &Device::Cpu)?)
}
