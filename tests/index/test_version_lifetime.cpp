/* Versions of an index: who may change it, how long they live, and what is left of
 * them in a child of fork(). */

#include <faiss_ext/versioned_scann.h>

#include <malloc.h>

#include <atomic>
#include <chrono>
#include <thread>

#include <faiss/impl/IDSelector.h>

#include <faiss_ext/scann_iterator.h>

#include "fixtures/child.h"
#include "fixtures/sanitizers.h"
#include "fixtures/versions.h"

namespace {

using namespace versions;

TEST(Versions, ASecondWriterIsRefused) {
    VersionedScaNN index(filled(",RFlat"));
    index.change([&](IndexIVFScaNN& writer) {
        const int64_t before = writer.ntotal;
        EXPECT_THROW(
                index.change([](IndexIVFScaNN& i) { i.reset(); }),
                faiss::FaissException);
        EXPECT_THROW(index.maintain(), faiss::FaissException);
        EXPECT_EQ(writer.ntotal, before);
    });
    index.change([](IndexIVFScaNN& i) { i.reset(); }); // not any more
    EXPECT_EQ(index.version()->ntotal, 0);
}

TEST(Versions, ReadingTheWriterWaitsForChanges) {
    VersionedScaNN index(filled(",RFlat"));
    std::atomic<bool> changing = false;
    std::thread thread;
    index.change([&](IndexIVFScaNN& writer) {
        changing = true;
        thread = std::thread([&] {
            index.read([&](const IndexIVFScaNN& i) {
                EXPECT_FALSE(changing);
                std::vector<float> row(kD);
                i.reconstruct(3, row.data());
            });
        });
        writer.set_direct_map_type(faiss::DirectMap::Hashtable);
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        changing = false;
    });
    thread.join();
}

TEST(Versions, AChangeThatThrowsIsNotSeen) {
    VersionedScaNN index(filled(",RFlat"));
    const std::vector<float> q = new_rows(20, 5);
    const Hits before = search(*index.version(), q, kK);
    std::vector<float> x = new_rows(10, 6);
    x[7 * kD] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(
            index.change([&](IndexIVFScaNN& i) { i.add(10, x.data()); }),
            faiss::FaissException);
    EXPECT_EQ(search(*index.version(), q, kK), before);
    EXPECT_EQ(index.version()->ntotal, int64_t(kN));
}

TEST(Versions, OutliveTheIndex) {
    VersionedScaNN::Version first, last;
    const std::vector<float> q = new_rows(20, 5);
    Hits of_first, of_last;
    {
        VersionedScaNN index(filled(",SQ8,RFlat"));
        first = index.version();
        of_first = search(*first, q, kK);
        index.change(
                [](IndexIVFScaNN& i) { i.add(500, new_rows(500, 8).data()); });
        index.change([](IndexIVFScaNN& i) {
            i.remove_ids(faiss::IDSelectorRange(0, 300));
        });
        last = index.version();
        of_last = search(*last, q, kK);
    }
    EXPECT_EQ(search(*first, q, kK), of_first);
    first.reset();
    EXPECT_EQ(search(*last, q, kK), of_last);
}

/// What changes have replaced is freed once nobody holds an old version.
TEST(Versions, OldOnesGiveTheirMemoryBack) {
    if (FAISS_EXT_ADDRESS_SANITIZER || FAISS_EXT_THREAD_SANITIZER) {
        GTEST_SKIP() << "sanitizers have a malloc that does not count";
    }
    constexpr size_t kMany = 20000, kSome = 50;
    auto built = from_factory(kD, "IVF40,ScaNN,RFlat", kL2);
    const std::vector<float> x = new_rows(kMany, 1);
    built->train(kMany, x.data());
    built->add(kMany, x.data());
    built->set_direct_map_type(faiss::DirectMap::Hashtable);
    VersionedScaNN index(std::move(built));
    const auto update = [&](uint64_t seed) {
        const std::vector<int64_t> ids =
                numbers(kSome, int64_t(kSome * (seed % (kMany / kSome))));
        index.change([&](IndexIVFScaNN& i) {
            i.update_vectors(kSome, ids.data(), new_rows(kSome, seed).data());
        });
    };
    const size_t size = index.version()->memory_usage();
    const size_t before = mallinfo2().uordblks;
    const auto in_use = [&] { return mallinfo2().uordblks - before; };
    for (uint64_t i = 0; i < 100; i++) {
        update(i);
    }
    // the lists, which were in memory of their own, and room in them
    EXPECT_LT(in_use(), 1.3 * double(size));
    auto held = index.version();
    for (uint64_t i = 0; i < 100; i++) {
        update(i);
    }
    EXPECT_GT(in_use(), 1.7 * double(size));
    held.reset();
    EXPECT_LT(in_use(), 1.3 * double(size));
}

TEST(Versions, NeedATrainedIndex) {
    EXPECT_THROW(VersionedScaNN{nullptr}, faiss::FaissException);
    EXPECT_THROW(
            VersionedScaNN{from_factory(kD, "IVF4,ScaNN", kL2)},
            faiss::FaissException);
}

/// A child has none of the threads that use the index.
TEST(Versions, ServeAChildOfFork) {
    if (!kForkWorks) {
        GTEST_SKIP() << "ThreadSanitizer does not follow a fork of threads";
    }
    VersionedScaNN index(filled(",RFlat"));
    const std::vector<float> q = new_rows(20, 5);
    const Hits before = search(*index.version(), q, kK);
    const auto search_and_change = [&] {
        if (!(search(*index.version(), q, kK) == before)) {
            return false;
        }
        index.change([](IndexIVFScaNN& i) { i.reset(); });
        return index.version()->ntotal == 0;
    };
    const auto search_only = [&] {
        try {
            index.change([](IndexIVFScaNN& i) { i.reset(); });
            return false;
        } catch (const faiss::FaissException&) {
            return search(*index.version(), q, kK) == before;
        }
    };
    Threads readers(kReaders, [&](size_t) { (void)index.version(); });
    for (size_t i = 0; i < 10; i++) {
        EXPECT_EQ(in_child(search_and_change), "");
    }
    std::atomic<bool> changing = false, forked = false;
    std::thread writer([&] {
        index.change([&](IndexIVFScaNN&) {
            changing = true;
            while (!forked) {
                std::this_thread::yield();
            }
        });
    });
    while (!changing) {
        std::this_thread::yield();
    }
    EXPECT_EQ(in_child(search_only), "");
    forked = true;
    writer.join();
    EXPECT_EQ(in_child(search_and_change), "");
}

/// An iterator goes on in its version, whatever happens to the index.
TEST(Versions, IteratorsKeepTheirRows) {
    VersionedScaNN index(filled(",RFlat"));
    const auto version = index.version();
    const std::vector<float> q = new_rows(1, 5);
    const auto all_of = [&](auto&& between) {
        auto rows = version->iterate(q.data(), 50);
        std::vector<int64_t> labels(50), all;
        std::vector<float> distances(50);
        while (size_t n = rows->next(distances.data(), labels.data())) {
            all.insert(all.end(), labels.begin(), labels.begin() + n);
            between();
        }
        return all;
    };
    const std::vector<int64_t> alone = all_of([] {});
    EXPECT_EQ(alone.size(), kN);
    uint64_t seed = 3;
    EXPECT_EQ(
            all_of([&] {
                index.change([&](IndexIVFScaNN& i) {
                    i.add(30, new_rows(30, seed++).data());
                });
                index.change([&](IndexIVFScaNN& i) {
                    i.remove_ids(faiss::IDSelectorRange(
                            int64_t(20 * seed), int64_t(20 * seed + 20)));
                });
            }),
            alone);
}

} // namespace
