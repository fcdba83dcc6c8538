"""Which 32 bytes are a public key of Ed25519 that only its owner can sign for."""

from __future__ import annotations

FIELD = 2**255 - 19  # RFC 8032, section 5.1
CURVE_D = -121665 * pow(121666, -1, FIELD) % FIELD
ROOT_OF_MINUS_ONE = pow(2, (FIELD - 1) // 4, FIELD)


def is_sound_point(encoded: bytes) -> bool:
    """Whether 32 bytes are a point of the curve in its one spelling, and not one of the eight of
    small order.

    For those a signature can be made without any private key, and libraries disagree on other
    spellings (RFC 8032, sections 5.1.3 and 7; "Taming the many EdDSAs", SSR 2020).
    """
    number = int.from_bytes(encoded, "little")
    y, sign = number & ((1 << 255) - 1), number >> 255
    if y >= FIELD:
        return False
    square = (y * y - 1) * pow(CURVE_D * y * y + 1, -1, FIELD) % FIELD
    x = pow(square, (FIELD + 3) // 8, FIELD)
    if (x * x - square) % FIELD:
        x = x * ROOT_OF_MINUS_ONE % FIELD
    if (x * x - square) % FIELD or (x == 0 and sign):
        return False
    for _ in range(3):  # eight times the point: (0, 1) for the eight of small order
        bend = CURVE_D * x * x * y * y
        x, y = (
            2 * x * y * pow(1 + bend, -1, FIELD) % FIELD,
            (y * y + x * x) * pow(1 - bend, -1, FIELD) % FIELD,
        )
    return (x, y) != (0, 1)
