//! `report.html` of a run, `waggle report` and `waggle compare`.

mod harness;

use std::fs;

use harness::{TestDir, stdout_and_stderr, train_args};

fn train(dir: &TestDir, more: &[&str]) {
    dir.succeeds(&train_args(["2", "2"], "8", &[more]));
}

fn page(dir: &TestDir, name: &str) -> String {
    String::from_utf8(dir.read(name)).expect("the page is UTF-8")
}

/// Whether every `<tag` of the page is closed in the right order, and whether every link in the page
/// leads to an element.
#[track_caller]
fn assert_well_formed(page: &str) {
    const VOID: [&str; 3] = ["meta", "img", "br"];
    let style = page.find("<style>").expect("a style")..page.find("</style>").expect("its end");
    let body = format!(
        "{}{}",
        &page[..style.start],
        &page[style.end + "</style>".len()..]
    );
    let mut open: Vec<&str> = Vec::new();
    for tag in body.split('<').skip(1) {
        let name_end = tag.find([' ', '>']).expect("a tag ends");
        let name = &tag[..name_end];
        if name.starts_with('!') || VOID.contains(&name) {
            continue;
        }
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name), "{}", &tag[..tag.len().min(80)]),
            None => open.push(name),
        }
    }
    assert_eq!(open, Vec::<&str>::new());
    for link in body.split("href=\"").skip(1) {
        let target = link.split('"').next().expect("a value");
        let id = target.strip_prefix('#').expect("links stay in the page");
        assert!(body.contains(&format!("id=\"{id}\"")), "{target}");
    }
}

#[test]
fn a_run_ends_with_a_page_that_loads_nothing() {
    let dir = TestDir::with_stripes();
    train(&dir, &["--out", "run"]);
    let page = page(&dir, "run/report.html");
    assert_well_formed(&page);
    assert!(
        page.contains("default-src 'none'; style-src 'sha256-"),
        "{page}"
    );
    for external in [
        "http://", "https://", "<script", "url(", "@import", "<link", " style=", " on",
    ] {
        let tags = page
            .split('<')
            .map(|tag| tag.split('>').next().unwrap_or(tag));
        let has = tags
            .filter(|tag| tag.contains(external) && !tag.starts_with("/"))
            .count();
        assert!(has == 0 || external == " on", "{external}");
    }
    for part in [
        "prefers-color-scheme: dark",
        "@media print",
        "width=device-width",
        "Worst class: ",
        "<span>waggle</span> <span>train</span> <span>--data</span> ",
        "src=\"data:image/jpeg;base64,",
        "id=\"confusion\"",
        "<desc",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn the_report_command_writes_the_page_of_the_run_again() {
    let dir = TestDir::with_stripes();
    train(&dir, &["--out", "run"]);
    let written = dir.read("run/report.html");
    fs::remove_file(dir.path("run/report.html")).unwrap();
    let out = dir.succeeds(&["report", "run", "--threads", "2"]);
    assert_eq!(out, "Wrote run/report.html\n");
    assert!(dir.read("run/report.html") == written, "the pages differ");
    dir.succeeds(&["report", "run", "-o", "other.html", "--threads", "2"]);
    assert!(dir.read("other.html") == written);
    let error = dir.fails(1, &["report", "run", "-o", "other.html"]);
    assert!(error.contains("`other.html` already exists"), "{error}");
    dir.succeeds(&["report", "run", "-o", "other.html", "--overwrite"]);
}

#[test]
fn a_report_on_other_data_says_so() {
    let dir = TestDir::with_stripes();
    train(&dir, &["--out", "run"]);
    dir.stripes("more", &["horizontal", "vertical"], 12, 7);
    dir.stripes("renamed", &["horizontal", "vertical"], 12, 6);
    let image = |name| dir.path("renamed/val/vertical").join(name);
    fs::rename(image("00.png"), image("new.png")).unwrap();
    for (data, is_same) in [("more", false), ("renamed", false), ("data", true)] {
        let output = dir.waggle(&["report", "run", "--data", data, "--threads", "2"]);
        let (_, err) = stdout_and_stderr(&output);
        assert!(output.status.success(), "{err}");
        let warning = format!("warning: the val images of `{data}` are not those of the run, ");
        assert_eq!(err.starts_with(&warning), !is_same, "{err}");
        let note = "so the figures are of other data.";
        assert_eq!(page(&dir, "run/report.html").contains(note), !is_same);
    }
}

#[test]
fn a_page_without_the_images_says_that_they_are_missing() {
    let dir = TestDir::with_stripes();
    train(&dir, &["--out", "run"]);
    fs::rename(dir.path("data"), dir.path("moved")).unwrap();
    let error = dir.fails(1, &["report", "run"]);
    assert!(error.contains("--data DIR"), "{error}");
    dir.succeeds(&["report", "run", "--data", "moved", "--threads", "2"]);
    assert_well_formed(&page(&dir, "run/report.html"));
}

#[test]
#[cfg(unix)]
fn hostile_names_are_text_in_the_page() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let dir = TestDir::new();
    let classes = [
        "<script>alert(1)<\u{2044}script>",
        "\"><img src=x onerror=alert(1)>",
        "a&amp;b'\u{202e}gpj.\u{1b}[2J",
        "نملة",
    ];
    dir.stripes("data", &classes, 4, 2);
    dir.tiny_weights("tiny.safetensors", 10);
    let folder = dir.path("data/val").join(classes[0]);
    let name = OsStr::from_bytes(b"<b>\xff\"&.png");
    fs::copy(folder.join("00.png"), folder.join(name)).unwrap();
    train(&dir, &["--out", "run\"><script>"]);
    let page = page(&dir, "run\"><script>/report.html");
    assert_well_formed(&page);
    assert!(!page.contains("<script") && !page.contains("<img src=x") && !page.contains("<b>"));
    for part in [
        "&lt;script&gt;alert(1)&lt;",
        "&quot;&gt;&lt;img src=x onerror=alert(1)&gt;",
        r"a&amp;amp;b'\u{202e}gpj.\x1b[2J",
        "<bdi>نملة</bdi>",
        r"&lt;b&gt;\377\&quot;&amp;.png",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let is_raw = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
    assert!(!page.contains(is_raw));
}

#[test]
fn the_page_of_many_classes_and_long_names_is_small() {
    let dir = TestDir::new();
    let names: Vec<String> = (0..60)
        .map(|n| format!("{n:02}{}", "\"".repeat(200)))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    dir.stripes("data", &names, 2, 12);
    dir.tiny_weights("tiny.safetensors", 10);
    dir.succeeds(&train_args(["1", "1"], "64", &[&["--out", "run"]]));
    let page = page(&dir, "run/report.html");
    assert_well_formed(&page);
    assert!(page.len() < 5_000_000, "{}", page.len());
    assert!(
        page.contains("Most confused classes") && page.contains('…'),
        "names are cut"
    );
}

#[test]
fn a_report_needs_the_directory_of_a_run() {
    let dir = TestDir::with_stripes();
    let error = dir.fails(1, &["report", "data"]);
    assert!(error.contains("no `config.toml` in `data`"), "{error}");
}

#[test]
fn runs_are_compared_by_their_settings_results_and_mistakes() {
    let dir = TestDir::with_stripes();
    train(&dir, &["--out", "a"]);
    train(&dir, &["--out", "b", "--seed", "5"]);
    let out = dir.succeeds(&["compare", "a", "b", "-o", "both.html"]);
    for line in [
        "training.seed  1234  5",
        "McNemar's test on the same val images",
        "Wrote both.html",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains("training.momentum"), "{out}");
    let page = page(&dir, "both.html");
    assert_well_formed(&page);
    assert!(page.contains("<bdi>a</bdi>") && page.contains("<bdi>b</bdi>"));
    let error = dir.fails(1, &["compare", "a", "b", "-o", "both.html"]);
    assert!(error.contains("already exists"), "{error}");
    dir.fails(2, &["compare", "a"]);
}

#[test]
fn a_file_that_is_not_predictions_csv_is_not_compared() {
    let dir = TestDir::with_stripes();
    for run in ["a", "b"] {
        train(&dir, &["--out", run]);
    }
    for (text, reason) in [
        ("image,label,p\n1,2,3\n", "its first columns are not"),
        ("path,truth,predicted\nx,a,a\nx,a,b\n", "the same path"),
        ("path,truth,predicted\nx,a\n", "fields"),
    ] {
        dir.write("b/predictions.csv", text.as_bytes());
        let error = dir.fails(1, &["compare", "a", "b"]);
        let file = "cannot read b/predictions.csv";
        assert!(error.contains(file) && error.contains(reason), "{error}");
    }
}

#[test]
fn mcnemars_test_counts_the_images_that_only_one_run_classifies_correctly() {
    let dir = TestDir::with_stripes();
    train(&dir, &["--out", "a"]);
    dir.copy_folder("a", "b");
    let table = |correct: &[usize]| {
        let mut csv = "path,truth,predicted,probability_x,loss\n".to_string();
        for image in 0..20 {
            let predicted = if correct.contains(&image) { "x" } else { "y" };
            csv.push_str(&format!("val/x/{image}.png,x,{predicted},0.5,0.7\n"));
        }
        csv
    };
    let (a, b): (Vec<_>, Vec<_>) = ((0..12).collect(), (9..20).collect());
    dir.write("a/predictions.csv", table(&a).as_bytes());
    dir.write("b/predictions.csv", table(&b).as_bytes());
    let out = dir.succeeds(&["compare", "a", "b"]);
    // 9 images only in a, 8 only in b: the p-value of statsmodels is 1.
    let row = out.lines().last().expect("a row");
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells, ["a", "b", "9", "8", "1.00"], "{out}");

    dir.write(
        "b/predictions.csv",
        table(&b).replace("/3.png", "/new.png").as_bytes(),
    );
    let output = dir.waggle(&["compare", "a", "b"]);
    let warning = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success());
    assert!(
        warning.contains("the val images differ: 20 and 20, of which 19"),
        "{warning}"
    );
    assert!(!String::from_utf8_lossy(&output.stdout).contains("McNemar"));
}
