/* Indexes of a real Knowhere, for tests that run with our library preloaded:
 * calls with the host's types, results as plain vectors. */

#pragma once

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "knowhere/bitsetview.h"
#include "knowhere/index/index_factory.h"

#include "fixtures/random_rows.h"

namespace host {

using knowhere::Json;
using HostIndex = knowhere::Index<knowhere::IndexNode>;

/// Clouds of rows, and queries from them.
struct Data {
    size_t n, d, queries;
    std::vector<float> base, query;

    Data(size_t n, size_t d, size_t queries)
            : n(n),
              d(d),
              queries(queries),
              base(random_rows::clustered(n, d, {200, 1}, 2)),
              query(random_rows::clustered(queries, d, {200, 1}, 3)) {}
};

inline knowhere::DataSetPtr
data_set(size_t n, size_t d, const std::vector<float>& rows) {
    auto set = knowhere::GenDataSet(int64_t(n), int64_t(d), rows.data());
    set->SetIsOwner(false);
    return set;
}

inline HostIndex create(const std::string& type) {
    const auto version = knowhere::Version::GetCurrentVersion().VersionNumber();
    return knowhere::IndexFactory::Instance()
            .Create<knowhere::fp32>(type, version)
            .value();
}

inline HostIndex
built(const std::string& type, const Data& data, const Json& parameters) {
    HostIndex index = create(type);
    EXPECT_EQ(
            index.Build(data_set(data.n, data.d, data.base), parameters),
            knowhere::Status::success);
    return index;
}

struct Found {
    std::vector<int64_t> ids;
    std::vector<float> distances;
    bool operator==(const Found&) const = default;
};

inline Found search(
        const HostIndex& index,
        const Data& data,
        const Json& parameters,
        const knowhere::BitsetView& bitset = nullptr) {
    auto result = index.Search(
            data_set(data.queries, data.d, data.query), parameters, bitset);
    EXPECT_TRUE(result.has_value()) << result.what();
    if (!result.has_value()) {
        return {};
    }
    const auto& set = *result.value();
    const size_t count = size_t(set.GetRows() * set.GetDim());
    return {{set.GetIds(), set.GetIds() + count},
            {set.GetDistance(), set.GetDistance() + count}};
}

/// Per query.
inline std::vector<Found> range_search(
        const HostIndex& index,
        const Data& data,
        const Json& parameters,
        const knowhere::BitsetView& bitset = nullptr) {
    auto result = index.RangeSearch(
            data_set(data.queries, data.d, data.query), parameters, bitset);
    EXPECT_TRUE(result.has_value()) << result.what();
    std::vector<Found> found(data.queries);
    for (size_t q = 0; result.has_value() && q < data.queries; q++) {
        const size_t* lims = result.value()->GetLims();
        const int64_t* ids = result.value()->GetIds();
        const float* distances = result.value()->GetDistance();
        found[q] = {
                {ids + lims[q], ids + lims[q + 1]},
                {distances + lims[q], distances + lims[q + 1]}};
    }
    return found;
}

/// The share of the true neighbours that was found.
inline double recall(
        const std::vector<int64_t>& found,
        const std::vector<int64_t>& truth,
        size_t k) {
    size_t hits = 0;
    for (size_t i = 0; i < truth.size(); i++) {
        const auto begin = found.begin() + int64_t(i / k * k);
        hits += std::find(begin, begin + int64_t(k), truth[i]) !=
                begin + int64_t(k);
    }
    return double(hits) / double(truth.size());
}

/// What the metric of this name compares.
inline reference::Hits truth(
        const std::string& metric,
        const Data& data,
        size_t k,
        const faiss::IDSelector* selector = nullptr) {
    const bool cosine = metric == "COSINE";
    return reference::exact_search(
            metric == "L2" ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT,
            data.d,
            cosine ? reference::normalized(data.base, data.d) : data.base,
            cosine ? reference::normalized(data.query, data.d) : data.query,
            k,
            selector);
}

inline void expect_near(
        const std::vector<float>& found,
        const std::vector<float>& expected) {
    ASSERT_EQ(found.size(), expected.size());
    for (size_t i = 0; i < found.size(); i++) {
        const float scale = std::max(1.f, std::abs(expected[i]));
        ASSERT_NEAR(found[i], expected[i], 1e-5f * scale) << i;
    }
}

} // namespace host
