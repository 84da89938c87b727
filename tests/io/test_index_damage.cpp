/* Files that are wrong: every byte of the header flipped, random bytes
 * elsewhere, cut at every place, changed behind a right checksum, newer.
 * test_hostile_files goes through all that may stand in them. */

#include "fixtures/damaged_files.h"

using namespace cases;
using namespace damaged;
using faiss_ext::ReadMode;

namespace {

/// Opens the bytes as a file; searches, if that succeeds.
std::string
open(const Directory& directory, const std::string& bytes, ReadMode mode) {
    std::string path = directory.file("damaged.scann");
    write_bytes(path, bytes);
    return message_of([&] {
        IndexPtr index(faiss_ext::read_index(path, mode));
        if (index->is_trained && index->d < 100) {
            search(*index, 3);
        }
    });
}

std::string open_stream(const std::string& bytes) {
    return message_of([&] {
        faiss::VectorIOReader reader;
        reader.data.assign(bytes.begin(), bytes.end());
        IndexPtr index(faiss_ext::read_index(&reader));
    });
}

constexpr size_t kSmallRows = 63, kSmallD = 5;

/// A file with every section, as small as may be: the last three rows lie far
/// out, near one another.
std::string small_file(const Directory& directory) {
    Case c{"IDMap2,IVF4,ScaNN(soar_lambda=1),SQ8,RFlat",
           faiss::METRIC_L2,
           faiss::DirectMap::Hashtable};
    constexpr size_t kFar = 3;
    IndexPtr index = build(c, kSmallRows - kFar, kSmallD);
    std::vector<float> far(kFar * kSmallD, 500);
    std::vector<int64_t> ids = {1000, 1001, 1002};
    index->add_with_ids(kFar, far.data(), ids.data());
    faiss_ext::IndexIVFScaNN& scann = *faiss_ext::find_scann(index.get());
    scann.nprobe = 3;
    scann.state().model.edit([](auto& model) {
        model.list_groups = {2, 0, 2, 1}; // training: of many lists
    });
    std::string path = directory.file("small.scann");
    faiss_ext::write_index(index.get(), path);
    return read_bytes(path);
}

class IndexDamage : public testing::Test {
 protected:
    Directory directory{true};
    std::string bytes = small_file(directory);
    std::map<std::string, Place> places = sections_of(bytes);

    template <class T>
    std::string open_with(
            const std::string& section,
            size_t at,
            T value,
            ReadMode mode = ReadMode::Copy) {
        std::string changed = bytes;
        set_at(changed, places.at(section).offset + at, value);
        seal(changed);
        return open(directory, changed, mode);
    }

    /// Such a file is refused, and the section named.
    template <class T>
    void expect_refused(const std::string& section, size_t at, T value) {
        for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
            std::string message = open_with(section, at, value, mode);
            EXPECT_NE(message.find("'" + section + "'"), std::string::npos)
                    << at << ", " << value << ": " << message;
        }
    }
};

TEST_F(IndexDamage, UndamagedFileOpens) {
    EXPECT_EQ(open(directory, bytes, ReadMode::Copy), "");
    EXPECT_EQ(open(directory, bytes, ReadMode::Mmap), "");
    EXPECT_EQ(open_stream(bytes), "");
    std::string sealed = bytes;
    seal(sealed);
    EXPECT_TRUE(sealed == bytes);
    for (const auto& [name, place] : places) {
        EXPECT_EQ(place.offset % 64, 0) << name;
    }
}

TEST_F(IndexDamage, EveryFlippedByteIsNoticed) {
    std::mt19937 random(1);
    uint64_t data = places.at("codes").offset;
    // all bytes of the header and what follows it, random ones of the lists
    for (size_t i = 0; i < bytes.size(); i += i < data ? 1 : 1 + random() % 9) {
        std::string changed = bytes;
        changed[i] ^= char(1 + random() % 255);
        ASSERT_NE(open(directory, changed, ReadMode::Copy), "") << i;
        ASSERT_NE(open_stream(changed), "") << i;
        // Of a mapped file's lists only the structure is looked at. What is
        // in them may be wrong, which is seen in wrong answers or a refused
        // search, not in a crash.
        std::string mapped = open(directory, changed, ReadMode::Mmap);
        if (i < data) {
            ASSERT_NE(mapped, "") << i;
        }
    }
}

TEST_F(IndexDamage, TheWrongSectionIsNamed) {
    for (const auto& [name, place] : places) {
        std::string changed = bytes;
        changed[place.offset + place.size / 2] ^= 1;
        std::string message = open(directory, changed, ReadMode::Copy);
        EXPECT_NE(message.find("'" + name + "'"), std::string::npos) << message;
    }
}

TEST_F(IndexDamage, TruncatedFilesAreRefused) {
    std::vector<size_t> sizes = {0, 1, 31, 32, 33, bytes.size() - 1};
    for (const auto& [name, place] : places) {
        for (int step : {-1, 0, 1}) {
            sizes.push_back(place.offset + step);
            sizes.push_back(place.offset + place.size + step);
        }
    }
    for (size_t size : sizes) {
        if (size >= bytes.size()) {
            continue;
        }
        std::string cut = bytes.substr(0, size);
        for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
            ASSERT_NE(open(directory, cut, mode), "") << size;
        }
        ASSERT_NE(open_stream(cut), "") << size;
    }
    std::string cut = bytes.substr(0, places.at("ids").offset + 1);
    std::string message = open(directory, cut, ReadMode::Copy);
    EXPECT_NE(message.find("'ids'"), std::string::npos) << message;
    EXPECT_NE(open(directory, bytes + "x", ReadMode::Copy), "");
    EXPECT_NE(open(directory, bytes + "x", ReadMode::Mmap), "");
}

TEST_F(IndexDamage, NewerVersionsAreRefused) {
    set_at<uint32_t>(bytes, 8, faiss_ext::kFormatVersion + 1);
    const std::string newer = "version " +
                              std::to_string(faiss_ext::kFormatVersion + 1) +
                              " is newer";
    for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
        std::string message = open(directory, bytes, mode);
        EXPECT_NE(message.find(newer), std::string::npos) << message;
    }
}

TEST_F(IndexDamage, MissingFilesAndDirectoriesAreRefused) {
    for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
        for (std::string path : {directory.file("none"), directory.file("")}) {
            EXPECT_NE(
                    message_of([&] { faiss_ext::read_index(path, mode); }), "");
        }
    }
}

// Sizes that the file cannot hold, behind a right checksum: nothing as large
// may be allocated (ASan would stop at its limit, others throw bad_alloc).
TEST_F(IndexDamage, HugeSizesAreRefused) {
    constexpr uint64_t kHuge = uint64_t(1) << 40;
    for (uint64_t huge : {kHuge, UINT64_MAX, UINT64_MAX / 8}) {
        for (size_t field : {16, 24}) {
            for (const auto& [name, place] : places) {
                std::string changed = bytes;
                set_at(changed, place.entry + field, huge);
                // only the header: the section cannot be summed up
                seal_header(changed);
                EXPECT_NE(open(directory, changed, ReadMode::Copy), "");
                EXPECT_NE(open(directory, changed, ReadMode::Mmap), "");
                EXPECT_NE(open_stream(changed), "");
            }
        }
        for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
            EXPECT_NE(open_with("index", 8, huge, mode), "") << "nlist";
            EXPECT_NE(open_with("direct_map", 0, huge, mode), "");
            EXPECT_NE(open_with("rotation", 0, huge, mode), "");
            EXPECT_NE(open_with("codebook", 0, huge, mode), "");
        }
    }
}

TEST_F(IndexDamage, EntriesOfNoListAreRefused) {
    // direct_map: count, then pairs of id and list << 32 | offset
    for (uint64_t lo :
         {uint64_t(4) << 32, uint64_t(kSmallRows), uint64_t(-2)}) {
        for (ReadMode mode : {ReadMode::Copy, ReadMode::Mmap}) {
            EXPECT_NE(open_with("direct_map", 16, lo, mode), "");
        }
        std::string message = open_with("spilled_primary", 0, lo);
        EXPECT_NE(message.find("'spilled_primary'"), std::string::npos);
    }
    for (uint64_t id : {uint64_t(kSmallRows), uint64_t(-1)}) {
        std::string message = open_with("ids", 0, id);
        EXPECT_NE(message.find("'ids'"), std::string::npos) << message;
    }
    // sizes of the lists: behind the layout and the number of lists
    size_t sizes = places.at("lists").size - 4 * sizeof(uint64_t);
    for (uint64_t size :
         {uint64_t(kSmallRows + 1), uint64_t(0), uint64_t(1) << 33}) {
        EXPECT_NE(open_with("lists", sizes, size), "");
        EXPECT_NE(open_with("lists", sizes, size, ReadMode::Mmap), "");
    }
}

// apart: of each list a number, then so many offsets
TEST_F(IndexDamage, WrongOffsetsOfRowsApartAreRefused) {
    for (std::string name : {"apart", "spilled_apart"}) {
        const Place place = places.at(name);
        const std::string table = name == "apart" ? "lists" : "spilled_lists";
        const Place sizes = places.at(table);
        bool found = false;
        for (size_t l = 0, at = 0; l < 4; l++) {
            auto n = value_at<uint32_t>(bytes, place.offset + at);
            auto size = value_at<uint64_t>(
                    bytes, sizes.offset + sizes.size - (4 - l) * 8);
            for (uint32_t wrong : {~0u, 1u << 30}) {
                expect_refused(name, at, wrong);
            }
            at += sizeof(n);
            for (size_t i = 0; i < n; i++, at += sizeof(n)) {
                expect_refused(name, at, uint32_t(size));
                expect_refused(name, at, ~0u);
                if (i > 0) { // the one before again, or less
                    auto before =
                            value_at<uint32_t>(bytes, place.offset + at - 4);
                    expect_refused(name, at, before);
                    expect_refused(name, at, before - 1);
                    found = true;
                }
            }
        }
        EXPECT_TRUE(found || name != "apart");
    }
}

// ranges: number of values of the origin, these, error_limit, scan_rows,
// trial_recall
TEST_F(IndexDamage, WrongRangesAreRefused) {
    const float nan = NAN, infinity = HUGE_VALF;
    constexpr size_t kOrigin = 8, kLimit = kOrigin + kSmallD * 4,
                     kScanRows = kLimit + 5, kRecall = kScanRows + 1;
    for (uint64_t n : {0, 1, 4, 6, 1 << 30}) {
        expect_refused("ranges", 0, n);
    }
    for (size_t at = kOrigin; at < kLimit; at += 4) {
        for (float value : {nan, infinity, -infinity}) {
            expect_refused("ranges", at, value);
        }
    }
    for (float value : {nan, -1.f}) {
        expect_refused("ranges", kLimit, value);
    }
    EXPECT_EQ(open_with("ranges", kLimit, infinity), ""); // none
    for (int value : {2, 255}) {
        expect_refused("ranges", kScanRows, uint8_t(value));
    }
    EXPECT_EQ(open_with("ranges", kScanRows, uint8_t(1)), "");
    for (float value : {2.f, -.5f, nan, infinity}) {
        expect_refused("ranges", kRecall, value);
    }
    EXPECT_EQ(open_with("ranges", kRecall, .5f), "");
}

// groups: number of values, these
TEST_F(IndexDamage, WrongGroupsAreRefused) {
    for (uint64_t n : {0, 1, 3, 5, 1 << 30}) {
        expect_refused("groups", 0, n);
    }
    for (size_t at = 8; at < 24; at += 4) {
        for (uint32_t group : {4u, 255u, ~0u}) {
            expect_refused("groups", at, group);
        }
        EXPECT_EQ(open_with("groups", at, uint32_t(3)), "");
    }
    for (auto mode : {ReadMode::Copy, ReadMode::Mmap}) {
        const std::string path = directory.file("groups.scann");
        write_bytes(path, bytes);
        IndexPtr index(faiss_ext::read_index(path, mode));
        EXPECT_EQ(
                faiss_ext::find_scann(index.get())->state().model->list_groups,
                (std::vector<uint32_t>{2, 0, 2, 1}));
    }
}

TEST(IndexDamageUntrained, EveryFlippedByteIsNoticed) {
    Directory directory(true);
    Case c{"IVF4,ScaNN"};
    c.add = c.train = false;
    std::string path = directory.file("a.scann");
    faiss_ext::write_index(build(c, 60, 5).get(), path);
    std::string bytes = read_bytes(path);
    for (size_t i = 0; i < bytes.size(); i++) {
        std::string changed = bytes;
        changed[i] ^= 1;
        ASSERT_NE(open(directory, changed, ReadMode::Copy), "") << i;
        ASSERT_NE(open(directory, changed, ReadMode::Mmap), "") << i;
    }
}

} // namespace
