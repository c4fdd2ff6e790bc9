// Mahalanobis distances of one frame's tiles, every tile with Gaussians of its own.
//
//     level_distances                                  d = |W (x - mean)| of every level
//     coarse_views, regressors, cell_distances         d = |W (x - mean - B t)| of every position
//
// Reading W takes the time, so W lies in the order it is read in, 16 bytes a thread, without the zeros
// below its diagonal (layout.py). All sums are made in an order that depends neither on the grid and the
// block nor on which thread comes first. NaN and Inf are neither compared nor clipped: they reach the
// distance. Nothing is to be prepared between two frames.

#include "mahalanobis.cuh"

// WIDE features from `column` on, minus their means; 0 beyond d, where the next level's features lie.
template <int WIDE>
__device__ void centred(const float* x, const float* mean, int column, int d, bool aligned, float* y) {
    if (aligned && column + WIDE <= d) {
#pragma unroll
        for (int i = 0; i < WIDE; i += 4) {
            const float4 v = *reinterpret_cast<const float4*>(x + column + i);
            const float4 m = *reinterpret_cast<const float4*>(mean + column + i);
            y[i] = v.x - m.x;
            y[i + 1] = v.y - m.y;
            y[i + 2] = v.z - m.z;
            y[i + 3] = v.w - m.w;
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < WIDE; ++i) y[i] = column + i < d ? x[column + i] - mean[column + i] : 0.0f;
}

// (W (x - mean))^2 summed over rows r and k - 1 - r: together they are as long as any other two.
template <class Store>
__device__ float pair_of_rows(const LevelGaussian& g, int r, const uint4* vectors, const float* floats,
                              const float* features) {
    constexpr int WIDE = Store::WIDE;
    const int width = (g.d + WIDE - 1) / WIDE, s = g.k - 1 - r;
    const int start = r / WIDE, other = s == r ? width : s / WIDE;
    const uint4* upper = vectors + g.weights + row_start<WIDE>(r, width) - start;
    const uint4* lower = vectors + g.weights + row_start<WIDE>(s, width) - s / WIDE;
    const float* mean = floats + g.mean;
    const float* x = features + g.features;
    const bool aligned = reinterpret_cast<unsigned long long>(x) % sizeof(float4) == 0;
    float a = 0.0f, b = 0.0f, y[WIDE];
#pragma unroll 4
    for (int c = start + int(threadIdx.x % WARP); c < width; c += WARP) {
        centred<WIDE>(x, mean, c * WIDE, g.d, aligned, y);
        a = Store::dot(__ldg(upper + c), y, a);
        if (c >= other) b = Store::dot(__ldg(lower + c), y, b);
    }
    a = warp_sum(a);
    b = warp_sum(b);
    if (g.half) {
        a *= floats[g.scales + r];
        b *= floats[g.scales + s];
    }
    return fmaf(a, a, b * b);
}

// One warp per pair of rows. The last warp of a level takes the root of what the pairs have left in
// `squares`.
//
// features [T, D], squares [pairs], tickets [G] (0 before the first launch), distances [T, levels]. pair:
// which Gaussian in the upper half, which row in the lower one. Any grid, blocks of whole warps.
extern "C" __global__ void __launch_bounds__(256, 4)
level_distances(const LevelGaussian* __restrict__ gaussians, const unsigned* __restrict__ pairs,
                const uint4* __restrict__ vectors, const float* __restrict__ floats,
                const float* __restrict__ features, int pair_count, float* squares,
                unsigned* tickets, float* distances) {
    const int lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    for (int p = blockIdx.x * warps + threadIdx.x / WARP; p < pair_count; p += gridDim.x * warps) {
        const unsigned pair = pairs[p];
        const LevelGaussian g = gaussians[pair >> 16];
        const int r = int(pair & 0xffffu);
        const float square = g.half ? pair_of_rows<Halves>(g, r, vectors, floats, features)
                                    : pair_of_rows<Floats>(g, r, vectors, floats, features);
        if (lane == 0) squares[p] = square;
        if (!last_of(tickets + (pair >> 16), unsigned(g.pairs))) continue;
        float sum = 0.0f;
#pragma unroll 8
        for (int i = lane; i < g.pairs; i += WARP) sum += __ldcg(squares + g.first + i);
        sum = warp_sum(sum);
        if (lane == 0) distances[g.distance] = sqrtf(sum);
    }
}

constexpr int SLICES = 4;   // of a row's product: sums that are made side by side
constexpr int STRANDS = 8;  // of the positions in a coarse view's mean

// Each tile as at most 4 x 4 cells, minus what good parts look like: [T, stride], m d numbers each.
// Grid: any x T; block: whole warps.
extern "C" __global__ void __launch_bounds__(256, 4)
coarse_views(const TileGaussians* __restrict__ tiles, const float* __restrict__ floats,
             const float* __restrict__ local, int positions, int d, int stride, float* views) {
    __shared__ float sums[STRANDS][WARP];
    const TileGaussians tile = tiles[blockIdx.y];
    if (tile.q == 0) return;
    const float* x = local + static_cast<long long>(blockIdx.y) * positions * d;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    const int columns = (d + WARP - 1) / WARP;
    for (int job = blockIdx.x; job < tile.m * columns; job += gridDim.x) {
        const int cell = job / columns, feature = job % columns * WARP + lane;
        const float* weights = floats + tile.pooling + cell * positions;
        for (int strand = warp; strand < STRANDS; strand += warps) {
            float sum = 0.0f;
            for (int p = strand; p < positions; p += STRANDS) {
                // Most positions are of other cells; there are fewer numbers to read without them.
                if (weights[p] != 0.0f && feature < d) sum = fmaf(weights[p], x[p * d + feature], sum);
            }
            sums[strand][lane] = sum;
        }
        __syncthreads();
        if (warp == 0 && feature < d) {
            float sum = 0.0f;
            for (int strand = 0; strand < STRANDS; ++strand) sum += sums[strand][lane];
            const int i = cell * d + feature;
            views[blockIdx.y * stride + i] = sum - floats[tile.context_mean + i];
        }
        __syncthreads();
    }
}

// t = context @ view, [T, most], one warp per row. Grid: any x T; block: whole warps. What lies beyond q in
// t and beyond m d in views is never written and must be 0.
extern "C" __global__ void __launch_bounds__(256, 4)
regressors(const TileGaussians* __restrict__ tiles, const uint4* __restrict__ vectors,
           const float* __restrict__ views, int d, int stride, int most, float* t) {
    const TileGaussians tile = tiles[blockIdx.y];
    const int width = (tile.m * d + 3) / 4, lane = threadIdx.x % WARP, warps = blockDim.x / WARP;
    const float* view = views + blockIdx.y * stride;
    for (int r = blockIdx.x * warps + threadIdx.x / WARP; r < tile.q; r += gridDim.x * warps) {
        const uint4* row = vectors + tile.context + r * width;
        float sum = 0.0f;
#pragma unroll 4
        for (int c = lane; c < width; c += WARP) sum = Floats::dot(__ldg(row + c), view + 4 * c, sum);
        sum = warp_sum(sum);
        if (lane == 0) t[blockIdx.y * most + r] = sum;
    }
}

// Slices of the products of all rows with x: slice s of row i is sums[s * rows + i].
template <class Store>
__device__ void whiten_slices(const uint4* w, const float* x, int k, int d, float* sums) {
    const int width = (d + Store::WIDE - 1) / Store::WIDE;
    for (int unit = threadIdx.x; unit < SLICES * k; unit += blockDim.x) {
        const int slice = unit / k, r = unit - slice * k;
        float sum = 0.0f;
        // All start at the same column, though most rows start later: so neighbours read neighbours.
#pragma unroll 4
        for (int c = slice; c < width; c += SLICES) {
            if (c < r / Store::WIDE) continue;
            sum = Store::dot(__ldg(w + column_start<Store::WIDE>(c, k) + r), x + c * Store::WIDE, sum);
        }
        sums[unit] = sum;
    }
}

// The numbers of a position's factor in vectors.
__device__ inline int factor_size(const TileGaussians& tile, int d) {
    return tile.half ? column_start<Halves::WIDE>((d + Halves::WIDE - 1) / Halves::WIDE, tile.k)
                     : column_start<Floats::WIDE>((d + Floats::WIDE - 1) / Floats::WIDE, tile.k);
}

// x - mean - B t of position p, padded with zeros, into `residual`; all threads of a block call it.
__device__ inline void residuals(const TileGaussians& tile, const uint4* vectors, const float* floats,
                                 const float* x, const float* t, int p, int d, float* residual,
                                 float* sums) {
    const int width = (tile.q + 3) / 4;
    const uint4* b = vectors + tile.coefficients + static_cast<long long>(p) * width * d;
    for (int unit = threadIdx.x; unit < SLICES * d; unit += blockDim.x) {
        const int slice = unit / d, i = unit - slice * d;
        float sum = 0.0f;
#pragma unroll 4
        for (int c = slice; c < width; c += SLICES) {
            sum = Floats::dot(__ldg(b + c * d + i), t + 4 * c, sum);
        }
        sums[unit] = sum;
    }
    __syncthreads();
    const int padded = (d + Halves::WIDE - 1) / Halves::WIDE * Halves::WIDE;
    for (int i = threadIdx.x; i < padded; i += blockDim.x) {
        float value = 0.0f;
        if (i < d) {
            for (int slice = 0; slice < SLICES; ++slice) value += sums[slice * d + i];
            value = x[p * d + i] - floats[tile.mean + p * d + i] - value;
        }
        residual[i] = value;
    }
    __syncthreads();
}

// Distances [T, P] of local features [T, P, d] given t [T, most]; a tile with q = 0 is scored by itself.
// Grid: any x T; block: whole warps; dynamic shared memory: see plan_cells.
extern "C" __global__ void __launch_bounds__(256, 4)
cell_distances(const TileGaussians* __restrict__ tiles, const uint4* __restrict__ vectors,
               const float* __restrict__ floats, const float* __restrict__ local,
               const float* __restrict__ regressed, int positions, int d, int most, float* distances) {
    extern __shared__ float4 dynamic_shared[];
    const TileGaussians tile = tiles[blockIdx.y];
    float* t = reinterpret_cast<float*>(dynamic_shared);
    float* residual = t + most;
    float* sums = residual + (d + Halves::WIDE - 1) / Halves::WIDE * Halves::WIDE;
    const float* x = local + static_cast<long long>(blockIdx.y) * positions * d;
    for (int i = threadIdx.x; i < most; i += blockDim.x) t[i] = regressed[blockIdx.y * most + i];
    const int size = factor_size(tile, d);
    for (int p = blockIdx.x; p < positions; p += gridDim.x) {
        __syncthreads();
        residuals(tile, vectors, floats, x, t, p, d, residual, sums);
        const uint4* w = vectors + tile.weights + static_cast<long long>(p) * size;
        if (tile.half) {
            whiten_slices<Halves>(w, residual, tile.k, d, sums);
        } else {
            whiten_slices<Floats>(w, residual, tile.k, d, sums);
        }
        __syncthreads();
        if (threadIdx.x >= WARP) continue;
        float square = 0.0f;
        for (int r = threadIdx.x; r < tile.k; r += WARP) {
            float z = 0.0f;
            for (int slice = 0; slice < SLICES; ++slice) z += sums[slice * tile.k + r];
            if (tile.half) z *= floats[tile.scales + p * tile.k + r];
            square = fmaf(z, z, square);
        }
        square = warp_sum(square);
        if (threadIdx.x == 0) distances[blockIdx.y * positions + p] = sqrtf(square);
    }
}
