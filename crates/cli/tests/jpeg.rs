//! JPEGs with components in separate scans, in `train`, `evaluate`, `predict` and `check`.

mod harness;

use std::path::Path;

use harness::{TestDir, json_lines};

/// The bytes of a file from the JPEG tests of the `dataset` crate.
fn jpeg(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dataset/tests/jpeg");
    std::fs::read(folder.join(name)).unwrap()
}

fn train<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    harness::train_args(["1", "1"], "8", &[&["--out", out], more])
}

#[test]
fn jpegs_with_separate_scans_give_the_results_of_their_pngs() {
    let dir = TestDir::with_stripes();
    let names = [
        "440_luma_chroma",
        "420_each",
        "411_each_restart",
        "rgb_each",
    ];
    for name in names {
        dir.write(
            &format!("data/train/horizontal/{name}.jpg"),
            &jpeg(&format!("{name}.jpg")),
        );
        for (folder, extension) in [("jpeg", "jpg"), ("png", "png")] {
            for class in ["horizontal", "vertical"] {
                let path = format!("{folder}/val/{class}/{name}.{extension}");
                dir.write(&path, &jpeg(&format!("{name}.{extension}")));
            }
        }
    }

    dir.succeeds(&train("run", &[]));
    let predict = |folder: &str| -> Vec<f64> {
        let lines = json_lines(&dir.succeeds(&["predict", "run", folder, "--json"]));
        assert_eq!(lines.len(), 2 * names.len());
        let top = lines.iter().map(|line| &line["top"][0]);
        top.map(|top| top["probability"].as_f64().unwrap())
            .collect()
    };
    for (jpeg, png) in predict("jpeg").into_iter().zip(predict("png")) {
        assert!((jpeg - png).abs() < 0.01, "{jpeg} and {png}");
    }
    let evaluate = |folder: &str| {
        let out = dir.succeeds(&["evaluate", "run", "--data", folder, "--json"]);
        json_lines(&out)[0]["loss"].as_f64().unwrap()
    };
    let (jpeg, png) = (evaluate("jpeg"), evaluate("png"));
    assert!((jpeg - png).abs() < 0.01, "{jpeg} and {png}");

    // The files contain the same image, so `check` reports all JPEGs and the PNGs that Pillow
    // decoded from them as one group of near duplicates.
    dir.stripes("mixed", &["horizontal", "vertical"], 1, 1);
    for name in names {
        for extension in ["jpg", "png"] {
            let file = format!("{name}.{extension}");
            dir.write(
                &format!("mixed/train/horizontal/{file}"),
                &self::jpeg(&file),
            );
        }
    }
    let report = dir.waggle(&["check", "mixed", "--json"]);
    let report = &json_lines(&String::from_utf8(report.stdout).unwrap())[0];
    assert_eq!(report["unusable"], serde_json::json!([]));
    let groups = report["duplicates"].as_array().unwrap();
    let near = |group: &serde_json::Value| {
        let text = group.to_string();
        let mut files = names
            .iter()
            .flat_map(|name| ["jpg", "png"].map(|extension| format!("{name}.{extension}")));
        group["kind"] == "near" && files.all(|file| text.contains(&file))
    };
    assert!(groups.iter().any(near), "{report}");
}

#[test]
fn train_evaluate_predict_and_check_report_unsupported_separate_scans() {
    let dir = TestDir::with_stripes();
    dir.succeeds(&train("run", &[]));
    let bytes = jpeg("three_resolutions_each.jpg");
    dir.write("data/train/horizontal/bad.jpg", &bytes);
    dir.write("data/val/horizontal/bad.jpg", &bytes);
    let reason = "a JPEG image with an unusual arrangement of scans";
    for arguments in [
        train("other", &[]),
        vec!["evaluate", "run"],
        vec!["predict", "run", "data/val/horizontal/bad.jpg"],
    ] {
        let message = dir.fails(1, &arguments);
        assert!(
            message.contains("horizontal/bad.jpg"),
            "{arguments:?}: {message}"
        );
        assert!(message.contains(reason), "{arguments:?}: {message}");
    }
    assert!(!dir.path("other").exists());
    let report = dir.waggle(&["check", "data"]);
    assert_eq!(report.status.code(), Some(1));
    let report = String::from_utf8(report.stdout).unwrap();
    assert_eq!(report.matches("bad.jpg").count(), 2, "{report}");
    assert!(report.contains(reason), "{report}");
}
