// A stand-in for NVIDIA's libcuda.so.1: what its parts have in common.
//
// It keeps books as the driver does (contexts, memory, streams, modules, graphs), runs our kernels on the
// CPU through the shim, and fails where it is told to. It is stricter than a driver where a driver merely
// is lucky: what was enqueued runs only when somebody waits for its stream, memory begins as NaN, ends before a
// page that nobody may touch and is gone when it is freed. Device pointers are addresses of this process.
// Threads may call it at the same time; kernels run one after the other.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

using CUresult = int;
using CUdeviceptr = unsigned long long;

// The names and numbers of cuda.h.
enum : CUresult {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100,
    INVALID_DEVICE = 101, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
    ILLEGAL_ADDRESS = 700, PRIMARY_CONTEXT_ACTIVE = 708, CONTEXT_IS_DESTROYED = 709,
    ALREADY_REGISTERED = 712, NOT_REGISTERED = 713, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901,
    CAPTURE_UNMATCHED = 903, CAPTURE_ISOLATION = 905,
};

namespace fake {

struct Context {
    bool alive = true;
    CUresult broken = SUCCESS;  // what every call returns from then on
};

struct Stream;

struct Operation {
    std::string what;
    std::function<CUresult()> run;
    Stream* stream = nullptr;  // null: the legacy stream
};

struct Graph {
    std::vector<Operation> operations;
};

struct Stream {
    bool blocking = false;  // in order with the legacy stream
    bool capturing = false, invalid = false;
    std::thread::id captured_by;
    Graph captured;
};

struct Event {
    bool enqueued = false, done = false;
    Stream* stream = nullptr;
    double milliseconds = 0.0;
};

struct Region {  // of memory
    size_t size;
    char* mapped;  // and what has to be unmapped
    size_t whole;
};

struct State {
    // The machine, which a test may change.
    int devices = 1, driver = 13000;
    CUresult init = SUCCESS;
    size_t memory = size_t(1) << 30;
    std::map<int, int> attributes = {
        {8, 49152}, {16, 4}, {18, 0}, {19, 1}, {32, 0}, {37, 384}, {38, 6 << 20}, {75, 8}, {76, 9},
        {81, 102400}, {97, 101376}, {99, 1},
    };  // by the numbers of cuda.h
    std::string order = "forward";  // of the shim's threads
    // What there is.
    bool initialised = false;
    unsigned flags = 0;
    std::vector<std::unique_ptr<Context>> contexts;
    Context* primary = nullptr;
    int references = 0;           // of the primary context; a reset leaves them, as cuda.h says,
    bool reset_releases = false;  // unless this is set
    bool flags_change = false;    // also those of an open context: some drivers refuse that
    size_t used = 0;
    std::map<CUdeviceptr, Region> device_memory;
    std::map<uintptr_t, size_t> registered;
    std::set<void*> modules;
    std::set<Stream*> streams;
    std::set<Event*> events;
    std::set<Graph*> graphs, executables;
    std::vector<Operation> pending;
    std::set<Stream*> busy;  // some of whose operations are running
    // What was asked for.
    std::map<std::string, long> calls;
    struct Failure { long at; CUresult code; };
    std::map<std::string, Failure> failures;  // by function
    CUresult next_kernel = SUCCESS;           // how the next kernel to run ends
};

State& state();
std::mutex& books();  // held by whoever reads or writes the state, never while an operation runs
std::condition_variable& idle();
Context* current();
Stream* capturing();  // the stream that this thread captures, if any
// What concerns all of the context (`legacy` false) or its legacy stream, from whatever thread, spoils the
// captures that it would have to wait for. Captures are thread-local: other calls are this thread's affair.
CUresult meets_captures(bool legacy);

// How a function has to begin: counts it, and says whether it may go on.
#define ENTER(...)                                    \
    const std::lock_guard<std::mutex> held(books());  \
    if (const CUresult bad = enter(__func__, __VA_ARGS__)) return bad
enum class Needs { nothing, init, context };
CUresult enter(const char* function, Needs needs = Needs::context, bool forbidden_in_capture = false);

// Runs what was enqueued on a stream, and on nothing else: a stream that does not block is in no order with
// the legacy one. What fails there breaks the context. What another thread already runs is waited for.
CUresult drain(Stream* stream);
// All streams, the legacy one last. `patient` false: but those that another thread runs. It may have to
// wait for what the caller holds, as Python's lock, and is no concern of whoever frees memory of its own.
CUresult drain_all(bool patient = true);
// Onto the stream, into its capture where it is being captured.
CUresult enqueue(Stream* stream, const char* what, std::function<CUresult()> run);

bool on_device(uintptr_t pointer, size_t size = 1);  // device memory, or page-locked memory of the host
bool page_locked(uintptr_t pointer, size_t size);
void destroy(Context* context);

}  // namespace fake
