//! Tests of scanning folders: torchvision's order and rules, and errors and hints for invalid
//! folders.

use std::fs;
use std::path::Path;

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
    let root = folder(&["a/1.jpg", "a/.2.jpg", "a/.trash/3.jpg", ".git/4.jpg"]);
    let scanned = ImageFolder::scan(root.path()).unwrap();
    assert_eq!(
        (scanned.classes(), scanned.len()),
        (&["a".to_owned()][..], 1)
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_except_for_loops() {
    let root = folder(&["a/1.jpg", "elsewhere/deep/2.jpg"]);
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(root.path().join(target), root.path().join(name))
    };
    link("elsewhere/deep", "a/linked").unwrap();
    link("a", "a/circle").unwrap();
    let paths = image_paths(root.path().join("a")).unwrap();
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap())
        .collect();
    assert_eq!(paths, ["a/1.jpg", "a/linked/2.jpg"]);
    link("nowhere", "a/broken.jpg").unwrap();
    assert_eq!(
        image_paths(root.path().join("a")).unwrap().len(),
        3,
        "broken links must be listed"
    );
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
