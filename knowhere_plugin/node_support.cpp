/* The small parts of a call: metric, filter, threads. */

#include <cstring>

#include <omp.h>

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

RowFilter::RowFilter(const BitsetView& filtered, int64_t rows)
        : passing_(rows) {
    if (filtered.empty()) {
        return;
    }
    size_t bits = std::min(filtered.size(), size_t(rows));
    words_.resize((bits + 63) / 64);
    std::memcpy(words_.data(), filtered.data(), (bits + 7) / 8);
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

ThreadScope::ThreadScope(int threads) : before_(omp_get_max_threads()) {
    if (threads > 0) {
        omp_set_num_threads(threads);
    }
}

ThreadScope::~ThreadScope() {
    omp_set_num_threads(before_);
}

} // namespace knowhere_plugin
