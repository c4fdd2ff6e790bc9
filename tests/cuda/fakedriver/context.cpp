// Initialisation, device queries, contexts, and the levers of the tests.
#include "state.hpp"

#include <cstring>
#include <dlfcn.h>

namespace fake {

State& state() {
    static State* it = new State;  // never destroyed: Python may still call at its end
    return *it;
}

std::mutex& books() {
    static std::mutex* it = new std::mutex;
    return *it;
}

std::condition_variable& idle() {
    static std::condition_variable* it = new std::condition_variable;
    return *it;
}

thread_local std::vector<Context*> stack;

Context* current() { return stack.empty() ? nullptr : stack.back(); }

Stream* capturing() {
    for (Stream* stream : state().streams) {
        if (stream->capturing && stream->captured_by == std::this_thread::get_id()) return stream;
    }
    return nullptr;
}

CUresult meets_captures(bool legacy) {
    bool met = false;
    for (Stream* stream : state().streams) {
        if (!stream->capturing) continue;
        if (legacy && !stream->blocking && stream->captured_by != std::this_thread::get_id()) continue;
        stream->invalid = met = true;
    }
    return met ? CAPTURE_UNSUPPORTED : SUCCESS;
}

CUresult enter(const char* function, Needs needs, bool forbidden_in_capture) {
    State& it = state();
    const long call = ++it.calls[function];
    const auto failure = it.failures.find(function);
    if (failure != it.failures.end() && call == failure->second.at) {
        const CUresult code = failure->second.code;
        it.failures.erase(failure);
        return code;
    }
    if (needs == Needs::nothing) return SUCCESS;
    if (!it.initialised) return NOT_INITIALIZED;
    if (needs == Needs::init) return SUCCESS;
    const Context* context = current();
    if (!context) return INVALID_CONTEXT;
    if (!context->alive) return CONTEXT_IS_DESTROYED;
    if (context->broken) return context->broken;
    Stream* stream = capturing();
    if (forbidden_in_capture && stream) {
        stream->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    return SUCCESS;
}

const std::map<CUresult, std::pair<const char*, const char*>> NAMES = {
    {SUCCESS, {"CUDA_SUCCESS", "no error"}},
    {INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {NOT_INITIALIZED, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {NO_DEVICE, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {INVALID_CONTEXT, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}},
    {200, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {209, {"CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"}},
    {INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {NOT_READY, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {ILLEGAL_ADDRESS, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {PRIMARY_CONTEXT_ACTIVE,
     {"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", "cannot set while device is active in this process"}},
    {CONTEXT_IS_DESTROYED, {"CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"}},
    {719, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {801, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}},
    {803, {"CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"}},
    {CAPTURE_UNSUPPORTED,
     {"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"}},
    {CAPTURE_INVALIDATED,
     {"CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"}},
    {999, {"CUDA_ERROR_UNKNOWN", "unknown error"}},
};

}  // namespace fake

using namespace fake;

EXPORT CUresult cuInit(unsigned) {
    ENTER(Needs::nothing);
    if (state().init) return state().init;
    if (!state().devices) return NO_DEVICE;
    state().initialised = true;
    return SUCCESS;
}

EXPORT CUresult cuDriverGetVersion(int* version) {
    ENTER(Needs::nothing);
    *version = state().driver;
    return SUCCESS;
}

static CUresult told(CUresult code, const char** text, bool name) {
    const auto found = NAMES.find(code);
    *text = found == NAMES.end() ? nullptr : name ? found->second.first : found->second.second;
    if (*text) return SUCCESS;
    *text = "unknown code";  // pycuda reads it whatever is returned
    return INVALID_VALUE;
}

EXPORT CUresult cuGetErrorString(CUresult code, const char** text) { return told(code, text, false); }

EXPORT CUresult cuGetErrorName(CUresult code, const char** text) { return told(code, text, true); }

EXPORT CUresult cuGetProcAddress_v2(const char* name, void** address, int, uint64_t, int* status) {
    static void* self = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    *address = nullptr;
    for (const char* version : {"_v3", "_v2", ""}) {
        if (!*address) *address = dlsym(self, (std::string(name) + version).c_str());
    }
    if (status) *status = *address ? 0 : 1;
    return *address ? SUCCESS : NOT_FOUND;
}

EXPORT CUresult cuDeviceGetCount(int* count) {
    ENTER(Needs::init);
    *count = state().devices;
    return SUCCESS;
}

EXPORT CUresult cuDeviceGet(int* device, int ordinal) {
    ENTER(Needs::init);
    if (ordinal < 0 || ordinal >= state().devices) return INVALID_DEVICE;
    *device = ordinal;
    return SUCCESS;
}

EXPORT CUresult cuDeviceGetName(char* name, int size, int) {
    ENTER(Needs::init);
    std::strncpy(name, "Fake GPU", size_t(size));
    return SUCCESS;
}

EXPORT CUresult cuDeviceGetAttribute(int* value, int attribute, int) {
    ENTER(Needs::init);
    const auto found = state().attributes.find(attribute);
    if (found == state().attributes.end()) return INVALID_VALUE;
    *value = found->second;
    return SUCCESS;
}

EXPORT CUresult cuDeviceTotalMem_v2(size_t* size, int) {
    ENTER(Needs::init);
    *size = state().memory;
    return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxSetFlags_v2(int, unsigned flags) {
    ENTER(Needs::init);
    if (state().primary && !state().flags_change) return PRIMARY_CONTEXT_ACTIVE;
    state().flags = flags;
    return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) {
    ENTER(Needs::init);
    *flags = state().flags;
    *active = state().primary != nullptr;
    return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRetain(Context** context, int) {
    ENTER(Needs::init);
    State& it = state();
    if (!it.primary) {
        it.contexts.push_back(std::make_unique<Context>());
        it.primary = it.contexts.back().get();
    }
    ++it.references;
    *context = it.primary;
    return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxRelease_v2(int) {
    ENTER(Needs::init);
    State& it = state();
    if (!it.references) return INVALID_CONTEXT;
    if (!--it.references && it.primary) destroy(it.primary);
    return SUCCESS;
}

EXPORT CUresult cuDevicePrimaryCtxReset_v2(int) {
    ENTER(Needs::init);
    State& it = state();
    if (it.reset_releases) it.references = 0;
    if (it.primary) destroy(it.primary);
    return SUCCESS;
}

EXPORT CUresult cuCtxPushCurrent_v2(Context* context) {
    ENTER(Needs::init);
    if (!context || !context->alive) return INVALID_CONTEXT;
    stack.push_back(context);
    return SUCCESS;
}

EXPORT CUresult cuCtxPopCurrent_v2(Context** context) {
    ENTER(Needs::init);
    if (stack.empty()) return INVALID_CONTEXT;
    if (context) *context = stack.back();
    stack.pop_back();
    return SUCCESS;
}

EXPORT CUresult cuCtxGetDevice(int* device) {
    ENTER(Needs::context);
    *device = 0;
    return SUCCESS;
}

EXPORT CUresult cuCtxSynchronize() {
    ENTER(Needs::context);
    if (const CUresult bad = meets_captures(false)) return bad;
    return drain_all();
}

// The levers. A code that breaks the context is met where the kernel runs.
struct Held {
    const std::lock_guard<std::mutex> lock{books()};
};

EXPORT void fake_fresh() {
    const State fresh;
    const Held held;
    State& it = state();
    it.devices = fresh.devices;
    it.driver = fresh.driver;
    it.init = fresh.init;
    it.memory = fresh.memory;
    it.attributes = fresh.attributes;
    it.order = fresh.order;
    it.reset_releases = fresh.reset_releases;
    it.flags_change = fresh.flags_change;
    it.failures.clear();
    it.next_kernel = SUCCESS;
}
EXPORT void fake_machine(int devices, CUresult init) {
    const Held held;
    state().devices = devices;
    state().init = init;
}
EXPORT void fake_driver_version(int version) {
    const Held held;
    state().driver = version;
}
EXPORT void fake_fail(const char* function, long nth, CUresult code) {
    const Held held;
    state().failures[function] = {state().calls[function] + nth, code};
}
EXPORT void fake_break_next_kernel(CUresult code) {
    const Held held;
    state().next_kernel = code;
}
EXPORT void fake_contexts(bool reset_releases, bool flags_change) {
    const Held held;
    state().reset_releases = reset_releases;
    state().flags_change = flags_change;
}
EXPORT void fake_memory(size_t bytes) {
    const Held held;
    state().memory = bytes;
}
EXPORT void fake_attribute(int attribute, int value) {
    const Held held;
    state().attributes[attribute] = value;
}
EXPORT void fake_order(const char* name) {
    const Held held;
    state().order = name;
}
EXPORT long fake_calls(const char* function) {
    const Held held;
    return state().calls[function];
}
EXPORT long fake_depth() { return long(stack.size()); }
EXPORT unsigned fake_flags() {
    const Held held;
    return state().flags;
}

EXPORT long fake_live(const char* what) {
    const Held held;
    const State& it = state();
    const std::map<std::string, size_t> counts = {
        {"contexts", it.primary ? 1 : 0}, {"references", size_t(it.references)}, {"device memory", it.device_memory.size()},
        {"page-locked", it.registered.size()}, {"modules", it.modules.size()},
        {"streams", it.streams.size()}, {"events", it.events.size()},
        {"graphs", it.graphs.size() + it.executables.size()},
    };
    const auto found = counts.find(what);
    return found == counts.end() ? -1 : long(found->second);
}
