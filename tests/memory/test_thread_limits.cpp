/* Loops where no further threads can be had: on the calling thread alone,
 * instead of the end of the process. Loops inside loops. */

#include <faiss_ext/memory/parallel.h>

#include <sys/resource.h>

#include <atomic>
#include <cstdio>
#include <mutex>
#include <set>
#include <thread>

#include <gtest/gtest.h>

#include "fixtures/child.h"
#include "fixtures/sanitizers.h"

namespace {

#if FAISS_EXT_ADDRESS_SANITIZER || FAISS_EXT_THREAD_SANITIZER
constexpr bool kLimitsWork = false; ///< the shadow takes terabytes
#else
constexpr bool kLimitsWork = true;
#endif

/// Threads that take part in a loop of two tiles which wait for each other.
size_t threads_in_a_loop() {
    std::atomic<size_t> there = 0, most = 0;
    faiss_ext::for_tiles(2, [&](size_t) {
        size_t now = ++there;
        for (int i = 0; i < 500 && most < 2; i++) {
            most = std::max<size_t>(most, std::max<size_t>(now, there));
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        there--;
    });
    return most;
}

/// Sets the limit of mapped memory to what is mapped now, and `more` bytes.
rlimit limit_memory(size_t more) {
    size_t pages = 0;
    FILE* file = std::fopen("/proc/self/statm", "r");
    if (file == nullptr || std::fscanf(file, "%zu", &pages) != 1) {
        throw std::runtime_error("no /proc/self/statm");
    }
    std::fclose(file);
    rlimit before, now;
    getrlimit(RLIMIT_AS, &before);
    now = before;
    now.rlim_cur = pages * size_t(sysconf(_SC_PAGESIZE)) + more;
    setrlimit(RLIMIT_AS, &now);
    return before;
}

class ThreadLimits : public testing::Test {
 protected:
    void SetUp() override {
        if (!kLimitsWork) {
            GTEST_SKIP() << "sanitizers map more than any limit";
        }
        if (openmp_of_llvm()) {
            GTEST_SKIP() << "LLVM's OpenMP ends a process that gets no thread";
        }
        omp_set_num_threads(2);
    }
};

TEST_F(ThreadLimits, ALoopGoesOnWithoutMemoryForThreads) {
    EXPECT_EQ(
            in_child([] {
                bool good = true;
                for (size_t more : {0, 1, 4, 9}) {
                    rlimit before = limit_memory(more << 20);
                    size_t threads = threads_in_a_loop();
                    setrlimit(RLIMIT_AS, &before);
                    good = good && threads >= 1 && (more > 0 || threads == 1);
                }
                // what could not be had before is tried again
                return good && threads_in_a_loop() == 2;
            }),
            "");
}

TEST_F(ThreadLimits, ThreadsThatAreThereNeedNoMemory) {
    EXPECT_EQ(
            in_child([] {
                bool good = threads_in_a_loop() == 2;
                rlimit before = limit_memory(1 << 20);
                good = good && threads_in_a_loop() == 2;
                setrlimit(RLIMIT_AS, &before);
                return good;
            }),
            "");
}

/// Also where the caller lets regions be nested.
TEST(Loops, InsideATileStayOnItsThread) {
    const int threads_before = omp_get_max_threads();
    const int levels_before = omp_get_max_active_levels();
    omp_set_max_active_levels(2);
    omp_set_num_threads(3);
    std::mutex gate;
    std::set<std::thread::id> all;
    std::atomic<size_t> strangers = 0, inner = 0;
    faiss_ext::for_tiles(24, [&](size_t) {
        const auto own = std::this_thread::get_id();
        faiss_ext::for_tiles(5, [&](size_t) {
            strangers += std::this_thread::get_id() != own;
            inner++;
        });
        const std::lock_guard<std::mutex> lock(gate);
        all.insert(own);
    });
    omp_set_num_threads(threads_before);
    omp_set_max_active_levels(levels_before);
    EXPECT_EQ(strangers, 0u);
    EXPECT_EQ(inner, 24u * 5);
    EXPECT_LE(all.size(), 3u);
}

} // namespace
