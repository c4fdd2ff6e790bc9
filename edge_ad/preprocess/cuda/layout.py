"""Tables, buffers and names that `preprocess.cu` and those who plan for it agree upon.

A camera's bytes lie in `raw`, one frame after the other, each at a multiple of ALIGNMENT. What is made
of them on the way lies in `scratch`: converted frames, straightened ones, halved ones. Both end in SLACK
bytes that may be read and do not count. Rows of the tables hold int32:

    conversions     CONVERSION_FIELDS     a frame that is neither grey nor three channels, or is deep
    straightenings  STRAIGHTENING_FIELDS  a camera whose parts are laid straight
    halvings        HALVING_FIELDS        a region that is halved more often than `resize_tiles` can
    tiles           TILE_FIELDS           a row of the network's input

`where`: 0 in `raw`, 1 in `scratch`; `start`, `target`, `raw`, `image`: bytes from its beginning;
`pitch`: bytes from one row to the next. `steps`, int32, says which pixels a tile's columns and rows are
made of:

    TWICE       per column and row of twice the target's: first pixel << 9 | weight of the next, of 256
    AREA        per column and row: first pixel, how many, where their float32 weights lie in `steps`
    WHOLE_AREA  `columns`: pixels across; `rows`: pixels down, then the float32 they are weighted with
    STRETCH     per column and row: first pixel, then weight << 16 | weight of the next, of 2048

`masks`, uint32: of each tile that has one, bit by bit, what is painted; `mask`: its first word, or -1.
"""

from __future__ import annotations

ALIGNMENT = 256
SLACK = 16
BLOCK = 256  # threads; __launch_bounds__ of the kernels
PATCH = (8, 32)  # rows, columns of a tile that one block of `resize_tiles` makes
STRIP = (64, 32)  # rows, columns of what one block of `straighten` makes
MOST_LEVELS = 3  # halvings in one go
MOST_BYTES = 2**31 - 1 - SLACK  # of a buffer: offsets are int32
MOST_SIDE = 2**15  # px of a frame: what the weights' tables can hold

FORMATS = (
    "yuv422_yuyv",
    "yuv422_uyvy",
    "bayerrg8",
    "bayergr8",
    "bayergb8",
    "bayerbg8",
    "deep",  # 16 bits a sample, of which `depth` count
    "grey_of_bgr",
)
ARITHMETICS = ("fixed", "fused", "plain")
MODES = ("sized", "twice", "area", "whole_area", "stretch")

CONVERSION_FIELDS = ("format", "raw", "image", "width", "height", "depth", "camera", "unused")
STRAIGHTENING_FIELDS = (
    "where",
    "start",
    "width",  # of the frame
    "height",
    "channels",
    "target",
    "left",  # of what is made, in the frame
    "top",
    "columns",
    "rows",
    "matrix",  # which of `matrices`
    "arithmetic",
    "tail",  # first column that OpenCV does not compute in vectors
    "unused",
)
HALVING_FIELDS = ("where", "start", "pitch", "width", "height", "channels", "levels", "target")
TILE_FIELDS = (
    "where",
    "start",
    "pitch",
    "width",
    "height",
    "channels",
    "levels",
    "mode",
    "columns",  # where in `steps`
    "rows",
    "mask",
    "flip",  # 1: RGB
)


def aligned(size: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def blocks_for(count: int, size: int) -> int:
    """Blocks of `size` that cover `count`."""
    return -(-count // size)
