/* Bad options and bad training: an error that names the value and what is
 * allowed, and an index that is as before. */

#include <algorithm>

#include "fixtures/bad_input.h"

using namespace bad_input;

namespace {

// ---- options ----

TEST_F(BadInputTest, SubDim) {
    for (size_t value : {0, 9, 100}) {
        ScaNNOptions options;
        options.sub_dim = value;
        expect_options_error({std::to_string(value), "8"}, options);
    }
}

TEST_F(BadInputTest, CodedDims) {
    ScaNNOptions options;
    options.coded_dims = kD + 1;
    expect_options_error({"coded_dims = 9", "0..8"}, options);
    options.M = 5;
    options.coded_dims = 4;
    expect_options_error({"M is 5", "4 dimensions"}, options);
}

TEST_F(BadInputTest, Eta) {
    for (float value : {-1.0f, 0.5f}) {
        ScaNNOptions options;
        options.eta = value;
        expect_options_error({value < 0 ? "-1" : "0.5", ">= 1"}, options);
    }
    for (float value : {NAN, INFINITY}) {
        ScaNNOptions options;
        options.eta = value;
        expect_options_error({"eta", ">= 1"}, options);
    }
}

TEST_F(BadInputTest, Threshold) {
    ScaNNOptions options;
    options.threshold = INFINITY;
    expect_options_error({"inf", "finite"}, options);
    options.threshold = 0.25f;
    options.eta = 3;
    expect_options_error({"0.25", "3", "one of"}, options);
}

TEST_F(BadInputTest, SoarLambda) {
    for (float value : {-2.0f, NAN, INFINITY}) {
        ScaNNOptions options;
        options.soar_lambda = value;
        expect_options_error({"soar_lambda", ">= 0"}, options);
    }
}

TEST_F(BadInputTest, InnerProductOptionsWithL2) {
    ScaNNOptions options;
    options.normalize = true;
    expect_options_error({"normalize", "METRIC_INNER_PRODUCT"}, options, kL2);
    options.normalize = false;
    options.score_aware_centroids = true;
    expect_options_error(
            {"score_aware_centroids", "METRIC_INNER_PRODUCT"}, options, kL2);
}

TEST_F(BadInputTest, MetricAndDimension) {
    ScaNNOptions options;
    expect_options_error(
            {"METRIC_INNER_PRODUCT", "METRIC_L2"}, options, faiss::METRIC_L1);
    for (size_t d : {size_t(0), size_t(65537)}) {
        expect_error({std::to_string(d), "1..65536"}, [&] {
            IndexIVFScaNN index(d, kLists);
        });
    }
}

TEST_F(BadInputTest, TrainingPointsPerCentroid) {
    ScaNNOptions options;
    options.max_points_per_centroid = 0;
    expect_options_error({"max_points_per_centroid", ">= 1"}, options);
}

// ---- train ----

TEST_F(BadInputTest, FewerRowsThanLists) {
    IndexIVFScaNN index(kD, 500);
    expect_error({"300", "500"}, [&] { index.train(kN, rows_.data()); });
    EXPECT_FALSE(index.is_trained);
    expect_error({"0", ">= 1"}, [&] { index.train(0, rows_.data()); });
    EXPECT_FALSE(index.is_trained);
}

TEST_F(BadInputTest, AutomaticListsTakeAnyNumberOfRows) {
    for (auto metric : {kIP, kL2}) {
        for (size_t n : {1, 2, 3, 17, 40, 300}) {
            IndexIVFScaNN index(
                    kD, 0, metric, tier_options(Tier::Int8Raw, n % 2));
            index.train(n, rows_.data());
            index.add(n, rows_.data());
            EXPECT_GE(index.nlist, 1u);
            EXPECT_LE(index.nlist, n);
            index.nprobe = index.nlist;
            EXPECT_EQ(find(index, 1).labels[0] >= 0, true) << n;
        }
    }
}

TEST_F(BadInputTest, EqualRowsTrain) {
    for (auto metric : {kIP, kL2}) {
        for (float value : {0.0f, 1.0f}) {
            std::vector<float> x(100 * kD, value);
            auto index = filled({metric, Tier::Codes, 1}, x, kD, 4);
            std::vector<int64_t> labels = find(*index).labels;
            EXPECT_EQ(std::count(labels.begin(), labels.end(), -1), 0);
        }
    }
}

TEST_F(BadInputTest, OneDimensionTrains) {
    for (auto metric : {kIP, kL2}) {
        std::vector<float> x = clustered_rows(200, 1, 3);
        IndexIVFScaNN index(1, 4, metric, tier_options(Tier::Raw));
        index.train(200, x.data());
        index.add(200, x.data());
        SearchParametersScaNN params = exhaustive(index);
        std::vector<float> query = {0.5f};
        Hits hits = search(index, query, 3, &params);
        Hits exact = exact_search(metric, 1, x, query, 3);
        EXPECT_TRUE(hits == exact);
    }
}

TEST_F(BadInputTest, HugeAndTinyValuesAreFoundOrRefused) {
    for (float scale : {1e-15f, 1e-6f, 1e6f, 1e15f}) {
        for (auto metric : {kIP, kL2}) {
            std::vector<float> x = rows_;
            for (float& value : x) {
                value *= scale;
            }
            auto index = filled({metric, Tier::Raw}, x, kD, kLists);
            Hits hits = search(*index, {x.begin(), x.begin() + kD}, 5);
            EXPECT_EQ(std::count(hits.labels.begin(), hits.labels.end(), -1), 0)
                    << scale;
            if (metric == kL2) {
                EXPECT_EQ(hits.labels[0], 0) << scale;
            }
        }
    }
}

TEST_F(BadInputTest, NaNAndInfinityInTraining) {
    for (float bad : {NAN, INFINITY, -INFINITY}) {
        std::vector<float> x = rows_;
        x[123 * kD + 4] = bad;
        IndexIVFScaNN index(kD, kLists);
        expect_error({"123", "finite"}, [&] { index.train(kN, x.data()); });
        EXPECT_FALSE(index.is_trained);
        index.train(kN, rows_.data());
        EXPECT_TRUE(index.is_trained);
    }
}

TEST_F(BadInputTest, ProgressThatThrowsInTrainingLeavesItUntrained) {
    for (int fatal : {0, 3, 12}) {
        IndexIVFScaNN index(kD, kLists);
        int calls = 0;
        index.progress = [&](const char*, size_t, size_t) {
            if (calls++ == fatal) {
                throw std::runtime_error("enough");
            }
        };
        EXPECT_THROW(index.train(kN, rows_.data()), std::runtime_error);
        EXPECT_FALSE(index.is_trained);
        index.progress = nullptr;
        index.train(kN, rows_.data());
        index.add(kN, rows_.data());
        IndexIVFScaNN fresh(kD, kLists);
        fresh.train(kN, rows_.data());
        fresh.add(kN, rows_.data());
        EXPECT_TRUE(find(index) == find(fresh));
    }
}

} // namespace
