//! Tests of the pickle reader.

use super::*;

/// The reason why a pickle of these bytes is refused.
fn refused(bytes: &[u8]) -> String {
    read(bytes).expect_err("a bad pickle")
}

#[test]
fn numbers_of_every_width_are_read() {
    for (bytes, expected) in [
        (&b"K\xff."[..], 255),
        (b"M\xff\xff.", 65535),
        (b"J\xfe\xff\xff\xff.", -2),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\xff.", -1),
        (b"\x8a\x05\x00\x00\x00\x00\x01.", 1 << 32),
    ] {
        let pickle = read(bytes).expect("a number");
        assert!(matches!(pickle.values[pickle.top], Value::Int(found) if found == expected));
    }
}

#[test]
fn what_is_remembered_is_the_same_object_and_not_a_copy() {
    // d = {}; then the pair (d, d) whose second half was filled through the memo.
    let pickle = read(b"}q\x00h\x00X\x01\x00\x00\x00aK\x01s\x86.").expect("two of the same");
    let Value::Tuple(pair) = &pickle.values[pickle.top] else {
        panic!("no pair");
    };
    assert_eq!(pair[0], pair[1]);
    assert!(matches!(&pickle.values[pair[0]], Value::Dict(items) if items.len() == 1));
}

#[test]
fn doubling_costs_a_value_a_step() {
    // x = (x, x), forty times: 2⁴⁰ values where each reference is a copy.
    let mut bytes = b"Nq\x00".to_vec();
    for _ in 0..40 {
        bytes.extend(b"h\x00\x86q\x00");
    }
    bytes.push(b'.');
    assert_eq!(read(&bytes).expect("a deep tuple").values.len(), 41);
}

#[test]
fn what_stands_for_something_long_is_no_copy_of_it() {
    // A tuple of a thousand, then torch.Size of it a thousand times.
    let mut bytes = b"(".to_vec();
    bytes.extend([b'N'; 1000]);
    bytes.extend(b"tq\x00ctorch\nSize\nq\x01");
    for _ in 0..1000 {
        bytes.extend(b"h\x01h\x00\x85R");
    }
    bytes.push(b'.');
    let pickle = read(&bytes).expect("sizes");
    let is_long = |value: &&Value| matches!(value, Value::Tuple(items) if items.len() > 1);
    assert_eq!(pickle.values.iter().filter(is_long).count(), 1);
    // A tensor copies its sizes and the name of its storage, so both are short.
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
        read(&bytes)
    };
    tensor(20, 8).expect("a tensor");
    let reason = tensor(20, 9).expect_err("too many dimensions");
    assert!(reason.contains("more than 8 dimensions"), "{reason}");
    let reason = tensor(21, 8).expect_err("a long name");
    assert!(reason.contains("no storage"), "{reason}");
}

#[test]
fn every_other_instruction_and_name_is_refused() {
    let known = b"\x80.(N\x88\x89JKM\x8aGX)t\x85\x86\x87]ae}suqrhjcRbQ";
    for byte in (0..=u8::MAX).filter(|byte| !known.contains(byte)) {
        let reason = refused(&[byte, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(
            reason.contains("torch.save does not write"),
            "{byte:#04x}: {reason}"
        );
    }
    for name in [
        "os\nsystem",
        "builtins\neval",
        "torch\nload",
        "torch._utils\n_rebuild_sparse_tensor",
    ] {
        let reason = refused(format!("c{name}\n.").as_bytes());
        assert!(reason.contains(&name.replace('\n', ".")), "{reason}");
    }
    let reason = refused(b"ca\x1b[31m\nb\n.");
    assert!(!reason.contains('\x1b'), "{reason}");
    assert!(refused(b"\x80\x04.").contains("protocol 4"));
}

#[test]
fn nonsense_is_an_error_at_a_byte() {
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
        assert!(refused(bytes).contains("byte "), "{bytes:?}");
    }
}

#[test]
fn a_number_of_numpy_is_passed_over() {
    // numpy.float64(0.0) in protocol 2, with NumPy's old and new name of its module.
    for module in ["numpy.core.multiarray", "numpy._core.multiarray"] {
        let mut bytes = format!("c{module}\nscalar\ncnumpy\ndtype\n").into_bytes();
        bytes.extend(b"X\x02\0\0\0f8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb");
        bytes.extend(b"c_codecs\nencode\nX\x08\0\0\0\0\0\0\0\0\0\0\0X\x06\0\0\0latin1\x86R\x86R.");
        let pickle = read(&bytes).expect("a number");
        assert!(matches!(pickle.values[pickle.top], Value::Opaque));
    }
    for name in [
        "numpy\nload",
        "numpy.core.multiarray\nfromfile",
        "_codecs\nlookup",
    ] {
        assert!(refused(format!("c{name}\n.").as_bytes()).contains("was not run"));
    }
}

#[test]
fn tensors_must_fit_their_storage() {
    let tensor = |count: &str, offset: &str, size: &str, stride: &str| {
        let pickle = format!(
            "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n\
             X\x01\0\0\00X\x03\0\0\0cpu{count}tQ{offset}{size}\u{85}{stride}\u{85}\u{89}tR."
        );
        // The two-byte characters above stand for single bytes.
        let bytes: Vec<u8> = pickle.chars().map(|c| c as u8).collect();
        read(&bytes)
    };
    for (good, count, offset, size, stride) in [
        (true, "K\x06", "K\0", "K\x06", "K\x01"),
        (true, "K\x06", "K\x01", "K\x03", "K\x02"),
        (true, "K\x06", "K\x05", "K\x09", "K\0"),
        (false, "K\x06", "K\x01", "K\x06", "K\x01"),
        (false, "K\x06", "K\x02", "K\x03", "K\x02"),
        (false, "K\x06", "K\0", "J\u{ff}\u{ff}\u{ff}\u{ff}", "K\x01"),
        (false, "J\u{ff}\u{ff}\u{ff}\u{ff}", "K\0", "K\x01", "K\x01"),
    ] {
        let found = tensor(count, offset, size, stride);
        assert_eq!(
            found.is_ok(),
            good,
            "{count} {offset} {size} {stride}: {found:?}"
        );
    }
}
