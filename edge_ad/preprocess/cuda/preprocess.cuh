// What the kernels of preprocess.cu are made of. Rows of the tables: layout.py.
#pragma once
#include <cuda_fp16.h>

typedef unsigned char Byte;

constexpr int WARP = 32;

struct Conversion { int format, raw, image, width, height, depth, camera, unused; };
struct Straightening {
    int where, start, width, height, channels, target, left, top, columns, rows, matrix, arithmetic, tail;
    int unused;
};
struct Halving { int where, start, pitch, width, height, channels, levels, target; };
struct Tile { int where, start, pitch, width, height, channels, levels, mode, columns, rows, mask, flip; };

// Formats of FORMATS in layout.py.
enum { YUYV, UYVY, BAYER_RG, BAYER_GR, BAYER_GB, BAYER_BG, DEEP, GREY_OF_BGR };
// Arithmetics of ARITHMETICS in layout.py.
enum { FIXED, FUSED, PLAIN };
// Modes of MODES in layout.py.
enum { SIZED, TWICE, AREA, WHOLE_AREA, STRETCH };

struct Picture {
    const Byte* first;
    int pitch, width, height;
};

template <int C>
struct Pixel {
    int value[C];
};

// A side after so many halvings: an odd last row or column stays.
__device__ inline int halved_side(int side, int levels) { return (side + (1 << levels) - 1) >> levels; }

__device__ inline int clamp(int value, int last) { return min(max(value, 0), last); }

__device__ inline int to_byte(float value) { return clamp(__float2int_rn(value), 255); }

template <int C>
__device__ Pixel<C> pixel_at(const Picture& picture, int x, int y) {
    const Byte* at = picture.first + static_cast<long long>(y) * picture.pitch + x * C;
    Pixel<C> pixel;
#pragma unroll
    for (int c = 0; c < C; ++c) pixel.value[c] = __ldg(at + c);
    return pixel;
}

// N words from an address of any alignment. Reads up to 4 bytes more: buffers end in as many (layout.py).
template <int N>
__device__ void unaligned(const Byte* at, unsigned* words) {
    const unsigned long long address = reinterpret_cast<unsigned long long>(at);
    const unsigned* aligned = reinterpret_cast<const unsigned*>(address & ~3ull);
    const unsigned shift = unsigned(address & 3u) * 8u;
    unsigned low = __ldg(aligned);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        const unsigned high = __ldg(aligned + i + 1);
        words[i] = __funnelshift_r(low, high, shift);
        low = high;
    }
}

// The sums of each channel in every two of N pixels of two rows, which begin at `at`.
template <int C, int N>
__device__ void sum_rows(const Byte* at, int pitch, int sums[N / 2][C]) {
#pragma unroll
    for (int row = 0; row < 2; ++row, at += pitch) {
        unsigned words[(N * C + 3) / 4];
        unaligned<(N * C + 3) / 4>(at, words);
#pragma unroll
        for (int i = 0; i < N * C; ++i) sums[i / C / 2][i % C] += int(words[i / 4] >> i % 4 * 8 & 255u);
    }
}

// 2 x 2 pixels (L = 1) or 4 x 4 (L = 2) halved to one, all of them inside of the picture.
template <int C, int L>
__device__ Pixel<C> halved_inside(const Picture& picture, int x, int y) {
    constexpr int N = 1 << L;
    const Byte* at = picture.first + static_cast<long long>(N * y) * picture.pitch + N * x * C;
    Pixel<C> pixel = {};
#pragma unroll
    for (int pair = 0; pair < N / 2; ++pair, at += 2ll * picture.pitch) {
        int sums[N / 2][C] = {};
        sum_rows<C, N>(at, picture.pitch, sums);
#pragma unroll
        for (int i = 0; i < N / 2 * C; ++i) pixel.value[i % C] += (sums[i / C][i % C] + 2) >> 2;
    }
    if constexpr (L == 2) {
#pragma unroll
        for (int c = 0; c < C; ++c) pixel.value[c] = (pixel.value[c] + 2) >> 2;
    }
    return pixel;
}

// Pixel (x, y) of a picture that is halved L times. What is asked for lies inside; an odd last row or
// column counts twice, in every halving.
template <int C, int L>
__device__ Pixel<C> halved(const Picture& picture, int x, int y) {
    if constexpr (L == 0) {
        return pixel_at<C>(picture, x, y);
    } else {
        if constexpr (L <= 2) {
            const bool inside = ((x + 1) << L) <= picture.width && ((y + 1) << L) <= picture.height;
            if (inside) return halved_inside<C, L>(picture, x, y);
        }
        const int right = halved_side(picture.width, L - 1) - 1;
        const int bottom = halved_side(picture.height, L - 1) - 1;
        Pixel<C> sum = {};
#pragma unroll 1
        for (int i = 0; i < 4; ++i) {
            const int from_x = min(2 * x + i % 2, right), from_y = min(2 * y + i / 2, bottom);
            const Pixel<C> part = halved<C, L - 1>(picture, from_x, from_y);
#pragma unroll
            for (int c = 0; c < C; ++c) sum.value[c] += part.value[c];
        }
#pragma unroll
        for (int c = 0; c < C; ++c) sum.value[c] = (sum.value[c] + 2) >> 2;
        return sum;
    }
}

// Any number of halvings up to MOST_LEVELS of layout.py.
template <int C>
__device__ Pixel<C> halved(const Picture& picture, int levels, int x, int y) {
    if (levels == 0) return halved<C, 0>(picture, x, y);
    if (levels == 1) return halved<C, 1>(picture, x, y);
    if (levels == 2) return halved<C, 2>(picture, x, y);
    return halved<C, 3>(picture, x, y);
}

// cv2.INTER_AREA where it is not by whole numbers: float32, rows of weighted sums, weighted.
template <int C>
__device__ Pixel<C> area(const Picture& picture, const int* steps, const int* column, const int* row) {
    float sum[C] = {};
    for (int j = 0; j < row[1]; ++j) {
        float line[C] = {};
        for (int i = 0; i < column[1]; ++i) {
            const Pixel<C> pixel = pixel_at<C>(picture, column[0] + i, row[0] + j);
            const float weight = __int_as_float(steps[column[2] + i]);
#pragma unroll
            for (int c = 0; c < C; ++c) {
                line[c] = __fadd_rn(line[c], __fmul_rn(float(pixel.value[c]), weight));
            }
        }
        const float weight = __int_as_float(steps[row[2] + j]);
#pragma unroll
        for (int c = 0; c < C; ++c) sum[c] = __fadd_rn(sum[c], __fmul_rn(weight, line[c]));
    }
    Pixel<C> mean;
#pragma unroll
    for (int c = 0; c < C; ++c) mean.value[c] = to_byte(sum[c]);
    return mean;
}

// cv2.INTER_AREA by whole numbers: a mean of `wide` x `tall` pixels, times a float32.
template <int C>
__device__ Pixel<C> whole_area(const Picture& picture, int wide, int tall, float scale, int x, int y) {
    int sum[C] = {};
    for (int j = 0; j < tall; ++j) {
        for (int i = 0; i < wide; ++i) {
            const Pixel<C> pixel = pixel_at<C>(picture, wide * x + i, tall * y + j);
#pragma unroll
            for (int c = 0; c < C; ++c) sum[c] += pixel.value[c];
        }
    }
    Pixel<C> mean;
#pragma unroll
    for (int c = 0; c < C; ++c) mean.value[c] = to_byte(__fmul_rn(float(sum[c]), scale));
    return mean;
}

// cv2.INTER_AREA where one side grows: bilinear with weights of 11 bits, two for each side.
template <int C>
__device__ Pixel<C> stretched(const Picture& picture, const int* column, const int* row) {
    const int right = min(column[0] + 1, picture.width - 1), below = min(row[0] + 1, picture.height - 1);
    const int a = column[1] >> 16, b = column[1] & 0xffff, upper = row[1] >> 16, lower = row[1] & 0xffff;
    const Pixel<C> p00 = pixel_at<C>(picture, column[0], row[0]), p01 = pixel_at<C>(picture, right, row[0]);
    const Pixel<C> p10 = pixel_at<C>(picture, column[0], below), p11 = pixel_at<C>(picture, right, below);
    Pixel<C> mean;
#pragma unroll
    for (int c = 0; c < C; ++c) {
        const int top = (p00.value[c] * a + p01.value[c] * b) >> 4;
        const int bottom = (p10.value[c] * a + p11.value[c] * b) >> 4;
        mean.value[c] = clamp((((upper * top) >> 16) + ((lower * bottom) >> 16) + 2) >> 2, 255);
    }
    return mean;
}
