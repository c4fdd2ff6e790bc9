// Runs a plan's launches on buffers from standard input and writes rows and faults to standard output, for
// each order.
//
//     preprocess_harness ORDER,... BUFFERS LAUNCHES
//
// Standard input: buffers, each an int64 of its size in bytes and the bytes; then launches, each int64s:
// kernel, grid x, grid y, block, shared bytes, how many arguments, and these: a buffer's place or a number.
// Every buffer ends before a page that nobody may touch. The last three are rows, scratch and faults.
#include "preprocess.cu"

#include "buffers.h"

thread_local float4 dynamic_shared[shim::SHARED / sizeof(float4)];

namespace {

struct Launch {
    std::vector<int64_t> head, arguments;
};

int64_t number() {
    int64_t value = 0;
    read_exactly(&value, sizeof value);
    return value;
}

Launch launch_from_input() {
    Launch launch;
    for (int i = 0; i < 6; ++i) launch.head.push_back(number());
    for (int64_t i = 0; i < launch.head[5]; ++i) launch.arguments.push_back(number());
    return launch;
}

void call(const Launch& launch, const std::vector<Buffer>& buffers) {
    const std::vector<int64_t>& a = launch.arguments;
    const auto at = [&](size_t i) { return buffers[size_t(a[i])]; };
    const auto value = [&](size_t i) { return int(a[i]); };
    switch (launch.head[0]) {
        case 0:
            return convert_pixels(at(0).as<Conversion>(), at(1).as<Byte>(), at(2).as<Byte>(),
                                  at(3).as<unsigned>());
        case 1:
            return straighten(at(0).as<Straightening>(), at(1).as<double>(), at(2).as<Byte>(),
                              at(3).as<Byte>());
        case 2: return halve_regions(at(0).as<Halving>(), at(1).as<Byte>(), at(2).as<Byte>());
        case 3:
            return resize_tiles(at(0).as<Tile>(), at(1).as<int>(), at(2).as<unsigned>(), at(3).as<Byte>(),
                                at(4).as<Byte>(), value(5), value(6), value(7), at(8).as<Byte>());
        default: shim::Order::fail("no such kernel");
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) shim::Order::fail("wrong arguments");
    std::vector<Buffer> buffers;
    for (int i = std::atoi(arguments[2]); i > 0; --i) buffers.push_back(input());
    std::vector<Launch> launches;
    for (int i = std::atoi(arguments[3]); i > 0; --i) launches.push_back(launch_from_input());
    const Buffer &rows = buffers[buffers.size() - 3], &scratch = buffers[buffers.size() - 2];
    const Buffer& faults = buffers.back();
    for (const std::string& name : split(arguments[1])) {
        shim::Order order(name);
        // What a launch has to write before it is read differs from one order to the next.
        std::memset(rows.data, int(order.of(251)[7]), rows.size);
        std::memset(scratch.data, int(order.of(251)[9]), scratch.size);
        std::memset(faults.data, 0, faults.size);
        for (const Launch& launch : launches) {
            const dim3 grid(unsigned(launch.head[1]), unsigned(launch.head[2]));
            shim::launch(order, grid, unsigned(launch.head[3]), unsigned(launch.head[4]),
                         [&] { call(launch, buffers); });
        }
        output(rows);
        output(faults);
    }
    return 0;
}
