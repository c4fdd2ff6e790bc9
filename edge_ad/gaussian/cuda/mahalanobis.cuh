// What both entries of mahalanobis.cu are made of. Where things lie in memory: layout.py.
#pragma once
#include <cuda_fp16.h>

constexpr int WARP = 32;
constexpr unsigned ALL = 0xffffffffu;

// One level of one tile; a row of LEVEL_FIELDS in layout.py.
struct LevelGaussian {
    int weights, scales, mean, features, k, d, first, pairs, distance, half, unused, unused2;
};

// The positions of one tile; a row of TILE_FIELDS in layout.py.
struct TileGaussians {
    int weights, scales, mean, k, half, q, coefficients, context, context_mean, pooling, m, unused;
};

// What 16 bytes of a whitening factor hold: four floats, or eight halves in units of their row's scale.
struct Floats {
    static constexpr int WIDE = 4;

    static __device__ float dot(uint4 w, const float* x, float sum) {
        sum = fmaf(__uint_as_float(w.x), x[0], sum);
        sum = fmaf(__uint_as_float(w.y), x[1], sum);
        sum = fmaf(__uint_as_float(w.z), x[2], sum);
        return fmaf(__uint_as_float(w.w), x[3], sum);
    }
};

struct Halves {
    static constexpr int WIDE = 8;

    static __device__ float two(unsigned w, const float* x, float sum) {
        __half2 packed;
        memcpy(&packed, &w, sizeof packed);
        const float2 both = __half22float2(packed);
        return fmaf(both.y, x[1], fmaf(both.x, x[0], sum));
    }

    static __device__ float dot(uint4 w, const float* x, float sum) {
        return two(w.w, x + 6, two(w.z, x + 4, two(w.y, x + 2, two(w.x, x, sum))));
    }
};

// First vector of row r of an upper trapezoid packed by rows, each of `width` vectors when whole.
template <int WIDE>
__device__ int row_start(int r, int width) {
    const int q = r / WIDE;
    return r * width - (WIDE * (q * (q - 1) / 2) + (r - q * WIDE) * q);
}

// First vector of column vector c of an upper trapezoid of k rows packed by columns.
template <int WIDE>
__device__ int column_start(int c, int k) {
    const int full = k / WIDE;
    return c <= full ? WIDE * (c * (c + 1) / 2) : WIDE * (full * (full + 1) / 2) + (c - full) * k;
}

// The same sum in every lane, in the same order always.
__device__ inline float warp_sum(float value) {
    for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_xor_sync(ALL, value, step);
    return value;
}

// Whether this warp is the last of n to come here, whose lane 0 has written something before. The ticket
// is 0 again after the last: nothing has to be cleared between frames.
__device__ inline bool last_of(unsigned* ticket, unsigned n) {
    int last = 0;
    if (threadIdx.x % WARP == 0) {
        __threadfence();  // what was written is seen before the ticket is
        last = atomicInc(ticket, n - 1) == n - 1;
        if (last) __threadfence();  // and the ticket before what others wrote is read
    }
    __syncwarp();  // which holds for the other lanes too
    return __shfl_sync(ALL, last, 0);
}
