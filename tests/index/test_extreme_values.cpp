/* Any finite query gets an answer, whatever its size, and eta of a threshold is
 * the same for centroids and codes. The first are for UBSan too: a cast of an
 * infinity to an integer is undefined. */

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <map>

#include <faiss_ext/codes/score_aware_loss.h>
#include <faiss_ext/index_factory.h>
#include <faiss_ext/model/index_state.h>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 24, kN = 2000, kQueries = 20, k = 10;

struct Stored {
    const char* name;
    faiss::MetricType metric;
    const char* description;
};

void PrintTo(const Stored& c, std::ostream* out) {
    *out << c.name;
}

class ExtremeQueries : public testing::TestWithParam<Stored> {
 protected:
    static std::vector<float> scaled(std::vector<float> x, double factor) {
        for (float& value : x) {
            double moved = std::clamp(
                    value * factor, -double(FLT_MAX), double(FLT_MAX));
            value = float(moved);
        }
        return x;
    }
};

TEST_P(ExtremeQueries, AreAnswered) {
    const auto& [name, metric, description] = GetParam();
    std::unique_ptr<faiss::Index> owner(faiss_ext::index_factory(
            kD, (std::string("IVF16,") + description).c_str(), metric));
    auto& index = dynamic_cast<IndexIVFScaNN&>(*owner);
    const auto rows = clustered_rows(kN, kD, 1);
    const auto queries = clustered_rows(kQueries, kD, 2);
    index.train(kN, rows.data());
    index.add(kN, rows.data());
    SearchParametersScaNN params;
    params.nprobe = 4;
    const Hits usual = search(index, queries, k, &params);
    for (double factor : {1e-44, 1e-37, 1e-30, 1e-20, 1e20, 1e30, 1e37, 1e60}) {
        const Hits hits = search(index, scaled(queries, factor), k, &params);
        for (size_t i = 0; i < hits.labels.size(); i++) {
            EXPECT_GE(hits.labels[i], 0) << factor;
            EXPECT_FALSE(std::isnan(hits.distances[i])) << factor;
        }
        // beyond that floats lose digits, or all of them
        if (metric == faiss::METRIC_INNER_PRODUCT && factor >= 1e-37 &&
            factor <= 1e30) {
            size_t same = 0;
            for (size_t i = 0; i < hits.labels.size(); i++) {
                same += hits.labels[i] == usual.labels[i];
            }
            EXPECT_GE(same, hits.labels.size() * 98 / 100) << factor;
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        ExtremeQueries,
        testing::Values(
                Stored{"L2_Codes", faiss::METRIC_L2, "ScaNN"},
                Stored{"L2_SQ8", faiss::METRIC_L2, "ScaNN,SQ8"},
                Stored{"L2_SQfp16", faiss::METRIC_L2, "ScaNN,SQfp16"},
                Stored{"L2_SQbf16", faiss::METRIC_L2, "ScaNN,SQbf16"},
                Stored{"L2_RFlat", faiss::METRIC_L2, "ScaNN,RFlat"},
                Stored{"IP_Codes", faiss::METRIC_INNER_PRODUCT, "ScaNN"},
                Stored{"IP_SQ8", faiss::METRIC_INNER_PRODUCT, "ScaNN,SQ8"},
                Stored{"IP_SQfp16",
                       faiss::METRIC_INNER_PRODUCT,
                       "ScaNN,SQfp16"},
                Stored{"IP_SQbf16",
                       faiss::METRIC_INNER_PRODUCT,
                       "ScaNN,SQbf16"},
                Stored{"IP_RFlat", faiss::METRIC_INNER_PRODUCT, "ScaNN,RFlat"},
                Stored{"IP_Spilled",
                       faiss::METRIC_INNER_PRODUCT,
                       "ScaNN(soar_lambda=1),RFlat"},
                Stored{"Cosine_RFlat",
                       faiss::METRIC_INNER_PRODUCT,
                       "ScaNN(normalize=1),RFlat"}),
        [](const auto& info) { return std::string(info.param.name); });

/// Refine codes of 16 bits find what those of 8 bits find, whatever the size
/// of the rows: halves alone would end at 65504 and fade below 1e-7.
class ScaledRows : public testing::TestWithParam<double> {};

TEST_P(ScaledRows, AreRefinedByHalves) {
    const auto plain = clustered_rows(kN, kD, 5);
    const std::vector<float> first(plain.begin(), plain.begin() + 100 * kD);
    std::vector<float> rows(plain);
    for (float& value : rows) {
        value = float(value * GetParam());
    }
    const std::vector<float> queries(rows.begin(), rows.begin() + 100 * kD);
    for (auto metric : {faiss::METRIC_L2, faiss::METRIC_INNER_PRODUCT}) {
        const Hits best = exact_search(metric, kD, plain, first, k);
        for (const char* kept : {"", ",RFlat"}) {
            std::map<std::string, double> recalls;
            for (const char* type : {"", ",SQ8", ",SQfp16", ",SQbf16"}) {
                std::string text = std::string("IVF8,ScaNN") + type + kept;
                SCOPED_TRACE(text);
                std::unique_ptr<faiss::Index> owner(
                        faiss_ext::index_factory(kD, text, metric));
                auto& index = dynamic_cast<IndexIVFScaNN&>(*owner);
                index.train(kN, rows.data());
                index.add(kN, rows.data());
                SearchParametersScaNN params;
                params.nprobe = 8;
                Hits hits = search(index, queries, k, &params);
                recalls[type] = recall(hits, best, k);
                for (float distance : hits.distances) {
                    EXPECT_TRUE(std::isfinite(distance));
                }
                std::vector<float> row(kD);
                index.set_direct_map_type(faiss::DirectMap::Hashtable);
                index.reconstruct(7, row.data());
                double most = *type == 0 && *kept == 0 ? 1e30 : GetParam() / 50;
                for (size_t j = 0; j < kD; j++) {
                    EXPECT_NEAR(row[j], rows[7 * kD + j], most);
                }
            }
            EXPECT_GE(recalls[",SQfp16"], recalls[",SQ8"] - .01);
            EXPECT_GE(recalls[",SQbf16"], recalls[",SQ8"] - .02);
            if (*kept != 0) {
                EXPECT_GE(recalls[",SQfp16"], recalls[""] - .01);
                EXPECT_GE(recalls[",SQfp16"], .97);
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(
        Factors,
        ScaledRows,
        testing::Values(1e-8, 1, 1e6, 1e15),
        [](const auto& info) {
            return std::string("E").append(
                    std::to_string(int(std::log10(info.param)) + 12));
        });

/// Score-aware centroids with the eta of the codes hold as many neighbours as
/// plain ones; with eta of rows of length 1, as once, they held .08 less.
TEST(Threshold, IsOneEtaForCentroidsAndCodes) {
    const size_t n = 4000, d = 16;
    const float length = 80, threshold = 16;
    auto rows = clustered_rows(n, d, 3);
    for (size_t i = 0; i < n; i++) {
        float* row = rows.data() + i * d;
        double square = 0;
        for (size_t j = 0; j < d; j++) {
            square += double(row[j]) * row[j];
        }
        for (size_t j = 0; j < d; j++) {
            row[j] = float(row[j] * length / std::sqrt(square));
        }
    }
    const std::vector<float> queries(rows.begin(), rows.begin() + 100 * d);
    auto found = [&](bool aware) {
        ScaNNOptions options;
        options.threshold = threshold;
        options.with_raw_data = true;
        options.score_aware_centroids = aware;
        IndexIVFScaNN index(d, 64, faiss::METRIC_INNER_PRODUCT, options);
        index.train(n, rows.data());
        index.add(n, rows.data());
        EXPECT_NEAR(
                index.state().model->pq.eta(),
                faiss_ext::eta_from_threshold(threshold, length, d),
                1e-3);
        SearchParametersScaNN params;
        params.nprobe = 4;
        Hits hits = search(index, queries, k, &params);
        SearchParametersScaNN all = exhaustive(index);
        return recall(hits, search(index, queries, k, &all), k);
    };
    EXPECT_GE(found(true), found(false) - 0.03);
}

} // namespace
