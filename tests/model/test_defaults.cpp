/* What the index chooses where the user says nothing: within its limits for any
 * size, and as large as was asked for. */

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <faiss/impl/FaissException.h>
#include <gtest/gtest.h>

#include <faiss_ext/lists/scann_lists.h>
#include <faiss_ext/model/defaults.h>
#include <faiss_ext/model/options.h>

using namespace faiss_ext;

namespace {

TEST(Defaults, CodesInFoursAreWholeGroups) {
    for (size_t d = 1; d <= 2000; d++) {
        for (size_t sub_dim : {1, 2, 4, 8}) {
            const size_t M = whole_groups(d, sub_dim);
            if (d / sub_dim < 16) {
                EXPECT_EQ(M, 0) << d << ", " << sub_dim;
                continue;
            }
            EXPECT_EQ(M % 4, 0) << d << ", " << sub_dim;
            EXPECT_LE(M, d / sub_dim);
            EXPECT_GT(M + 4, d / sub_dim)
                    << "no group less than there could be";
        }
    }
}

TEST(Defaults, ListsGrowWithTheRows) {
    ScaNNOptions plain, spilled;
    spilled.soar_lambda = 1;
    for (const ScaNNOptions& options : {plain, spilled}) {
        size_t before = 1;
        for (size_t n = 0; n < 100000000; n = n * 5 / 4 + 1) {
            const size_t nlist = default_nlist(n, options);
            EXPECT_GE(nlist, before) << n;
            EXPECT_LE(nlist, std::max<size_t>(1, n / 32)) << n;
            EXPECT_LE(double(nlist), 1 + 4 * std::sqrt(double(n))) << n;
            before = nlist;
        }
    }
    EXPECT_EQ(default_nlist(0, plain), 1);
    EXPECT_EQ(default_nlist(1000000, plain), 4000);
    EXPECT_LT(default_nlist(1000000, spilled), 4000);
}

TEST(Defaults, ProbesAreOneOf32Lists) {
    for (size_t nlist : {1, 31, 32, 63, 64, 1000, 100000}) {
        EXPECT_EQ(default_nprobe(nlist), std::max<size_t>(1, nlist / 32));
    }
}

TEST(Defaults, ReachIsWithinTheSegment) {
    for (size_t rows = 0; rows < 3000000; rows = rows * 3 / 2 + 1) {
        for (size_t nlist : {1, 16, 128, 4096}) {
            for (size_t usual : {1, 8, 100}) {
                size_t before = 0;
                for (size_t k : {1, 10, 100, 1000, 16384}) {
                    const SegmentDefaults reach =
                            segment_defaults(rows, nlist, k, usual);
                    EXPECT_GE(reach.nprobe, std::min(usual, nlist));
                    EXPECT_LE(reach.nprobe, nlist);
                    EXPECT_GE(reach.nprobe, before) << "more for larger k";
                    EXPECT_TRUE(reach.reorder_k == 0 || reach.reorder_k >= k);
                    // lists hold enough rows for k, if they are equally long
                    const double held =
                            double(rows) * double(reach.nprobe) / double(nlist);
                    EXPECT_GE(held, .999 * double(std::min(rows, 16 * k)));
                    before = reach.nprobe;
                }
            }
        }
    }
    EXPECT_EQ(segment_defaults(2000, 128, 10, 8).nprobe, 128) << "small: all";
    EXPECT_GT(segment_defaults(20000, 128, 10, 8).nprobe, 64);
    EXPECT_GT(segment_defaults(20000, 128, 10, 8).reorder_k, 10);
    EXPECT_EQ(segment_defaults(1000000, 4000, 10, 125).nprobe, 125);
    EXPECT_EQ(segment_defaults(1000000, 4000, 10, 125).reorder_k, 0);
}

TEST(Defaults, RotationsNeedRows) {
    for (size_t n : {0, 100, 1000000}) {
        EXPECT_FALSE(rotation_pays(RotationKind::None, n, 16));
        EXPECT_TRUE(rotation_pays(RotationKind::Random, n, 16));
    }
    EXPECT_FALSE(rotation_pays(RotationKind::Balanced, 127, 16));
    EXPECT_TRUE(rotation_pays(RotationKind::Balanced, 128, 16));
    EXPECT_FALSE(rotation_pays(RotationKind::Balanced, 10000000, 8193));
}

ScaNNOptions options_of(RefineType refine, bool raw, bool normalize) {
    ScaNNOptions options;
    options.refine_type = refine;
    options.with_raw_data = raw;
    options.normalize = normalize;
    return options;
}

/// Of 9,984 vectors in 3 lists, filled as they come.
TEST(Defaults, BytesPerVectorAreThoseOfTheLists) {
    constexpr size_t kVectors = 9984;
    for (size_t d : {7, 50, 128}) {
        for (auto refine :
             {RefineType::None, RefineType::Int8, RefineType::BF16}) {
            for (int flags = 0; flags < 3; flags++) {
                const ScaNNOptions options =
                        options_of(refine, flags > 0, flags > 1);
                EntryLayout layout;
                layout.d = d;
                layout.M = block_offsets(d, options).size() - 1;
                layout.refine_type = refine;
                layout.with_raw_data = options.with_raw_data;
                layout.raw_norm = flags > 1;
                ScaNNLists lists(3, layout);
                lists.reserve({kVectors / 3, kVectors / 3, kVectors / 3});
                for (size_t l = 0; l < 3; l++) {
                    lists.resize(l, kVectors / 3);
                }
                const double expected = double(lists.memory_usage()) / kVectors;
                EXPECT_NEAR(bytes_per_vector(d, options) / expected, 1, .03)
                        << d << ", refine " << int(refine) << ", " << flags;
            }
        }
    }
    ScaNNOptions plain, spilled;
    spilled.soar_lambda = 1;
    EXPECT_GT(bytes_per_vector(50, spilled), bytes_per_vector(50, plain) + 16)
            << "a copy has codes, id and place";
}

TEST(Defaults, StorageFitsAndIsTheLargestThatDoes) {
    for (size_t d : {1, 24, 50, 127, 128, 384, 768}) {
        ScaNNOptions given;
        given.seed = 77;
        given.eta = 3;
        given.M = 5;
        const ScaNNOptions all = default_storage(d, 0, given);
        EXPECT_TRUE(all.with_raw_data) << "no limit: raw rows";
        EXPECT_EQ(all.seed, 77);
        EXPECT_EQ(all.eta, 3);
        EXPECT_EQ(all.M, 0);
        const auto most = size_t(std::ceil(bytes_per_vector(d, all)));
        double before = HUGE_VAL;
        size_t smallest = 0;
        for (size_t bytes = most; bytes > 0; bytes--) {
            ScaNNOptions chosen;
            try {
                chosen = default_storage(d, bytes, given);
            } catch (const faiss::FaissException& error) {
                smallest = bytes + 1;
                EXPECT_NE(
                        std::string(error.what())
                                .find(">= " + std::to_string(smallest)),
                        std::string::npos)
                        << error.what();
                break;
            }
            const double needed = bytes_per_vector(d, chosen);
            EXPECT_LE(needed, double(bytes)) << d;
            EXPECT_LE(needed, before) << "less never gets more";
            before = needed;
            check_options(d, faiss::METRIC_L2, chosen);
        }
        EXPECT_GT(smallest, 0) << "some limit is too small";
        EXPECT_NO_THROW(default_storage(d, smallest, given));
    }
}

TEST(Options, BlocksCoverAllDimensions) {
    for (size_t d : {1, 2, 7, 16, 50}) {
        for (size_t sub_dim = 1; sub_dim <= 8; sub_dim++) {
            ScaNNOptions options;
            options.sub_dim = sub_dim;
            const auto offsets = block_offsets(d, options);
            ASSERT_EQ(offsets.size() - 1, (d + sub_dim - 1) / sub_dim);
            EXPECT_EQ(offsets.front(), 0);
            EXPECT_EQ(offsets.back(), d);
        }
        for (size_t M = (d + 7) / 8; M <= d; M++) {
            ScaNNOptions options;
            options.M = M;
            const auto offsets = block_offsets(d, options);
            ASSERT_EQ(offsets.size() - 1, M);
            EXPECT_EQ(offsets.front(), 0);
            EXPECT_EQ(offsets.back(), d);
            for (size_t m = 0; m < M; m++) {
                const size_t width = offsets[m + 1] - offsets[m];
                EXPECT_GE(width, d / M);
                EXPECT_LE(width, d / M + (d % M != 0));
            }
        }
    }
}

TEST(Options, EtaIsGivenOrFromTheThreshold) {
    ScaNNOptions options;
    const float by_default = effective_eta(options, 50, 1);
    EXPECT_GE(by_default, 1);
    options.eta = 4;
    EXPECT_EQ(effective_eta(options, 50, 1), 4);
    options.eta = 0;
    options.threshold = .2f;
    options.eta_formula = EtaFormula::Limit;
    // (d - 1) (T / |x|)^2 / (1 - (T / |x|)^2)
    EXPECT_NEAR(effective_eta(options, 50, 1), 49 * .04 / .96, 1e-4);
    EXPECT_NEAR(effective_eta(options, 50, .5f), 49 * .16 / .84, 1e-4)
            << "the threshold counts in lengths of rows";
    options.eta_formula = EtaFormula::Exact;
    EXPECT_GE(effective_eta(options, 1, 1), 1) << "one dimension";
}

} // namespace
