/* A config of a node as text, for a build and then for searches. */

#include <algorithm>
#include <string>

#include <knowhere_plugin/index_factory.h>

#include "targets.h"

namespace fuzz {

namespace {

using namespace knowhere_plugin;

constexpr int64_t kRows = 96, kDim = 4, kQueries = 2;
/// results that are really asked for cost what they cost
constexpr int64_t kMostResults = 1000;
constexpr int64_t kMostLinks = 64;

int64_t number_in(const Config& config, const char* key) {
    auto found = config.find(key);
    int64_t value = 0;
    if (found != config.end()) {
        for (char c : found->second) {
            if (c >= '0' && c <= '9' && value < (int64_t(1) << 40)) {
                value = value * 10 + (c - '0');
            }
        }
    }
    return value;
}

} // namespace

void node_config(Bytes input) {
    std::string text(input.begin(), input.end()), type;
    Config build, search;
    Config* config = &build;
    bool first = true;
    for (size_t at = 0; at <= text.size();) {
        size_t end = std::min(text.find('\n', at), text.size());
        std::string line = text.substr(at, end - at);
        at = end + 1;
        size_t equals = line.find('=');
        if (first) {
            type = line;
            first = false;
        } else if (line == "--") {
            config = &search;
        } else if (equals != std::string::npos) {
            (*config)[line.substr(0, equals)] = line.substr(equals + 1);
        }
    }
    if (number_in(search, "k") > kMostResults ||
        number_in(build, "M") > kMostLinks) {
        return;
    }
    MemoryLimit limit(input.size());
    auto made = IndexFactory::Instance().Create(type);
    if (!made.ok()) {
        return;
    }
    IndexNode& node = *made.value();
    std::vector<float> x(kRows * kDim);
    uint32_t state = 1;
    for (float& value : x) {
        state = state * 1664525 + 1013904223;
        value = float(int(state >> 24) - 128) / 16;
    }
    DataSet queries{kQueries, kDim, x.data()};
    if (!node.Build({kRows, kDim, x.data()}, build).ok()) {
        if (node.Search(queries, search).ok()) {
            throw BrokenPromise("a node that was not built answers");
        }
        return;
    }
    std::vector<uint8_t> bits(kRows / 8, 0x55);
    BitsetView filter(bits.data(), kRows);
    node.Search(queries, search);
    node.Search(queries, search, filter);
    node.RangeSearch(queries, search);
    node.RangeSearch(queries, search, filter);
    auto iterators = node.AnnIterator(queries, search, filter);
    if (iterators.ok()) {
        for (auto& iterator : iterators.value()) {
            for (int i = 0; i < kRows && iterator->Next().ok(); i++) {
            }
        }
    }
    node.Add({1, kDim, x.data()}, build);
    auto blob = node.Serialize();
    if (!blob.ok() || !node.Deserialize(blob.value(), search).ok()) {
        // the config may be no good for loading; without it the blob must be
        if (!blob.ok() || !node.Deserialize(blob.value()).ok()) {
            throw BrokenPromise("a node that was built does not load again");
        }
    }
}

} // namespace fuzz
