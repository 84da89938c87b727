/*
 * The queries of a call in slices: one after the other, or in the threads of
 * the host's search pool, which its own indexes use, too. Before each slice the
 * host may have cancelled the call.
 */

#pragma once

#include <algorithm>
#include <vector>

#include "knowhere/index/index_node.h"
#ifdef NOT_COMPILE_FOR_SWIG
#include "common/OpContext.h"
#include "knowhere/comp/task.h"
#include "knowhere/thread_pool.h"
#endif

#include <knowhere_plugin/index_factory.h>

namespace knowhere_plugin::knowhere26 {

/// The host's own indexes answer so, too.
inline Status not_cancelled([[maybe_unused]] const milvus::OpContext* context) {
#ifdef NOT_COMPILE_FOR_SWIG
    if (context != nullptr &&
        context->cancellation_token.isCancellationRequested()) {
        return {StatusCode::faiss_inner_error, "the search was cancelled"};
    }
#endif
    return {};
}

struct QuerySlice {
    int64_t begin, end;
};

/// The engine serves queries that share lists together, but a thread that is
/// free should get some, and a cancelled call should end soon.
inline std::vector<QuerySlice> slices_of(int64_t queries, int64_t threads) {
    constexpr int64_t kFewest = 32, kMost = 256;
    const int64_t share = (queries + threads - 1) / threads;
    const int64_t size = std::clamp(share, kFewest, kMost);
    std::vector<QuerySlice> slices;
    for (int64_t begin = 0; begin == 0 || begin < queries; begin += size) {
        slices.push_back({begin, std::min(begin + size, queries)});
    }
    return slices;
}

/** Calls work(slice) for each slice of the queries.
 * @param work  Expected<DataSet>(QuerySlice)
 * @return      one result a slice, or what failed first */
template <class Work>
Expected<std::vector<DataSet>>
search_slices(int64_t queries, const milvus::OpContext* context, Work&& work) {
    std::vector<DataSet> found;
    std::vector<Status> failed;
    auto run = [&](const QuerySlice& slice, size_t at) {
        Status status = not_cancelled(context);
        if (status.ok()) {
            Expected<DataSet> result = work(slice);
            status = result.status();
            if (result.ok()) {
                found[at] = result.value();
            }
        }
        failed[at] = status;
    };
#ifdef NOT_COMPILE_FOR_SWIG
    auto pool = knowhere::ThreadPool::GetGlobalSearchThreadPool();
    const auto threads = std::max<int64_t>(int64_t(pool->size()), 1);
#else
    const int64_t threads = 1;
#endif
    const std::vector<QuerySlice> slices = slices_of(queries, threads);
    found.resize(slices.size());
    failed.resize(slices.size());
    if (slices.size() == 1) {
        run(slices[0], 0);
    } else {
#ifdef NOT_COMPILE_FOR_SWIG
        std::vector<folly::Future<folly::Unit>> tasks;
        tasks.reserve(slices.size());
        for (size_t i = 0; i < slices.size(); i++) {
            tasks.push_back(pool->push([&, i] { run(slices[i], i); }));
        }
        knowhere::WaitAllSuccess(tasks);
#else
        for (size_t i = 0; i < slices.size(); i++) {
            run(slices[i], i);
        }
#endif
    }
    for (const Status& status : failed) {
        if (!status.ok()) {
            return status;
        }
    }
    return found;
}

} // namespace knowhere_plugin::knowhere26
