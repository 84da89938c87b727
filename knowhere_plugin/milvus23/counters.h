/*
 * Counts what the node does in this process, which proves that it, and not the
 * host's own SCANN, answers.
 *
 * If SCANN_PLUGIN_STATS names a file, it is made when the node is registered.
 * It has the current counters at any time, also after the process was killed.
 * Format: records of 32 bytes, struct.iter_unpack("<24sQ", ...) in Python:
 * name, padded with zeros, and value. The first record is the library's name
 * and the version of this format, 1; the others are named as below (find them
 * by name, more may be added). Times are nanoseconds inside the node, summed
 * over threads.
 */

#pragma once

#include <chrono>
#include <cstdint>

namespace knowhere_plugin::milvus23 {

enum class Counter {
    library,
    pid,
    nodes,      ///< made
    live_nodes, ///< not yet deleted
    builds,     ///< that succeeded; likewise below
    build_failures,
    build_rows,
    build_ns,
    repairs, ///< values of build parameters that were replaced
    serializes,
    blob_bytes,
    loads,
    load_failures,
    load_rows,
    load_ns,
    searches,
    queries,
    max_nq,   ///< of one search
    filtered, ///< searches of both kinds that left rows out
    search_failures,
    search_ns,
    ranges,
    range_queries,
    range_failures,
    range_ns,
    vector_calls,
    vectors, ///< rows fetched
    count_,
};

/// Reads SCANN_PLUGIN_STATS. A file that cannot be made is logged and leaves
/// the counters in memory.
void open_counters() noexcept;

void count(Counter counter, uint64_t by = 1) noexcept;
void count_down(Counter counter) noexcept;
void count_max(Counter counter, uint64_t value) noexcept;

/// Adds the time until its end.
class TimeCount {
 public:
    explicit TimeCount(Counter counter) : counter_(counter) {}
    ~TimeCount() {
        auto passed = std::chrono::steady_clock::now() - start_;
        count(counter_, uint64_t(std::chrono::nanoseconds(passed).count()));
    }
    TimeCount(const TimeCount&) = delete;
    TimeCount& operator=(const TimeCount&) = delete;

 private:
    Counter counter_;
    std::chrono::steady_clock::time_point start_ =
            std::chrono::steady_clock::now();
};

} // namespace knowhere_plugin::milvus23
