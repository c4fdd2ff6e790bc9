// Buffers that end before a page that nobody may touch, and how they come in and go out.
#pragma once
#include "shim.h"

#include <sys/mman.h>
#include <unistd.h>

struct Buffer {
    char* data;
    size_t size;
    template <class T>
    T* as() const { return reinterpret_cast<T*>(data); }
};

// Up to 15 bytes may follow so that it begins as a GPU's memory does; they are NaN, as is all of it.
inline Buffer guarded(size_t size) {
    const size_t page = size_t(sysconf(_SC_PAGESIZE)), used = (size + 15) / 16 * 16;
    const size_t pages = (used + page - 1) / page * page;
    void* memory = mmap(nullptr, pages + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(static_cast<char*>(memory) + pages, page, PROT_NONE)) {
        shim::Order::fail("no memory");
    }
    std::memset(memory, 0xff, pages);
    return {static_cast<char*>(memory) + pages - used, size};
}

inline Buffer zeros(size_t numbers) {
    const Buffer buffer = guarded(4 * numbers);
    std::memset(buffer.data, 0, buffer.size);
    return buffer;
}

inline void read_exactly(void* to, size_t size) {
    if (std::fread(to, 1, size, stdin) != size) shim::Order::fail("input ends early");
}

inline Buffer input() {
    int64_t size = 0;
    read_exactly(&size, sizeof size);
    const Buffer buffer = guarded(size_t(size));
    read_exactly(buffer.data, buffer.size);
    return buffer;
}

inline void output(const Buffer& buffer) { std::fwrite(buffer.data, 1, buffer.size, stdout); }

inline std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> parts(1);
    for (const char c : text) {
        if (c == ',') {
            parts.emplace_back();
        } else {
            parts.back().push_back(c);
        }
    }
    return parts;
}
