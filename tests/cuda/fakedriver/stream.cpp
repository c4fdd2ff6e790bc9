// Streams, events, capture and graphs.
#include "state.hpp"

#include <algorithm>
#include <chrono>

using namespace fake;

CUresult fake::drain(Stream* stream) {
    State& it = state();
    while (it.busy.count(stream)) {
        std::unique_lock<std::mutex> lock(books(), std::adopt_lock);
        idle().wait(lock);
        lock.release();
    }
    const auto others = std::stable_partition(it.pending.begin(), it.pending.end(), [=](const Operation& one) {
        return one.stream == stream;
    });
    const std::vector<Operation> operations(it.pending.begin(), others);
    it.pending.erase(it.pending.begin(), others);
    it.busy.insert(stream);
    CUresult code = SUCCESS;
    for (const Operation& operation : operations) {
        books().unlock();
        code = operation.run();
        books().lock();
        if (code) {
            it.pending.clear();
            current()->broken = code;
            break;
        }
    }
    it.busy.erase(stream);
    idle().notify_all();
    return code ? code : current()->broken;
}

CUresult fake::drain_all(bool patient) {
    std::vector<Stream*> all(state().streams.begin(), state().streams.end());
    all.push_back(nullptr);
    for (Stream* stream : all) {
        if (stream && !state().streams.count(stream)) continue;  // gone meanwhile
        if (!patient && state().busy.count(stream)) continue;
        if (const CUresult bad = drain(stream)) return bad;
    }
    return SUCCESS;
}

CUresult fake::enqueue(Stream* stream, const char* what, std::function<CUresult()> run) {
    if (stream && !state().streams.count(stream)) return INVALID_HANDLE;
    if (stream && stream->capturing) {
        if (stream->invalid) return CAPTURE_INVALIDATED;
        stream->captured.operations.push_back({what, std::move(run), stream});
        return SUCCESS;
    }
    if (const CUresult bad = stream ? SUCCESS : meets_captures(true)) return bad;
    state().pending.push_back({what, std::move(run), stream});
    return SUCCESS;
}

EXPORT CUresult cuStreamCreate(Stream** stream, unsigned flags) {
    ENTER(Needs::context);
    *stream = new Stream;
    (*stream)->blocking = !(flags & 1);  // CU_STREAM_NON_BLOCKING
    state().streams.insert(*stream);
    return SUCCESS;
}

EXPORT CUresult cuStreamDestroy_v2(Stream* stream) {
    ENTER(Needs::context);
    if (!state().streams.count(stream)) return INVALID_HANDLE;
    if (const CUresult bad = drain(stream)) return bad;
    state().streams.erase(stream);
    delete stream;
    return SUCCESS;
}

EXPORT CUresult cuStreamSynchronize(Stream* stream) {
    ENTER(Needs::context);
    if (stream && !state().streams.count(stream)) return INVALID_HANDLE;
    if (const CUresult bad = stream ? SUCCESS : meets_captures(true)) return bad;
    if (stream && stream->capturing) {
        stream->invalid = true;
        return CAPTURE_UNSUPPORTED;
    }
    return drain(stream);
}

EXPORT CUresult cuStreamQuery(Stream*) {
    ENTER(Needs::context, true);
    return state().pending.empty() ? SUCCESS : NOT_READY;
}

EXPORT CUresult cuLaunchHostFunc(Stream* stream, void (*function)(void*), void* data) {
    ENTER(Needs::context);
    return enqueue(stream, "host function", [=] {
        function(data);
        return CUresult(SUCCESS);
    });
}

EXPORT CUresult cuEventCreate(Event** event, unsigned) {
    ENTER(Needs::context);
    *event = new Event;
    state().events.insert(*event);
    return SUCCESS;
}

EXPORT CUresult cuEventDestroy_v2(Event* event) {
    ENTER(Needs::context);
    return state().events.erase(event) ? SUCCESS : INVALID_HANDLE;
}

EXPORT CUresult cuEventRecord(Event* event, Stream* stream) {
    ENTER(Needs::context);
    if (!state().events.count(event)) return INVALID_HANDLE;
    event->enqueued = true;
    event->stream = stream;
    event->done = false;
    return enqueue(stream, "event", [=] {
        const auto now = std::chrono::steady_clock::now().time_since_epoch();
        event->milliseconds = std::chrono::duration<double, std::milli>(now).count();
        event->done = true;
        return CUresult(SUCCESS);
    });
}

EXPORT CUresult cuEventSynchronize(Event* event) {
    ENTER(Needs::context, true);
    return state().events.count(event) ? drain(event->stream) : INVALID_HANDLE;
}

EXPORT CUresult cuEventElapsedTime(float* milliseconds, Event* start, Event* end) {
    ENTER(Needs::context);
    if (!start->enqueued || !end->enqueued) return INVALID_HANDLE;
    if (!start->done || !end->done) return NOT_READY;
    *milliseconds = float(end->milliseconds - start->milliseconds);
    return SUCCESS;
}

EXPORT CUresult cuStreamBeginCapture_v2(Stream* stream, int) {
    ENTER(Needs::context);
    if (!state().streams.count(stream)) return INVALID_HANDLE;  // the legacy stream too
    if (stream->capturing) return INVALID_VALUE;
    stream->capturing = true;
    stream->captured_by = std::this_thread::get_id();
    stream->invalid = false;
    stream->captured = {};
    return SUCCESS;
}

EXPORT CUresult cuStreamEndCapture(Stream* stream, Graph** graph) {
    *graph = nullptr;
    const std::lock_guard<std::mutex> held(books());
    if (const CUresult bad = enter(__func__)) {
        if (state().streams.count(stream)) stream->capturing = false;
        return bad;
    }
    if (!state().streams.count(stream)) return INVALID_HANDLE;
    if (!stream->capturing) return CAPTURE_UNMATCHED;
    stream->capturing = false;
    if (stream->invalid) return CAPTURE_INVALIDATED;
    *graph = new Graph(std::move(stream->captured));
    state().graphs.insert(*graph);
    return SUCCESS;
}

EXPORT CUresult cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) {
    ENTER(Needs::context);
    if (!state().graphs.count(graph)) return INVALID_VALUE;
    *executable = new Graph(*graph);
    state().executables.insert(*executable);
    return SUCCESS;
}

EXPORT CUresult cuGraphUpload(Graph* executable, Stream*) {
    ENTER(Needs::context);
    return state().executables.count(executable) ? SUCCESS : INVALID_VALUE;
}

EXPORT CUresult cuGraphLaunch(Graph* executable, Stream* stream) {
    ENTER(Needs::context);
    if (!state().executables.count(executable)) return INVALID_VALUE;
    for (const Operation& operation : executable->operations) {
        if (const CUresult bad = enqueue(stream, operation.what.c_str(), operation.run)) return bad;
    }
    return SUCCESS;
}

EXPORT CUresult cuGraphDestroy(Graph* graph) {
    ENTER(Needs::context);
    if (!state().graphs.erase(graph)) return INVALID_VALUE;
    delete graph;
    return SUCCESS;
}

EXPORT CUresult cuGraphExecDestroy(Graph* executable) {
    ENTER(Needs::context);
    if (!state().executables.erase(executable)) return INVALID_VALUE;
    delete executable;
    return SUCCESS;
}

// What a graph would do, one word each, separated by commas.
EXPORT const char* fake_last_graph() {
    static std::string told;
    const std::lock_guard<std::mutex> held(books());
    told.clear();
    for (const Graph* graph : state().executables) {
        told.clear();
        for (const Operation& operation : graph->operations) told += operation.what + ",";
    }
    return told.c_str();
}
