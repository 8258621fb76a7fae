/*
 * graph -- launches by a function's address, and CUDA graphs of them.
 *
 *     BeginCapture   launch  set  product   EndCapture     nothing runs; each becomes a node
 *     Instantiate    the nodes are copied, with their arguments
 *     Launch         they run, in order, with the arguments that are set now
 *
 * As on a GPU, what a capture does not allow (waiting, memory, copies for the host, events) returns
 * an error and spoils it: its end is an error too, and there is no graph. Here it does so whoever
 * calls, on whichever stream.
 */
#include "emulator.h"

#include <map>
#include <vector>

typedef std::vector<char> bytes;

/* A function that was launched, and what its arguments are: a GPU's driver knows that from the code
 * itself. */
struct known {
    const char *name;
    std::vector<size_t> sizes;
    emu_caller caller;
};

struct CUgraphNode_st {
    std::function<void()> work; /* of what is no function */
    const void *function;
    dim3 grid, block;
    size_t shared_bytes;
    std::vector<bytes> arguments;
};

struct CUgraph_st {
    std::vector<cudaGraphNode_t> nodes;
};

struct CUgraphExec_st {
    std::vector<cudaGraphNode_t> of; /* the nodes that they were copied from */
    std::vector<CUgraphNode_st> nodes;
};

static std::map<const void *, known> &functions()
{
    static auto *all = new std::map<const void *, known>;
    return *all;
}

static struct {
    cudaStream_t stream; /* NULL: nothing is captured */
    cudaGraph_t graph;
    bool spoilt;
} capture;

/* ---- functions ---- */

void emu_know(const void *function, const char *name, const size_t *sizes, int n, emu_caller caller)
{
    if (!functions().count(function))
        functions()[function] = {name, {sizes, sizes + n}, caller};
}

static const known &known_as(const void *function)
{
    auto found = functions().find(function);
    if (found == functions().end())
        emu_stop("%p is launched, which is no function of the GPU", function);
    return found->second;
}

struct call {
    emu_caller caller;
    const void *function;
    void **values;
};

static void call_it(void *of)
{
    call *c = (call *)of;
    c->caller(c->function, c->values);
}

static void run(const void *function, dim3 grid, dim3 block, size_t shared_bytes, void **values)
{
    const known &f = known_as(function);
    call c = {f.caller, function, values};
    emu_launch(f.name, grid.x, block.x, shared_bytes, call_it, &c);
}

static std::vector<bytes> copies_of(const void *function, void **values)
{
    std::vector<bytes> copies;
    for (size_t size : known_as(function).sizes) {
        const char *from = (const char *)*values++;
        copies.emplace_back(from, from + size);
    }
    return copies;
}

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **values,
                             size_t shared_bytes, cudaStream_t stream)
{
    if (stream && stream == capture.stream)
        capture.graph->nodes.push_back(new CUgraphNode_st{
            nullptr, function, grid, block, shared_bytes, copies_of(function, values)});
    else
        run(function, grid, block, shared_bytes, values);
    return cudaSuccess;
}

/* ---- capturing ---- */

bool emu_captured(cudaStream_t stream, std::function<void()> work)
{
    if (!stream || stream != capture.stream)
        return false;
    capture.graph->nodes.push_back(new CUgraphNode_st{work, nullptr, {}, {}, 0, {}});
    return true;
}

bool emu_forbidden()
{
    capture.spoilt = capture.spoilt || capture.stream;
    return capture.stream;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode)
{
    if (capture.stream)
        return cudaErrorIllegalState;
    capture = {stream, new CUgraph_st, false};
    return cudaSuccess;
}

cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, cudaStreamCaptureStatus *status,
                                     unsigned long long *, cudaGraph_t *,
                                     const cudaGraphNode_t **last, const cudaGraphEdgeData **edges,
                                     size_t *count)
{
    bool active = stream == capture.stream && !capture.spoilt;
    *status = active                     ? cudaStreamCaptureStatusActive
              : stream == capture.stream ? cudaStreamCaptureStatusInvalidated
                                         : cudaStreamCaptureStatusNone;
    *edges = NULL;
    *count = active && !capture.graph->nodes.empty();
    *last = *count ? &capture.graph->nodes.back() : NULL;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    if (stream != capture.stream)
        return cudaErrorIllegalState;
    cudaGraph_t captured = capture.graph;
    bool spoilt = capture.spoilt;
    capture = {};
    *graph = spoilt ? NULL : captured;
    if (spoilt)
        cudaGraphDestroy(captured);
    return spoilt ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

/* ---- graphs ---- */

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ready, cudaGraph_t graph, unsigned long long)
{
    *ready = new CUgraphExec_st{graph->nodes, {}};
    for (cudaGraphNode_t node : graph->nodes)
        (*ready)->nodes.push_back(*node);
    return cudaSuccess;
}

cudaError_t cudaGraphExecKernelNodeSetParams(cudaGraphExec_t ready, cudaGraphNode_t node,
                                             const cudaKernelNodeParams *to)
{
    for (size_t i = 0; i < ready->of.size(); i++)
        if (ready->of[i] == node && node->function) {
            ready->nodes[i] = {
                nullptr,      to->func,           to->gridDim,
                to->blockDim, to->sharedMemBytes, copies_of(to->func, to->kernelParams)};
            return cudaSuccess;
        }
    return cudaErrorInvalidValue;
}

static void run_node(CUgraphNode_st &node)
{
    if (node.work) {
        node.work();
        return;
    }
    std::vector<void *> values;
    for (bytes &value : node.arguments)
        values.push_back(value.data());
    run(node.function, node.grid, node.block, node.shared_bytes, values.data());
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t ready, cudaStream_t)
{
    if (emu_forbidden())
        return cudaErrorStreamCaptureUnsupported;
    for (CUgraphNode_st &node : ready->nodes)
        run_node(node);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t ready)
{
    delete ready;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    for (cudaGraphNode_t node : graph->nodes)
        delete node;
    delete graph;
    return cudaSuccess;
}
