"""Archives of files and the pixels that Pillow gives."""

import gzip
from pathlib import Path

import numpy as np
from safetensors.numpy import save


class Cases:
    """Files by name. Files without pixels have to be refused."""

    def __init__(self, name):
        self.name = name
        self.tensors = {}

    def add(self, name, data, pixels=None):
        assert f"{name}/file" not in self.tensors, name
        self.tensors[f"{name}/file"] = np.frombuffer(data, np.uint8)
        if pixels is not None:
            self.tensors[f"{name}/pillow"] = np.ascontiguousarray(pixels)

    def pixels(self, name):
        return self.tensors[f"{name}/pillow"]

    def save(self):
        data = gzip.compress(save(self.tensors), mtime=0)
        Path(__file__).with_name(f"{self.name}.safetensors.gz").write_bytes(data)
        files = sum(key.endswith("/file") for key in self.tensors)
        print(f"{files} files, {len(self.tensors) - files} with pixels, {len(data)} bytes")
