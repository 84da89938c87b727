/* A factory string, with a small index trained and searched if it makes one.
 */

#include <cctype>
#include <memory>
#include <string>

#include <faiss/impl/FaissException.h>

#include <faiss_ext/index_factory.h>

#include "targets.h"

namespace fuzz {

namespace {

constexpr size_t kRows = 48, kQueries = 2, kK = 3;
/// numbers that ask for much: denial by size is not promised
constexpr uint64_t kLargeNumber = 512;
constexpr size_t kDigitsOfMuch = 11;

/// Whether a number would make a large, slow index, rather than be refused.
bool asks_for_much(const std::string& text) {
    for (size_t i = 0; i < text.size();) {
        size_t digits = 0;
        uint64_t value = 0;
        while (i + digits < text.size() &&
               std::isdigit(static_cast<unsigned char>(text[i + digits]))) {
            value = std::min<uint64_t>(
                    value * 10 + uint64_t(text[i + digits] - '0'), 1ull << 50);
            digits++;
        }
        if (digits > 0 && digits < kDigitsOfMuch && value > kLargeNumber) {
            return true;
        }
        i += digits + 1;
    }
    return false;
}

} // namespace

void factory_string(Bytes input) {
    if (input.size() < 2) {
        return;
    }
    int d = input[0] == 255 ? -1 : input[0] % 20;
    auto metric = faiss::MetricType(input[1] % 3);
    std::string text(
            reinterpret_cast<const char*>(input.data()) + 2, input.size() - 2);
    if (asks_for_much(text)) {
        return;
    }
    MemoryLimit limit(input.size());
    std::unique_ptr<faiss::Index> index;
    try {
        index.reset(faiss_ext::index_factory(d, text, metric));
    } catch (const faiss::FaissException&) {
        return;
    }
    // what Faiss makes by itself is Faiss' matter
    if (faiss_ext::find_scann(index.get()) == nullptr) {
        return;
    }
    try {
        std::vector<float> x(kRows * size_t(index->d));
        uint32_t state = 1;
        for (float& value : x) {
            state = state * 1664525 + 1013904223;
            value = float(int(state >> 24) - 128) / 16;
        }
        index->train(kRows, x.data());
        index->add(kRows, x.data());
        std::vector<float> distances(kQueries * kK);
        std::vector<int64_t> labels(kQueries * kK);
        index->search(kQueries, x.data(), kK, distances.data(), labels.data());
    } catch (const faiss::FaissException&) {
    }
}

} // namespace fuzz
