//! Unit tests of the unpickler.

use super::*;

/// Returns the reason why a pickle is rejected.
fn rejection(bytes: &[u8]) -> String {
    read(bytes).expect_err("an invalid pickle")
}

#[test]
fn integers_of_every_width_are_read() {
    for (bytes, expected) in [
        (&b"K\xff."[..], 255),
        (b"M\xff\xff.", 65535),
        (b"J\xfe\xff\xff\xff.", -2),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\xff.", -1),
        (b"\x8a\x05\x00\x00\x00\x00\x01.", 1 << 32),
    ] {
        let pickle = read(bytes).expect("a valid pickle");
        assert!(matches!(pickle.values[pickle.top], Value::Int(value) if value == expected));
    }
}

#[test]
fn memo_entries_are_references() {
    // d = {}, then (d, d). An item is set through the second reference.
    let pickle = read(b"}q\x00h\x00X\x01\x00\x00\x00aK\x01s\x86.").expect("a pair");
    let Value::Tuple(pair) = &pickle.values[pickle.top] else {
        panic!("the top value is not a tuple");
    };
    assert_eq!(pair[0], pair[1]);
    assert!(matches!(&pickle.values[pair[0]], Value::Dict(items) if items.len() == 1));
}

#[test]
fn nested_references_create_one_value_each() {
    // x = (x, x), forty times. Copies would need 2⁴⁰ values.
    let mut bytes = b"Nq\x00".to_vec();
    for _ in 0..40 {
        bytes.extend(b"h\x00\x86q\x00");
    }
    bytes.push(b'.');
    assert_eq!(read(&bytes).expect("a nested tuple").values.len(), 41);
}

#[test]
fn long_values_are_not_copied() {
    // A tuple of a thousand items, converted to torch.Size a thousand times.
    let mut bytes = b"(".to_vec();
    bytes.extend([b'N'; 1000]);
    bytes.extend(b"tq\x00ctorch\nSize\nq\x01");
    for _ in 0..1000 {
        bytes.extend(b"h\x01h\x00\x85R");
    }
    bytes.push(b'.');
    let pickle = read(&bytes).expect("a valid pickle");
    let is_long = |value: &&Value| matches!(value, Value::Tuple(items) if items.len() > 1);
    assert_eq!(pickle.values.iter().filter(is_long).count(), 1);
    // Each tensor has its own copies of its sizes, strides and storage name, so their lengths are
    // limited.
    let tensor = |key: usize, sizes: usize| {
        let key = [&(key as u32).to_le_bytes()[..], &vec![b'0'; key]].concat();
        let sizes = [b"(", &b"K\x01".repeat(sizes)[..], b"t"].concat();
        let mut bytes = b"ctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
        bytes.extend(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX");
        bytes.extend(
            [
                &key,
                &b"X\x03\0\0\0cpuK\x01tQK\0"[..],
                &sizes,
                &sizes,
                b"tR.",
            ]
            .concat(),
        );
        let pickle = read(&bytes)?;
        Ok::<_, String>(matches!(pickle.values[pickle.top], Value::Tensor(_)))
    };
    assert_eq!(tensor(20, 8), Ok(true));
    assert_eq!(tensor(20, 9), Ok(false));
    assert_eq!(tensor(21, 8), Ok(false));
}

#[test]
fn instructions_of_other_protocols_are_rejected() {
    let supported =
        b"\x80\x95.(012N\x88\x89JKM\x8a\x8bGX\x8c\x8dTUBC\x8e\x96\x97\x98)t\x85\x86\x87]ae}su\
        \x8f\x90\x91qr\x94hjc\x93R\x81\x92bQ";
    for byte in (0..=u8::MAX).filter(|byte| !supported.contains(byte)) {
        let reason = rejection(&[byte, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(
            reason.contains("unsupported pickle instruction"),
            "{byte:#04x}: {reason}"
        );
    }
    for buffer in [0x97, 0x98] {
        assert!(rejection(&[buffer]).contains("outside of the file"));
    }
    assert!(rejection(b"\x80\x06.").contains("unknown protocol 6"));
}

/// The kind of the value that a pickle describes.
fn kind(bytes: &[u8]) -> String {
    let pickle = read(bytes).expect("a valid pickle");
    Value::kind(&pickle.values, pickle.top)
}

#[test]
fn classes_and_functions_are_not_run() {
    for name in ["os\nsystem", "builtins\neval", "torch\nload"] {
        let expected = format!(
            "an object of `{}`, which was not run",
            name.replace('\n', ".")
        );
        let short = |text: &str| {
            let mut bytes = vec![0x8c, text.len() as u8];
            bytes.extend(text.as_bytes());
            bytes
        };
        let (module, function) = name.split_once('\n').expect("two names");
        let stack_global = [short(module), short(function), vec![0x93]].concat();
        for global in [format!("c{name}\n").into_bytes(), stack_global] {
            // Called, created with and without keyword arguments, and with attributes set.
            for call in [&b")R."[..], b")\x81.", b")}\x92.", b")R}b.", b")R]Nab."] {
                assert_eq!(kind(&[&global, call].concat()), expected);
            }
            assert_eq!(kind(&[&global, &b"."[..]].concat()), "a class or function");
        }
    }
    assert!(!kind(b"ca\x1b[31m\nb\n)R.").contains('\x1b'));
}

#[test]
fn containers_and_bytes_of_protocols_4_and_5_are_read() {
    for (bytes, expected) in [
        (&b"\x8f(K\x01\x90."[..], "bytes or a set"),
        (b"(K\x01\x91.", "bytes or a set"),
        (b"C\x02ab.", "bytes or a set"),
        (b"B\x02\0\0\0ab.", "bytes or a set"),
        (b"\x8e\x02\0\0\0\0\0\0\0ab.", "bytes or a set"),
        (b"\x96\x02\0\0\0\0\0\0\0ab.", "bytes or a set"),
        (b"\x8c\x02ab.", "a string"),
        (b"\x8d\x02\0\0\0\0\0\0\0ab.", "a string"),
        (b"\x80\x04\x95\x09\0\0\0\0\0\0\0}\x94.", "a dictionary"),
        (
            b"ccollections\ndefaultdict\ncbuiltins\nint\n\x85RK\x01K\x02s.",
            "a dictionary",
        ),
        (
            b"ccollections\ndeque\n)R(K\x01e.",
            "an object of `collections.deque`, which was not run",
        ),
        (b"cmy\nDict\n)\x81K\x01K\x02s.", "a dictionary"),
        // A set, then the first memoized value, a list.
        (b"]\x94\x8f\x94h\0.", "a list"),
    ] {
        assert_eq!(kind(bytes), expected, "{bytes:?}");
    }
    for truncated in [
        &b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa."[..],
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fa.",
        b"\x8b\xff\xff\xff\xff.",
    ] {
        assert!(rejection(truncated).contains("is truncated"));
    }
}

#[test]
fn the_number_of_instructions_is_limited() {
    let mut bytes = b"N".repeat(MAX_INSTRUCTIONS - 1);
    bytes.push(b'.');
    assert_eq!(kind(&bytes), "None");
    bytes.insert(0, b'N');
    assert!(rejection(&bytes).contains("more than 2097152 instructions"));
}

#[test]
fn malformed_pickles_are_errors_with_a_position() {
    let cases: [&[u8]; 14] = [
        b"",
        b".",
        b"(.",
        b"t.",
        b"\x85.",
        b"h\x07.",
        b"q\x00.",
        b"KK",
        b"X\xff\xff\xff\xffa",
        b"NNs.",
        b"]N(u.",
        b"NQ.",
        b"N)R.",
        b"Nb.",
    ];
    for bytes in cases {
        assert!(rejection(bytes).contains("byte "), "{bytes:?}");
    }
}

#[test]
fn numpy_scalars_are_ignored() {
    // numpy.float64(0.0) in protocol 2, with the old and the new module name.
    for module in ["numpy.core.multiarray", "numpy._core.multiarray"] {
        let mut bytes = format!("c{module}\nscalar\ncnumpy\ndtype\n").into_bytes();
        bytes.extend(b"X\x02\0\0\0f8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
        bytes.extend(b"c_codecs\nencode\nX\x08\0\0\0\0\0\0\0\0\0\0\0X\x06\0\0\0latin1\x86R\x86R.");
        let pickle = read(&bytes).expect("a valid pickle");
        assert!(matches!(pickle.values[pickle.top], Value::Object(_)));
    }
}

#[test]
fn tensors_must_fit_their_storage() {
    let tensor = |count: &str, offset: &str, size: &str, stride: &str| {
        let pickle = format!(
            "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n\
             X\x01\0\0\00X\x03\0\0\0cpu{count}tQ{offset}{size}\u{85}{stride}\u{85}\u{89}tR."
        );
        // Characters up to U+00FF represent bytes.
        let bytes: Vec<u8> = pickle.chars().map(|c| c as u8).collect();
        read(&bytes).map(|_| ())
    };
    for (is_valid, count, offset, size, stride) in [
        (true, "K\x06", "K\0", "K\x06", "K\x01"),
        (true, "K\x06", "K\x01", "K\x03", "K\x02"),
        (true, "K\x06", "K\x05", "K\x09", "K\0"),
        (false, "K\x06", "K\x01", "K\x06", "K\x01"),
        (false, "K\x06", "K\x02", "K\x03", "K\x02"),
        (false, "K\x06", "K\0", "J\u{ff}\u{ff}\u{ff}\u{ff}", "K\x01"),
        (false, "J\u{ff}\u{ff}\u{ff}\u{ff}", "K\0", "K\x01", "K\x01"),
    ] {
        let result = tensor(count, offset, size, stride);
        assert_eq!(
            result.is_ok(),
            is_valid,
            "{count} {offset} {size} {stride}: {result:?}"
        );
    }
}

#[test]
fn storages_with_control_characters_in_their_key_are_not_read() {
    let storage = |key: &str| {
        let pickle = format!(
            "(X\x07\0\0\0storagectorch\nFloatStorage\nX\x02\0\0\0{key}X\x03\0\0\0cpuK\x01tQ."
        );
        kind(pickle.as_bytes())
    };
    assert_eq!(storage("12"), "a storage");
    assert_eq!(storage("\x1b2"), "an object");
}
