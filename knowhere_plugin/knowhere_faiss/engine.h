/*
 * What the preloaded library (loader.cpp) asks of the engine beside it.
 *
 * Both are compiled with the headers of the host's Faiss, so that C++ types may
 * stand between them.
 */

#pragma once

#include <memory>
#include <set>
#include <string>

#include <faiss/Index.h>
#include <faiss/impl/io.h>

namespace knowhere_plugin::knowhere_faiss {

/// The function of the host that the loader stands before.
using HostRead =
        std::unique_ptr<faiss::Index> (*)(faiss::IOReader*, int io_flags);

struct Engine {
    /// Of strings with "ScaNN" in them.
    faiss::Index* (*index_factory)(
            int d,
            const char* description,
            faiss::MetricType metric);
    /// Whether there is an index of ours inside. @param index  or nullptr
    bool (*is_ours)(const faiss::Index* index);
    /// Of an index of ours.
    void (*write_index)(const faiss::Index* index, faiss::IOWriter* writer);
    /// Of any index: what are not our bytes is read by the host.
    std::unique_ptr<faiss::Index> (
            *read_index)(faiss::IOReader* reader, int io_flags, HostRead host);
    /// For a search in an index of ours.
    std::unique_ptr<faiss::SearchParameters> (*make_search_params)(
            const faiss::Index* index);
    std::set<std::string> (*search_param_names)();
    /// @return false: these are not parameters that make_search_params() made
    bool (*set_search_param)(
            faiss::SearchParameters* params,
            const std::string& name,
            double value);
};

/// The engine's only symbol. @return nullptr if this host has another Faiss
using FindEngine = const Engine*(char* why, size_t size);
constexpr char kFindEngine[] = "faiss_ext_knowhere_engine";

} // namespace knowhere_plugin::knowhere_faiss
