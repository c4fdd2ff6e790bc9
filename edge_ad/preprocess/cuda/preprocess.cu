// Camera bytes -> rows of the network's input, bit by bit what OpenCV makes of them on the CPU.
//
//     convert_pixels  pixel formats -> grey or BGR            (only cameras that need it)
//     straighten      the part where it lay in the reference  (only cameras that locate it)
//     halve_regions   many halvings                           (only regions that are very large)
//     resize_tiles    ROI, tiles, resize, mask, three channels
//
// The CPU's code is the reference: capture/pixels.py, locate/locator.py, preprocess/resize.py, zones.py.
// Where OpenCV computes with floats, products and sums are rounded as it does: no `a * b + c` is left to
// the compiler. Nothing is to be prepared between two frames.

#include "preprocess.cuh"

__device__ inline void store(Byte* at, int blue, int green, int red) {
    at[0] = Byte(clamp(blue, 255));
    at[1] = Byte(clamp(green, 255));
    at[2] = Byte(clamp(red, 255));
}

// ITU-R BT.601 with 20 bits behind the point; two pixels share u and v.
__device__ inline void from_yuv(const Byte* pair, bool luma_first, int second, Byte* image) {
    const int y = max(0, pair[2 * second + !luma_first] - 16) * 1220542 + (1 << 19);
    const int u = pair[luma_first] - 128, v = pair[2 + luma_first] - 128;
    store(image, (y + 2116026 * u) >> 20, (y - 852492 * v - 409993 * u) >> 20, (y + 1673527 * v) >> 20);
}

// Bilinear: means of the nearest samples of a colour; the outermost pixels are as those next to them.
__device__ inline void from_bayer(const Byte* raw, int format, int width, int height, int x, int y,
                                  Byte* image) {
    const int red_x = format == BAYER_GR || format == BAYER_BG;
    const int red_y = format == BAYER_GB || format == BAYER_BG;
    x = min(max(x, 1), width - 2);
    y = min(max(y, 1), height - 2);
    const Byte *at = raw + static_cast<long long>(y) * width + x, *up = at - width, *down = at + width;
    const bool red_column = x % 2 == red_x, red_row = y % 2 == red_y;
    if (red_column != red_row) {  // green
        const int across = (at[-1] + at[1] + 1) >> 1, along = (up[0] + down[0] + 1) >> 1;
        store(image, red_row ? along : across, at[0], red_row ? across : along);
        return;
    }
    const int corners = (up[-1] + up[1] + down[-1] + down[1] + 2) >> 2;
    const int green = (up[0] + down[0] + at[-1] + at[1] + 2) >> 2;
    store(image, red_row ? corners : at[0], green, red_row ? at[0] : corners);
}

// One pixel a thread. `faults`: one word per camera, 1 where a sample has more bits than its depth; whoever
// finds it set clears it. Grid: any x conversions.
extern "C" __global__ void __launch_bounds__(256, 4)
convert_pixels(const Conversion* __restrict__ conversions, const Byte* __restrict__ raw, Byte* scratch,
               unsigned* faults) {
    const Conversion job = conversions[blockIdx.y];
    const Byte* from = raw + job.raw;
    const int step = gridDim.x * blockDim.x, pixels = job.width * job.height;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < pixels; i += step) {
        const int y = i / job.width, x = i - y * job.width;
        Byte* image = scratch + job.image;
        if (job.format <= UYVY) {
            from_yuv(from + (i & ~1) * 2ll, job.format == YUYV, i & 1, image + 3ll * i);
        } else if (job.format <= BAYER_BG) {
            from_bayer(from, job.format, job.width, job.height, x, y, image + 3ll * i);
        } else if (job.format == DEEP) {
            const unsigned sample = from[2ll * i] | unsigned(from[2ll * i + 1]) << 8;
            image[i] = Byte(sample >> (job.depth - 8));
            if (sample >> job.depth) faults[job.camera] = 1;
        } else {
            const Byte* bgr = from + 3ll * i;
            image[i] = Byte((bgr[0] * 3735 + bgr[1] * 19235 + bgr[2] * 9798 + (1 << 14)) >> 15);
        }
    }
}

// Where OpenCV 4 looks for a pixel: columns and rows rounded for themselves, in 1/1024. Doubles are slow
// here; to multiply by 1024 first changes no digit and saves one of them.
__device__ inline int fixed_column(const double* m, int x) {
    return __double2int_rn(__dmul_rn(m[0] * 1024.0, double(x)));
}

__device__ inline int fixed_row(const double* m, int y) {
    return __double2int_rn(__dadd_rn(__dmul_rn(m[1] * 1024.0, double(y)), m[2] * 1024.0)) + 16;
}

// Where OpenCV 5 looks for it: float32, fused where the processor can. The last columns, which do not fill
// a vector, are added up in another order.
__device__ inline float float_place(const double* m, int x, int y, bool fused, bool tail) {
    const float a = float(m[0]), b = float(m[1]), c = float(m[2]);
    const float row = __fmul_rn(float(y), b);
    if (tail) {
        const float both = fused ? __fmaf_rn(float(x), a, row) : __fadd_rn(__fmul_rn(float(x), a), row);
        return __fadd_rn(both, c);
    }
    const float offset = __fadd_rn(row, c);
    return fused ? __fmaf_rn(float(x), a, offset) : __fadd_rn(__fmul_rn(float(x), a), offset);
}

// from + share (to - from)
__device__ inline float between(float from, float to, float share, bool fused) {
    const float difference = __fsub_rn(to, from);
    return fused ? __fmaf_rn(share, difference, from) : __fadd_rn(__fmul_rn(share, difference), from);
}

// The pixel at (column + a, row + b), a and b below 1: in 1/32 for `fixed`, else float32. Outside of the
// frame its edge goes on.
template <int C>
__device__ void sample(const Picture& frame, int column, int row, float a, float b, int arithmetic,
                       Byte* out) {
    const int left = clamp(column, frame.width - 1), right = clamp(column + 1, frame.width - 1);
    const int top = clamp(row, frame.height - 1), bottom = clamp(row + 1, frame.height - 1);
    const Pixel<C> p00 = pixel_at<C>(frame, left, top), p01 = pixel_at<C>(frame, right, top);
    const Pixel<C> p10 = pixel_at<C>(frame, left, bottom), p11 = pixel_at<C>(frame, right, bottom);
    const int u = int(a), v = int(b);
    const bool fused = arithmetic == FUSED;
#pragma unroll
    for (int c = 0; c < C; ++c) {
        if (arithmetic == FIXED) {
            const int upper = p00.value[c] * (32 - u) + p01.value[c] * u;
            const int lower = p10.value[c] * (32 - u) + p11.value[c] * u;
            out[c] = Byte((upper * (32 - v) + lower * v + 512) >> 10);
        } else {
            const float upper = between(float(p00.value[c]), float(p01.value[c]), a, fused);
            const float lower = between(float(p10.value[c]), float(p11.value[c]), a, fused);
            out[c] = Byte(to_byte(between(upper, lower, b, fused)));
        }
    }
}

constexpr int STRIP_COLUMNS = 32, STRIP_ROWS = 64;

// One pixel of the straightened frame; column_x to row_y: what `fixed_column` and `fixed_row` are there.
template <int C>
__device__ void straight_pixel(const Straightening& job, const Picture& frame, const double* m, int x,
                               int y, int column_x, int column_y, int row_x, int row_y, Byte* out) {
    if (job.arithmetic == FIXED) {
        const int at_x = (column_x + row_x) >> 5, at_y = (column_y + row_y) >> 5;  // in 1/32
        sample<C>(frame, at_x >> 5, at_y >> 5, float(at_x & 31), float(at_y & 31), FIXED, out);
        return;
    }
    const bool fused = job.arithmetic == FUSED, tail = x >= job.tail;
    const float a = float_place(m, x, y, fused, tail), b = float_place(m + 3, x, y, fused, tail);
    const float column = floorf(a), row = floorf(b);
    sample<C>(frame, int(column), int(row), __fsub_rn(a, column), __fsub_rn(b, row), job.arithmetic, out);
}

// A block makes a strip of 64 rows of 32 pixels, a thread every eighth of a column. matrices [n, 2, 3]:
// what takes a place in the reference to one in the frame. Grid: any x straightenings; blocks of whole
// warps.
extern "C" __global__ void __launch_bounds__(256, 4)
straighten(const Straightening* __restrict__ table, const double* __restrict__ matrices,
           const Byte* __restrict__ raw, Byte* scratch) {
    __shared__ int places[2][STRIP_ROWS];
    const Straightening job = table[blockIdx.y];
    const double* m = matrices + 6 * job.matrix;
    const Byte* first = (job.where ? scratch : raw) + job.start;
    const Picture frame = {first, job.width * job.channels, job.width, job.height};
    const int across = (job.columns + STRIP_COLUMNS - 1) / STRIP_COLUMNS;
    const int strips = across * ((job.rows + STRIP_ROWS - 1) / STRIP_ROWS);
    const bool fixed = job.arithmetic == FIXED;
    for (int strip = blockIdx.x; strip < strips; strip += gridDim.x) {
        const int i = strip % across * STRIP_COLUMNS + int(threadIdx.x % WARP), x = job.left + i;
        const int top = strip / across * STRIP_ROWS, rows = min(STRIP_ROWS, job.rows - top);
        if (fixed) {
            for (int j = threadIdx.x; j < 2 * STRIP_ROWS; j += blockDim.x) {
                places[j % 2][j / 2] = fixed_row(m + 3 * (j % 2), job.top + top + j / 2);
            }
            __syncthreads();
        }
        const int column_x = fixed ? fixed_column(m, x) : 0, column_y = fixed ? fixed_column(m + 3, x) : 0;
        for (int j = int(threadIdx.x / WARP); j < rows && i < job.columns; j += int(blockDim.x / WARP)) {
            const int y = job.top + top + j, at = (top + j) * job.columns + i;
            const int row_x = fixed ? places[0][j] : 0, row_y = fixed ? places[1][j] : 0;
            Byte* out = scratch + job.target + at * job.channels;
            if (job.channels == 1) {
                straight_pixel<1>(job, frame, m, x, y, column_x, column_y, row_x, row_y, out);
            } else {
                straight_pixel<3>(job, frame, m, x, y, column_x, column_y, row_x, row_y, out);
            }
        }
        if (fixed) __syncthreads();
    }
}

// One pixel of a region halved `levels` times per thread. Grid: any x halvings.
extern "C" __global__ void __launch_bounds__(256, 4)
halve_regions(const Halving* __restrict__ table, const Byte* __restrict__ raw, Byte* scratch) {
    const Halving job = table[blockIdx.y];
    const Byte* start = (job.where ? scratch : raw) + job.start;
    const Picture picture = {start, job.pitch, job.width, job.height};
    const int width = halved_side(job.width, job.levels), height = halved_side(job.height, job.levels);
    const int step = gridDim.x * blockDim.x;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < width * height; i += step) {
        const int y = i / width, x = i - y * width;
        Byte* out = scratch + job.target;
        if (job.channels == 1) {
            out[i] = Byte(halved<1>(picture, job.levels, x, y).value[0]);
        } else {
            const Pixel<3> pixel = halved<3>(picture, job.levels, x, y);
            store(out + 3ll * i, pixel.value[0], pixel.value[1], pixel.value[2]);
        }
    }
}

constexpr int PATCH_ROWS = 8, PATCH_COLUMNS = 32;

// The part of a halved region that a patch of twice the target's size is interpolated from, and the bytes
// from one of its rows to the next in shared memory.
struct Neighbourhood {
    int left, top, columns, rows, pitch;
};

template <int C>
__device__ Neighbourhood neighbourhood(const Tile& tile, const int* columns, const int* rows, int x, int y,
                                       int width, int height) {
    const int right = halved_side(tile.width, tile.levels) - 1;
    const int bottom = halved_side(tile.height, tile.levels) - 1;
    const int last_x = 2 * min(x + PATCH_COLUMNS, width) - 1, last_y = 2 * min(y + PATCH_ROWS, height) - 1;
    const int left = columns[2 * x] >> 9, top = rows[2 * y] >> 9;
    const int wide = min((columns[last_x] >> 9) + 1, right) - left + 1;
    const int tall = min((rows[last_y] >> 9) + 1, bottom) - top + 1;
    return {left, top, wide, tall, (wide * C + 3) / 4 * 4};
}

// A neighbourhood into shared memory, a warp for every row; words at a time where nothing is halved.
template <int C>
__device__ void gather(const Tile& tile, const Picture& picture, const Neighbourhood& near, Byte* patch) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    for (int j = warp; j < near.rows; j += warps) {
        Byte* row = patch + j * near.pitch;
        if (tile.levels == 0) {
            const long long offset = static_cast<long long>(near.top + j) * picture.pitch + near.left * C;
            for (int word = lane; word < near.pitch / 4; word += WARP) {
                unaligned<1>(picture.first + offset + 4 * word, reinterpret_cast<unsigned*>(row) + word);
            }
            continue;
        }
        for (int i = lane; i < near.columns; i += WARP) {
            const Pixel<C> pixel = halved<C>(picture, tile.levels, near.left + i, near.top + j);
#pragma unroll
            for (int c = 0; c < C; ++c) row[i * C + c] = Byte(pixel.value[c]);
        }
    }
}

// Bilinear to twice the target's size with weights of 8 bits, then halved.
template <int C>
__device__ Pixel<C> twice_halved(const Byte* patch, const Neighbourhood& near, const int* columns,
                                 const int* rows) {
    Pixel<C> sum = {};
#pragma unroll
    for (int j = 0; j < 2; ++j) {
        const int row = rows[j], down = row & 511, y = (row >> 9) - near.top;
        const Byte *upper = patch + y * near.pitch, *lower = patch + min(y + 1, near.rows - 1) * near.pitch;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const int column = columns[i], share = column & 511, x = (column >> 9) - near.left;
            const int next = min(x + 1, near.columns - 1);
#pragma unroll
            for (int c = 0; c < C; ++c) {
                const int top = upper[x * C + c] * (256 - share) + upper[next * C + c] * share;
                const int bottom = lower[x * C + c] * (256 - share) + lower[next * C + c] * share;
                sum.value[c] += (top * (256 - down) + bottom * down + (1 << 15)) >> 16;
            }
        }
    }
#pragma unroll
    for (int c = 0; c < C; ++c) sum.value[c] = (sum.value[c] + 2) >> 2;
    return sum;
}

// This thread's pixel (x, y) of a patch that begins at (left, top); all threads of a block call it.
template <int C>
__device__ Pixel<C> resized(const Tile& tile, const Picture& picture, const int* steps, Byte* patch,
                            int left, int top, int x, int y, int width, int height) {
    const int *columns = steps + tile.columns, *rows = steps + tile.rows;
    const bool inside = x < width && y < height;
    if (tile.mode == TWICE) {
        const Neighbourhood near = neighbourhood<C>(tile, columns, rows, left, top, width, height);
        gather<C>(tile, picture, near, patch);
        __syncthreads();
        if (inside) return twice_halved<C>(patch, near, columns + 2 * x, rows + 2 * y);
        return {};
    }
    if (!inside) return {};
    if (tile.mode == SIZED) return halved<C>(picture, tile.levels, x, y);
    if (tile.mode == AREA) return area<C>(picture, steps, columns + 3 * x, rows + 3 * y);
    if (tile.mode == STRETCH) return stretched<C>(picture, columns + 2 * x, rows + 2 * y);
    return whole_area<C>(picture, columns[0], rows[0], __int_as_float(rows[1]), x, y);
}

// A patch from shared memory to its rows of the input, words at a time where they are aligned.
__device__ inline void write_bytes(const Byte* colours, int columns, int rows, int pitch, Byte* out) {
    const int size = 3 * columns;
    if (pitch % 4 == 0) {
        for (int i = threadIdx.x; i < rows * (size / 4); i += blockDim.x) {
            const int row = i / (size / 4), word = i - row * (size / 4);
            const Byte* from = colours + row * 3 * PATCH_COLUMNS + 4 * word;
            *reinterpret_cast<unsigned*>(out + static_cast<long long>(row) * pitch + 4 * word) =
                *reinterpret_cast<const unsigned*>(from);
        }
        return;
    }
    for (int i = threadIdx.x; i < rows * size; i += blockDim.x) {
        const int row = i / size, byte = i - row * size;
        out[static_cast<long long>(row) * pitch + byte] = colours[row * 3 * PATCH_COLUMNS + byte];
    }
}

__device__ inline void write_halves(const Byte* colours, int columns, int rows, int pitch, __half* out) {
    const int size = 3 * columns;
    for (int i = threadIdx.x; i < rows * size; i += blockDim.x) {
        const int row = i / size, byte = i - row * size;
        const int number = colours[row * 3 * PATCH_COLUMNS + byte];
        out[static_cast<long long>(row) * pitch + byte] = __int2half_rn(number);
    }
}

// Rows [tiles, height, width, 3] of the network's input, BGR; `halves`: as fp16 instead of bytes, 0 to 255.
// A block makes 8 x 32 pixels. Grid: any x tiles; blocks of 256 threads; dynamic shared memory: see
// plan.py.
extern "C" __global__ void __launch_bounds__(256, 4)
resize_tiles(const Tile* __restrict__ tiles, const int* __restrict__ steps,
             const unsigned* __restrict__ masks, const Byte* __restrict__ raw,
             const Byte* __restrict__ scratch, int height, int width, int halves, Byte* rows) {
    extern __shared__ float4 dynamic_shared[];
    Byte* colours = reinterpret_cast<Byte*>(dynamic_shared);
    Byte* patch = colours + 3 * PATCH_ROWS * PATCH_COLUMNS;
    const Tile tile = tiles[blockIdx.y];
    const Byte* start = (tile.where ? scratch : raw) + tile.start;
    const Picture picture = {start, tile.pitch, tile.width, tile.height};
    const int across = (width + PATCH_COLUMNS - 1) / PATCH_COLUMNS;
    const int patches = across * ((height + PATCH_ROWS - 1) / PATCH_ROWS);
    const long long first = static_cast<long long>(blockIdx.y) * height;
    for (int at = blockIdx.x; at < patches; at += gridDim.x) {
        const int left = at % across * PATCH_COLUMNS, top = at / across * PATCH_ROWS;
        const int x = left + int(threadIdx.x % PATCH_COLUMNS), y = top + int(threadIdx.x / PATCH_COLUMNS);
        Pixel<3> pixel;
        if (tile.channels == 1) {
            const int grey =
                resized<1>(tile, picture, steps, patch, left, top, x, y, width, height).value[0];
            pixel = {grey, grey, grey};
        } else {
            pixel = resized<3>(tile, picture, steps, patch, left, top, x, y, width, height);
        }
        if (tile.mask >= 0 && x < width && y < height) {
            const int bit = y * width + x;
            if (masks[tile.mask + bit / 32] >> bit % 32 & 1u) pixel = {128, 128, 128};
        }
        const int red = tile.flip ? 0 : 2;
        store(colours + 3 * threadIdx.x, pixel.value[2 - red], pixel.value[1], pixel.value[red]);
        __syncthreads();
        const int columns = min(PATCH_COLUMNS, width - left), lines = min(PATCH_ROWS, height - top);
        const long long target = ((first + top) * width + left) * 3;
        if (halves) {
            write_halves(colours, columns, lines, 3 * width, reinterpret_cast<__half*>(rows) + target);
        } else {
            write_bytes(colours, columns, lines, 3 * width, rows + target);
        }
        __syncthreads();
    }
}
