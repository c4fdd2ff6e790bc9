// Modules and launches: a launch runs the kernel's source on the CPU.
#include "mahalanobis.cu"
namespace preprocess {  // both have a constant of the same name
#include "preprocess.cu"
}

#include "state.hpp"

#include <cstring>
#include <tuple>

thread_local float4 dynamic_shared[shim::SHARED / sizeof(float4)];

using namespace fake;

namespace {

std::mutex one_at_a_time;  // the shim has one set of threads

struct Launch {
    dim3 grid;
    unsigned block, shared;
};

struct Kernel {
    std::string name;
    std::vector<std::pair<size_t, size_t>> arguments;  // offset and size of each in the buffer
    std::function<CUresult(const Launch&, const std::vector<char>&)> run;
    size_t size() const { return arguments.back().first + arguments.back().second; }
};

template <class T>
bool allowed(T) { return true; }
// Where a GPU would find no memory it ends the context with this.
template <class T>
bool allowed(T* pointer) { return on_device(uintptr_t(pointer), sizeof(T)); }

template <class... Arguments>
Kernel kernel(const char* name, void (*function)(Arguments...)) {
    Kernel made{name, {}, nullptr};
    size_t at = 0;
    const auto place = [&](size_t size) {
        at = (at + size - 1) / size * size;
        made.arguments.emplace_back(at, size);
        at += size;
    };
    (place(sizeof(Arguments)), ...);
    const auto places = made.arguments;
    made.run = [=](const Launch& launch, const std::vector<char>& buffer) -> CUresult {
        std::tuple<std::decay_t<Arguments>...> values;
        size_t i = 0;
        std::apply([&](auto&... each) {
            ((std::memcpy(&each, buffer.data() + places[i].first, sizeof each), ++i), ...);
        }, values);
        std::string name;
        {
            const std::lock_guard<std::mutex> held(books());
            if (!std::apply([](auto... each) { return (allowed(each) && ...); }, values)) {
                return ILLEGAL_ADDRESS;
            }
            name = state().order;
        }
        const std::lock_guard<std::mutex> alone(one_at_a_time);
        shim::Order order(name);
        shim::launch(order, launch.grid, launch.block, launch.shared, [&] { std::apply(function, values); });
        return SUCCESS;
    };
    return made;
}

const std::vector<Kernel>& kernels() {
    static const std::vector<Kernel> all = {
        kernel("level_distances", level_distances),
        kernel("coarse_views", coarse_views),
        kernel("regressors", regressors),
        kernel("cell_distances", cell_distances),
        kernel("convert_pixels", preprocess::convert_pixels),
        kernel("straighten", preprocess::straighten),
        kernel("halve_regions", preprocess::halve_regions),
        kernel("resize_tiles", preprocess::resize_tiles),
    };
    return all;
}

}  // namespace

EXPORT CUresult cuModuleLoadDataEx(void** module, const void* image, unsigned count, int* options,
                                   void** values) {
    constexpr int LOG_BUFFER = 3, LOG_SIZE = 4, ERROR_LOG_BUFFER = 5, ERROR_LOG_SIZE = 6;
    for (unsigned i = 0; i < count; ++i) {
        const int option = options[i];
        if (option == LOG_BUFFER || option == ERROR_LOG_BUFFER) *static_cast<char*>(values[i]) = 0;
        if (option == LOG_SIZE || option == ERROR_LOG_SIZE) values[i] = nullptr;
    }
    ENTER(Needs::context, true);
    if (!image) return INVALID_VALUE;
    *module = new char;
    state().modules.insert(*module);
    return SUCCESS;
}

EXPORT CUresult cuModuleUnload(void* module) {
    ENTER(Needs::context, true);
    return state().modules.erase(module) ? SUCCESS : INVALID_HANDLE;
}

EXPORT CUresult cuModuleGetFunction(const void** function, void* module, const char* name) {
    ENTER(Needs::context);
    if (!state().modules.count(module)) return INVALID_HANDLE;
    for (const Kernel& one : kernels()) {
        if (one.name == name) {
            *function = &one;
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

EXPORT CUresult cuLaunchKernel(const Kernel* kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                               unsigned by, unsigned bz, unsigned shared, Stream* stream, void** arguments,
                               void** extra) {
    ENTER(Needs::context);
    const bool fits = gx && gy && gz == 1 && gy <= 65535 && bx && bx <= 1024 && bx % 32 == 0 && by == 1 &&
                      bz == 1 && shared <= unsigned(state().attributes[8]);
    if (!fits || state().modules.empty()) return INVALID_VALUE;
    std::vector<char> buffer(kernel->size());
    if (extra) {
        // CU_LAUNCH_PARAM_BUFFER_POINTER 1, CU_LAUNCH_PARAM_BUFFER_SIZE 2, CU_LAUNCH_PARAM_END 0
        const void* given = nullptr;
        size_t size = 0;
        for (; *extra; extra += 2) {
            if (uintptr_t(extra[0]) == 1) given = extra[1];
            if (uintptr_t(extra[0]) == 2) size = *static_cast<size_t*>(extra[1]);
        }
        if (!given || size != buffer.size()) return INVALID_VALUE;
        std::memcpy(buffer.data(), given, size);
    } else {
        for (size_t i = 0; i < kernel->arguments.size(); ++i) {
            const auto [at, size] = kernel->arguments[i];
            std::memcpy(buffer.data() + at, arguments[i], size);
        }
    }
    const Launch launch{dim3(gx, gy), bx, shared};
    return enqueue(stream, kernel->name.c_str(), [=]() -> CUresult {
        {
            const std::lock_guard<std::mutex> held(books());
            if (const CUresult code = state().next_kernel) {
                state().next_kernel = SUCCESS;
                return code;
            }
        }
        return kernel->run(launch, buffer);
    });
}
