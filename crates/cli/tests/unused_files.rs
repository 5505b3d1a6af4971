//! Files that are not used are counted by kind, the same in `train`, `evaluate` and `check`.

mod harness;

use harness::{TestDir, json_lines, stdout_and_stderr, train_args};
use serde_json::{Value, json};

const HEIC: &[u8] = b"\0\0\0\x1cftypheic\0\0\0\0mif1heic";
const AVIF: &[u8] = b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf";
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";

/// Arguments for a run of the two baselines.
fn baseline<'a>(more: &[&'a str]) -> Vec<&'a str> {
    train_args(["1", "1"], "8", &[more])
}

/// The report of `waggle check data --json`, with any exit code.
fn check(dir: &TestDir) -> Value {
    let output = dir.waggle(&["check", "data", "--json"]);
    json_lines(&stdout_and_stderr(&output).0).remove(0)
}

/// A data set with files of many kinds that are not used, most of them in val.
fn with_unused_files() -> TestDir {
    let dir = TestDir::with_stripes();
    for (name, bytes) in [
        ("train/vertical/a.heic", HEIC),
        ("val/vertical/a.heic", HEIC),
        ("val/vertical/deep/b.HEIC", HEIC),
        ("val/horizontal/c", HEIC),
        ("val/horizontal/lfs.webm", POINTER),
        ("val/horizontal/notes.txt", b"notes"),
        ("val/readme.md", b"text"),
        ("val/horizontal/.DS_Store", b"\0\0\0\x01Bud1"),
        ("val/horizontal/._00.png", b"\0\x05\x16\x07"),
        ("val/horizontal/Thumbs.db", b"\xd0\xcf\x11\xe0"),
        ("__MACOSX/val/horizontal/._00.png", b"\0\x05\x16\x07"),
    ] {
        dir.write(&format!("data/{name}"), bytes);
    }
    dir
}

#[test]
fn unused_files_are_counted_by_kind_in_train_evaluate_and_check() {
    let dir = with_unused_files();
    let out = dir.succeeds(&baseline(&["--out", "runs/text"]));
    let line = "\n         not used: 4 HEIC images, 2 text files, 1 Git LFS pointer\n";
    assert!(out.contains(line), "{out}");
    let events = json_lines(&dir.succeeds(&baseline(&["--json"])));
    let data = events
        .iter()
        .find(|event| event["event"] == "data")
        .unwrap();
    let counts = |heic: u64| {
        json!([
            { "kind": "HEIC image", "files": heic },
            { "kind": "text file", "files": 2 },
            { "kind": "Git LFS pointer", "files": 1 },
        ])
    };
    assert_eq!(data["unused"], counts(4));

    let out = dir.succeeds(&["evaluate", "runs/train"]);
    let line = "12 images; not used: 3 HEIC images, 2 text files, 1 Git LFS pointer\n";
    assert!(out.contains(line), "{out}");
    let report = &json_lines(&dir.succeeds(&["evaluate", "runs/train", "--json"]))[0];
    assert_eq!(report["unused"], counts(3));

    let report = check(&dir);
    assert_eq!(report["splits"][1]["unused"], counts(3));
    assert_eq!(
        report["splits"][0]["unused"],
        json!([{ "kind": "HEIC image", "files": 1 }])
    );
    let (out, _) = stdout_and_stderr(&dir.waggle(&["check", "data"]));
    for line in [
        "\nNot used in train: 1 HEIC image.\n",
        "\nNot used in val: 3 HEIC images, 2 text files, 1 Git LFS pointer.\n",
        "\n    val/horizontal/notes.txt: no image extension (text file)\n",
        "\n    val/horizontal/.DS_Store: hidden (.DS_Store file)\n",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
}

#[test]
fn check_and_evaluate_count_the_same_images_also_through_links() {
    let dir = with_unused_files();
    dir.image("store/0.png", 0, 31);
    dir.image("store/deep/1.png", 0, 32);
    dir.image("other/1.png", 1, 32);
    #[cfg(unix)]
    {
        let link = |to: &str, at: &str| {
            std::os::unix::fs::symlink(dir.path(to), dir.path(at)).unwrap();
        };
        link("store", "data/val/vertical/first");
        link("store", "data/val/vertical/second");
        link("other", "data/val/horizontal/x");
        link("data", "data/val/vertical/loop");
        link("data/val/vertical/00.png", "data/val/vertical/copy.png");
        // The splits are links too.
        for split in ["train", "val"] {
            let (from, to) = (format!("data/{split}"), format!("real {split}"));
            std::fs::rename(dir.path(&from), dir.path(&to)).unwrap();
            link(&to, &from);
        }
    }
    dir.succeeds(&baseline(&[]));
    let counts = check(&dir)["splits"].clone();
    for (index, split) in ["train", "val"].into_iter().enumerate() {
        let arguments = ["evaluate", "runs/train", "--split", split, "--json"];
        let report = &json_lines(&dir.succeeds(&arguments))[0];
        let rows: Vec<Vec<u64>> = serde_json::from_value(report["confusion"].clone()).unwrap();
        for (class, row) in rows.iter().enumerate() {
            let images: u64 = row.iter().sum();
            assert_eq!(counts[index]["classes"][class]["images"], images, "{split}");
        }
        assert_eq!(counts[index]["unused"], report["unused"], "{split}");
    }
    #[cfg(unix)]
    assert_eq!(counts[1]["images"], 6 + 1 + 6 + 2 + 1);
}

#[test]
fn a_class_folder_of_heic_images_is_an_error_that_says_so() {
    let dir = TestDir::with_stripes();
    for number in 0..12 {
        dir.write(&format!("data/train/bees/IMG_{number}.HEIC"), HEIC);
    }
    dir.write("data/train/bees/.DS_Store", b"\0\0\0\x01Bud1");
    dir.write("data/train/bees/list.txt", b"text");
    let message = dir.fails(1, &baseline(&[]));
    assert_eq!(
        message,
        "error: no usable images in class folder `bees` of `data/train`, only 12 HEIC images, 1 text file\n\
         help: convert them to JPEG\n"
    );
    let report = check(&dir);
    assert_eq!(report["serious"], true);
    assert_eq!(
        report["mostly_unused"],
        json!([{
            "folder": "train/bees",
            "images": 0,
            "unused": [{ "kind": "HEIC image", "files": 12 }],
        }])
    );
    let (out, _) = stdout_and_stderr(&dir.waggle(&["check", "data"]));
    let finding = "\n! Class folders with more unused than used images: 1\n    \
                   train/bees: 12 HEIC images not used, 0 images used; convert them to JPEG\n";
    assert!(out.contains(finding), "{out}");
}

#[test]
fn a_class_of_mostly_heic_images_is_serious_in_check() {
    let dir = TestDir::with_stripes();
    for number in 0..12 {
        dir.write(&format!("data/train/vertical/{number}.avif"), AVIF);
    }
    assert_eq!(
        check(&dir)["mostly_unused"],
        json!([]),
        "as many as are used"
    );
    dir.write("data/train/vertical/lfs", POINTER);
    let folders = &check(&dir)["mostly_unused"];
    assert_eq!(folders[0]["folder"], "train/vertical");
    assert_eq!(folders[0]["unused"][0]["kind"], "AVIF image");
    // Many text files, such as labels of objects, are no finding.
    let dir = TestDir::with_stripes();
    for number in 0..30 {
        dir.write(
            &format!("data/train/vertical/{number}.txt"),
            b"0 0.5 0.5 1 1",
        );
    }
    assert_eq!(check(&dir)["mostly_unused"], json!([]));
}

#[test]
fn heic_images_named_jpg_are_named_as_what_they_are() {
    let dir = TestDir::with_stripes();
    dir.write("data/train/vertical/x.jpg", HEIC);
    let message = dir.fails(1, &baseline(&[]));
    assert!(message.contains("x.jpg: a HEIC image"), "{message}");
    let report = check(&dir);
    let reason = report["unusable"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("HEIC image"), "{reason}");
}

#[test]
fn jfif_and_jpe_files_are_images() {
    let dir = TestDir::with_stripes();
    let image = image::open(dir.path("data/train/vertical/00.png")).unwrap();
    for name in ["a.jfif", "b.JPE", "c.pbm", "d.pnm", "e.apng"] {
        let path = dir.path("data/train/vertical").join(name);
        let format = match name {
            "c.pbm" | "d.pnm" => image::ImageFormat::Pnm,
            "e.apng" => image::ImageFormat::Png,
            _ => image::ImageFormat::Jpeg,
        };
        image.save_with_format(path, format).unwrap();
    }
    let events = json_lines(&dir.succeeds(&baseline(&["--json"])));
    let data = events
        .iter()
        .find(|event| event["event"] == "data")
        .unwrap();
    assert_eq!(data["train_images"], 24 + 5);
    let report = check(&dir);
    assert_eq!(report["splits"][0]["images"], 24 + 5);
    assert_eq!(report["wrong_extension"], json!([]));
}

#[test]
fn predict_and_explain_report_the_images_of_a_folder_that_they_do_not_use() {
    let dir = with_unused_files();
    dir.succeeds(&baseline(&[]));
    let warning = "warning: not used in the folder `data/val`: 3 HEIC images, 1 Git LFS pointer\n\
                   help: convert them to JPEG\n";
    for command in [
        &["predict", "runs/train", "data/val"][..],
        &["predict", "runs/train", "data/val", "--csv"],
        &["predict", "runs/train", "data/val", "--json"],
        &["explain", "runs/train", "data/val", "--out", "maps"],
    ] {
        let output = dir.waggle(command);
        let (out, err) = stdout_and_stderr(&output);
        assert!(output.status.success(), "{err}");
        assert_eq!(err, warning, "{command:?}");
        assert!(out.lines().count() >= 12, "{out}");
    }
}

#[test]
fn predict_says_which_files_a_folder_without_images_has() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&baseline(&[]));
    dir.write("phone/1.heic", HEIC);
    let message = dir.fails(1, &["predict", "runs/train", "phone"]);
    let expected =
        "error: no images in the folder `phone`, only 1 HEIC image\nhelp: convert them to JPEG\n";
    assert_eq!(message, expected);
}

#[test]
#[cfg(target_os = "linux")]
fn class_names_that_differ_only_in_case_are_reported_by_check() {
    let dir = TestDir::with_stripes();
    dir.stripes("data", &["ants", "Ants", "Äpfel", "äpfel"], 2, 1);
    let report = check(&dir);
    let groups = json!([["Ants", "ants"], ["Äpfel", "äpfel"]]);
    assert_eq!(report["similar_classes"], groups);
    let (out, _) = stdout_and_stderr(&dir.waggle(&["check", "data"]));
    let finding = "\nClasses whose names differ only in case: 2\n    Ants, ants\n";
    assert!(out.contains(finding), "{out}");
}
