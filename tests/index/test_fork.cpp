/*
 * Indexes in a child of fork(), as preforking servers and data loaders have
 * them: their parent used several OpenMP threads, which the child lacks.
 */

#include <omp.h>

#include <atomic>
#include <set>

#include <faiss_ext/memory/parallel.h>

#include "fixtures/child.h"
#include "fixtures/index_cases.h"
#include "fixtures/index_fixtures.h"

namespace {

constexpr size_t kFew = 10;

/// Threads that take part in a loop.
size_t threads_in_a_loop() {
    std::atomic<size_t> seen = 0;
    faiss_ext::for_tiles(2, [&](size_t) {
        seen++;
        // until the other one has come too, or it is clear that there is none
        for (int i = 0; i < 2000 && seen < 2; i++) {
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        if (seen == 2 && omp_get_thread_num() == 1) {
            seen = 12;
        }
    });
    return seen >= 12 ? 2 : 1;
}

class ForkTest : public testing::TestWithParam<cases::Case> {
 protected:
    void SetUp() override {
        before_ = omp_get_max_threads();
        omp_set_num_threads(2);
    }
    void TearDown() override {
        omp_set_num_threads(before_);
    }
    int before_ = 1;
};

struct Ranges {
    std::vector<size_t> lims;
    std::vector<int64_t> labels;
    bool operator==(const Ranges&) const = default;
};

Ranges range_search(const faiss::Index& index, float radius) {
    std::vector<float> queries = cases::rows(kFew, index.d, 2);
    faiss::RangeSearchResult found(kFew);
    index.range_search(kFew, queries.data(), radius, &found);
    return {{found.lims, found.lims + kFew + 1},
            {found.labels, found.labels + found.lims[kFew]}};
}

TEST_P(ForkTest, AChildDoesWhatItsParentDoes) {
    if (GetParam().description.find("HNSW") != std::string::npos &&
        openmp_of_llvm()) {
        GTEST_SKIP() << "LLVM's OpenMP has no locks in a child";
    }
    cases::IndexPtr index = cases::build(GetParam());
    cases::Found found = cases::search(*index);
    float radius = found.distances[5];
    // an IDMap of this Faiss release has no range search
    bool ranges = GetParam().description.rfind("IDMap", 0) != 0;
    Ranges in_range = ranges ? range_search(*index, radius) : Ranges();
    auto work = [&] {
        if (omp_get_max_threads() != 2 || !(cases::search(*index) == found)) {
            return false;
        }
        if (ranges && !(range_search(*index, radius) == in_range)) {
            return false;
        }
        // trains and adds
        cases::IndexPtr again = cases::build(GetParam());
        if (!(cases::search(*again) == found)) {
            return false;
        }
        std::vector<float> more = cases::rows(3 * kFew, index->d, 5);
        std::vector<int64_t> ids(3 * kFew);
        for (size_t i = 0; i < ids.size(); i++) {
            ids[i] = int64_t(100000 + i);
        }
        bool own_ids = GetParam().map != faiss::DirectMap::Array;
        again->add_with_ids(
                ids.size(), more.data(), own_ids ? ids.data() : nullptr);
        return size_t(again->ntotal) == cases::kRows + ids.size();
    };
    EXPECT_EQ(in_child(work), "");
    EXPECT_TRUE(cases::search(*index) == found) << "in the parent";
    // once more, after the parent used its threads again
    EXPECT_EQ(in_child(work), "");
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        ForkTest,
        testing::Values(
                cases::Case{"IVF16,ScaNN,RFlat"},
                cases::Case{
                        "IVF16,ScaNN(soar_lambda=1),SQ8",
                        faiss::METRIC_INNER_PRODUCT,
                        faiss::DirectMap::Hashtable},
                cases::Case{"IVF16_HNSW8,ScaNN,SQ8"},
                cases::Case{"ScaNN"},
                cases::Case{"IDMap2,IVF16,ScaNN,RFlat"},
                cases::Case{"PCA12,IVF16,ScaNN,RFlat"}));

TEST_F(ForkTest, AChildHasThreadsOfItsOwn) {
    ASSERT_EQ(threads_in_a_loop(), 2u);
    EXPECT_EQ(
            in_child([] {
                return faiss_ext::may_use_threads() && threads_in_a_loop() == 2;
            }),
            "");
    EXPECT_EQ(threads_in_a_loop(), 2u) << "in the parent";
}

TEST_F(ForkTest, AGrandchildToo) {
    ASSERT_EQ(threads_in_a_loop(), 2u);
    EXPECT_EQ(
            in_child([] {
                return threads_in_a_loop() == 2 &&
                       in_child([] { return threads_in_a_loop() == 2; }) == "";
            }),
            "");
}

TEST_F(ForkTest, AChildOfAnotherThreadToo) {
    ASSERT_EQ(threads_in_a_loop(), 2u);
    std::string result = "not run";
    std::thread([&] {
        omp_set_num_threads(2);
        threads_in_a_loop();
        result = in_child([] { return threads_in_a_loop() == 2; });
    }).join();
    EXPECT_EQ(result, "");
    EXPECT_EQ(threads_in_a_loop(), 2u) << "in the parent";
}

TEST_F(ForkTest, AChildFromInsideALoopKeepsToOneThread) {
    std::string result = "not run";
    faiss_ext::for_tiles(2, [&](size_t tile) {
        if (tile == 0) {
            result = in_child([] {
                return !faiss_ext::may_use_threads() &&
                       (omp_get_max_threads() == 1 || openmp_of_llvm()) &&
                       threads_in_a_loop() == 1;
            });
        }
    });
    EXPECT_EQ(result, "");
    EXPECT_TRUE(faiss_ext::may_use_threads());
}

} // namespace
