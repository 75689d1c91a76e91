"""XXH3, 64 bits, seed 0, default secret: the digest of `.tern` files. Written from the algorithm's description; slow, for small files."""
M64 = (1 << 64) - 1
P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
PMX1, PMX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25
SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e")


def _u(data, at, n):
    return int.from_bytes(data[at:at + n], "little")


def _fold(a, b):
    p = a * b
    return (p & M64) ^ (p >> 64)


def _avalanche(h):
    h ^= h >> 37
    h = h * PMX1 & M64
    return h ^ h >> 32


def _avalanche64(h):
    h ^= h >> 33
    h = h * P64[1] & M64
    h ^= h >> 29
    h = h * P64[2] & M64
    return h ^ h >> 32


def _mix16(data, at, secret):
    return _fold(_u(data, at, 8) ^ _u(SECRET, secret, 8), _u(data, at + 8, 8) ^ _u(SECRET, secret + 8, 8))


def _short(d):
    n = len(d)
    if n == 0:
        return _avalanche64(_u(SECRET, 56, 8) ^ _u(SECRET, 64, 8))
    if n <= 3:
        combined = d[0] << 16 | d[n >> 1] << 24 | d[n - 1] | n << 8
        return _avalanche64(combined ^ (_u(SECRET, 0, 4) ^ _u(SECRET, 4, 4)))
    if n <= 8:
        h = (_u(d, n - 4, 4) + (_u(d, 0, 4) << 32)) ^ (_u(SECRET, 8, 8) ^ _u(SECRET, 16, 8))
        rotate = lambda v, r: (v << r | v >> (64 - r)) & M64
        h ^= rotate(h, 49) ^ rotate(h, 24)
        h = h * PMX2 & M64
        h ^= (h >> 35) + n
        h = h * PMX2 & M64
        return h ^ h >> 28
    low = _u(d, 0, 8) ^ (_u(SECRET, 24, 8) ^ _u(SECRET, 32, 8))
    high = _u(d, n - 8, 8) ^ (_u(SECRET, 40, 8) ^ _u(SECRET, 48, 8))
    return _avalanche((n + int.from_bytes(low.to_bytes(8, "little"), "big") + high + _fold(low, high)) & M64)


def _middle(d):
    n = len(d)
    acc = n * P64[0] & M64
    if n <= 128:
        for i in range((n - 1) // 32, -1, -1):
            acc += _mix16(d, 16 * i, 32 * i) + _mix16(d, n - 16 * (i + 1), 32 * i + 16)
        return _avalanche(acc & M64)
    for i in range(8):
        acc += _mix16(d, 16 * i, 16 * i)
    acc = _avalanche(acc & M64)
    for i in range(8, n // 16):
        acc += _mix16(d, 16 * i, 16 * (i - 8) + 3)
    return _avalanche((acc + _mix16(d, n - 16, 136 - 17)) & M64)


def _long(d):
    n = len(d)
    acc = [P32[2], P64[0], P64[1], P64[2], P64[3], P32[1], P64[4], P32[0]]

    def accumulate(at, secret):
        for i in range(8):
            value = _u(d, at + 8 * i, 8)
            key = value ^ _u(SECRET, secret + 8 * i, 8)
            acc[i ^ 1] = (acc[i ^ 1] + value) & M64
            acc[i] = (acc[i] + (key & 0xFFFFFFFF) * (key >> 32)) & M64

    stripes_per_block = (len(SECRET) - 64) // 8
    block = 64 * stripes_per_block
    blocks = (n - 1) // block
    for b in range(blocks):
        for s in range(stripes_per_block):
            accumulate(b * block + 64 * s, 8 * s)
        for i in range(8):
            acc[i] = ((acc[i] ^ acc[i] >> 47 ^ _u(SECRET, len(SECRET) - 64 + 8 * i, 8)) * P32[0]) & M64
    for s in range((n - 1 - block * blocks) // 64):
        accumulate(blocks * block + 64 * s, 8 * s)
    accumulate(n - 64, len(SECRET) - 64 - 7)
    h = n * P64[0] & M64
    for i in range(4):
        h += _fold(acc[2 * i] ^ _u(SECRET, 11 + 16 * i, 8), acc[2 * i + 1] ^ _u(SECRET, 19 + 16 * i, 8))
    return _avalanche(h & M64)


def xxh3_64(data):
    data = bytes(data)
    return _short(data) if len(data) <= 16 else _middle(data) if len(data) <= 240 else _long(data)
