/* Rows of a file: the bytes that it has there, whatever is asked for; what cannot
 * be read is an exception. */

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <faiss/impl/FaissException.h>

#include <faiss_ext/lists/on_demand_rows.h>

namespace {

using faiss_ext::OnDemandRows;

constexpr size_t kBytes = 3'000'001;

/// A file of random bytes, and its mapping.
class OnDemandRowsTest : public testing::Test {
 protected:
    void SetUp() override {
        const auto* info =
                testing::UnitTest::GetInstance()->current_test_info();
        path = testing::TempDir() + "/on_demand_rows_" + info->name() + "_" +
               std::to_string(getpid());
        std::mt19937 random(1);
        bytes.resize(kBytes);
        for (char& byte : bytes) {
            byte = char(random());
        }
        std::ofstream(path, std::ios::binary).write(bytes.data(), kBytes);
        file = open(path.c_str(), O_RDONLY);
        void* at = mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, file, 0);
        ASSERT_NE(at, MAP_FAILED);
        mapping.reset(static_cast<const uint8_t*>(at), [](const uint8_t* p) {
            munmap(const_cast<uint8_t*>(p), kBytes);
        });
    }
    void TearDown() override {
        close(file);
        std::filesystem::remove(path);
    }

    std::unique_ptr<OnDemandRows> open_rows(size_t bytes, uint64_t cache = 0) {
        row_bytes = bytes;
        return std::make_unique<OnDemandRows>(
                file, path, mapping, kBytes, row_bytes, cache);
    }
    std::vector<const void*> addresses(const std::vector<size_t>& begins) {
        std::vector<const void*> at;
        for (size_t begin : begins) {
            at.push_back(mapping.get() + begin);
        }
        return at;
    }
    void expect_rows(
            const std::vector<const void*>& at,
            const std::vector<size_t>& begins) {
        for (size_t i = 0; i < begins.size(); i++) {
            const auto* row = static_cast<const uint8_t*>(at[i]);
            ASSERT_TRUE(row < mapping.get() || row >= mapping.get() + kBytes);
            ASSERT_EQ(std::memcmp(row, &bytes[begins[i]], row_bytes), 0)
                    << row_bytes << " bytes at " << begins[i];
        }
    }
    /// Reads rows at these bytes of the file, and compares.
    void check(const OnDemandRows& rows, const std::vector<size_t>& begins) {
        auto at = addresses(begins);
        rows.start(at.size(), at.data(), request);
        rows.finish(at.data(), request);
        expect_rows(at, begins);
        EXPECT_LE(request.waits(), request.reads());
        EXPECT_LE(request.reads() + request.cached(), begins.size());
    }
    std::vector<size_t> random_begins(size_t n, unsigned seed) {
        std::mt19937_64 random(seed);
        std::vector<size_t> begins(n);
        for (size_t& begin : begins) {
            begin = random() % (kBytes - row_bytes + 1);
        }
        begins.back() = kBytes - row_bytes;
        begins.front() = begins[n / 2];
        return begins;
    }
    /// What the system has in memory of the file goes away.
    void forget() {
        int again = open(path.c_str(), O_RDONLY);
        fdatasync(again);
        posix_fadvise(again, 0, 0, POSIX_FADV_DONTNEED);
        close(again);
    }

    std::string path;
    std::vector<char> bytes;
    int file = -1;
    std::shared_ptr<const uint8_t> mapping;
    size_t row_bytes = 0;
    OnDemandRows::Request request;
};

TEST_F(OnDemandRowsTest, AreThoseOfTheFile) {
    for (size_t size : {1, 3, 64, 128, 516, 3072, 4096, 10000}) {
        for (uint64_t cache : {0, 50'000, 10'000'000}) {
            const auto rows = open_rows(size, cache);
            for (size_t n : {1, 2, 40, 700}) {
                const auto begins = random_begins(n, unsigned(size + n));
                forget();
                check(*rows, begins);
                check(*rows, begins);
            }
            check(*rows, {});
        }
    }
}

TEST_F(OnDemandRowsTest, SideBySideAreReadAtOnce) {
    constexpr size_t d = 512;
    const auto rows = open_rows(d);
    std::vector<size_t> begins;
    for (size_t i = 0; i < 4000; i++) {
        begins.push_back(i * 7 % 4000 * d + 64);
    }
    check(*rows, begins);
    EXPECT_LE(request.reads(), 4000 * d / 200'000 + 1);
    check(*rows, {0, 2 * d, 500'000, 500'000 + d, 2'000'000, 0});
    EXPECT_EQ(request.reads(), 3u);
}

TEST_F(OnDemandRowsTest, OfTheCacheAreNotReadAgain) {
    const auto rows = open_rows(128, 1'000'000);
    check(*rows, {1000, 100'000, 2'000'000});
    EXPECT_EQ(request.cached(), 0u);
    EXPECT_EQ(request.reads(), 3u);
    check(*rows, {2'000'000, 1000, 500'000, 1000, 100'000});
    EXPECT_EQ(request.cached(), 4u);
    EXPECT_EQ(request.reads(), 1u);
    // another row, though most of its bytes are those of one in the cache
    check(*rows, {1001});
    EXPECT_EQ(request.cached(), 0u);
}

/// Those of a batch: each starts before the first finishes.
TEST_F(OnDemandRowsTest, OfManyRequestsAreTheirOwn) {
    for (uint64_t cache : {0, 100'000}) {
        const auto rows = open_rows(516, cache);
        std::vector<OnDemandRows::Request> requests(20);
        std::vector<std::vector<const void*>> at(requests.size());
        for (int round = 0; round < 3; round++) {
            forget();
            for (size_t i = 0; i < requests.size(); i++) {
                at[i] = addresses(random_begins(1 + 3 * i, unsigned(i)));
                rows->start(at[i].size(), at[i].data(), requests[i]);
            }
            for (size_t i = 0; i < requests.size(); i++) {
                rows->finish(at[i].data(), requests[i]);
            }
            for (size_t i = 0; i < requests.size(); i++) {
                expect_rows(at[i], random_begins(1 + 3 * i, unsigned(i)));
            }
        }
    }
}

/// Lists that were changed have rows in memory.
TEST_F(OnDemandRowsTest, ElsewhereStayThere) {
    const auto rows = open_rows(128, 1'000'000);
    std::vector<uint8_t> own(256, 7);
    for (size_t cached : {0, 1}) {
        const void* at[] = {own.data(), mapping.get() + 512, own.data() + 128};
        rows->start(3, at, request);
        rows->finish(at, request);
        EXPECT_EQ(at[0], own.data());
        EXPECT_EQ(at[2], own.data() + 128);
        EXPECT_EQ(std::memcmp(at[1], &bytes[512], 128), 0);
        EXPECT_EQ(request.reads(), 1 - cached);
        EXPECT_EQ(request.cached(), cached);
    }
}

TEST_F(OnDemandRowsTest, OfAShorterFileAreAnError) {
    const auto rows = open_rows(128, 1'000'000);
    std::filesystem::resize_file(path, 10'000);
    const void* const wanted[] = {mapping.get() + 20, mapping.get() + 9'950};
    const void* at[] = {wanted[0], wanted[1]};
    for (int round = 0; round < 2; round++) { // nothing of it was kept
        rows->start(2, at, request);
        try {
            rows->finish(at, request);
            FAIL() << "read what is not there";
        } catch (const faiss::FaissException& error) {
            const std::string message = error.what();
            EXPECT_NE(message.find("at byte 10000"), message.npos) << message;
            EXPECT_NE(message.find(path), message.npos) << message;
            EXPECT_NE(message.find("shorter"), message.npos) << message;
        }
        EXPECT_EQ(at[0], wanted[0]);
        EXPECT_EQ(at[1], wanted[1]);
    }
    check(*rows, {20, 9'872});
}

TEST_F(OnDemandRowsTest, ErrorsOfTheSystemAreNamed) {
    const auto message_of = [](auto&& work) -> std::string {
        try {
            work();
        } catch (const faiss::FaissException& error) {
            return error.what();
        }
        return "";
    };
    EXPECT_EQ(
            message_of([&] { OnDemandRows(-1, path, mapping, kBytes, 1, 0); }),
            "cannot open " + path + ": Bad file descriptor");
    const int write_only = open(path.c_str(), O_WRONLY);
    const OnDemandRows unreadable(write_only, path, mapping, kBytes, 1, 0);
    close(write_only);
    const void* at[] = {mapping.get() + 20};
    unreadable.start(1, at, request);
    EXPECT_EQ(
            message_of([&] { unreadable.finish(at, request); }),
            "cannot read rows at byte 20 of " + path + ": Bad file descriptor");
}

} // namespace
