"""Model files taken apart and put together again, so that tests can make other ones of them, right and wrong."""
import struct

MAGIC = b"GGUF"
STRING, ARRAY = 8, 9
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Model:
    """`keys`: [(name, type, bytes of the value)]; `tensors`: [(name, dims, type, offset)]; `data`: what follows."""

    def __init__(self, data):
        self._data, self._at = data, 0
        assert self._take(4) == MAGIC
        self.version, = self._unpack("<I")
        tensors, keys = self._unpack("<QQ")
        # Where each part begins and ends, for whoever wants to break it.
        self.marks = {"header": (0, self._at)}
        begin = self._at
        self.keys = [self._key() for _ in range(keys)]
        self.marks["keys"] = (begin, self._at)
        begin = self._at
        self.tensors = [self._tensor() for _ in range(tensors)]
        self.marks["tensors"] = (begin, self._at)
        self._at += -self._at % 32
        self.data = data[self._at:]
        self.marks["data"] = (self._at, len(data))

    def _take(self, count):
        part = self._data[self._at:self._at + count]
        assert len(part) == count
        self._at += count
        return part

    def _unpack(self, form):
        return struct.unpack(form, self._take(struct.calcsize(form)))

    def _text(self):
        length, = self._unpack("<Q")
        return self._take(length)

    def _skip_value(self, kind):
        if kind == STRING:
            self._text()
        elif kind == ARRAY:
            inner, count = self._unpack("<IQ")
            if inner in SIZES:
                self._take(SIZES[inner] * count)
            else:
                for _ in range(count):
                    self._skip_value(inner)
        else:
            self._take(SIZES[kind])

    def _key(self):
        name = self._text()
        kind, = self._unpack("<I")
        begin = self._at
        self._skip_value(kind)
        return name, kind, self._data[begin:self._at]

    def _tensor(self):
        name = self._text()
        count, = self._unpack("<I")
        dims = list(self._unpack(f"<{count}Q"))
        kind, offset = self._unpack("<IQ")
        return name, dims, kind, offset

    def set_text(self, name, value):
        name, value = name.encode(), value.encode()
        self.keys = [k for k in self.keys if k[0] != name]
        self.keys.append((name, STRING, text(value)))

    def bytes(self, tensor_count=None, key_count=None, version=None):
        """The whole file; the counts may be made to lie."""
        out = bytearray(MAGIC + struct.pack("<IQQ", self.version if version is None else version,
                                            len(self.tensors) if tensor_count is None else tensor_count,
                                            len(self.keys) if key_count is None else key_count))
        for name, kind, value in self.keys:
            out += text(name) + struct.pack("<I", kind) + value
        for name, dims, kind, offset in self.tensors:
            out += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)
        out += bytes(-len(out) % 32)
        return bytes(out + self.data)


def text(value):
    return struct.pack("<Q", len(value)) + value
