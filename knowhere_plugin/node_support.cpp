/* Parts of a call: metric, filter, threads. */

#include <algorithm>
#include <cstring>

#include <omp.h>

#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/memory/parallel.h>

#include <knowhere_plugin/faiss_node.h>
#include <knowhere_plugin/guard.h>

namespace knowhere_plugin {

Metric metric_of(const std::string& word) {
    return word == "IP"       ? Metric::IP
           : word == "COSINE" ? Metric::COSINE
                              : Metric::L2;
}

const char* name_of(Metric metric) {
    switch (metric) {
        case Metric::L2:
            return "L2";
        case Metric::IP:
            return "IP";
        case Metric::COSINE:
            return "COSINE";
    }
    return "";
}

// ---------------------------------------------------------------- filter

RowFilter::RowFilter(const BitsetView& filtered, int64_t rows)
        : rows_(rows), passing_(rows) {
    if (filtered.empty()) {
        return;
    }
    size_t bits = std::min(filtered.size(), size_t(rows));
    words_.resize((bits + 63) / 64);
    if (bits > 0) {
        std::memcpy(words_.data(), filtered.data(), (bits + 7) / 8);
    }
    passing_ = 0;
    for (uint64_t& word : words_) {
        word = ~word;
    }
    if (bits % 64 != 0) {
        words_.back() &= (uint64_t(1) << bits % 64) - 1;
    }
    for (uint64_t word : words_) {
        passing_ += __builtin_popcountll(word);
    }
    if (passing_ < rows) {
        selector_ = std::make_unique<faiss::IDSelectorBitmap>(
                words_.size() * 8,
                reinterpret_cast<const uint8_t*>(words_.data()));
    }
}

// -------------------------------------------------------------- searches

void search_faiss(
        const faiss::Index& index,
        faiss::SearchParameters& parameters,
        int64_t batch,
        const SearchRequest& request) {
    parameters.sel = request.filter.selector();
    for (int64_t first = 0; first < request.n; first += batch) {
        const SearchRequest some =
                request.part(first, std::min(batch, request.n - first));
        index.search(
                some.n,
                some.queries,
                some.k,
                some.distances,
                some.labels,
                &parameters);
    }
}

Hits search_faiss_range(
        const faiss::Index& index,
        faiss::SearchParameters& parameters,
        const RangeRequest& request) {
    parameters.sel = request.filter.selector();
    faiss::RangeSearchResult found(1);
    index.range_search(1, request.query, request.radius, &found, &parameters);
    return hits_in(found);
}

Hits hits_in(const faiss::RangeSearchResult& found) {
    Hits hits;
    for (size_t i = 0; i < found.lims[1]; i++) {
        hits.emplace_back(found.labels[i], found.distances[i]);
    }
    return hits;
}

// --------------------------------------------------------------- threads

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()) {
    if (threads > 0 && faiss_ext::may_use_threads()) {
        omp_set_num_threads(threads);
    }
}

ThreadScope::~ThreadScope() {
    omp_set_num_threads(before_);
}

} // namespace knowhere_plugin
