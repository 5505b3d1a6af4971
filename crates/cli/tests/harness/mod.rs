//! A temporary folder for each test, functions that write tiny images and weights to it, and
//! functions that run `waggle` in it.

#![allow(dead_code, reason = "each test file uses only some of these functions")]

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use candle_core::Device;
use image::{Rgb, RgbImage};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use vgg::config::Unit;
use vgg::{Metadata, VggConfig};

/// A temporary folder, used as the current directory of `waggle`. Dropping it deletes the folder.
pub struct TestDir {
    folder: tempfile::TempDir,
}

impl TestDir {
    /// Creates an empty folder.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Creates a folder with the data set `data` and the weights `tiny.safetensors`.
    ///
    /// The data set has two classes of stripes with 12 train and 6 val images each.
    pub fn with_stripes() -> Self {
        let dir = Self::new();
        dir.stripes("data", &["horizontal", "vertical"], 12, 6);
        dir.tiny_weights("tiny.safetensors", 10);
        dir
    }

    /// The path of `name` in this folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and creates its parent folders.
    pub fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Creates a named pipe.
    pub fn pipe(&self, name: &str) {
        let status = Command::new("mkfifo").arg(self.path(name)).status();
        assert!(status.expect("`mkfifo` is installed").success());
    }

    /// The bytes of a file.
    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Writes a data set whose classes differ in the direction and width of their stripes. `train`
    /// and `val` are the numbers of images per class.
    pub fn stripes(&self, root: &str, classes: &[&str], train: usize, val: usize) {
        for (split, count) in [("train", train), ("val", val)] {
            for (class, name) in classes.iter().enumerate() {
                for number in 0..count {
                    self.image(
                        &format!("{root}/{split}/{name}/{number:02}.png"),
                        class,
                        number,
                    );
                }
            }
        }
    }

    /// Writes an image of one class. `number` shifts the stripes and changes their color and the size
    /// of the image.
    pub fn image(&self, name: &str, class: usize, number: usize) {
        let (width, height) = (44 + number as u32 % 5, 40 + number as u32 % 7);
        let image = RgbImage::from_fn(width, height, |x, y| {
            let along = if class.is_multiple_of(2) { y } else { x } as usize + number;
            let light = if (along / (3 + class / 2)).is_multiple_of(2) {
                230
            } else {
                30
            };
            Rgb([light, light / 2 + (number * 7 % 100) as u8, 120])
        });
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image.save(path).unwrap();
    }

    /// Writes random weights of a tiny network for `classes` classes, whose names occur in no data
    /// set of the tests. The hidden layers have width 24.
    pub fn tiny_weights(&self, name: &str, classes: usize) {
        self.weights(name, classes, 24, false);
    }

    /// Like [`tiny_weights`](Self::tiny_weights), with hidden layers of width `hidden` and optional
    /// batch norm.
    pub fn weights(&self, name: &str, classes: usize, hidden: usize, batch_norm: bool) {
        let config = VggConfig {
            architecture: "tiny".to_string(),
            features: vec![
                Unit::Conv(8),
                Unit::Pool,
                Unit::Conv(12),
                Unit::Pool,
                Unit::Conv(16),
                Unit::Pool,
            ],
            batch_norm,
            avgpool: 2,
            hidden,
            classes,
            input_size: 32,
        };
        let mut tensors = vgg::init::from_scratch(&config, 7, &Device::Cpu).unwrap();
        for layer in ["classifier.0", "classifier.3", "classifier.6"] {
            let inputs = tensors[&format!("{layer}.weight")].dims()[1];
            for name in [format!("{layer}.weight"), format!("{layer}.bias")] {
                let shape = tensors[&name].dims().to_vec();
                let tensor =
                    vgg::init::linear_default(&name, &shape, inputs, 7, &Device::Cpu).unwrap();
                tensors.insert(name, tensor);
            }
        }
        let classes = (0..classes).map(|class| format!("thing {class}")).collect();
        let metadata = Metadata {
            config,
            classes,
            mean: [0.5; 3],
            std: [0.25; 3],
            temperature: 1.0,
        };
        vgg::save(self.path(name), &tensors, &metadata).unwrap();
    }

    /// Copies the tensors of `from` to `to` without its metadata.
    pub fn weights_without_metadata(&self, from: &str, to: &str) {
        let bytes = self.read(from);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        self.write(
            to,
            &safetensors::serialize(tensors.tensors(), None).unwrap(),
        );
    }

    /// Copies the model `from` to `to` with other class names in its metadata.
    pub fn model_with_classes(&self, from: &str, to: &str, classes: &[&str]) {
        let bytes = self.read(from);
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let mut metadata = header.metadata().clone().expect("a model has metadata");
        metadata.insert(
            "classes".to_string(),
            serde_json::to_string(classes).unwrap(),
        );
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        self.write(
            to,
            &safetensors::serialize(tensors.tensors(), Some(metadata)).unwrap(),
        );
    }

    /// Writes a weights file that contains a single tensor, named as in a ResNet.
    pub fn other_network_weights(&self, name: &str) {
        let values = [0u8; 4 * 6];
        let view = TensorView::new(Dtype::F32, vec![2, 3], &values).unwrap();
        self.write(
            name,
            &safetensors::serialize([("layer1.0.conv1.weight", view)], None).unwrap(),
        );
    }

    /// Runs `waggle` in this folder and returns its exit status and output.
    pub fn waggle(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_waggle"))
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .expect("the program starts")
    }

    /// Like [`waggle`](Self::waggle), with `input` on standard input.
    pub fn with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // The program may end without reading everything.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Starts `waggle` in this folder with piped standard output and standard error.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts")
    }

    /// A command that runs `waggle` in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_waggle"));
        command.args(arguments).current_dir(self.folder.path());
        command
    }

    /// The lines of a run's `metrics.csv` without the last two columns, the speed and the duration.
    pub fn metrics(&self, run: &str) -> Vec<String> {
        let text = String::from_utf8(self.read(&format!("{run}/metrics.csv"))).unwrap();
        text.lines()
            .map(|line| line.rsplitn(3, ',').last().unwrap().to_string())
            .collect()
    }

    /// The sorted names of the files and folders in a run directory.
    pub fn files(&self, run: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(run)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// The names of the checkpoints of a run, oldest first.
    pub fn checkpoints(&self, run: &str) -> Vec<String> {
        let mut names = self.files(run);
        names.retain(|name| name.starts_with("checkpoint-"));
        names.sort_by_key(|name| (name.len(), name.clone()));
        names
    }

    /// Copies the files of the folder `from` to the new folder `to`.
    pub fn copy_folder(&self, from: &str, to: &str) {
        for name in self.files(from) {
            self.write(
                &format!("{to}/{name}"),
                &self.read(&format!("{from}/{name}")),
            );
        }
    }

    /// All paths below a folder, sorted, each with its contents if it is a file.
    pub fn contents(&self, folder: &str) -> Vec<(PathBuf, Option<Vec<u8>>)> {
        let mut pending = vec![self.path(folder)];
        let mut contents = Vec::new();
        while let Some(folder) = pending.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let is_folder = path.is_dir();
                contents.push((path.clone(), (!is_folder).then(|| fs::read(&path).unwrap())));
                pending.extend(is_folder.then_some(path));
            }
        }
        contents.sort();
        contents
    }

    /// Asserts that two finished runs have the same file names, and files with the same contents:
    /// the model, the confusion matrix, the predictions, the training batch, and the metrics except speeds and
    /// durations.
    #[track_caller]
    pub fn assert_same_result(&self, run: &str, other: &str) {
        for file in [
            "model.safetensors",
            "confusion_matrix.png",
            "predictions.csv",
            "train_batch.png",
        ] {
            let bytes = |run: &str| self.read(&format!("{run}/{file}"));
            assert!(
                bytes(run) == bytes(other),
                "{file} of {run} and {other} differ"
            );
        }
        assert_eq!(self.metrics(run), self.metrics(other));
        assert_eq!(self.files(run), self.files(other));
    }

    /// Runs `waggle`, expects exit code 0, and returns standard output.
    pub fn succeeds(&self, arguments: &[&str]) -> String {
        let output = self.waggle(arguments);
        let (out, err) = stdout_and_stderr(&output);
        assert!(
            output.status.success(),
            "{arguments:?}: {:?}\n{out}\n{err}",
            output.status.code()
        );
        out
    }

    /// Runs `waggle`, expects the exit code `code` and an error message but no panic, and returns
    /// standard error.
    pub fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.waggle(arguments);
        let (out, err) = stdout_and_stderr(&output);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}\n{out}\n{err}"
        );
        assert!(!err.contains("panicked"), "{err}");
        assert!(
            err.starts_with("error: ") || err.contains("\nerror: "),
            "{err}"
        );
        err
    }
}

/// Arguments for `train` on `data` from `tiny.safetensors`, on two compute threads: the epochs of
/// both stages, the batch size, and `more`, without the epochs of a stage that `more` leaves out.
pub fn train_args<'a>(
    [transfer, finetune]: [&'a str; 2],
    batch_size: &'a str,
    more: &[&[&'a str]],
) -> Vec<&'a str> {
    let mut arguments = vec!["train", "--data", "data", "--weights", "tiny.safetensors"];
    let more = more.concat();
    if !more.contains(&"finetune") {
        arguments.extend(["--transfer-epochs", transfer]);
    }
    if !more.contains(&"transfer") {
        arguments.extend(["--finetune-epochs", finetune]);
    }
    arguments.extend(["--batch-size", batch_size, "--threads", "2"]);
    arguments.extend(more);
    arguments
}

/// Sends the signal `SIG<signal>` to `child`.
pub fn send_signal(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), child.id().to_string()])
        .status()
        .expect("`kill` is installed");
    assert!(status.success());
}

/// The exit code and the events of a run that received signals.
pub struct Interrupted {
    /// The exit code; `None` if a signal killed the program.
    pub code: Option<i32>,
    /// The events in the order of the output.
    pub events: Vec<Value>,
}

/// Starts `waggle` with `arguments` and `--json`, and waits for the first event that `when` accepts.
/// Returns the process, the events so far, and the rest of the lines on standard output.
pub fn start_until(
    dir: &TestDir,
    arguments: &[&str],
    when: &dyn Fn(&Value) -> bool,
) -> (Child, Vec<Value>, Lines<BufReader<ChildStdout>>) {
    let mut child = dir.start(&[arguments, &["--json"]].concat());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut events = Vec::new();
    for line in lines.by_ref() {
        events.extend(json_lines(&line.unwrap()));
        if when(events.last().unwrap()) {
            break;
        }
    }
    (child, events, lines)
}

/// Whether a checkpoint has been written.
pub fn is_checkpoint(event: &Value) -> bool {
    event["event"] == "checkpoint"
}

/// Starts `waggle` with `--json`, sends `signals` after the first event for which `when` is true, and
/// waits until the program exits.
pub fn interrupt(
    dir: &TestDir,
    arguments: &[&str],
    signals: &[&str],
    when: &dyn Fn(&Value) -> bool,
) -> Interrupted {
    let (mut child, mut events, lines) = start_until(dir, arguments, when);
    signals
        .iter()
        .for_each(|signal| send_signal(&child, signal));
    for line in lines {
        events.extend(json_lines(&line.unwrap()));
    }
    let mut messages = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut messages).unwrap();
    // The program prints one line at the signal, unless it exits first.
    let is_expected = messages.is_empty() || messages.starts_with("stopping after this batch");
    assert!(is_expected && messages.lines().count() <= 1, "{messages}");
    let code = child.wait().unwrap().code();
    Interrupted { code, events }
}

/// Whether an event is a batch of the second epoch.
pub fn is_second_epoch(event: &Value) -> bool {
    event["event"] == "batch" && event["epoch"] == 2
}

/// Starts a run with `arguments` and interrupts it in the second epoch of its first stage. The run
/// then has two checkpoints if `arguments` set a short interval between checkpoints.
pub fn interrupted_run(dir: &TestDir, arguments: &[&str]) {
    let run = interrupt(dir, arguments, &["INT"], &is_second_epoch);
    assert_eq!(run.code, Some(130));
}

/// `checkpoint` with metadata changed by `change`, and with a matching checksum.
pub fn with_metadata(checkpoint: &[u8], change: impl FnOnce(&mut Map<String, Value>)) -> Vec<u8> {
    let length = u64::from_le_bytes(checkpoint[..8].try_into().unwrap()) as usize;
    let (header, data) = checkpoint[8..].split_at(length);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    change(header["__metadata__"].as_object_mut().unwrap());
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(&data[..data.len() - 32]);
    let checksum = Sha256::digest(&bytes);
    bytes.extend(checksum);
    bytes
}

/// Standard output and standard error as text.
pub fn stdout_and_stderr(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&output.stdout), text(&output.stderr))
}

/// Parses one JSON value per line.
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect()
}

/// A path as a command-line argument.
pub fn argument(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}
