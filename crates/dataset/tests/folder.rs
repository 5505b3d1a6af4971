//! Tests of scanning folders: torchvision's order and rules, and errors and hints for invalid
//! folders.

use std::fs;
use std::path::{Path, PathBuf};

use dataset::image_folder::{EXTENSIONS, image_paths, is_image, train_folder, val_folder};
use dataset::{Error, ImageFolder, LayoutHint};
use tempfile::TempDir;

/// Creates a folder of empty files. Scanning does not read files.
fn folder(files: &[&str]) -> TempDir {
    let root = TempDir::new().unwrap();
    for file in files {
        touch(&root.path().join(file));
    }
    root
}

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, b"").unwrap();
}

fn names(root: &TempDir, folder: &ImageFolder) -> Vec<(String, u32)> {
    let relative = |path: &Path| {
        path.strip_prefix(root.path())
            .unwrap()
            .to_str()
            .unwrap()
            .replace('\\', "/")
    };
    folder
        .samples()
        .iter()
        .map(|sample| (relative(&sample.path), sample.label))
        .collect()
}

#[test]
fn classes_and_images_are_sorted_by_code_point() {
    let root = folder(&[
        "b/x.jpg", "10/x.jpg", "2/x.jpg", "B/x.jpg", "ä/x.jpg", "a/2.jpg", "a/10.jpg", "a/Z.jpg",
    ]);
    let scanned = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(scanned.classes(), ["10", "2", "B", "a", "b", "ä"]);
    let images_of_a: Vec<_> = names(&root, &scanned)
        .into_iter()
        .filter(|(_, label)| *label == 3)
        .map(|(name, _)| name)
        .collect();
    assert_eq!(images_of_a, ["a/10.jpg", "a/2.jpg", "a/Z.jpg"]);
    assert_eq!(scanned.counts(), [1, 1, 1, 3, 1, 1]);
    assert_eq!((scanned.len(), scanned.root()), (8, root.path()));
}

#[test]
fn images_are_found_recursively_by_folder_then_name() {
    // Python sorts the folders as strings, so `a-b` is between `a` and `a/c`.
    let root = folder(&["k/z.png", "k/a/c/1.png", "k/a/2.png", "k/a-b/3.png"]);
    let scanned = ImageFolder::scan(root.path()).unwrap();
    let paths: Vec<_> = names(&root, &scanned)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        paths,
        ["k/z.png", "k/a/2.png", "k/a-b/3.png", "k/a/c/1.png"]
    );
}

#[test]
fn extensions_are_accepted_in_any_case_but_gif_is_rejected() {
    for extension in EXTENSIONS {
        assert!(
            is_image(format!("x.{extension}"))
                && is_image(format!("x.{}", extension.to_uppercase()))
        );
    }
    for other in ["x.gif", "x.txt", "jpg", "x.jpg.txt", "x", "x.jpgx"] {
        assert!(!is_image(other), "{other}");
    }
    let root = folder(&["ants/imageNotFound.gif", "ants/A.JPEG", "ants/notes.txt"]);
    assert_eq!(
        names(&root, &ImageFolder::scan(root.path()).unwrap()),
        [("ants/A.JPEG".to_owned(), 0)]
    );
}

#[test]
fn hidden_names_are_skipped() {
    let root = folder(&[
        "a/1.jpg",
        "a/.2.jpg",
        "a/.trash/3.jpg",
        ".git/4.jpg",
        "__MACOSX/a/5.jpg",
    ]);
    let scanned = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(
        (scanned.classes(), scanned.len()),
        (&["a".to_owned()][..], 1)
    );
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use dataset::image_folder::IgnoreReason;

    use super::*;

    /// Links `name` to `target`, both relative to `root`.
    fn link(root: &TempDir, target: &str, name: &str) {
        symlink(root.path().join(target), root.path().join(name)).unwrap();
    }

    /// The images of a class or a folder, relative to `root`.
    fn images(root: &TempDir, folder: &str) -> Vec<String> {
        let paths = image_paths(root.path().join(folder)).unwrap();
        let paths = paths.iter().map(|path| path.strip_prefix(root.path()));
        paths
            .map(|path| path.unwrap().to_str().unwrap().to_owned())
            .collect()
    }

    /// The unused files of a split, relative to `root`.
    fn unused(root: &TempDir, split: &str) -> Vec<(String, IgnoreReason)> {
        let folder = ImageFolder::scan(root.path().join(split)).unwrap();
        let unused = folder.unused().iter();
        unused
            .map(|unused| {
                let path = unused.path.strip_prefix(root.path()).unwrap();
                (path.to_str().unwrap().to_owned(), unused.reason)
            })
            .collect()
    }

    #[test]
    fn links_are_followed_except_for_loops() {
        let root = folder(&["a/1.jpg", "elsewhere/deep/2.jpg"]);
        link(&root, "elsewhere/deep", "a/linked");
        link(&root, "a", "a/circle");
        assert_eq!(images(&root, "a"), ["a/1.jpg", "a/linked/2.jpg"]);
        link(&root, "nowhere", "a/broken.jpg");
        assert_eq!(images(&root, "a").len(), 3, "broken links must be listed");
    }

    #[test]
    fn a_link_to_the_split_or_the_data_set_adds_no_images_of_other_classes() {
        let root = folder(&["train/ants/1.jpg", "train/bees/2.jpg", "store/3.jpg"]);
        link(&root, "train", "train/ants/up");
        link(&root, "", "train/ants/top");
        link(&root, "store", "train/wasps");
        // The class folder is a link itself, and its target has a link back to the data set.
        link(&root, "train", "store/back");
        // A link among the class folders.
        link(&root, "", "train/everything");
        let scanned = ImageFolder::scan(root.path().join("train")).unwrap();
        assert_eq!(scanned.classes(), ["ants", "bees", "wasps"]);
        assert_eq!(scanned.counts(), [1, 1, 1]);
        let loops = unused(&root, "train");
        let names: Vec<&str> = loops.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "train/everything",
                "train/ants/top",
                "train/ants/up",
                "train/wasps/back"
            ]
        );
        assert!(
            loops
                .iter()
                .all(|(_, reason)| *reason == IgnoreReason::SymlinkLoop)
        );
    }

    #[test]
    fn a_folder_with_several_links_is_listed_once() {
        let root = folder(&[
            "train/ants/z/1.jpg",
            "train/ants/0.jpg",
            "store/x/2.jpg",
            "store/3.jpg",
        ]);
        // A direct path takes precedence, even if a link sorts before it.
        link(&root, "train/ants/z", "train/ants/a");
        link(&root, "store", "train/ants/m");
        link(&root, "store", "train/ants/n");
        link(&root, "store/x", "train/ants/z/b");
        assert_eq!(
            images(&root, "train/ants"),
            [
                "train/ants/0.jpg",
                "train/ants/m/3.jpg",
                "train/ants/m/x/2.jpg",
                "train/ants/z/1.jpg"
            ]
        );
        assert_eq!(
            unused(&root, "train"),
            ["a", "n", "z/b"].map(|name| (format!("train/ants/{name}"), IgnoreReason::Repeated))
        );
    }

    #[test]
    fn links_in_circles_between_folders_end() {
        let root = folder(&["a/1.jpg", "x/2.jpg", "y/3.jpg"]);
        link(&root, "x", "a/x");
        link(&root, "y", "x/y");
        link(&root, "x", "y/x");
        assert_eq!(images(&root, "a"), ["a/1.jpg", "a/x/2.jpg", "a/x/y/3.jpg"]);
        // A link to itself.
        link(&root, "a/self", "a/self");
        assert_eq!(images(&root, "a").len(), 3);
    }

    #[test]
    fn two_links_to_one_file_are_two_images_as_in_torchvision() {
        let root = folder(&["a/1.jpg"]);
        link(&root, "a/1.jpg", "a/2.jpg");
        fs::hard_link(root.path().join("a/1.jpg"), root.path().join("a/3.jpg")).unwrap();
        assert_eq!(images(&root, "a"), ["a/1.jpg", "a/2.jpg", "a/3.jpg"]);
    }

    /// The two paths of the folder that makes a scan of `train` fail, relative to `root`.
    fn shared(root: &TempDir) -> [String; 2] {
        match ImageFolder::scan(root.path().join("train")).unwrap_err() {
            Error::SharedFolder { paths } => paths.map(|path| {
                let path = path.strip_prefix(root.path()).unwrap();
                path.to_str().unwrap().to_owned()
            }),
            error => panic!("{error}"),
        }
    }

    #[test]
    fn a_folder_in_two_classes_is_an_error() {
        // A class folder that is a link to another one.
        let root = folder(&["train/ants/1.jpg"]);
        link(&root, "train/ants", "train/bees");
        assert_eq!(shared(&root), ["train/ants", "train/bees"]);
        // Two class folders that are links to the same folder.
        let root = folder(&["store/1.jpg"]);
        fs::create_dir(root.path().join("train")).unwrap();
        link(&root, "store", "train/a");
        link(&root, "store", "train/b");
        assert_eq!(shared(&root), ["train/a", "train/b"]);
        // Links within the class folders, and to a part of another class.
        let root = folder(&["train/a/0.jpg", "train/b/0.jpg", "store/x/1.jpg"]);
        link(&root, "store", "train/a/deep");
        link(&root, "store/x", "train/b/x");
        assert_eq!(shared(&root), ["train/a/deep/x", "train/b/x"]);
    }

    #[test]
    fn a_folder_without_images_may_be_in_two_classes() {
        let root = folder(&["train/a/0.jpg", "train/b/0.jpg", "notes/text.txt"]);
        link(&root, "notes", "train/a/notes");
        link(&root, "notes", "train/b/notes");
        let scanned = ImageFolder::scan(root.path().join("train")).unwrap();
        assert_eq!(scanned.counts(), [1, 1]);
    }

    #[test]
    fn a_folder_in_both_splits_is_found() {
        let root = folder(&[
            "train/a/0.jpg",
            "train/b/1.jpg",
            "val/a/2.jpg",
            "val/b/3.jpg",
        ]);
        let shared = || {
            let (train, val) = ImageFolder::train_and_val(root.path()).unwrap();
            let relative = |path: &Path| path.strip_prefix(root.path()).unwrap().to_owned();
            let shared = train.shared_folder(&val);
            shared.map(|paths| paths.map(relative))
        };
        assert_eq!(shared(), None);
        link(&root, "train/b", "val/b/more");
        assert_eq!(shared(), Some(["train/b", "val/b/more"].map(PathBuf::from)));
        fs::remove_dir_all(root.path().join("val")).unwrap();
        link(&root, "train", "val");
        assert_eq!(shared(), Some(["train", "val"].map(PathBuf::from)));
    }

    #[test]
    fn broken_links_pipes_and_sockets_are_reported_and_never_opened() {
        let root = folder(&["train/ants/1.jpg"]);
        link(&root, "nowhere", "train/ants/notes");
        link(&root, "nowhere", "train/gone");
        let pipe = |name: &str| {
            let status = Command::new("mkfifo").arg(root.path().join(name)).status();
            assert!(status.unwrap().success());
        };
        pipe("train/ants/pipe");
        let socket = root.path().join("train/ants/socket");
        let _socket = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(
            unused(&root, "train"),
            [
                ("train/gone", IgnoreReason::BrokenLink),
                ("train/ants/notes", IgnoreReason::BrokenLink),
                ("train/ants/pipe", IgnoreReason::NotAFile),
                ("train/ants/socket", IgnoreReason::NotAFile),
            ]
            .map(|(name, reason)| (name.to_owned(), reason))
        );
        // With an image extension, decoding reports the pipe and does not wait for a writer.
        pipe("train/ants/pipe.jpg");
        let scanned = ImageFolder::scan(root.path().join("train")).unwrap();
        assert_eq!(scanned.len(), 2);
        let bad = dataset::find_bad_images(scanned.samples(), &Default::default(), 1).unwrap();
        assert_eq!(bad[1].1.reason(), "not a regular file");
    }
}

#[test]
fn folders_that_are_nested_too_deeply_are_an_error() {
    let deep = |levels: usize| format!("a/{}1.jpg", "x/".repeat(levels));
    let root = folder(&[&deep(64)]);
    assert_eq!(ImageFolder::scan(root.path()).unwrap().len(), 1);
    let root = folder(&[&deep(65)]);
    let error = ImageFolder::scan(root.path()).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("x/x` is more than 64 folders deep"),
        "{message}"
    );
}

#[cfg(unix)]
#[test]
fn names_may_have_newlines_quotation_marks_and_any_script() {
    let names = ["a \"b\"/line\nbreak.png", "🐝/🐜 '1'.png", "蜂/x\r\t.png"];
    let root = folder(&names);
    let mut scanned: Vec<String> = ImageFolder::scan(root.path())
        .unwrap()
        .samples()
        .iter()
        .map(|sample| {
            sample
                .path
                .strip_prefix(root.path())
                .unwrap()
                .display()
                .to_string()
        })
        .collect();
    let mut expected = names.map(String::from);
    expected.sort();
    scanned.sort();
    assert_eq!(scanned, expected);
}

#[test]
fn splits_share_the_class_map_of_train() {
    for val_name in ["val", "valid", "validation"] {
        let root = folder(&["train/a/1.jpg", "train/b/1.jpg", "train/c/1.jpg"]);
        touch(&root.path().join(val_name).join("c/1.jpg"));
        let (train, val) = ImageFolder::train_and_val(root.path()).unwrap();
        assert_eq!(train.classes(), val.classes());
        assert_eq!(
            val.counts(),
            [0, 0, 1],
            "a missing class must keep its index"
        );
        assert_eq!(val.samples()[0].label, 2);
        assert_eq!(val_folder(root.path()).unwrap(), root.path().join(val_name));
        assert_eq!(
            train_folder(root.path()).unwrap(),
            root.path().join("train")
        );
    }
}

#[test]
fn a_given_class_map_determines_the_labels() {
    let root = folder(&["ants/1.png", "bees/2.png", "bees/3.png"]);
    let classes = ["wasps", "bees", "ants"].map(String::from);
    let scanned = ImageFolder::scan_with_classes(root.path(), &classes).unwrap();
    assert_eq!(scanned.classes(), classes);
    assert_eq!(scanned.counts(), [0, 2, 1]);
    let label = |name: &str| {
        let names = names(&root, &scanned);
        names.iter().find(|(other, _)| other == name).unwrap().1
    };
    assert_eq!((label("ants/1.png"), label("bees/2.png")), (2, 1));
    let error = ImageFolder::scan_with_classes(root.path(), &classes[..2]).unwrap_err();
    assert!(
        matches!(&error, Error::UnknownClasses { unknown, .. } if unknown == &["ants"]),
        "{error}"
    );
}

#[test]
fn a_val_class_that_is_not_in_train_is_an_error() {
    let root = folder(&["train/a/1.jpg", "val/a/1.jpg", "val/wasps/1.jpg"]);
    let error = ImageFolder::train_and_val(root.path()).unwrap_err();
    assert!(matches!(&error, Error::UnknownClasses { unknown, .. } if unknown == &["wasps"]));
    let message = error.to_string();
    assert!(
        message.contains("`wasps`") && message.contains("`a`") && message.contains("val"),
        "{message}"
    );
}

#[test]
fn errors_contain_the_missing_folder_or_class() {
    let root = folder(&[
        "train/a/1.jpg",
        "empty/b/notes.txt",
        "empty/c/1.png",
        "empty/d/x.gif",
    ]);
    fs::create_dir(root.path().join("bare")).unwrap();
    let message = |result: Result<ImageFolder, Error>| result.unwrap_err().to_string();

    let missing = message(ImageFolder::scan(root.path().join("missing")));
    assert!(
        missing.contains("there is no folder") && missing.contains("missing"),
        "{missing}"
    );
    assert!(
        message(ImageFolder::scan(root.path().join("train/a/1.jpg")))
            .contains("there is no folder")
    );
    let bare = message(ImageFolder::scan(root.path().join("bare")));
    assert!(
        bare.contains("no class folders") && bare.contains("bare"),
        "{bare}"
    );
    let empty = message(ImageFolder::scan(root.path().join("empty")));
    assert!(
        empty.contains("`b`, `d`") && !empty.contains("`c`"),
        "{empty}"
    );
    let help = ImageFolder::scan(root.path().join("empty"))
        .unwrap_err()
        .help()
        .unwrap();
    assert!(
        EXTENSIONS.iter().all(|extension| help.contains(extension)),
        "{help}"
    );
    let split = ImageFolder::train_and_val(root.path())
        .unwrap_err()
        .to_string();
    assert!(
        split.contains("`val` or `valid` or `validation`"),
        "{split}"
    );
    assert!(
        ImageFolder::train_and_val(root.path().join("missing"))
            .unwrap_err()
            .to_string()
            .contains("no folder")
    );
    assert!(image_paths(root.path().join("missing")).is_err());
}

#[test]
fn layout_hints_describe_folders_without_splits() {
    let root = folder(&[
        "around/set/train/ants/1.jpg",
        "around/set/val/ants/1.jpg",
        "flat/bees/1.jpg",
        "flat/wasps/1.JPG",
        "flat/.hidden/1.jpg",
        "loose/1.jpg",
        "lone/train/ants/1.jpg",
        "nothing/notes.txt",
        "Train/Train/ants/1.jpg",
        "Val/train/ants/1.jpg",
        "Val/VALID/ants/1.jpg",
    ]);
    let at = |path: &str| root.path().join(path);
    let hint = |path: &str| match ImageFolder::train_and_val(at(path)).unwrap_err() {
        Error::NoSplit { hint, .. } => hint,
        other => panic!("{path}: {other}"),
    };
    let set = at("around/set");
    for part in ["train", "val", "train/ants", "val/ants"] {
        let actual = hint(&format!("around/set/{part}"));
        assert_eq!(actual, LayoutHint::PartOf { root: set.clone() }, "{part}");
    }
    assert_eq!(hint("around"), LayoutHint::Nested { root: set });
    let names = ["bees", "wasps"].map(String::from).to_vec();
    assert_eq!(hint("flat"), LayoutHint::Classes { names });
    assert_eq!(hint("loose"), LayoutHint::Images);
    assert_eq!(hint("lone"), LayoutHint::TrainOnly);
    for (set, actual, expected) in [("Train", "Train", "train"), ("Val", "VALID", "valid")] {
        let (actual, expected) = (actual.to_string(), expected.to_string());
        assert_eq!(hint(set), LayoutHint::WrongCase { actual, expected });
    }
    assert_eq!(hint("nothing"), LayoutHint::Other);
    let error = ImageFolder::train_and_val(at("around/set/train")).unwrap_err();
    let expected = format!("use the whole data set, `{}`", at("around/set").display());
    assert_eq!(error.help(), Some(expected));
}
