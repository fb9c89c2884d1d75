"""The arithmetic of Ed25519 as in the textbook, slow and lax: for making signatures that a strict verifier refuses.

Source: RFC 8032, sections 5.1 and 6.
"""

import hashlib
from typing import Final

Point = tuple[int, int]

FIELD: Final = 2**255 - 19
ORDER: Final = 2**252 + 27742317777372353535851937790883648493
CURVE: Final = -121665 * pow(121666, -1, FIELD) % FIELD
NEUTRAL: Final[Point] = (0, 1)


def add(first: Point, second: Point) -> Point:
    (x1, y1), (x2, y2) = first, second
    product = CURVE * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, FIELD)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, FIELD)
    return x % FIELD, y % FIELD


def multiply(factor: int, point: Point) -> Point:
    result = NEUTRAL
    while factor:
        if factor % 2:
            result = add(result, point)
        point, factor = add(point, point), factor // 2  # Rounds down: the next bit.
    return result


def decode(content: bytes) -> Point:
    """Read a point without asking whether it is safe."""
    number = int.from_bytes(content, "little")
    sign, y = number >> 255, number % 2**255
    square = (y * y - 1) * pow(CURVE * y * y + 1, -1, FIELD)
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if (x * x - square) % FIELD:
        x = x * pow(2, (FIELD - 1) // 4, FIELD) % FIELD
    assert (x * x - square) % FIELD == 0, "the point is not on the curve"
    return (x if x % 2 == sign else -x % FIELD), y


def encode(point: Point) -> bytes:
    x, y = point
    return (y | (x % 2) << 255).to_bytes(32, "little")


BASE: Final = decode(bytes.fromhex("58" + "66" * 31))
ORDER_EIGHT: Final = decode(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"))


def secret_scalar(seed: bytes) -> int:
    number = int.from_bytes(hashlib.sha512(seed).digest()[:32], "little")
    return number & (2**254 - 8) | 2**254


def hashed(r: bytes, public_key: bytes, message: bytes) -> int:
    return int.from_bytes(hashlib.sha512(r + public_key + message).digest(), "little") % ORDER


def make_signature(*, scalar: int, public_key: bytes, nonce: int, r: bytes, message: bytes) -> bytes:
    """Sign with chosen parts, fitting together or not."""
    s = (nonce + hashed(r, public_key, message) * scalar) % ORDER
    return r + s.to_bytes(32, "little")


def is_valid_to_lax_eyes(*, public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether 8·S·B = 8·R + 8·k·A, which forgives every part of small order."""
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    challenge = multiply(hashed(r, public_key, message), decode(public_key))
    return multiply(8 * s, BASE) == multiply(8, add(decode(r), challenge))
