// A GPU's blocks on a CPU: every thread of a block is a fiber, blocks run one after another.
//
// A fiber runs until it waits at a barrier or a shuffle. Whose turn it is next is the order asked for:
// forward, reversed, or shuffled anew each round. What may depend on the order of threads, because a
// barrier is missing, then differs from one order to the next. A barrier that not all threads reach ends
// the program, and so does a misaligned vector.
#pragma once
#include <algorithm>
#include <csetjmp>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <ucontext.h>
#include <utility>
#include <vector>

struct dim3 {
    unsigned x, y;
    dim3(unsigned a = 1, unsigned b = 1) : x(a), y(b) {}
};
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct alignas(4) __half2 { uint16_t x, y; };
struct alignas(2) __half { uint16_t x; };
#define __global__
#define __device__
#define __shared__ thread_local
#define __launch_bounds__(...)

namespace shim {

constexpr unsigned WARP = 32, MOST_THREADS = 1024, STACK = 64 << 10, SHARED = 48 << 10;

enum class State { ready, warp, block, done };
struct Fiber {
    ucontext_t start;
    jmp_buf at;
    bool fresh = true;
    State state = State::ready;
    std::vector<char> stack = std::vector<char>(STACK);
};

struct Order {
    bool reversed = false, random = false;
    std::mt19937 generator;

    explicit Order(const std::string& name) {
        reversed = name == "reversed";
        random = name.rfind("random:", 0) == 0;
        if (random) generator.seed(static_cast<unsigned>(std::stoul(name.substr(7))));
        if (!random && !reversed && name != "forward") fail("no such order");
    }
    std::vector<unsigned> of(unsigned n) {
        std::vector<unsigned> turns(n);
        std::iota(turns.begin(), turns.end(), 0u);
        if (reversed) std::reverse(turns.begin(), turns.end());
        if (random) std::shuffle(turns.begin(), turns.end(), generator);
        return turns;
    }
    [[noreturn]] static void fail(const char* what) {
        std::fprintf(stderr, "shim: %s\n", what);
        std::exit(3);
    }
};

inline std::vector<Fiber> fibers(MOST_THREADS);
inline unsigned threads, current;
inline jmp_buf scheduler;
inline ucontext_t home;
inline std::function<void()> kernel;
inline dim3 block_index, block_size, grid_size;
inline unsigned waiting_in_block, waiting_in_warp[MOST_THREADS / WARP];
inline uint64_t exchanged[2][MOST_THREADS];
inline unsigned rounds[MOST_THREADS];

inline void entry() {
    kernel();
    fibers[current].state = State::done;
    _longjmp(scheduler, 1);
}

inline void pause() {
    if (!_setjmp(fibers[current].at)) _longjmp(scheduler, 1);
}

inline void resume(unsigned i) {
    current = i;
    if (_setjmp(scheduler)) return;
    Fiber& fiber = fibers[i];
    if (!fiber.fresh) _longjmp(fiber.at, 1);
    fiber.fresh = false;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.data();
    fiber.start.uc_stack.ss_size = fiber.stack.size();
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, entry, 0);
    setcontext(&fiber.start);
}

// Waits until all of [first, last) are here; the last to come lets the others go.
inline void meet(unsigned first, unsigned last, unsigned& waiting, State as) {
    if (++waiting < last - first) {
        fibers[current].state = as;
        return pause();
    }
    waiting = 0;
    for (unsigned i = first; i < last; ++i) fibers[i].state = State::ready;
}

inline void meet_warp() {
    const unsigned warp = current / WARP;
    meet(warp * WARP, warp * WARP + WARP, waiting_in_warp[warp], State::warp);
}

template <class T>
T shuffle(T value, unsigned from) {
    // Two rows in turn: nobody can write a row again before all have read it.
    const unsigned me = current, turn = rounds[me]++ % 2;
    std::memcpy(&exchanged[turn][me], &value, sizeof value);
    meet_warp();
    T result;
    std::memcpy(&result, &exchanged[turn][me / WARP * WARP + from % WARP], sizeof result);
    return result;
}

void poison();

inline void run_block(Order& order) {
    waiting_in_block = 0;
    std::memset(waiting_in_warp, 0, sizeof waiting_in_warp);
    poison();
    for (unsigned i = 0; i < threads; ++i) {
        fibers[i].fresh = true;
        fibers[i].state = State::ready;
    }
    for (unsigned done = 0; done < threads;) {
        bool moved = false;
        for (const unsigned i : order.of(threads)) {
            if (fibers[i].state != State::ready) continue;
            moved = true;
            resume(i);
            done += fibers[i].state == State::done;
        }
        if (!moved) Order::fail("a barrier that not all threads reach");
    }
}

inline void launch(Order& order, dim3 grid, unsigned block, unsigned shared, std::function<void()> what) {
    if (block % WARP || !block || block > MOST_THREADS || shared > SHARED) Order::fail("launch out of range");
    grid_size = grid;
    block_size = dim3(threads = block);
    kernel = std::move(what);
    for (const unsigned i : order.of(grid.x * grid.y)) {
        block_index = dim3(i % grid.x, i / grid.x);
        run_block(order);
    }
}

struct ThreadIndex {
    struct X {
        operator unsigned() const { return current; }
    } x;
};

}  // namespace shim

extern thread_local float4 dynamic_shared[shim::SHARED / sizeof(float4)];

// What a block finds in shared memory is nothing to build upon.
inline void shim::poison() { std::memset(dynamic_shared, 0xff, SHARED); }

static const shim::ThreadIndex threadIdx;
#define blockIdx shim::block_index
#define blockDim shim::block_size
#define gridDim shim::grid_size

// The barrier on line `left_out` of a source is left out: what depends on it has to show.
inline int left_out = std::getenv("SHIM_LEAVE_OUT") ? std::atoi(std::getenv("SHIM_LEAVE_OUT")) : 0;
inline void block_barrier(int line) {
    if (line != left_out) shim::meet(0, shim::threads, shim::waiting_in_block, shim::State::block);
}
#define __syncthreads() block_barrier(__LINE__)
inline void __syncwarp() { shim::meet_warp(); }
inline void __threadfence() {}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) { return shim::shuffle(value, shim::current % 32 ^ unsigned(mask)); }
template <class T>
T __shfl_sync(unsigned, T value, int lane) { return shim::shuffle(value, unsigned(lane)); }
inline unsigned atomicInc(unsigned* p, unsigned most) {
    const unsigned before = *p;
    *p = before >= most ? 0 : before + 1;
    return before;
}
template <class T>
T __ldg(const T* p) { return *p; }
template <class T>
T __ldcg(const T* p) { return *p; }
inline float __uint_as_float(unsigned bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
inline float __int_as_float(int bits) { return __uint_as_float(unsigned(bits)); }
// Rounded one by one: the flags forbid the compiler to contract them.
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline int __float2int_rn(float a) { return int(std::nearbyint(a)); }
inline int __double2int_rn(double a) { return int(std::nearbyint(a)); }
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
    return unsigned((uint64_t(high) << 32 | low) >> shift % 32);
}
// Of whole numbers up to 2048, which halves hold exactly.
inline __half __int2half_rn(int number) {
    if (number < 0 || number > 2048) shim::Order::fail("a half of a number out of range");
    if (!number) return {0};
    int exponent = 0;
    const double fraction = std::frexp(double(number), &exponent);  // in [1/2, 1)
    return {uint16_t(unsigned(exponent + 14) << 10 | (unsigned(fraction * 2048.0) & 0x3ffu))};
}
inline float half_to_float(uint16_t h) {
    const unsigned sign = unsigned(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | fraction << 13);
    const float magnitude = exponent ? std::ldexp(float(fraction | 0x400u), int(exponent) - 25)
                                     : std::ldexp(float(fraction), -24);
    return sign ? -magnitude : magnitude;
}
inline float2 __half22float2(__half2 h) { return {half_to_float(h.x), half_to_float(h.y)}; }
using std::memcpy;
using std::min;
using std::max;
