//! An image that changes during a run stops it, and one that changed before it is resumed is listed.

#![cfg(unix)]

mod harness;

use std::io::{BufRead, BufReader};

use harness::{TestDir, is_checkpoint, train_args};

const IMAGE: &str = "data/train/vertical/03.png";

/// Starts a run without an image cache, calls `change` after the first checkpoint, and returns the
/// message with which the run fails.
fn fails_after(change: impl FnOnce(&TestDir)) -> (TestDir, String) {
    let dir = TestDir::with_stripes();
    let arguments = train_args(["500", "1"], "4", &[&["--cache-images", "0"]]);
    let (child, events, lines) = harness::start_until(&dir, &arguments, &is_checkpoint);
    assert!(events.last().is_some_and(is_checkpoint));
    change(&dir);
    // The run must not wait for a reader.
    let drain = std::thread::spawn(move || lines.map_while(Result::ok).last());
    let output = child.wait_with_output().unwrap();
    drain.join().unwrap();
    let (_, err) = harness::stdout_and_stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{err}");
    (dir, err)
}

#[test]
fn an_image_that_is_replaced_during_a_run_stops_it_with_its_name() {
    let before = TestDir::with_stripes().read(IMAGE);
    let (dir, err) = fails_after(|dir| {
        // The replacement has the modification time of the image.
        let time = dir.path(IMAGE).metadata().unwrap().modified().unwrap();
        dir.image(IMAGE, 0, 9);
        let file = std::fs::File::options().append(true).open(dir.path(IMAGE));
        file.unwrap().set_modified(time).unwrap();
    });
    assert!(err.starts_with("error: cannot load train batch "), "{err}");
    for part in [
        " of stage transfer\n",
        "\n  data/train/vertical/03.png has changed since it was first read\n",
        "\nhelp: restore the image, then resume the run with `waggle train --resume runs/train`\n",
    ] {
        assert!(err.contains(part), "{part}: {err}");
    }
    let message = dir.fails(1, &["train", "--resume", "runs/train"]);
    assert!(
        message.contains("1 modified: train/vertical/03.png"),
        "{message}"
    );
    dir.write(IMAGE, &before);
    // The image is the same again, although its file is new.
    let mut child = dir.start(&["train", "--resume", "runs/train", "--json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains(r#""event":"resumed""#)));
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn an_image_that_is_truncated_during_a_run_stops_it_with_its_name() {
    for length in [0, 60] {
        let (_, err) = fails_after(|dir| {
            let file = std::fs::File::options().write(true).open(dir.path(IMAGE));
            file.unwrap().set_len(length).unwrap();
        });
        assert!(err.contains("vertical/03.png has changed since"), "{err}");
    }
}

#[test]
fn an_image_that_is_removed_during_a_run_stops_it_with_its_name() {
    let (_, err) = fails_after(|dir| std::fs::remove_file(dir.path(IMAGE)).unwrap());
    assert!(
        err.contains("cannot read data/train/vertical/03.png"),
        "{err}"
    );
}

#[test]
fn the_batch_of_a_failed_image_is_counted_as_in_the_table() {
    let (_, err) = fails_after(|dir| {
        for number in 0..12 {
            for class in ["horizontal", "vertical"] {
                let path = dir.path(&format!("data/train/{class}/{number:02}.png"));
                std::fs::write(path, b"").unwrap();
            }
        }
    });
    // All images changed at once: the next batch to be loaded fails. There are six batches.
    let place = err.strip_prefix("error: cannot load train batch ").unwrap();
    let mut numbers = place.split([' ', '\n']);
    let batch: usize = numbers.next().unwrap().parse().unwrap();
    let epoch: usize = numbers.nth(2).unwrap().parse().unwrap();
    assert!((1..=6).contains(&batch), "{err}");
    assert!(epoch >= 2, "epoch 1 is the baseline: {err}");
}
