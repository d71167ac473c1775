#!/usr/bin/env python3
"""Takes the compressed payload (the kernel's ELF image) out of a bzImage: payload.py BZIMAGE PAYLOAD, and prints the command that
decompresses it to its standard output.

The payload's place and length are those of the setup header (Linux boot protocol 2.08: payload_offset, payload_length, relative to
the protected-mode code). Status 1 if it is compressed by neither xz nor gzip.
"""
import struct
import sys


def payload(image):
    # The header up to the end of payload_length.
    if len(image) < 0x250 or image[0x202:0x206] != b"HdrS" or struct.unpack_from("<H", image, 0x206)[0] < 0x208:
        raise ValueError("not a bzImage of boot protocol 2.08 or later")
    sectors = image[0x1F1] or 4
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (sectors + 1) * 512 + offset
    payload = image[start : start + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        # Behind the stream stands the uncompressed size.
        return payload, "xz -dc --single-stream"
    if payload.startswith(b"\x1f\x8b"):
        return payload, "gzip -dc"
    raise ValueError("the payload is compressed by something else: it begins with " + payload[:4].hex())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: payload.py BZIMAGE PAYLOAD")
    try:
        with open(sys.argv[1], "rb") as file:
            data, command = payload(file.read())
    except (OSError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}: {error}")
    with open(sys.argv[2], "wb") as file:
        file.write(data)
    print(command)
