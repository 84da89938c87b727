/* Files above 2^31 and 2^32 bytes, which are mostly holes: what lies behind is
 * found there. */

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <faiss/impl/IDSelector.h>

#include <faiss_ext/build_index.h>

#include "fixtures/damaged_files.h"

using namespace cases;
using namespace damaged;
using faiss_ext::ReadBounds;
using faiss_ext::ReadMode;

namespace {

constexpr uint64_t kFourGigabytes = uint64_t(1) << 32;

/// A file of which only some parts are written.
class SparseFile {
 public:
    SparseFile(std::string path, uint64_t size)
            : path(std::move(path)),
              file_(open(this->path.c_str(), O_RDWR | O_CREAT, 0600)) {
        is_there_ = file_ >= 0 && ftruncate(file_, off_t(size)) == 0;
    }
    ~SparseFile() {
        close(file_);
    }
    /// false where the file system has no files so large
    bool is_there() const {
        return is_there_;
    }
    void put(uint64_t at, const void* bytes, size_t size) {
        ASSERT_EQ(pwrite(file_, bytes, size, off_t(at)), ssize_t(size));
    }

    const std::string path;

 private:
    int file_;
    bool is_there_;
};

/// An index of one list whose raw rows take over 2^32 bytes: those of a small one
/// made larger, with the codes 0 and the id 0 but for the last rows.
class LargeIndexFile : public testing::Test {
 protected:
    static constexpr size_t kDim = 1024, kN = 1'100'000, kLast = 3;
    static constexpr int64_t kId = 5000; ///< of the first of the last rows

    void SetUp() override {
        IndexPtr small =
                build({"IVF1,ScaNN,RFlat", faiss::METRIC_L2}, 300, kDim);
        const std::string path = directory.file("small.scann");
        faiss_ext::write_index(small.get(), path);
        write_large(
                read_bytes(path),
                faiss_ext::find_scann(small.get())->state().lists->layout());
        if (!file->is_there()) {
            GTEST_SKIP() << "no files above 4 GB at " << file->path;
        }
    }

    void write_large(std::string bytes, const faiss_ext::EntryLayout& layout) {
        auto places = sections_of(bytes);
        const std::string apart(4, '\0'); // none
        bytes.resize(places.at("codes").offset);
        set_at<uint64_t>(bytes, places.at("index").offset + 16, kN);
        const Place& lists = places.at("lists");
        set_at<uint64_t>(bytes, lists.offset + lists.size - 8, kN);
        for (const char* name : {"index", "lists"}) {
            const Place& place = places.at(name);
            set_at<uint32_t>(
                    bytes,
                    place.entry + 32,
                    crc_of(bytes, place.offset, place.size));
        }
        uint64_t end = bytes.size();
        auto place = [&](const char* name, uint64_t size) {
            size_t entry = places.at(name).entry;
            end = (end + 63) / 64 * 64;
            set_at<uint64_t>(bytes, entry + 16, end);
            set_at<uint64_t>(bytes, entry + 24, size);
            end += size;
            return end - size;
        };
        auto padded = [](uint64_t size) { return (size + 63) / 64 * 64; };
        place("codes", padded(layout.packed().list_bytes(kN)));
        std::string ids(padded(kN * sizeof(int64_t)), '\0');
        for (size_t i = 0; i < kLast; i++) {
            set_at<int64_t>(
                    ids, (kN - kLast + i) * sizeof(int64_t), kId + int64_t(i));
        }
        ids_bytes = ids.size();
        const uint64_t ids_at = place("ids", ids_bytes);
        const uint64_t raw = place("raw", kN * layout.raw_row_bytes());
        ASSERT_GT(raw + (kN - kLast) * layout.raw_row_bytes(), kFourGigabytes);
        const uint64_t last = place("apart", apart.size());
        auto set_crc = [&](const char* name, const std::string& contents) {
            set_at<uint32_t>(
                    bytes,
                    places.at(name).entry + 32,
                    crc_of(contents, 0, contents.size()));
        };
        set_crc("ids", ids);
        set_crc("apart", apart);
        set_at<uint64_t>(bytes, 16, end);
        seal_header(bytes);

        file = std::make_unique<SparseFile>(directory.file("large.scann"), end);
        file->put(0, bytes.data(), bytes.size());
        file->put(ids_at, ids.data(), ids.size());
        file->put(last, apart.data(), apart.size());
        rows = cases::rows(kLast, kDim, 5);
        for (size_t i = 0; i < kLast; i++) {
            file->put(
                    raw + (kN - kLast + i) * layout.raw_row_bytes(),
                    &rows[i * kDim],
                    kDim * sizeof(float));
        }
        rest = bytes.size() + 64;
    }

    /// Finds the last rows, by their ids.
    void expect_found(const faiss::Index& index) {
        faiss::IDSelectorRange last(kId, kId + int64_t(kLast));
        faiss_ext::SearchParametersScaNN params;
        params.nprobe = 1;
        params.sel = &last;
        for (size_t i = 0; i < kLast; i++) {
            float distances[kLast];
            int64_t labels[kLast];
            const float* query = &rows[i * kDim];
            index.search(1, query, kLast, distances, labels, &params);
            EXPECT_EQ(labels[0], kId + int64_t(i));
            EXPECT_EQ(distances[0], 0);
            for (size_t j = 1; j < kLast; j++) {
                const float* other = &rows[size_t(labels[j] - kId) * kDim];
                float want = 0;
                for (size_t k = 0; k < kDim; k++) {
                    want += (query[k] - other[k]) * (query[k] - other[k]);
                }
                EXPECT_NEAR(distances[j], want, want * 1e-5);
            }
            std::vector<float> row(kDim);
            faiss_ext::find_scann(&index)->reconstruct_from_offset(
                    0, int64_t(kN - kLast + i), row.data());
            EXPECT_EQ(std::memcmp(row.data(), query, kDim * sizeof(float)), 0);
        }
    }

    Directory directory;
    std::unique_ptr<SparseFile> file;
    std::vector<float> rows; ///< the last
    uint64_t rest = 0;       ///< bytes of all that is no column, at most
    uint64_t ids_bytes = 0;
};

TEST_F(LargeIndexFile, OpensMapped) {
    IndexPtr index(faiss_ext::read_index(file->path, ReadMode::Mmap));
    EXPECT_EQ(index->ntotal, int64_t(kN));
    expect_found(*index);
}

TEST_F(LargeIndexFile, OpensWithinABound) {
    for (uint64_t more : {uint64_t(0), ids_bytes, ids_bytes + 1'000'000}) {
        const ReadBounds bounds{rest + more};
        IndexPtr index(faiss_ext::read_index(file->path, bounds));
        const auto columns = faiss_ext::column_bytes(index.get());
        EXPECT_GT(columns.back().on_demand, kFourGigabytes);
        expect_found(*index);
        expect_found(*index);
    }
}

TEST_F(LargeIndexFile, CutBehindFourGigabytesIsRefused) {
    ASSERT_EQ(truncate(file->path.c_str(), off_t(kFourGigabytes + 64)), 0);
    EXPECT_NE(
            message_of([&] {
                IndexPtr(faiss_ext::read_index(file->path, ReadMode::Mmap));
            }),
            "");
}

TEST(LargeRowFile, IsReadWhereItsRowsAre) {
    constexpr size_t kDim = 128, kN = 40'000'000;
    constexpr uint64_t kHeader = 8;
    Directory directory;
    SparseFile file(directory.file("rows.u8bin"), kHeader + kN * kDim);
    if (!file.is_there()) {
        GTEST_SKIP() << "no files above 4 GB at " << file.path;
    }
    std::mt19937 random(1);
    std::vector<uint8_t> want(2 * kDim);
    for (uint8_t& value : want) {
        value = uint8_t(random());
    }
    const auto source = faiss_ext::rows_in_file(
            file.path, kN, kDim, faiss_ext::RowType::UInt8, kHeader);
    // the first row that begins behind 2^31 and 2^32, and the last but one
    for (size_t row :
         {kFourGigabytes / 2 / kDim, kFourGigabytes / kDim, kN - 2}) {
        file.put(kHeader + row * kDim, want.data(), want.size());
        std::vector<uint8_t> got(want.size());
        source->read(row, 2, got.data());
        EXPECT_EQ(got, want) << row;
    }
    const std::string message = message_of([&] {
        faiss_ext::rows_in_file(
                file.path, kN + 1, kDim, faiss_ext::RowType::UInt8, kHeader);
    });
    EXPECT_NE(message.find(file.path), message.npos) << message;
}

} // namespace
