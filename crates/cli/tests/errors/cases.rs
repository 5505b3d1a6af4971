//! The cases of `docs/errors.md`, in document order.

use safetensors::Dtype;

use crate::forge;
use crate::harness::TestDir;

/// A command with an invalid input.
pub struct Case {
    /// Heading of the section that contains the case.
    pub section: &'static str,
    /// Description of the invalid input, used as the heading of the case.
    pub what: &'static str,
    /// Arguments of `waggle`, separated by spaces; or a whole command that sets environment variables,
    /// such as `NAME=VALUE waggle train`.
    pub command: &'static str,
    /// Creates the invalid input in a directory that has a valid data set, weights and model.
    pub prepare: fn(&TestDir),
}

#[rustfmt::skip] // One case per line if it fits.
pub const CASES: &[Case] = &[
    Case { section: "Data sets", what: "No such folder", command: "train --data nowhere", prepare: |_| {} },
    Case { section: "Data sets", what: "A file instead of a folder", command: "train --data tiny.safetensors", prepare: |_| {} },
    Case {
        section: "Data sets",
        what: "A folder without train and val",
        command: "train --data bare",
        prepare: |dir| std::fs::create_dir(dir.path("bare")).unwrap(),
    },
    Case { section: "Data sets", what: "The train folder instead of the data set", command: "train --data data/train", prepare: |_| {} },
    Case {
        section: "Data sets",
        what: "The parent folder of the data set",
        command: "train --data around",
        prepare: |dir| {
            std::fs::create_dir(dir.path("around")).unwrap();
            std::fs::rename(dir.path("data"), dir.path("around/data")).unwrap();
        },
    },
    Case {
        section: "Data sets",
        what: "Class folders without train and val",
        command: "train --data data",
        prepare: |dir| {
            std::fs::rename(dir.path("data/train"), dir.path("classes")).unwrap();
            std::fs::remove_dir_all(dir.path("data")).unwrap();
            std::fs::rename(dir.path("classes"), dir.path("data")).unwrap();
        },
    },
    Case {
        section: "Data sets",
        what: "Images without class folders",
        command: "train --data bare",
        prepare: |dir| dir.image("bare/0.png", 0, 0),
    },
    Case {
        section: "Data sets",
        what: "An additional folder between split and classes",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            for split in ["train", "val"] {
                std::fs::rename(dir.path("data").join(split), dir.path("classes")).unwrap();
                std::fs::create_dir(dir.path("data").join(split)).unwrap();
                std::fs::rename(dir.path("classes"), dir.path("data").join(split).join("images")).unwrap();
            }
        },
    },
    Case {
        section: "Data sets",
        what: "A capitalized split",
        command: "train --data data",
        prepare: |dir| std::fs::rename(dir.path("data/val"), dir.path("data/Val")).unwrap(),
    },
    Case {
        section: "Data sets",
        what: "No class folders",
        command: "train --data bare",
        prepare: |dir| {
            std::fs::create_dir_all(dir.path("bare/train")).unwrap();
            std::fs::create_dir_all(dir.path("bare/val")).unwrap();
        },
    },
    Case {
        section: "Data sets",
        what: "No validation images",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| std::fs::remove_dir_all(dir.path("data/val")).unwrap(),
    },
    Case {
        section: "Data sets",
        what: "A class without images",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/nothing/notes.txt", b"not an image"),
    },
    Case {
        section: "Data sets",
        what: "A class folder that is a link to another one",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            std::fs::remove_dir_all(dir.path("data/train/vertical")).unwrap();
            std::os::unix::fs::symlink("horizontal", dir.path("data/train/vertical")).unwrap();
        },
    },
    Case {
        section: "Data sets",
        what: "`evaluate`: a folder that two classes link to",
        command: "evaluate model.safetensors --data data",
        prepare: |dir| {
            dir.image("store/0.png", 0, 0);
            for class in ["horizontal", "vertical"] {
                let link = dir.path("data/val").join(class).join("more");
                std::os::unix::fs::symlink(dir.path("store"), link).unwrap();
            }
        },
    },
    Case {
        section: "Data sets",
        what: "A class of HEIC images",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            for number in 0..3 {
                dir.write(&format!("data/train/bees/IMG_{number}.HEIC"), b"\0\0\0\x1cftypheic\0\0\0\0mif1heic");
            }
        },
    },
    Case {
        section: "Data sets",
        what: "A class that exists only in val",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.image("data/val/stranger/0.png", 0, 0),
    },
    Case {
        section: "Data sets",
        what: "Folders nested in each other",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.image(&format!("data/train/vertical/{}0.png", "x/".repeat(65)), 0, 0),
    },
    Case { section: "Data sets", what: "`check`: no such folder", command: "check nowhere", prepare: |_| {} },
    Case {
        section: "Data sets",
        what: "`check`: no validation images",
        command: "check data",
        prepare: |dir| std::fs::remove_dir_all(dir.path("data/val")).unwrap(),
    },
    Case {
        section: "Data sets",
        what: "`labels`: copies of a single image in each class",
        command: "labels model.safetensors --data copies",
        prepare: |dir| {
            for (class, name) in ["horizontal", "vertical"].into_iter().enumerate() {
                for file in ["train/NAME/0.png", "train/NAME/1.png", "val/NAME/0.png"] {
                    dir.image(&format!("copies/{}", file.replace("NAME", name)), class, 0);
                }
            }
        },
    },
    Case { section: "Data sets", what: "`show`: no such folder", command: "show --data nowhere", prepare: |_| {} },
    Case { section: "Data sets", what: "`evaluate`: no such split", command: "evaluate model.safetensors --data data --split test", prepare: |_| {} },
    Case {
        section: "Images",
        what: "A text file with an image extension",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/00.png", b"this is not an image"),
    },
    Case {
        section: "Images",
        what: "An empty file",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/val/vertical/00.png", b""),
    },
    Case {
        section: "Images",
        what: "A truncated PNG",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            let whole = dir.read("data/train/vertical/00.png");
            dir.write("data/train/vertical/00.png", &whole[..whole.len() / 2]);
        },
    },
    Case {
        section: "Images",
        what: "A truncated JPEG",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/half.jpg", &forge::half_a_jpeg()),
    },
    Case {
        section: "Images",
        what: "A JPEG with arithmetic coding",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/arithmetic.jpg", &forge::arithmetic_jpeg()),
    },
    Case {
        section: "Images",
        what: "A JPEG that stores its pixels twice",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/twice.jpg", &forge::jpeg_with_two_scans()),
    },
    Case {
        section: "Images",
        what: "A GIF named .jpg",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/gif.jpg", b"GIF89a\x01\0\x01\0\0\0\0;"),
    },
    Case {
        section: "Images",
        what: "A HEIC image named .jpg",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/heic.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
    },
    Case {
        section: "Images",
        what: "Files that are not images",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            dir.write("data/train/horizontal/page.jpg", b"<!DOCTYPE html>\n<title>Too many requests</title>");
            dir.write("data/train/horizontal/pointer.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n");
            dir.write("data/train/vertical/avif.png", b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf");
            dir.write("data/train/vertical/_.jpg", b"\0\x05\x16\x07\0\x02\0\0Mac OS X");
        },
    },
    Case {
        section: "Images",
        what: "A decompression bomb of 60,000 × 60,000 pixels in 53 bytes",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/bomb.png", &forge::png(60_000, 60_000, 8, 2)),
    },
    Case {
        section: "Images",
        what: "An image of 12,000 × 12,000 pixels of 64 bits, which needs too much memory",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/bomb.png", &forge::png(12_000, 12_000, 16, 6)),
    },
    Case {
        section: "Images",
        what: "`predict`: an image above a limit given by flag",
        command: "predict model.safetensors data/val/vertical/00.png --max-pixels 100",
        prepare: |_| {},
    },
    Case {
        section: "Images",
        what: "A damaged PNG",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            let mut png = dir.read("data/train/vertical/00.png");
            let middle = png.len() / 2;
            png[middle] ^= 0xff;
            dir.write("data/train/vertical/00.png", &png);
        },
    },
    Case {
        section: "Images",
        what: "A TIFF image with an unsupported feature",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/lab.tif", &forge::lab_tiff()),
    },
    Case {
        section: "Images",
        what: "An image without pixels",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/none.png", &forge::png(0, 5, 8, 2)),
    },
    Case {
        section: "Images",
        what: "A device file with an image extension",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            std::os::unix::fs::symlink("/dev/zero", dir.path("data/train/vertical/zero.png")).unwrap();
        },
    },
    Case {
        section: "Images",
        what: "A class with only bad images and `--on-bad skip`",
        command: "train --data data --weights tiny.safetensors --on-bad skip",
        prepare: |dir| {
            for number in 0..6 {
                dir.write(&format!("data/val/vertical/{number:02}.png"), b"");
            }
        },
    },
    Case {
        section: "Images",
        what: "`evaluate`: bad images",
        command: "evaluate model.safetensors --data data",
        prepare: |dir| {
            dir.write("data/val/horizontal/00.png", b"");
            dir.write("data/val/vertical/00.png", b"not an image");
        },
    },
    Case {
        section: "Images",
        what: "`labels`: bad images",
        command: "labels model.safetensors --data data",
        prepare: |dir| dir.write("data/train/horizontal/00.png", b""),
    },
    Case {
        section: "Images",
        what: "A file name that contains a line break and an escape sequence",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("data/train/vertical/x\nerror: forged\x1b[2J.png", b"text"),
    },
    Case { section: "Images", what: "`predict`: no such image", command: "predict model.safetensors nowhere.jpg", prepare: |_| {} },
    Case {
        section: "Images",
        what: "`predict`: a bad image among good ones",
        command: "predict model.safetensors data/val",
        prepare: |dir| dir.write("data/val/vertical/00.png", b"not an image"),
    },
    Case { section: "Images", what: "`explain`: no such image", command: "explain model.safetensors nowhere.jpg", prepare: |_| {} },
    Case {
        section: "Images",
        what: "`predict`: a folder without images",
        command: "predict model.safetensors bare",
        prepare: |dir| std::fs::create_dir(dir.path("bare")).unwrap(),
    },
    Case { section: "Images", what: "`predict -`: no paths on standard input", command: "predict model.safetensors -", prepare: |_| {} },
    Case { section: "Weights", what: "No such file", command: "train --data data --weights nowhere.safetensors", prepare: |_| {} },
    Case { section: "Weights", what: "No such file, given with its folder", command: "train --data data --weights ./tiny.pth", prepare: |_| {} },
    Case { section: "Weights", what: "A folder that is not a run directory", command: "train --data data --weights data", prepare: |_| {} },
    Case {
        section: "Weights",
        what: "A text file",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("tiny.safetensors", b"these are not weights"),
    },
    Case {
        section: "Weights",
        what: "An ONNX file",
        command: "train --data data --weights tiny.onnx",
        prepare: |dir| dir.write("tiny.onnx", b"\x08\x08\x12\x07pytorch\x1a\x052.0.0"),
    },
    Case {
        section: "Weights",
        what: "A Keras file",
        command: "train --data data --weights tiny.h5",
        prepare: |dir| dir.write("tiny.h5", b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0"),
    },
    Case {
        section: "Weights",
        what: "A TensorFlow SavedModel",
        command: "train --data data --weights saved_model.pb",
        prepare: |dir| dir.write("saved_model.pb", b"\x08\x01\x12\xa0\x02\x0a\x12\x12\x05serve"),
    },
    Case {
        section: "Weights",
        what: "A NumPy array",
        command: "train --data data --weights tiny.npy",
        prepare: |dir| dir.write("tiny.npy", b"\x93NUMPY\x01\0v\0{'descr': '<f4'}"),
    },
    Case {
        section: "Weights",
        what: "A Python pickle",
        command: "train --data data --weights tiny.pkl",
        prepare: |dir| dir.write("tiny.pkl", b"\x80\x04\x95\x06\0\0\0\0\0\0\0}\x94."),
    },
    Case {
        section: "Weights",
        what: "A Git LFS pointer",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("tiny.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
    },
    Case { section: "Weights", what: "A whole PyTorch module", command: "train --data data --weights module.pth", prepare: |dir| forge::pth(dir, "module.pth") },
    Case { section: "Weights", what: "A PyTorch module in a dictionary", command: "train --data data --weights module_in_dictionary.pth", prepare: |dir| forge::pth(dir, "module_in_dictionary.pth") },
    Case { section: "Weights", what: "A TorchScript archive", command: "train --data data --weights script.pt", prepare: |dir| forge::pth(dir, "script.pt") },
    Case { section: "Weights", what: "A file of PyTorch before 1.6", command: "train --data data --weights legacy.pth", prepare: |dir| forge::pth(dir, "legacy.pth") },
    Case { section: "Weights", what: "NumPy arrays in a PyTorch file", command: "train --data data --weights arrays.pth", prepare: |dir| forge::pth(dir, "arrays.pth") },
    Case { section: "Weights", what: "A pickle that would run a command in place of a tensor", command: "train --data data --weights evil.pth --arch vgg11", prepare: |dir| forge::pth(dir, "evil.pth") },
    Case { section: "Weights", what: "A quantized tensor", command: "train --data data --weights kind_quantized.pth --arch vgg11", prepare: |dir| forge::pth(dir, "kind_quantized.pth") },
    Case {
        section: "Weights",
        what: "A checkpoint of a run",
        command: "train --data data --weights checkpoint.safetensors",
        prepare: |dir| dir.write("checkpoint.safetensors", &forge::weights(r#"{"weights/a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"~sha256":{"dtype":"U8","shape":[32],"data_offsets":[4,36]}}"#, 36)),
    },
    Case {
        section: "Weights",
        what: "A folder with a TensorFlow SavedModel",
        command: "train --data data --weights saved",
        prepare: |dir| dir.write("saved/saved_model.pb", b"\x08\x01\x12\xa0\x02"),
    },
    Case {
        section: "Weights",
        what: "Several networks in a file",
        command: "train --data data --weights gan.safetensors --arch vgg11",
        prepare: |dir| dir.write("gan.safetensors", &forge::weights(r#"{"generator.features.0.weight":{"dtype":"F32","shape":[1,3,3,3],"data_offsets":[0,108]},"discriminator.features.0.weight":{"dtype":"F32","shape":[1,3,3,3],"data_offsets":[108,216]}}"#, 216)),
    },
    Case { section: "Weights", what: "A key that the file does not contain", command: "train --data data --weights tiny.safetensors#ema", prepare: |_| {} },
    Case {
        section: "Weights",
        what: "Two tensors with the same name",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("tiny.safetensors", &forge::weights(r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, 4)),
    },
    Case {
        section: "Weights",
        what: "An empty file",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("tiny.safetensors", b""),
    },
    Case {
        section: "Weights",
        what: "An empty PyTorch file",
        command: "train --data data --weights tiny.pth",
        prepare: |dir| dir.write("tiny.pth", b""),
    },
    Case {
        section: "Weights",
        what: "A device file",
        command: "train --data data --weights /dev/null",
        prepare: |_| {},
    },
    Case {
        section: "Weights",
        what: "A truncated file",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            let whole = dir.read("tiny.safetensors");
            dir.write("tiny.safetensors", &whole[..whole.len() - 100]);
        },
    },
    Case {
        section: "Weights",
        what: "A header longer than the file",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("tiny.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\xff{}"),
    },
    Case {
        section: "Weights",
        what: "A tensor beyond the end of the file",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("tiny.safetensors", &forge::weights(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, 4)),
    },
    Case {
        section: "Weights",
        what: "Tensors that share bytes",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("tiny.safetensors", &forge::weights(r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#, 12)),
    },
    Case {
        section: "Weights",
        what: "A shape that overflows",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.write("tiny.safetensors", &forge::weights(r#"{"a":{"dtype":"F32","shape":[9223372036854775807,3],"data_offsets":[0,4]}}"#, 4)),
    },
    Case {
        section: "Weights",
        what: "Weights of a network that is not a VGG",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| dir.other_network_weights("tiny.safetensors"),
    },
    Case {
        section: "Weights",
        what: "An `--arch` that contradicts the shapes of the weights",
        command: "train --data data --weights vgg19.safetensors --arch vgg16",
        prepare: |dir| forge::zeros_of("vgg19", &dir.path("vgg19.safetensors")),
    },
    Case {
        section: "Weights",
        what: "A detected architecture with a missing tensor",
        command: "train --data data --weights vgg11.safetensors",
        prepare: |dir| {
            forge::zeros_of("vgg11", &dir.path("vgg11.safetensors"));
            forge::rename_in_place(&dir.path("vgg11.safetensors"), "features.8.bias", "features.9.bias");
        },
    },
    Case { section: "Weights", what: "An `--arch` that contradicts the metadata of the weights", command: "train --data data --weights tiny.safetensors --arch vgg19", prepare: |_| {} },
    Case {
        section: "Weights",
        what: "A misspelled tensor name",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| {
            forge::change_weights(dir, |name| (name.replace("classifier.3.bias", "classifer.3.bias"), Dtype::F32));
        },
    },
    Case {
        section: "Weights",
        what: "Weights with an integer dtype",
        command: "train --data data --weights tiny.safetensors",
        prepare: |dir| forge::change_weights(dir, |name| (name.to_string(), Dtype::I32)),
    },
    Case { section: "Downloads", what: "Offline, and not in the cache", command: "HF_HOME=hf HF_HUB_OFFLINE=1 waggle train --data data", prepare: |_| {} },
    Case { section: "Downloads", what: "No connection", command: "HF_HOME=hf HF_ENDPOINT=http://127.0.0.1:1 waggle train --data data", prepare: |_| {} },
    Case { section: "Downloads", what: "An endpoint that is not a URL", command: "HF_HOME=hf HF_ENDPOINT=mirror.example waggle train --data data", prepare: |_| {} },
    Case { section: "Downloads", what: "An endpoint with a password and a typing error", command: "HF_HOME=hf HF_ENDPOINT=htps://me:secret@mirror.example waggle train --data data", prepare: |_| {} },
    Case { section: "Downloads", what: "An endpoint with a query", command: "HF_HOME=hf HF_ENDPOINT=https://mirror.example/?key=secret waggle train --data data", prepare: |_| {} },
    Case { section: "Downloads", what: "A token with other characters", command: "HF_HOME=hf HF_TOKEN=hf_sécret waggle train --data data", prepare: |_| {} },
    Case { section: "Downloads", what: "An error that needs no download", command: "HF_HOME=hf HF_ENDPOINT=http://127.0.0.1:1 waggle train --data data --finetune-lr head=1e-3", prepare: |_| {} },
    Case {
        section: "Downloads",
        what: "A damaged file in the cache",
        command: "HF_HUB_CACHE=hub waggle train --data data --weights hf:a/b",
        prepare: |dir| {
            dir.write("hub/models--a--b/blobs/version-1", b"these are not weights");
            dir.write("hub/models--a--b/refs/main", b"0123abcd");
            let snapshot = dir.path("hub/models--a--b/snapshots/0123abcd");
            std::fs::create_dir_all(&snapshot).unwrap();
            std::os::unix::fs::symlink("../../blobs/version-1", snapshot.join("model.safetensors")).unwrap();
        },
    },
    Case { section: "Models", what: "No such model", command: "predict nowhere data/val", prepare: |_| {} },
    Case { section: "Models", what: "A folder that is not a run directory", command: "predict data data/val", prepare: |_| {} },
    Case { section: "Models", what: "An image instead of a model", command: "evaluate data/val/vertical/00.png --data data", prepare: |_| {} },
    Case {
        section: "Models",
        what: "An ONNX file instead of a model",
        command: "predict model.onnx data/val",
        prepare: |dir| dir.write("model.onnx", b"\x08\x08\x12\x06waggle\x1a\x052.0.0"),
    },
    Case {
        section: "Models",
        what: "An empty model file",
        command: "export model.safetensors --to onnx",
        prepare: |dir| dir.write("model.safetensors", b""),
    },
    Case {
        section: "Models",
        what: "Weights without metadata",
        command: "predict bare.safetensors data/val",
        prepare: |dir| dir.weights_without_metadata("tiny.safetensors", "bare.safetensors"),
    },
    Case {
        section: "Models",
        what: "A class list of the wrong length",
        command: "predict model.safetensors data/val",
        prepare: |dir| dir.model_with_classes("model.safetensors", "model.safetensors", &["a", "b", "c"]),
    },
    Case {
        section: "Models",
        what: "A duplicate class",
        command: "predict model.safetensors data/val",
        prepare: |dir| dir.model_with_classes("model.safetensors", "model.safetensors", &["a", "a"]),
    },
    Case {
        section: "Models",
        what: "A huge input size",
        command: "predict model.safetensors data/val",
        prepare: |dir| forge::change_model(dir, "config", "\"input_size\":32", "\"input_size\":1000000"),
    },
    Case {
        section: "Models",
        what: "A network with too many parameters",
        command: "predict model.safetensors data/val",
        prepare: |dir| forge::change_model(dir, "config", "\"hidden\":24", "\"hidden\":900000"),
    },
    Case {
        section: "Models",
        what: "A network that needs too much memory for one image",
        command: "predict model.safetensors data/val",
        prepare: |dir| {
            forge::change_model(dir, "config", "\"input_size\":32", "\"input_size\":4096");
            forge::change_model(dir, "config", "\"conv\":8", "\"conv\":300");
        },
    },
    Case {
        section: "Models",
        what: "A convolution without channels",
        command: "predict model.safetensors data/val",
        prepare: |dir| forge::change_model(dir, "config", "\"conv\":8", "\"conv\":0"),
    },
    Case {
        section: "Models",
        what: "An infinite mean",
        command: "predict model.safetensors data/val",
        prepare: |dir| forge::change_model(dir, "mean", "0.5", "1e60"),
    },
    Case {
        section: "Models",
        what: "A standard deviation of 0",
        command: "predict model.safetensors data/val",
        prepare: |dir| forge::change_model(dir, "std", "0.25", "0.0"),
    },
    Case {
        section: "Models",
        what: "A temperature of 0",
        command: "predict model.safetensors data/val",
        prepare: |dir| forge::set_temperature(dir, "0"),
    },
    Case {
        section: "Models",
        what: "A temperature that is not a number",
        command: "evaluate model.safetensors --data data",
        prepare: |dir| forge::set_temperature(dir, "hot"),
    },
    Case {
        section: "Models",
        what: "A model file that links out of its run directory",
        command: "predict run data/val",
        prepare: |dir| {
            std::fs::create_dir(dir.path("run")).unwrap();
            std::os::unix::fs::symlink("../model.safetensors", dir.path("run/model.safetensors")).unwrap();
        },
    },
    Case {
        section: "Models",
        what: "A data set with other classes than the model",
        command: "evaluate model.safetensors --data other",
        prepare: |dir| dir.stripes("other", &["horizontal", "up"], 2, 2),
    },
    Case {
        section: "Models",
        what: "A damaged `config.toml`",
        command: "evaluate run",
        prepare: |dir| {
            let model = dir.read("model.safetensors");
            dir.write("run/model.safetensors", &model);
            dir.write("run/config.toml", b"[data");
        },
    },
    Case { section: "Runs", what: "`report`: a folder that is not a run directory", command: "report data", prepare: |_| {} },
    Case {
        section: "Runs",
        what: "`report`: damaged metrics",
        command: "report run",
        prepare: |dir| {
            forge::finished_run(dir);
            dir.write("run/metrics.csv", b"stage,epoch\ntransfer,first\n");
        },
    },
    Case {
        section: "Runs",
        what: "`report`: the data set does not exist",
        command: "report run",
        prepare: |dir| {
            forge::finished_run(dir);
            std::fs::rename(dir.path("data"), dir.path("moved")).unwrap();
        },
    },
    Case {
        section: "Runs",
        what: "`report`: an existing output",
        command: "report run -o tiny.safetensors",
        prepare: forge::finished_run,
    },
    Case { section: "Runs", what: "`compare`: a folder that is not a run directory", command: "compare data data", prepare: |_| {} },
    Case { section: "Runs", what: "`compare`: a single run", command: "compare data", prepare: |_| {} },
    Case { section: "Resuming", what: "No such run directory", command: "train --resume nowhere", prepare: |_| {} },
    Case { section: "Resuming", what: "A folder that is not a run directory", command: "train --resume data", prepare: |_| {} },
    Case {
        section: "Resuming",
        what: "A named pipe instead of `run.toml`",
        command: "train --resume run",
        prepare: |dir| {
            std::fs::create_dir(dir.path("run")).unwrap();
            dir.pipe("run/run.toml");
        },
    },
    Case {
        section: "Resuming",
        what: "A run that was stopped before its first checkpoint",
        command: "train --resume run",
        prepare: |dir| forge::run(dir, 1),
    },
    Case {
        section: "Resuming",
        what: "Only damaged checkpoints",
        command: "train --resume run",
        prepare: |dir| {
            forge::run(dir, 1);
            let checkpoint = forge::checkpoint(1, forge::RUN);
            dir.write("run/checkpoint-1.safetensors", &checkpoint[..checkpoint.len() - 1]);
            dir.write("run/checkpoint-2.safetensors", b"");
        },
    },
    Case {
        section: "Resuming",
        what: "A run of a later version",
        command: "train --resume run",
        prepare: |dir| forge::run(dir, 7),
    },
    Case {
        section: "Resuming",
        what: "A checkpoint of a later version",
        command: "train --resume run",
        prepare: |dir| {
            forge::run(dir, 1);
            dir.write("run/checkpoint-3.safetensors", &forge::checkpoint(7, forge::RUN));
        },
    },
    Case {
        section: "Resuming",
        what: "A checkpoint of another run",
        command: "train --resume run",
        prepare: |dir| {
            forge::run(dir, 1);
            dir.write("run/checkpoint-3.safetensors", &forge::checkpoint(1, &forge::RUN.replace('0', "1")));
        },
    },
    Case {
        section: "Resuming",
        what: "A checkpoint that is intact but cannot be understood",
        command: "train --resume run",
        prepare: |dir| {
            forge::run(dir, 1);
            dir.write("run/checkpoint-3.safetensors", &forge::checkpoint(1, forge::RUN));
        },
    },
    Case {
        section: "Resuming",
        what: "Only a model file among the checkpoints",
        command: "train --resume run",
        prepare: |dir| {
            forge::run(dir, 1);
            dir.write("run/checkpoint-3.safetensors", &dir.read("model.safetensors"));
        },
    },
    Case {
        section: "Resuming",
        what: "No `run.toml`, and checkpoints of several runs",
        command: "train --resume run",
        prepare: |dir| {
            dir.write("run/checkpoint-2.safetensors", &forge::checkpoint(1, &forge::RUN.replace('0', "1")));
            dir.write("run/checkpoint-3.safetensors", &forge::checkpoint(1, forge::RUN));
        },
    },
    Case { section: "Settings", what: "An unknown architecture", command: "train --data data --weights tiny.safetensors --arch resnet50", prepare: |_| {} },
    Case { section: "Settings", what: "A batch size of 0", command: "train --data data --weights tiny.safetensors --batch-size 0", prepare: |_| {} },
    Case { section: "Settings", what: "A learning rate of NaN", command: "train --data data --weights tiny.safetensors --lr NaN", prepare: |_| {} },
    Case { section: "Settings", what: "A learning rate of 0", command: "train --data data --weights tiny.safetensors --lr 0", prepare: |_| {} },
    Case { section: "Settings", what: "A negative learning rate", command: "train --data data --weights tiny.safetensors --lr -1", prepare: |_| {} },
    Case { section: "Settings", what: "A momentum of 1", command: "train --data data --weights tiny.safetensors --momentum 1", prepare: |_| {} },
    Case { section: "Settings", what: "0 epochs", command: "train --data data --weights tiny.safetensors --transfer-epochs 0", prepare: |_| {} },
    Case { section: "Settings", what: "0 workers", command: "train --data data --weights tiny.safetensors --workers 0", prepare: |_| {} },
    Case { section: "Settings", what: "Too many workers", command: "train --data data --weights tiny.safetensors --workers 4294967296", prepare: |_| {} },
    Case { section: "Settings", what: "Too many compute threads", command: "train --data data --weights tiny.safetensors --threads 1025", prepare: |_| {} },
    Case { section: "Settings", what: "Too many epochs", command: "train --data data --weights tiny.safetensors --finetune-epochs 18446744073709551615", prepare: |_| {} },
    Case { section: "Settings", what: "A negative seed", command: "train --data data --weights tiny.safetensors --seed -1", prepare: |_| {} },
    Case { section: "Settings", what: "A learning rate that exceeds every float", command: "train --data data --weights tiny.safetensors --lr 1e400", prepare: |_| {} },
    Case { section: "Settings", what: "A learning rate that is infinite in f32", command: "train --data data --weights tiny.safetensors --lr 1e39", prepare: |_| {} },
    Case { section: "Settings", what: "A learning rate that is 0 in f32", command: "train --data data --weights tiny.safetensors --finetune-lr classifier.6=1e-60", prepare: |_| {} },
    Case { section: "Settings", what: "A momentum that is 1 in f32", command: "train --data data --weights tiny.safetensors --momentum 0.99999999", prepare: |_| {} },
    Case { section: "Settings", what: "An empty path", command: "train --data data --weights tiny.safetensors --out=", prepare: |_| {} },
    Case { section: "Settings", what: "An input size that is too small", command: "train --data data --weights tiny.safetensors --input-size 8", prepare: |_| {} },
    Case { section: "Settings", what: "A limit of pixels out of range", command: "train --data data --weights tiny.safetensors --max-pixels 5000000000", prepare: |_| {} },
    Case { section: "Settings", what: "An invalid size", command: "train --data data --weights tiny.safetensors --cache-images much", prepare: |_| {} },
    Case { section: "Settings", what: "A layer without a learning rate", command: "train --data data --weights tiny.safetensors --finetune-lr features", prepare: |_| {} },
    Case { section: "Settings", what: "A duplicate layer prefix", command: "train --data data --weights tiny.safetensors --finetune-lr features=1e-3,features=1e-4", prepare: |_| {} },
    Case { section: "Settings", what: "An unknown layer in `--finetune-lr`", command: "train --data data --weights tiny.safetensors --finetune-lr clasifier=1e-3", prepare: |_| {} },
    Case { section: "Settings", what: "An unknown layer in `--transfer-layers`", command: "train --data data --weights tiny.safetensors --transfer-layers head", prepare: |_| {} },
    Case { section: "Settings", what: "A prefix whose layers all match longer prefixes", command: "train --data data --weights tiny.safetensors --finetune-lr features=1e-3,classifier=1e-3,classifier.0=1e-3,classifier.3=1e-3,classifier.6=1e-3", prepare: |_| {} },
    Case { section: "Settings", what: "An invalid `--on-bad`", command: "train --data data --weights tiny.safetensors --on-bad perhaps", prepare: |_| {} },
    Case { section: "Settings", what: "An unknown device", command: "train --data data --weights tiny.safetensors --device tpu", prepare: |_| {} },
    Case { section: "Settings", what: "`--quiet` with `--json`", command: "train --data data --weights tiny.safetensors --quiet --json", prepare: |_| {} },
    Case { section: "Settings", what: "A setting of the recipe with `--resume`", command: "train --resume runs/train --lr 1e-2", prepare: |_| {} },
    Case { section: "Settings", what: "An unknown flag", command: "train --data data --weights tiny.safetensors --no-such-flag", prepare: |_| {} },
    Case { section: "Settings", what: "An unknown command", command: "teach", prepare: |_| {} },
    Case { section: "Settings", what: "`predict` without images", command: "predict model.safetensors", prepare: |_| {} },
    Case { section: "Settings", what: "`predict`: a probability above 1", command: "predict model.safetensors data/val --min-probability 90", prepare: |_| {} },
    Case { section: "Settings", what: "`explain`: a class that the model does not have", command: "explain model.safetensors data/val --class diagonal", prepare: |_| {} },
    Case { section: "Settings", what: "`explain`: a layer without heat maps", command: "explain model.safetensors data/val --layer features.0", prepare: |_| {} },
    Case { section: "Settings", what: "`explain`: an unknown method", command: "explain model.safetensors data/val --method scorecam", prepare: |_| {} },
    Case { section: "Settings", what: "`summary`: too many classes", command: "summary --classes 18446744073709551615", prepare: |_| {} },
    Case { section: "Settings", what: "Allowed changes without a run to resume", command: "train --data data --allow-changed-data --seed 1", prepare: |_| {} },
    Case { section: "Settings", what: "A setting of the finetune stage for the transfer stage", command: "train --data data --stage transfer --finetune-lr classifier=1e-3", prepare: |_| {} },
    Case { section: "Settings", what: "A setting of the transfer stage for the finetune stage", command: "train --data data --stage finetune --lr 1e-3", prepare: |_| {} },
    Case { section: "Settings", what: "A stage without epochs", command: "train --data data --finetune-epochs 0", prepare: |_| {} },
    Case { section: "Settings", what: "`show`: epoch 0", command: "show --data data --epoch 0", prepare: |_| {} },
    Case { section: "Output", what: "A run directory inside a file", command: "train --data data --weights tiny.safetensors --out tiny.safetensors/run", prepare: |_| {} },
    Case { section: "Output", what: "A run directory inside the data set", command: "train --data data --weights tiny.safetensors --out data/runs/train", prepare: |_| {} },
    Case { section: "Output", what: "`show`: an output that would be an image of the data set", command: "show --data data -o data/train/vertical/batch.png", prepare: |_| {} },
    Case { section: "Output", what: "`show`: an existing file", command: "show --data data -o model.safetensors", prepare: |_| {} },
    Case {
        section: "Output",
        what: "`evaluate`: an existing file",
        command: "evaluate model.safetensors --data data --predictions model.safetensors",
        prepare: |_| {},
    },
    Case {
        section: "Output",
        what: "`show`: a pipe in place of the file",
        command: "show --data data -o pipe --overwrite",
        prepare: |dir| dir.pipe("pipe"),
    },
    Case { section: "Output", what: "`export`: a folder in place of the file", command: "export model.safetensors --to onnx --out data --overwrite", prepare: |_| {} },
    Case {
        section: "Output",
        what: "`export`: a link in place of the file",
        command: "export model.safetensors --to onnx --out link --overwrite",
        prepare: |dir| std::os::unix::fs::symlink("tiny.safetensors", dir.path("link")).unwrap(),
    },
    Case { section: "Output", what: "`export`: a file in place of a folder", command: "export model.safetensors --to onnx --out tiny.safetensors/model.onnx", prepare: |_| {} },
    Case { section: "Output", what: "`export`: standard output", command: "export model.safetensors --to onnx --out -", prepare: |_| {} },
    Case {
        section: "Output",
        what: "`export`: a folder with other files",
        command: "export model.safetensors --to timm --out data",
        prepare: |_| {},
    },
    Case { section: "Output", what: "`explain`: a folder inside the folder of images", command: "explain model.safetensors data/val --out data/val/maps", prepare: |_| {} },
    Case { section: "Output", what: "`explain`: a folder that would be a class of the data set", command: "explain model.safetensors data/val/vertical/00.png --out data/train/maps", prepare: |_| {} },
    Case { section: "Output", what: "`explain`: a folder inside a file", command: "explain model.safetensors data/val/vertical/00.png --out tiny.safetensors/maps", prepare: |_| {} },
    Case { section: "Output", what: "`show`: an output path inside a file", command: "show --data data -o tiny.safetensors/batch.png", prepare: |_| {} },
];
