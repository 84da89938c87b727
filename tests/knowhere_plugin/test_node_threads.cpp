/* Nodes and threads: searches at once, searches while rows are added, and no
 * thread but the caller's. */

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>

#include <gtest/gtest.h>
#include <omp.h>

#include <knowhere_plugin/index_factory.h>

#include "fixtures/child.h"
#include "fixtures/random_rows.h"
#include "fixtures/thread_count.h"

using namespace knowhere_plugin;

namespace {

constexpr int64_t kDim = 32;
constexpr int64_t kRows = 2500; // above what SCANN scans completely
constexpr int64_t kQueries = 64;

double cpu_seconds(clockid_t clock) {
    timespec time;
    clock_gettime(clock, &time);
    return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

/// CPU time of all threads but this one.
double others_seconds() {
    return cpu_seconds(CLOCK_PROCESS_CPUTIME_ID) -
           cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
}

/// Until the threads of a build have stopped waiting for more work.
void wait_for_idle_threads() {
    using namespace std::chrono;
    auto limit = steady_clock::now() + seconds(20);
    while (steady_clock::now() < limit) {
        double before = others_seconds();
        std::this_thread::sleep_for(milliseconds(50));
        if (others_seconds() - before < 1e-4) {
            return;
        }
    }
    FAIL() << "other threads keep running";
}

class NodeThreadsTest : public testing::TestWithParam<const char*> {
 protected:
    void SetUp() override {
        base = random_rows::clustered(kRows, kDim, {30, 5}, 5);
        Config& config = config_;
        std::string type = GetParam();
        if (type == "HNSW") {
            config = {{"M", "8"}, {"efConstruction", "40"}};
        } else if (type == "IVF_PQ") {
            config = {{"m", "16"}, {"nbits", "4"}};
        }
        if (type == "SCANN" || type.compare(0, 3, "IVF") == 0) {
            config["nlist"] = "16";
        }
        node = IndexFactory::Instance().Create(type).value();
        Status status = node->Build(rows(kRows), config);
        ASSERT_TRUE(status.ok()) << status.message;
    }

    DataSet rows(int64_t n) const {
        return {n, kDim, base.data()};
    }
    std::vector<int64_t> search(const Config& config) const {
        auto found = node->Search(rows(kQueries), config);
        if (!found.ok()) {
            return {};
        }
        const DataSet& set = found.value();
        return {set.ids, set.ids + set.rows * set.dim};
    }

    std::vector<float> base;
    Config config_; ///< of the build
    NodePtr node;
};

TEST_P(NodeThreadsTest, AForkedChildSearchesAndBuilds) {
    if (!kForkWorks) {
        GTEST_SKIP() << "ThreadSanitizer";
    }
    if (std::string(GetParam()) == "HNSW" && openmp_of_llvm()) {
        GTEST_SKIP() << "LLVM's OpenMP has no locks in a child";
    }
    Config config = {{"k", "10"}};
    std::vector<int64_t> want = search(config);
    omp_set_num_threads(2);
#pragma omp parallel
    { (void)omp_get_thread_num(); } // so that this thread has a helper
    auto work = [&] {
        Config build = config_;
        build["num_build_thread"] = "2";
        NodePtr other = IndexFactory::Instance().Create(GetParam()).value();
        return search(config) == want && other->Build(rows(kRows), build).ok();
    };
    EXPECT_EQ(in_child(work), "");
}

TEST_P(NodeThreadsTest, SearchesAtOnce) {
    // different parameters at once: none may reach another search
    std::vector<Config> configs = {
            {{"k", "1"}}, {{"k", "10"}}, {{"k", "100"}}, {{"k", "3"}}};
    for (const char* key : {"ef", "nprobe"}) {
        for (const Parameter& p : node->Schema()) {
            if (p.name == std::string(key)) {
                configs[0][key] = "1";
                configs[1][key] = "15";
                configs[2][key] = "200";
            }
        }
    }
    std::vector<std::vector<int64_t>> want;
    for (const Config& config : configs) {
        want.push_back(search(config));
        ASSERT_FALSE(want.back().empty());
    }
    int threads_before = omp_get_max_threads();
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (size_t t = 0; t < configs.size(); t++) {
        threads.emplace_back([&, t] {
            for (int i = 0; i < 10; i++) {
                wrong += search(configs[t]) != want[t];
            }
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(omp_get_max_threads(), threads_before);
}

TEST_P(NodeThreadsTest, RowsAtOnceAndWhileAdding) {
    if (!node->HasRawData("L2")) {
        GTEST_SKIP() << GetParam() << " keeps no rows";
    }
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (int t = 0; t < 4; t++) {
        threads.emplace_back([&, t] {
            for (int64_t i = 0; i < 50; i++) {
                int64_t id = (i * 37 + t) % kRows;
                DataSet asked;
                asked.rows = 1;
                asked.ids = &id;
                auto got = node->GetVectorByIds(asked);
                wrong += !got.ok() || !std::equal(
                                              &base[id * kDim],
                                              &base[id * kDim] + kDim,
                                              got.value().tensor);
                wrong += search({{"k", "1"}}).empty();
            }
        });
    }
    for (int i = 0; i < 5; i++) {
        EXPECT_TRUE(node->Add(rows(20), {}).ok());
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(node->Count(), kRows + 100);
}

/// Not OpenMP's threads and not those of BLAS.
TEST_P(NodeThreadsTest, NoThreadButTheCallers) {
    wait_for_idle_threads();
    size_t threads_before = threads_now();
    double others = others_seconds();
    double own = cpu_seconds(CLOCK_THREAD_CPUTIME_ID);
    std::vector<uint8_t> bits((kRows + 7) / 8, 0x11);
    BitsetView filtered(bits.data(), kRows);
    for (int i = 0; i < 3; i++) {
        EXPECT_TRUE(node->Search(rows(1000), {}).ok());
        EXPECT_TRUE(node->Search(rows(1000), {}, filtered).ok());
        EXPECT_TRUE(node->RangeSearch(rows(100), {{"radius", "9"}}).ok());
        auto iterators = node->AnnIterator(rows(50), {});
        for (auto& iterator : iterators.value()) {
            EXPECT_TRUE(iterator->HasNext().value());
        }
    }
    own = cpu_seconds(CLOCK_THREAD_CPUTIME_ID) - own;
    others = others_seconds() - others;
    EXPECT_LT(others, .02 * own) << own << " s of its own";
    EXPECT_LE(threads_after_exits(threads_before), threads_before);
}

INSTANTIATE_TEST_SUITE_P(
        All,
        NodeThreadsTest,
        testing::Values("SCANN", "FLAT", "IVF_FLAT", "IVF_PQ", "HNSW"),
        [](const auto& info) { return std::string(info.param); });

} // namespace
