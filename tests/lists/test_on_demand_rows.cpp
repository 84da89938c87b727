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
        rows = std::make_unique<OnDemandRows>(file, path, mapping, kBytes);
        close(file); // it has its own
    }
    void TearDown() override {
        std::filesystem::remove(path);
    }

    /// Reads rows at these bytes of the file, and compares.
    void check(size_t row_bytes, const std::vector<size_t>& begins) {
        std::vector<const void*> at;
        for (size_t begin : begins) {
            at.push_back(mapping.get() + begin);
        }
        rows->read(at.size(), row_bytes, at.data(), buffer);
        for (size_t i = 0; i < begins.size(); i++) {
            const auto* row = static_cast<const uint8_t*>(at[i]);
            ASSERT_TRUE(row < mapping.get() || row >= mapping.get() + kBytes);
            ASSERT_EQ(std::memcmp(row, &bytes[begins[i]], row_bytes), 0)
                    << row_bytes << " bytes at " << begins[i];
        }
        EXPECT_LE(buffer.waits, buffer.reads);
        EXPECT_LE(buffer.reads, begins.size());
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
    std::unique_ptr<OnDemandRows> rows;
    OnDemandRows::Buffer buffer;
};

TEST_F(OnDemandRowsTest, AreThoseOfTheFile) {
    std::mt19937_64 random(2);
    for (size_t row_bytes : {1, 3, 64, 128, 516, 3072, 4096, 10000}) {
        const size_t last = kBytes - row_bytes;
        for (size_t n : {1, 2, 40, 700}) {
            std::vector<size_t> begins(n);
            for (size_t& begin : begins) {
                begin = random() % (last + 1);
            }
            begins.back() = last;
            begins.front() = begins[n / 2];
            forget();
            check(row_bytes, begins);
            check(row_bytes, begins);
        }
    }
    check(128, {});
}

TEST_F(OnDemandRowsTest, SideBySideAreReadAtOnce) {
    constexpr size_t d = 512;
    std::vector<size_t> begins;
    for (size_t i = 0; i < 4000; i++) {
        begins.push_back(i * 7 % 4000 * d + 64);
    }
    check(d, begins);
    EXPECT_LE(buffer.reads, 4000 * d / 200'000 + 1);
    check(d, {0, 2 * d, 500'000, 500'000 + d, 2'000'000, 0});
    EXPECT_EQ(buffer.reads, 3u);
}

/// Lists that were changed have rows in memory.
TEST_F(OnDemandRowsTest, ElsewhereStayThere) {
    std::vector<uint8_t> own(256, 7);
    const void* at[] = {own.data(), mapping.get() + 512, own.data() + 128};
    rows->read(3, 128, at, buffer);
    EXPECT_EQ(at[0], own.data());
    EXPECT_EQ(at[2], own.data() + 128);
    EXPECT_EQ(std::memcmp(at[1], &bytes[512], 128), 0);
    EXPECT_EQ(buffer.reads, 1u);
}

TEST_F(OnDemandRowsTest, OfAShorterFileAreAnError) {
    std::filesystem::resize_file(path, 10'000);
    const void* const wanted[] = {mapping.get() + 20, mapping.get() + 9'950};
    const void* at[] = {wanted[0], wanted[1]};
    try {
        rows->read(2, 128, at, buffer);
        FAIL() << "read what is not there";
    } catch (const faiss::FaissException& error) {
        const std::string message = error.what();
        EXPECT_NE(message.find("at byte 10000"), message.npos) << message;
        EXPECT_NE(message.find(path), message.npos) << message;
        EXPECT_NE(message.find("shorter"), message.npos) << message;
    }
    EXPECT_EQ(at[0], wanted[0]);
    EXPECT_EQ(at[1], wanted[1]);
    check(128, {20, 9'872});
}

} // namespace
