"""Base64 and base58btc in which every value has exactly one text.

Common decoders skip what they do not know and ignore bits that they do not need, so that many texts stand for one
value. Texts that are compared, stored as unique or answered as duplicates must have one form.
"""

import base64
import binascii
from typing import Final

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"  # Without 0, O, I and l.


def encode_base64(content: bytes) -> str:
    """Standard alphabet, padded."""
    return base64.b64encode(content).decode("ascii")


def decode_base64(text: object, *, size: int) -> bytes | None:
    """Exactly `size` bytes from the one text that `encode_base64` makes of them, else None.

    Refused are other lengths, the URL-safe alphabet, missing padding, white space, unused bits that are not zero, and
    what is no text.
    """
    if not isinstance(text, str) or len(text) != 4 * ((size + 2) // 3):  # Rounds up, to whole groups of three bytes.
        return None
    try:
        content = binascii.a2b_base64(text)
    except ValueError:
        return None
    return content if len(content) == size and encode_base64(content) == text else None


def encode_base58(content: bytes) -> str:
    """Bitcoin's alphabet. `content` must not begin with a zero byte: this package has no use for such values."""
    assert content[0], "a leading zero byte would be lost"
    number, digits = int.from_bytes(content, "big"), ""
    while number:
        number, digit = divmod(number, len(_BASE58))
        digits = _BASE58[digit] + digits
    return digits


def decode_base58(text: str, *, size: int) -> bytes:
    """The number that `text` stands for as `size` bytes.

    Args:
        text: Of the alphabet, which the caller has checked, and short: the time grows with the square of the length.
        size: Room enough for any number of that many digits.
    """
    number = 0
    for character in text:
        number = number * len(_BASE58) + _BASE58.index(character)
    return number.to_bytes(size, "big")
