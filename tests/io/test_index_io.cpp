/* Files that are right: round trips, mapped files, saving over old ones,
 * failing disks, clones. test_index_damage has the files that are wrong. */

#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <iostream>

#include <faiss/IndexFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/index_io.h>

#include <faiss_ext/model/index_state.h>

#include "fixtures/index_cases.h"
#include "fixtures/sanitizers.h"

using namespace cases;
using faiss_ext::ReadMode;
namespace fs = std::filesystem;

namespace {

IndexPtr read(const std::string& path, ReadMode mode) {
    return IndexPtr(faiss_ext::read_index(path, mode));
}

class IndexIo : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(All, IndexIo, testing::ValuesIn(all()), label);

TEST_P(IndexIo, FileGivesTheSameIndex) {
    Directory directory;
    IndexPtr index = build(GetParam());
    auto scann = faiss_ext::find_scann(index.get());
    scann->max_codes = 150;
    scann->reorder_k = 40;
    scann->refine_k = 60;
    std::string path = directory.file("a.scann");
    faiss_ext::write_index(index.get(), path);
    for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
        IndexPtr other = read(path, mode);
        expect_same(*index, *other);
        // and what is read can be saved again, byte for byte, except that a
        // hash table has no order
        std::string again = directory.file("b.scann");
        faiss_ext::write_index(other.get(), again);
        if (GetParam().map != faiss::DirectMap::Hashtable) {
            EXPECT_TRUE(read_bytes(path) == read_bytes(again));
        }
    }
}

TEST_P(IndexIo, StreamGivesTheSameIndex) {
    IndexPtr index = build(GetParam());
    faiss::VectorIOWriter writer;
    faiss_ext::write_index(index.get(), &writer);
    faiss::VectorIOReader reader;
    reader.data = writer.data;
    // what follows in a stream is not ours
    reader.data.push_back(7);
    IndexPtr other(faiss_ext::read_index(&reader));
    expect_same(*index, *other);
    EXPECT_EQ(reader.rp, writer.data.size());
}

TEST_P(IndexIo, BytesInMemoryGiveTheSameIndex) {
    IndexPtr index = build(GetParam());
    faiss::VectorIOWriter writer;
    faiss_ext::write_index(index.get(), &writer);
    const size_t size = writer.data.size();
    std::shared_ptr<uint8_t> bytes(
            static_cast<uint8_t*>(std::aligned_alloc(64, (size + 64) & ~63)),
            [](uint8_t* memory) { std::free(memory); });
    std::copy(writer.data.begin(), writer.data.end(), bytes.get());
    for (ReadMode mode :
         {ReadMode::Copy, ReadMode::Mmap, ReadMode::MmapVerified}) {
        const long users = bytes.use_count();
        IndexPtr other(faiss_ext::read_index(bytes, size, mode));
        expect_same(*index, *other);
        EXPECT_EQ(
                bytes.use_count() > users,
                mode != ReadMode::Copy && GetParam().train);
        EXPECT_THROW(
                faiss_ext::read_index(bytes, size - 1, mode),
                faiss::FaissException);
    }
    EXPECT_THROW(
            faiss_ext::read_index(
                    std::shared_ptr<uint8_t>(bytes, bytes.get() + 1), size - 1),
            faiss::FaissException);
    EXPECT_THROW(
            faiss_ext::read_index(std::shared_ptr<uint8_t>(), size),
            faiss::FaissException);
}

TEST_P(IndexIo, CloneOutlivesTheOriginal) {
    IndexPtr index = build(GetParam());
    IndexPtr kept = build(GetParam());
    IndexPtr clone(faiss_ext::clone_index(index.get()));
    expect_same(*index, *clone);
    index.reset();
    expect_same(*kept, *clone);
    Directory directory;
    faiss_ext::write_index(clone.get(), directory.file("a.scann"));
    expect_same(*kept, *read(directory.file("a.scann"), ReadMode::Copy));
}

TEST_P(IndexIo, MappedIndexCanBeChanged) {
    if (!GetParam().train) {
        GTEST_SKIP() << "untrained";
    }
    Directory directory;
    std::string path = directory.file("a.scann");
    IndexPtr index = build(GetParam());
    faiss_ext::write_index(index.get(), path);
    std::string before = read_bytes(path);
    IndexPtr mapped = read(path, ReadMode::Mmap);

    bool id_map = dynamic_cast<faiss::IndexIDMap*>(index.get()) != nullptr;
    bool array = GetParam().map == faiss::DirectMap::Array;
    std::vector<float> x = rows(100, kD, 3);
    std::vector<int64_t> ids(100);
    for (size_t i = 0; i < ids.size(); i++) {
        ids[i] = 100000 + i;
    }
    for (faiss::Index* each : {index.get(), mapped.get()}) {
        each->add_with_ids(100, x.data(), array ? nullptr : ids.data());
        // Faiss' IndexIDMap::remove_ids is for flat indexes only
        if (!id_map) {
            faiss::IDSelectorRange selector(100, 600);
            EXPECT_EQ(
                    each->remove_ids(selector),
                    GetParam().add ? (array ? 500 : 167) : 0);
        }
        if (GetParam().map == faiss::DirectMap::Hashtable) {
            auto scann = faiss_ext::find_scann(each);
            scann->update_vectors(10, ids.data() + 20, x.data());
        }
    }
    expect_same(*index, *mapped);
    EXPECT_TRUE(read_bytes(path) == before);
    // over the file that is mapped
    faiss_ext::write_index(mapped.get(), path);
    expect_same(*index, *mapped);
    expect_same(*index, *read(path, ReadMode::Copy));
    EXPECT_EQ(directory.files(), 1);
    faiss_ext::find_scann(mapped.get())->reset();
}

TEST(IndexFile, MappedIndexOutlivesItsFile) {
    Directory directory;
    std::string path = directory.file("a.scann");
    IndexPtr index = build({"IVF16,ScaNN,SQ8,RFlat"});
    faiss_ext::write_index(index.get(), path);
    IndexPtr mapped = read(path, ReadMode::Mmap);
    EXPECT_TRUE(faiss_ext::find_scann(mapped.get())
                        ->state()
                        .lists->list(0)
                        .raw.is_borrowed());
    IndexPtr clone(faiss_ext::clone_index(mapped.get()));
    fs::remove(path);
    expect_same(*index, *mapped);
    mapped.reset();
    expect_same(*index, *clone);
}

TEST(IndexFile, RowsOfNoListAreCounted) {
    Directory directory;
    auto index = build(
            {"IVF16,ScaNN,RFlat", faiss::METRIC_L2, faiss::DirectMap::Array});
    auto scann = faiss_ext::find_scann(index.get());
    std::vector<float> x = rows(2, kD, 4);
    std::vector<int64_t> lists = {-1, 3};
    scann->add_core(2, x.data(), nullptr, lists.data());
    EXPECT_EQ(scann->ntotal, kRows + 2);
    std::string path = directory.file("a.scann");
    faiss_ext::write_index(index.get(), path);
    expect_same(*index, *read(path, ReadMode::Copy));
    expect_same(*index, *read(path, ReadMode::Mmap));
}

TEST(IndexFile, OpensInMillisecondsWhateverItsSize) {
#if FAISS_EXT_ADDRESS_SANITIZER || FAISS_EXT_THREAD_SANITIZER
    constexpr double kLimit = 1;
    constexpr size_t kPerList = 50;
#else
    constexpr double kLimit = 0.05;
    constexpr size_t kPerList = 800;
#endif
    constexpr size_t kLists = 1024, kDim = 64;
    Directory directory;
    IndexPtr index(faiss_ext::index_factory(kDim, "IVF1024,ScaNN,SQ8,RFlat"));
    auto scann = faiss_ext::find_scann(index.get());
    scann->options.kmeans_rounds = 1;
    index->train(kLists, rows(kLists, kDim, 1).data());
    for (size_t l = 0; l < kLists; l++) {
        scann->state().lists->resize(l, kPerList);
    }
    scann->ntotal = kLists * kPerList;
    std::string path = directory.file("large.scann");
    faiss_ext::write_index(index.get(), path);
    std::vector<double> times;
    for (int i = 0; i < 5; i++) {
        auto start = std::chrono::steady_clock::now();
        IndexPtr mapped = read(path, ReadMode::Mmap);
        std::chrono::duration<double> time =
                std::chrono::steady_clock::now() - start;
        EXPECT_EQ(mapped->ntotal, index->ntotal);
        times.push_back(time.count());
    }
    std::sort(times.begin(), times.end());
    std::cout << fs::file_size(path) / 1000000 << " MB open in "
              << times[2] * 1000 << " ms" << std::endl;
    EXPECT_LT(times[2], kLimit);
}

// ---- saving ----

TEST(IndexFile, ReplacesAnOldFileAndKeepsItsMode) {
    Directory directory;
    std::string path = directory.file("a.scann");
    std::string link = directory.file("link.scann");
    write_bytes(path, "old");
    chmod(path.c_str(), 0640);
    fs::create_symlink(path, link);
    IndexPtr index = build({"IVF16,ScaNN"});
    faiss_ext::write_index(index.get(), link);
    EXPECT_TRUE(fs::is_symlink(link));
    EXPECT_EQ(fs::status(path).permissions(), fs::perms(0640));
    expect_same(*index, *read(path, ReadMode::Copy));
    EXPECT_EQ(directory.files(), 2);
}

TEST(IndexFile, WrongPlacesAreRefused) {
    Directory directory;
    IndexPtr index = build({"IVF16,ScaNN"});
    auto refuse = [&](const std::string& path) {
        std::string message =
                message_of([&] { faiss_ext::write_index(index.get(), path); });
        EXPECT_NE(message, "");
        EXPECT_NE(message.find(path), std::string::npos) << message;
    };
    refuse(directory.file("none/a.scann"));
    refuse("/dev/null");
    refuse(directory.file(""));
    EXPECT_TRUE(fs::is_character_file("/dev/null"));
    EXPECT_EQ(directory.files(), 0);
}

TEST(IndexFile, FullDiskLeavesTheOldFile) {
    Directory directory;
    std::string path = directory.file("a.scann");
    IndexPtr old_index = build({"IVF16,ScaNN"}, 100);
    faiss_ext::write_index(old_index.get(), path);
    IndexPtr index = build({"IVF16,ScaNN,RFlat"});

    auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
    rlimit old_limit;
    ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    // one that the first write passes, and one that it does not
    for (rlim_t bytes : {0, 4096, 40000}) {
        rlimit limit = old_limit;
        limit.rlim_cur = bytes;
        ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
        std::string message =
                message_of([&] { faiss_ext::write_index(index.get(), path); });
        setrlimit(RLIMIT_FSIZE, &old_limit);
        EXPECT_NE(message.find("bytes written"), std::string::npos) << message;
        EXPECT_EQ(directory.files(), 1);
        expect_same(*old_index, *read(path, ReadMode::Copy));
    }
    std::signal(SIGXFSZ, old_handler);
    faiss_ext::write_index(index.get(), path);
    expect_same(*index, *read(path, ReadMode::Copy));
}

TEST(IndexFile, FullDeviceBehindAWriter) {
    IndexPtr index = build({"IVF16,ScaNN"}, 100);
    faiss::FileIOWriter small("/dev/full");
    EXPECT_NE(
            message_of([&] { faiss_ext::write_index(index.get(), &small); }),
            "");
    struct Full : faiss::IOWriter {
        size_t left = 0;
        size_t operator()(const void*, size_t, size_t n) override {
            size_t taken = std::min(n, left);
            left -= taken;
            return taken;
        }
    };
    for (size_t left : {0, 1, 1000}) {
        Full full;
        full.left = left;
        EXPECT_NE(
                message_of([&] { faiss_ext::write_index(index.get(), &full); }),
                "");
    }
}

TEST(IndexFile, IndexesWithoutScannAreRefused) {
    Directory directory;
    faiss::IndexFlat flat(4);
    std::string message = message_of(
            [&] { faiss_ext::write_index(&flat, directory.file("a")); });
    EXPECT_NE(message.find("faiss::write_index"), std::string::npos);
    EXPECT_EQ(directory.files(), 0);
    faiss::write_index(&flat, directory.file("flat").c_str());
    for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
        message = message_of([&] { read(directory.file("flat"), mode); });
        EXPECT_NE(message.find("not a file of a ScaNN"), std::string::npos);
    }
    // clone_index is Faiss' there
    IndexPtr clone(faiss_ext::clone_index(&flat));
    EXPECT_NE(dynamic_cast<faiss::IndexFlat*>(clone.get()), nullptr);
}

TEST(IndexClone, TransformsThatFaissDoesNotClone) {
    for (const char* chain : {"L2norm,", "PCAR12,L2norm,", "ITQ12,"}) {
        SCOPED_TRACE(chain);
        IndexPtr index = build({std::string(chain) + "IVF16,ScaNN"});
        IndexPtr clone(faiss_ext::clone_index(index.get()));
        expect_same(*index, *clone);
    }
}

TEST(IndexClone, WhatCannotBeClonedIsNotLost) {
    struct Odd : faiss::VectorTransform {
        Odd() : VectorTransform(kD, kD) {}
        void apply_noalloc(int64_t n, const float* x, float* xt)
                const override {
            std::copy(x, x + n * d_in, xt);
        }
        void check_identical(const faiss::VectorTransform&) const override {}
    };
    Odd odd;
    IndexPtr index = build({"IVF16,ScaNN"});
    faiss::IndexPreTransform chain(&odd, index.get());
    EXPECT_THROW(faiss_ext::clone_index(&chain), faiss::FaissException);
    Directory directory;
    EXPECT_THROW(
            faiss_ext::write_index(&chain, directory.file("a")),
            faiss::FaissException);
    EXPECT_EQ(directory.files(), 0);
}

} // namespace
