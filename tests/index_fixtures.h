/*
 * Small indexes, data and exhaustive search for the tests of the index.
 *
 * Rows with whole numbers of at most 250 in at most 64 dimensions: their inner
 * products and squared distances are exact in float in any order of summation,
 * so that results can be compared for equality.
 */

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissException.h>
#include <faiss/impl/IDSelector.h>
#include <gtest/gtest.h>

#include <faiss_ext/IndexIVFScaNN.h>

namespace fixtures {

using faiss_ext::IndexIVFScaNN;
using faiss_ext::RefineType;
using faiss_ext::ScaNNOptions;
using faiss_ext::SearchParametersScaNN;

constexpr auto kIP = faiss::METRIC_INNER_PRODUCT;
constexpr auto kL2 = faiss::METRIC_L2;
constexpr float kLargest = std::numeric_limits<float>::max();

/// Gaussian clouds around 40 centres that depend on d only.
inline std::vector<float> clustered_rows(size_t n, size_t d, int seed) {
    std::mt19937 random(77);
    std::normal_distribution<float> normal;
    constexpr size_t kCentres = 40;
    std::vector<float> centres(kCentres * d), out(n * d);
    for (float& value : centres) {
        value = 1.5f * normal(random);
    }
    random.seed(seed);
    for (size_t i = 0; i < n; i++) {
        size_t centre = random() % kCentres;
        for (size_t j = 0; j < d; j++) {
            out[i * d + j] = centres[centre * d + j] + normal(random);
        }
    }
    return out;
}

/// The same in whole numbers.
inline std::vector<float> whole_rows(size_t n, size_t d, int seed) {
    std::vector<float> x = clustered_rows(n, d, seed);
    for (float& value : x) {
        value = std::clamp(std::nearbyint(35 * value), -250.0f, 250.0f);
    }
    return x;
}

struct Hits {
    std::vector<float> distances;
    std::vector<int64_t> labels;
    bool operator==(const Hits&) const = default;
};

/// Whether `sel` lets an id pass; nullptr lets all.
inline bool allowed(const faiss::IDSelector* sel, int64_t id) {
    return sel == nullptr || sel->is_member(id);
}

inline float exact_distance(
        faiss::MetricType metric,
        size_t d,
        const float* q,
        const float* x) {
    double sum = 0;
    for (size_t i = 0; i < d; i++) {
        double difference = double(q[i]) - x[i];
        sum += metric == kL2 ? difference * difference : double(q[i]) * x[i];
    }
    return float(sum);
}

/// All pairs, best first, equal distances by label; padded with -1.
inline Hits exact_search(
        faiss::MetricType metric,
        size_t d,
        const std::vector<float>& base,
        const std::vector<float>& queries,
        size_t k,
        const faiss::IDSelector* sel = nullptr,
        const std::vector<int64_t>* ids = nullptr) {
    size_t nq = queries.size() / d, n = base.size() / d;
    bool l2 = metric == kL2;
    Hits hits;
    for (size_t q = 0; q < nq; q++) {
        std::vector<std::pair<float, int64_t>> found;
        for (size_t i = 0; i < n; i++) {
            int64_t id = ids ? (*ids)[i] : int64_t(i);
            if (allowed(sel, id)) {
                float distance = exact_distance(
                        metric, d, &queries[q * d], &base[i * d]);
                found.push_back({l2 ? distance : -distance, id});
            }
        }
        std::sort(found.begin(), found.end());
        found.resize(k, {kLargest, -1});
        for (auto [distance, id] : found) {
            hits.distances.push_back(l2 ? distance : -distance);
            hits.labels.push_back(id);
        }
    }
    return hits;
}

/// index.search() into outputs that hold rubbish before.
inline Hits search(
        const faiss::Index& index,
        const std::vector<float>& queries,
        size_t k,
        const faiss::SearchParameters* params = nullptr) {
    size_t nq = queries.size() / index.d;
    Hits hits{std::vector<float>(nq * k, -12345), {}};
    hits.labels.assign(nq * k, 9999999);
    index.search(
            nq,
            queries.data(),
            k,
            hits.distances.data(),
            hits.labels.data(),
            params);
    return hits;
}

/// Share of the first k labels of `exact` that `hits` has too.
inline double recall(const Hits& hits, const Hits& exact, size_t k) {
    size_t found = 0, wanted = 0;
    for (size_t at = 0; at < exact.labels.size(); at += k) {
        auto begin = hits.labels.begin() + at, end = begin + k;
        for (size_t i = 0; i < k; i++) {
            int64_t label = exact.labels[at + i];
            wanted += label >= 0;
            found += label >= 0 && std::find(begin, end, label) != end;
        }
    }
    return wanted == 0 ? 1 : double(found) / wanted;
}

// ---- storage tiers ----

enum class Tier { Codes, Int8, FP16, BF16, Raw, Int8Raw };

inline const char* tier_name(Tier tier) {
    static const char* const names[] = {
            "Codes", "Int8", "FP16", "BF16", "Raw", "Int8Raw"};
    return names[int(tier)];
}

inline ScaNNOptions tier_options(Tier tier, float soar_lambda = 0) {
    ScaNNOptions options;
    options.soar_lambda = soar_lambda;
    options.with_raw_data = tier == Tier::Raw || tier == Tier::Int8Raw;
    switch (tier) {
        case Tier::Codes:
        case Tier::Raw:
            options.refine_type = RefineType::None;
            break;
        case Tier::Int8:
        case Tier::Int8Raw:
            options.refine_type = RefineType::Int8;
            break;
        case Tier::FP16:
            options.refine_type = RefineType::FP16;
            break;
        case Tier::BF16:
            options.refine_type = RefineType::BF16;
            break;
    }
    return options;
}

/// Metric, tier and spilling of an index under test.
struct Kind {
    faiss::MetricType metric;
    Tier tier;
    float soar_lambda = 0;

    std::string name() const {
        return std::string(metric == kL2 ? "L2" : "IP") + tier_name(tier) +
               (soar_lambda > 0 ? "Spilled" : "");
    }
};

inline std::vector<Kind> all_kinds() {
    std::vector<Kind> kinds;
    for (auto metric : {kIP, kL2}) {
        for (Tier tier :
             {Tier::Codes,
              Tier::Int8,
              Tier::FP16,
              Tier::BF16,
              Tier::Raw,
              Tier::Int8Raw}) {
            kinds.push_back({metric, tier, 0});
        }
        for (Tier tier : {Tier::Codes, Tier::Int8, Tier::Raw}) {
            kinds.push_back({metric, tier, 1});
        }
    }
    return kinds;
}

/// For INSTANTIATE_TEST_SUITE_P over Kind.
inline std::string kind_name(const testing::TestParamInfo<Kind>& info) {
    return info.param.name();
}

inline std::unique_ptr<IndexIVFScaNN>
trained(const Kind& kind, const std::vector<float>& x, size_t d, size_t nlist) {
    auto index = std::make_unique<IndexIVFScaNN>(
            d, nlist, kind.metric, tier_options(kind.tier, kind.soar_lambda));
    index->train(x.size() / d, x.data());
    index->nprobe = nlist;
    return index;
}

/// An empty index with the training of another.
inline std::unique_ptr<IndexIVFScaNN> trained_like(const IndexIVFScaNN& other) {
    auto index = std::make_unique<IndexIVFScaNN>(
            size_t(other.d), other.nlist, other.metric_type, other.options);
    std::vector<float> centroids(other.nlist * other.d);
    other.quantizer->reconstruct_n(0, other.nlist, centroids.data());
    index->quantizer->add(other.nlist, centroids.data());
    index->set_trained(other.trained());
    index->nprobe = other.nlist;
    return index;
}

inline std::unique_ptr<IndexIVFScaNN>
filled(const Kind& kind, const std::vector<float>& x, size_t d, size_t nlist) {
    auto index = trained(kind, x, d, nlist);
    index->add(x.size() / d, x.data());
    return index;
}

/// Parameters that let no candidate be lost.
inline SearchParametersScaNN exhaustive(const IndexIVFScaNN& index) {
    SearchParametersScaNN params;
    params.nprobe = index.nlist;
    params.reorder_k = params.refine_k = 2 * index.ntotal + 1000;
    return params;
}

/// What a call throws, or "" if it does not.
template <class F>
std::string message_of(F&& f) {
    try {
        f();
    } catch (const faiss::FaissException& error) {
        return error.what();
    }
    return "";
}

} // namespace fixtures
