"""A JPEG encoder (ITU-T T.81) for tests: any sampling factors, scans, markers and restart intervals."""

import collections
import io
import struct

import numpy as np
from PIL import Image

ZIGZAG = sorted(range(64), key=lambda i: (
    i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
DCT = np.array([[np.cos((2 * x + 1) * u * np.pi / 16) * (np.sqrt(0.125) if u == 0 else 0.5)
                 for x in range(8)] for u in range(8)])
# Base of the quantization tables, which grow with the frequency.
STEPS = np.array([3 + i // 8 + i % 8 for i in range(64)])[ZIGZAG]

# A component: id, sampling factors, quantization table, samples, and coefficients in zigzag order.
Component = collections.namedtuple("Component", "id h v table samples")
# A scan: indices of components, spectral selection, successive approximation.
Scan = collections.namedtuple("Scan", "components ss se ah al", defaults=(0, 63, 0, 0))


def segment(marker, payload):
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def ceil(a, b):
    return -(-a // b)


def default_tables():
    """Returns the tables of annex K, which Pillow writes: {(class, id): (lengths, symbols)}."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG")
    data, at, tables = out.getvalue(), 2, {}
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2:at + 4])[0]
        body = data[at + 4:at + 2 + length]
        while data[at + 1] == 0xC4 and body:
            count = sum(body[1:17])
            tables[divmod(body[0], 16)] = (list(body[1:17]), list(body[17:17 + count]))
            body = body[17 + count:]
        at += 2 + length
    return tables


DEFAULT_TABLES = default_tables()


def optimal_table(frequencies):
    """Returns code lengths of at most 16 bits and the symbols in their order (annex K.2)."""
    nodes = [(count, [symbol]) for symbol, count in sorted(frequencies.items())]
    nodes.append((0, [256]))  # keeps the code of all ones unused
    size = collections.Counter()
    while len(nodes) > 1:
        nodes.sort(key=lambda node: (node[0], -max(node[1])))
        (a, left), (b, right) = nodes[:2]
        size.update(left + right)
        nodes = [(a + b, left + right), *nodes[2:]]
    bits = collections.Counter(size.values())
    for length in range(max(bits), 16, -1):
        while bits[length]:
            shorter = length - 2
            while not bits[shorter]:
                shorter -= 1
            bits[length] -= 2
            bits[length - 1] += 1
            bits[shorter + 1] += 2
            bits[shorter] -= 1
    longest = max(length for length, count in bits.items() if count)
    bits[longest] -= 1  # the unused code
    symbols = sorted(frequencies, key=lambda symbol: (size[symbol], symbol))
    return [bits[length] for length in range(1, 17)], symbols


def codes(table):
    lengths, symbols = table
    result, code, at = {}, 0, 0
    for length, count in enumerate(lengths, 1):
        for symbol in symbols[at:at + count]:
            result[symbol] = (code, length)
            code += 1
        at += count
        code <<= 1
    return result


def signed(value):
    """Returns the category and the additional bits of a coefficient."""
    size = abs(value).bit_length()
    return size, value if value > 0 else value + (1 << size) - 1


class Frame:
    """The coefficients of all components."""

    def __init__(self, size, components, tables):
        self.width, self.height = size
        self.components, self.tables = components, tables
        self.hmax = max(c.h for c in components)
        self.vmax = max(c.v for c in components)
        self.mcus = ceil(self.width, 8 * self.hmax), ceil(self.height, 8 * self.vmax)
        self.blocks = [self.transform(c) for c in components]

    def component_size(self, c):
        return ceil(self.width * c.h, self.hmax), ceil(self.height * c.v, self.vmax)

    def transform(self, c):
        rows, columns = self.mcus[1] * c.v * 8, self.mcus[0] * c.h * 8
        samples = np.pad(c.samples.astype(float) - 128, (
            (0, rows - c.samples.shape[0]), (0, columns - c.samples.shape[1])), "edge")
        blocks = samples.reshape(rows // 8, 8, columns // 8, 8).swapaxes(1, 2)
        values = (DCT @ blocks @ DCT.T).reshape(rows // 8, columns // 8, 64)[..., ZIGZAG]
        return np.rint(values / self.tables[c.table]).astype(int).tolist()

    def units(self, scan):
        """Returns the MCUs of a scan, as lists of (component, block)."""
        if len(scan.components) == 1:
            index = scan.components[0]
            width, height = self.component_size(self.components[index])
            return [[(index, self.blocks[index][y][x])]
                    for y in range(ceil(height, 8)) for x in range(ceil(width, 8))]
        return [[(i, self.blocks[i][my * self.components[i].v + y][mx * self.components[i].h + x])
                 for i in scan.components
                 for y in range(self.components[i].v) for x in range(self.components[i].h)]
                for my in range(self.mcus[1]) for mx in range(self.mcus[0])]


def table_id(component):
    """Component 0 (and K) uses the first Huffman tables, the others the second, as usual."""
    return 1 if component in (1, 2) else 0


def encode_units(units, scan, progressive):
    """Returns the symbols of a restart interval: ((class, id), symbol) or (value, bits)."""
    out, last = [], collections.Counter()

    def dc(component, value):
        size, bits = signed(value - last[component])
        last[component] = value
        out.extend([((0, table_id(component)), size), (bits, size)])

    if not progressive:
        for component, block in (entry for unit in units for entry in unit):
            dc(component, block[0])
            key, run = (1, table_id(component)), 0
            for value in block[1:]:
                if value == 0:
                    run += 1
                    continue
                out.extend([(key, 0xF0)] * (run // 16))
                size, bits = signed(value)
                out.extend([(key, run % 16 << 4 | size), (bits, size)])
                run = 0
            if run:
                out.append((key, 0))
        return out
    if scan.ss == 0:
        for component, block in (entry for unit in units for entry in unit):
            if scan.ah == 0:
                dc(component, block[0] >> scan.al)
            else:
                out.append((block[0] >> scan.al & 1, 1))
        return out

    key = (1, table_id(scan.components[0]))
    ends, pending = 0, []  # blocks without further new coefficients, and their correction bits

    def flush():
        nonlocal ends, pending
        if ends:
            size = ends.bit_length() - 1
            out.extend([(key, size << 4), (ends - (1 << size), size)])
        out.extend((bit, 1) for bit in pending)
        ends, pending = 0, []

    for (_, block), in units:
        values = [abs(value) >> scan.al for value in block]
        new = [k for k in range(scan.ss, scan.se + 1) if values[k] == 1 or (values[k] and not scan.ah)]
        run, corrections = 0, []
        for k in range(scan.ss, scan.se + 1):
            if values[k] == 0:
                run += 1
                continue
            while run > 15 and new and k <= new[-1]:
                flush()
                out.append((key, 0xF0))
                out.extend((bit, 1) for bit in corrections)
                run, corrections = run - 16, []
            if scan.ah and values[k] > 1:
                corrections.append(values[k] & 1)
                continue
            flush()
            size, bits = signed(values[k] if block[k] > 0 else -values[k])
            out.extend([(key, run << 4 | size), (bits, size)])
            out.extend((bit, 1) for bit in corrections)
            run, corrections = 0, []
        if run or corrections:
            ends += 1
            pending += corrections
            if ends == 0x7FFF or len(pending) > 900:
                flush()
    flush()
    return out


def pack(symbols, tables):
    bits = []
    for first, second in symbols:
        if isinstance(first, tuple):
            code, length = tables[first][second]
            bits.append(f"{code:0{length}b}")
        elif second:
            bits.append(f"{first:0{second}b}")
    bits = "".join(bits)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big") if bits else b""
    return data.replace(b"\xff", b"\xff\0")


def encode_scan(frame, scan, progressive, restart, default, fill):
    """Returns the Huffman tables, the scan header and its data."""
    units = frame.units(scan)
    step = restart or len(units)
    intervals = [encode_units(units[i:i + step], scan, progressive) for i in range(0, len(units), step)]
    frequencies = collections.defaultdict(collections.Counter)
    for interval in intervals:
        for first, second in interval:
            if isinstance(first, tuple):
                frequencies[first][second] += 1
    if default and not progressive:
        tables = {key: DEFAULT_TABLES[key] for key in frequencies}
    else:
        tables = {key: optimal_table(counts) for key, counts in frequencies.items()}
    packed = {key: codes(table) for key, table in tables.items()}
    head = b"".join(segment(0xC4, bytes([c << 4 | i, *lengths, *symbols]))
                    for (c, i), (lengths, symbols) in sorted(tables.items()))
    ids = b"".join(bytes([frame.components[i].id, table_id(i) * 0x11]) for i in scan.components)
    sos = segment(0xDA, bytes([len(scan.components), *ids, scan.ss, scan.se, scan.ah << 4 | scan.al]))
    data = pack(intervals[0], packed)
    for number, interval in enumerate(intervals[1:]):
        data += b"\xff" * fill + bytes([0xFF, 0xD0 + number % 8]) + pack(interval, packed)
    return head, sos, data


def encode(size, components, *, sof=0xC0, scans=None, head=(), after_sof=b"", restarts=(0,), default=False, fill=0,
           between=b"", after_first=b"", tables=None, wide=False, height=None, tail=b"", separate_tables=False):
    """Encodes `components`, a list of `Component`.

    `restarts` has an interval per scan, repeated. `between` precedes every scan but the first, and
    `after_first` follows the first. With `separate_tables`, each component has the quantization
    table 0, defined again before its scan.
    """
    tables = tables or {t: STEPS * (1 + t) for t in {c.table for c in components}}
    frame = Frame(size, components, tables)
    scans = scans or [Scan(tuple(range(len(components))))]
    dqt = lambda slot, table: segment(0xDB, bytes([wide << 4 | slot]) + (
        struct.pack(">64H", *table) if wide else bytes(int(q) for q in table)))
    out = b"\xff\xd8" + b"".join(head)
    if not separate_tables:
        out += b"\xff" * fill + b"".join(dqt(slot, table) for slot, table in sorted(tables.items()))
    sof_body = struct.pack(">BHHB", 8, size[1] if height is None else height, size[0], len(components))
    for c in components:
        sof_body += bytes([c.id, c.h << 4 | c.v, 0 if separate_tables else c.table])
    out += b"\xff" * fill + segment(sof, sof_body) + after_sof
    previous = 0
    for number, scan in enumerate(scans):
        restart = restarts[number % len(restarts)]
        tables_segment, sos, data = encode_scan(frame, scan, sof == 0xC2, restart, default, fill)
        if number:
            out += between
        if separate_tables:
            out += dqt(0, tables[components[scan.components[0]].table])
        if restart != previous:
            out += segment(0xDD, struct.pack(">H", restart))
        previous = restart
        out += b"\xff" * fill + tables_segment + sos + data
        if number == 0:
            out += after_first
    return out + b"\xff" * fill + b"\xff\xd9" + tail
