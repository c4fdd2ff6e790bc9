// Runs the kernels on buffers from standard input and writes what they leave to standard output.
//
//     harness levels ORDER,... GRID BLOCK FRAMES PAIRS GAUSSIANS
//     harness cells  ORDER,... GRID BLOCK FRAMES POSITIONS D VIEW REGRESSORS TILES SHARED
//     harness stuck  a barrier that half of the threads pass by, to see that it is noticed
//
// GRID: blocks in x of every launch. Standard input: table, pairs (levels), vectors, floats, features of
// all frames, each an int64 of its size in bytes and the bytes. Every buffer ends before a page that
// nobody may touch. Results are those of all orders and frames, one after the other.
#include "mahalanobis.cu"

#include "buffers.h"

thread_local float4 dynamic_shared[shim::SHARED / sizeof(float4)];

namespace {

struct Job {
    std::vector<std::string> orders;
    unsigned grid, block;
    int frames;
    const char* const* rest;
    int number(int i) const { return std::atoi(rest[i]); }
};

void run_levels(const Job& job) {
    const int pairs = job.number(0), gaussians = job.number(1);
    const Buffer table = input(), pair = input(), vectors = input(), floats = input(), features = input();
    const Buffer squares = guarded(4 * size_t(pairs)), tickets = zeros(size_t(gaussians));
    const Buffer distances = guarded(4 * size_t(gaussians));
    for (const std::string& name : job.orders) {
        shim::Order order(name);
        for (int frame = 0; frame < job.frames; ++frame) {
            const float* x = features.as<float>() + features.size / 4 / size_t(job.frames) * size_t(frame);
            shim::launch(order, dim3(job.grid), job.block, 0, [&] {
                level_distances(table.as<LevelGaussian>(), pair.as<unsigned>(), vectors.as<uint4>(),
                                floats.as<float>(), x, pairs, squares.as<float>(), tickets.as<unsigned>(),
                                distances.as<float>());
            });
            for (const Buffer& result : {distances, tickets}) output(result);
        }
    }
}

void run_cells(const Job& job) {
    const int positions = job.number(0), d = job.number(1), view = job.number(2), most = job.number(3);
    const unsigned tiles = unsigned(job.number(4)), shared = unsigned(job.number(5));
    const Buffer table = input(), vectors = input(), floats = input(), local = input();
    const Buffer views = zeros(tiles * size_t(view)), t = zeros(tiles * size_t(most));
    const Buffer distances = guarded(4 * tiles * size_t(positions));
    const TileGaussians* tile = table.as<TileGaussians>();
    const dim3 grid(job.grid, tiles);
    for (const std::string& name : job.orders) {
        shim::Order order(name);
        for (int frame = 0; frame < job.frames; ++frame) {
            const float* x = local.as<float>() + local.size / 4 / size_t(job.frames) * size_t(frame);
            if (most) {
                shim::launch(order, grid, job.block, 0, [&] {
                    coarse_views(tile, floats.as<float>(), x, positions, d, view, views.as<float>());
                });
                shim::launch(order, grid, job.block, 0, [&] {
                    regressors(tile, vectors.as<uint4>(), views.as<float>(), d, view, most, t.as<float>());
                });
            }
            shim::launch(order, grid, job.block, shared, [&] {
                cell_distances(tile, vectors.as<uint4>(), floats.as<float>(), x, t.as<float>(), positions, d,
                               most, distances.as<float>());
            });
            output(distances);
        }
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::string what = count > 1 ? arguments[1] : "";
    if (what == "stuck") {
        shim::Order order("forward");
        shim::launch(order, dim3(1), 64, 0, [] { if (threadIdx.x < 32) __syncthreads(); });
    }
    if (!(what == "levels" && count == 8) && !(what == "cells" && count == 12)) {
        shim::Order::fail("wrong arguments");
    }
    const Job job{split(arguments[2]), unsigned(std::atoi(arguments[3])), unsigned(std::atoi(arguments[4])),
                  std::atoi(arguments[5]), arguments + 6};
    what == "levels" ? run_levels(job) : run_cells(job);
    return 0;
}
