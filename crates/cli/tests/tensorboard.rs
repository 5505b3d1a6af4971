//! `waggle train --tensorboard`: the event files are complete and have the values of `metrics.csv`.

mod harness;

use std::collections::BTreeMap;
use std::fs;

use harness::{TestDir, interrupt, is_second_epoch, train_args};

/// A field of a protobuf message.
#[derive(Debug, Clone)]
enum Field {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The fields of a message: all values of each field number.
fn fields(mut bytes: &[u8]) -> BTreeMap<u64, Vec<Field>> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut fields: BTreeMap<u64, Vec<Field>> = BTreeMap::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Number(varint(&mut bytes)),
            kind => {
                let length = match kind {
                    1 => 8,
                    5 => 4,
                    2 => varint(&mut bytes) as usize,
                    other => panic!("wire type {other}"),
                };
                let (value, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(value.to_vec())
            }
        };
        fields.entry(key >> 3).or_default().push(field);
    }
    fields
}

fn bytes(fields: &BTreeMap<u64, Vec<Field>>, number: u64) -> Option<&[u8]> {
    match fields.get(&number)?.first()? {
        Field::Bytes(bytes) => Some(bytes),
        Field::Number(_) => None,
    }
}

fn number(fields: &BTreeMap<u64, Vec<Field>>, number: u64) -> u64 {
    match fields.get(&number).and_then(|values| values.first()) {
        Some(Field::Number(value)) => *value,
        _ => 0,
    }
}

/// CRC-32C by its definition, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// The events of a run's files in the order of their names. Checks all checksums.
fn events(dir: &TestDir, run: &str) -> Vec<BTreeMap<u64, Vec<Field>>> {
    let folder = format!("{run}/tensorboard");
    let mut events = Vec::new();
    for name in dir.files(&folder) {
        assert!(name.starts_with("events.out.tfevents."), "{name}");
        let file = dir.read(&format!("{folder}/{name}"));
        let mut rest = file.as_slice();
        while !rest.is_empty() {
            let take = |rest: &mut &[u8], length: usize| {
                let (taken, after) = rest.split_at(length);
                *rest = after;
                taken.to_vec()
            };
            let check = |content: &[u8], sum: &[u8]| {
                let masked = crc32c(content).rotate_right(15).wrapping_add(0xa282_ead8);
                assert_eq!(sum, masked.to_le_bytes());
            };
            let length = take(&mut rest, 8);
            check(&length, &take(&mut rest, 4));
            let length = u64::from_le_bytes(length.try_into().unwrap());
            let content = take(&mut rest, length as usize);
            check(&content, &take(&mut rest, 4));
            events.push(fields(&content));
        }
    }
    events
}

/// The values of the summaries: step, tag and value.
fn values(events: &[BTreeMap<u64, Vec<Field>>]) -> Vec<(u64, String, BTreeMap<u64, Vec<Field>>)> {
    let mut values = Vec::new();
    for event in events {
        let summary = bytes(event, 5).map(fields).unwrap_or_default();
        for value in summary.get(&1).into_iter().flatten() {
            let Field::Bytes(value) = value else {
                panic!("not a message")
            };
            let value = fields(value);
            let tag = String::from_utf8(bytes(&value, 1).unwrap().to_vec()).unwrap();
            values.push((number(event, 2), tag, value));
        }
    }
    values
}

/// The values of a scalar by step.
fn scalars(dir: &TestDir, run: &str, tag: &str) -> Vec<(u64, f32)> {
    let values = values(&events(dir, run)).into_iter();
    let values = values.filter(|(_, other, _)| other == tag);
    values
        .map(|(step, _, value)| {
            let value = bytes(&value, 2).expect("a float").try_into().unwrap();
            (step, f32::from_le_bytes(value))
        })
        .collect()
}

#[test]
fn event_files_have_the_metrics_images_and_settings_of_the_run() {
    let dir = TestDir::with_stripes();
    let more = ["--out", "run", "--tensorboard"];
    dir.succeeds(&train_args(["2", "2"], "8", &[&more]));
    let rows = dir.metrics("run");
    let expected = |column: usize| -> Vec<(u64, f32)> {
        let values = rows[1..]
            .iter()
            .map(|row| row.split(',').nth(column).unwrap().parse());
        let values = (1..).zip(values);
        values
            .filter_map(|(step, value)| Some((step, value.ok()?)))
            .collect()
    };
    assert_eq!(expected(4).len(), 4);
    assert_eq!(expected(2).len(), 2, "the baselines do not train");
    for (column, tag) in [
        (2, "loss/train"),
        (3, "accuracy/train"),
        (4, "loss/val"),
        (5, "accuracy/val"),
    ] {
        assert_eq!(scalars(&dir, "run", tag), expected(column), "{tag}");
    }
    let values = values(&events(&dir, "run"));
    for (step, tag) in [(0, "train_batch"), (4, "confusion_matrix")] {
        let (_, _, value) = values
            .iter()
            .find(|(at, other, _)| (*at, other.as_str()) == (step, tag))
            .expect(tag);
        let image = fields(bytes(value, 4).expect("an image"));
        assert_eq!(
            bytes(&image, 4),
            Some(dir.read(&format!("run/{tag}.png")).as_slice())
        );
    }
    let content = |tag: &str| {
        let (_, _, value) = values.iter().find(|(_, other, _)| other == tag).expect(tag);
        let plugin = fields(bytes(&fields(bytes(value, 9).unwrap()), 1).unwrap());
        assert_eq!(bytes(&plugin, 1), Some(&b"hparams"[..]));
        fields(bytes(&plugin, 2).unwrap())
    };
    let messages = |of: &BTreeMap<u64, Vec<Field>>, number: u64| -> Vec<_> {
        let values = of[&number].iter();
        let values = values.map(|value| match value {
            Field::Bytes(value) => fields(value),
            Field::Number(_) => panic!("not a message"),
        });
        values.collect()
    };
    let experiment = &messages(&content("_hparams_/experiment"), 2)[0];
    let infos = messages(experiment, 4);
    let seed = infos
        .iter()
        .find(|info| bytes(info, 1) == Some(b"training.seed"));
    assert_eq!(number(seed.expect("the seed"), 4), 3, "DATA_TYPE_FLOAT64");
    let metric = &messages(&messages(experiment, 5)[0], 1)[0];
    assert_eq!(bytes(metric, 2), Some(&b"accuracy/val"[..]));
    let session = &messages(&content("_hparams_/session_start_info"), 3)[0];
    let settings = messages(session, 1);
    let seed = settings
        .iter()
        .find(|entry| bytes(entry, 1) == Some(b"training.seed"));
    let seed = &messages(seed.expect("the seed"), 2)[0];
    assert_eq!(bytes(seed, 2), Some(&1234f64.to_le_bytes()[..]));
    let end = &messages(&content("_hparams_/session_end_info"), 4)[0];
    assert_eq!(number(end, 1), 1, "STATUS_SUCCESS");
}

#[test]
fn a_resumed_run_continues_its_event_files() {
    let dir = TestDir::with_stripes();
    let arguments = train_args(["3", "1"], "4", &[&["--out", "run", "--tensorboard"]]);
    let run = interrupt(&dir, &arguments, &["INT"], &is_second_epoch);
    assert_eq!(run.code, Some(130));
    // The heading and the rows before the next step.
    let next_step = dir.metrics("run").len() as u64;
    dir.succeeds(&["train", "--resume", "run"]);
    assert_eq!(dir.files("run/tensorboard").len(), 2);
    let steps: Vec<u64> = scalars(&dir, "run", "loss/val")
        .iter()
        .map(|(step, _)| *step)
        .collect();
    assert_eq!(steps, [1, 2, 3, 4]);
    // Events of earlier files from this step on are dropped by TensorBoard.
    let starts: Vec<u64> = events(&dir, "run")
        .iter()
        .filter(|event| event.contains_key(&7))
        .map(|event| number(event, 2))
        .collect();
    assert_eq!(starts, [next_step]);
}

#[test]
fn a_run_resumed_with_the_flag_gets_the_epochs_before_it_too() {
    let dir = TestDir::with_stripes();
    let arguments = train_args(["3", "1"], "4", &[&["--out", "run"]]);
    interrupt(&dir, &arguments, &["INT"], &is_second_epoch);
    assert!(fs::metadata(dir.path("run/tensorboard")).is_err());
    dir.succeeds(&["train", "--resume", "run", "--tensorboard"]);
    assert_eq!(scalars(&dir, "run", "loss/val").len(), 4);
}
