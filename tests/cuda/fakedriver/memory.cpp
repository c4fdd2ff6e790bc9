// Memory of the device and page-locked memory of the host, and copies between them.
#include "state.hpp"

#include <cstring>
#include <sys/mman.h>
#include <unistd.h>

using namespace fake;

static const size_t PAGE = size_t(sysconf(_SC_PAGESIZE));

bool fake::on_device(uintptr_t pointer, size_t size) {
    const auto& memory = state().device_memory;
    auto after = memory.upper_bound(pointer);
    if (after != memory.begin()) {
        const auto& [start, region] = *--after;
        if (pointer + size <= start + region.size) return true;
    }
    return page_locked(pointer, size);
}

bool fake::page_locked(uintptr_t pointer, size_t size) {
    auto after = state().registered.upper_bound(pointer);
    if (after == state().registered.begin()) return false;
    --after;
    return pointer + size <= after->first + after->second;
}

void fake::destroy(Context* context) {
    State& it = state();
    context->alive = false;
    if (it.primary == context) it.primary = nullptr;
    for (const auto& [pointer, region] : it.device_memory) munmap(region.mapped, region.whole);
    it.device_memory.clear();
    it.registered.clear();
    it.used = 0;
    it.modules.clear();
    it.streams.clear();
    it.events.clear();
    it.graphs.clear();
    it.executables.clear();
    it.pending.clear();
}

EXPORT CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    ENTER(Needs::context);
    *total = state().memory;
    *free = state().memory - state().used;
    return SUCCESS;
}

EXPORT CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t size) {
    ENTER(Needs::context, true);
    State& it = state();
    if (!size) return INVALID_VALUE;
    if (it.used + size > it.memory) return OUT_OF_MEMORY;
    const size_t used = (size + 255) / 256 * 256;
    const size_t pages = (used + PAGE - 1) / PAGE * PAGE;
    void* memory =
        mmap(nullptr, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return OUT_OF_MEMORY;
    char* start = static_cast<char*>(memory);
    mprotect(start + pages, PAGE, PROT_NONE);
    std::memset(start, 0xff, pages);
    *pointer = CUdeviceptr(start + pages - used);
    it.device_memory[*pointer] = {size, start, pages + PAGE};
    it.used += size;
    return SUCCESS;
}

EXPORT CUresult cuMemFree_v2(CUdeviceptr pointer) {
    ENTER(Needs::context, true);
    State& it = state();
    const auto found = it.device_memory.find(pointer);
    if (found == it.device_memory.end()) return INVALID_VALUE;
    if (const CUresult bad = drain_all(false)) return bad;
    it.used -= found->second.size;
    munmap(found->second.mapped, found->second.whole);
    it.device_memory.erase(found);
    return SUCCESS;
}

// As strict as old drivers: whole pages, none of them twice.
EXPORT CUresult cuMemHostRegister_v2(void* pointer, size_t size, unsigned) {
    ENTER(Needs::context, true);
    const uintptr_t start = uintptr_t(pointer);
    if (!size || start % PAGE || size % PAGE) return INVALID_VALUE;
    for (const auto& [other, length] : state().registered) {
        if (start < other + length && other < start + size) return ALREADY_REGISTERED;
    }
    state().registered[start] = size;
    return SUCCESS;
}

EXPORT CUresult cuMemHostUnregister(void* pointer) {
    ENTER(Needs::context, true);
    if (const CUresult bad = drain_all(false)) return bad;
    return state().registered.erase(uintptr_t(pointer)) ? SUCCESS : NOT_REGISTERED;
}

EXPORT CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* pointer, void* host, unsigned) {
    ENTER(Needs::context);
    if (!page_locked(uintptr_t(host), 1)) return INVALID_VALUE;
    *pointer = CUdeviceptr(host);
    return SUCCESS;
}

static CUresult copy(uintptr_t target, uintptr_t source, size_t size) {
    std::memcpy(reinterpret_cast<void*>(target), reinterpret_cast<const void*>(source), size);
    return SUCCESS;
}

// The caller may have its memory again, but the device need not have the bytes yet.
EXPORT CUresult cuMemcpyHtoD_v2(CUdeviceptr target, const void* source, size_t size) {
    ENTER(Needs::context, true);
    if (!on_device(target, size)) return INVALID_VALUE;
    const auto* bytes = static_cast<const char*>(source);
    const auto staged = std::make_shared<std::vector<char>>(bytes, bytes + size);
    return enqueue(nullptr, "upload", [=] { return copy(target, uintptr_t(staged->data()), size); });
}

EXPORT CUresult cuMemcpyDtoH_v2(void* target, CUdeviceptr source, size_t size) {
    ENTER(Needs::context, true);
    if (!on_device(source, size)) return INVALID_VALUE;
    if (const CUresult bad = drain(nullptr)) return bad;
    return copy(uintptr_t(target), source, size);
}

// A copy from or to pageable memory is not asynchronous, and not what a frame may do: refused.
EXPORT CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr target, const void* source, size_t size, Stream* stream) {
    ENTER(Needs::context);
    if (!on_device(target, size) || !page_locked(uintptr_t(source), size)) return INVALID_VALUE;
    return enqueue(stream, "upload", [=] { return copy(target, uintptr_t(source), size); });
}

EXPORT CUresult cuMemcpyDtoHAsync_v2(void* target, CUdeviceptr source, size_t size, Stream* stream) {
    ENTER(Needs::context);
    if (!on_device(source, size) || !page_locked(uintptr_t(target), size)) return INVALID_VALUE;
    return enqueue(stream, "download", [=] { return copy(uintptr_t(target), source, size); });
}

EXPORT CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr target, CUdeviceptr source, size_t size, Stream* stream) {
    ENTER(Needs::context);
    if (!on_device(target, size) || !on_device(source, size)) return INVALID_VALUE;
    return enqueue(stream, "copy", [=] { return copy(target, source, size); });
}

EXPORT CUresult cuMemsetD8_v2(CUdeviceptr target, unsigned char value, size_t size) {
    ENTER(Needs::context, true);
    if (!on_device(target, size)) return INVALID_VALUE;
    return enqueue(nullptr, "memset", [=] {
        std::memset(reinterpret_cast<void*>(target), value, size);
        return CUresult(SUCCESS);
    });
}
