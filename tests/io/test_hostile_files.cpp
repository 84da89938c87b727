/* Whatever bytes a file holds, checksums made right: reading it in any way ends
 * in a FaissException, or in an index with which every operation does. Run it
 * with the sanitizers. (tree and quantizer are parts of Faiss' own.) */

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <random>

#include <omp.h>

#include <faiss_ext/model/index_state.h>
#include <faiss_ext/index/set_model.h>

#include "fixtures/damaged_files.h"
#include "fixtures/replaced_new.h"

using namespace cases;
using namespace damaged;

namespace {

/// The largest piece of memory that somebody has asked for.
size_t largest_request = 0;

} // namespace

void* replaced_new::allocate(size_t n) noexcept {
    largest_request = std::max(largest_request, n);
    return std::malloc(n + !n);
}

namespace {

constexpr size_t kSmallRows = 63, kSmallD = 5;
constexpr size_t kMostMemory = size_t(256) << 20;

struct Kind {
    Case index;
    bool by_direction = false;
};

void PrintTo(const Kind& kind, std::ostream* out) {
    *out << name_of(kind.index) << (kind.by_direction ? " by direction" : "");
}

const std::vector<Kind>& kinds() {
    constexpr auto IP = faiss::METRIC_INNER_PRODUCT;
    constexpr auto L2 = faiss::METRIC_L2;
    constexpr auto array = faiss::DirectMap::Array;
    constexpr auto hashtable = faiss::DirectMap::Hashtable;
    static const std::vector<Kind> list = {
            {{"IVF4,ScaNN", L2}},
            {{"IVF4,ScaNN", IP, array}},
            {{"IVF4,ScaNN,RFlat", IP}, true},
            {{"IVF4,ScaNN,SQ8", IP, hashtable}},
            {{"IVF4,ScaNN(rotation=none),SQfp16,RFlat", L2, array}},
            {{"IVF4,ScaNN(normalize=1),SQbf16", IP}},
            {{"IVF4,ScaNN(soar_lambda=1),SQ8,RFlat", L2, hashtable}},
            {{"IVF4,ScaNN(soar_lambda=1,normalize=1),RFlat", IP}},
            {{"IVF4,ScaNN(soar_lambda=2)", IP, array}},
            {{"IDMap2,IVF4,ScaNN(soar_lambda=1),SQ8", L2}},
            {{"IVF4,ScaNN", L2, faiss::DirectMap::NoMap, false, false}},
    };
    return list;
}

/// A file with every section that such an index has, as small as may be. The
/// last rows lie far out, near one another, and are kept apart.
std::string file_of(const Kind& kind) {
    constexpr size_t kFar = 3;
    Case c = kind.index;
    c.add = false;
    IndexPtr index = build(c, kSmallRows, kSmallD);
    auto scann = faiss_ext::find_scann(index.get());
    if (kind.by_direction) {
        faiss_ext::ScaNNModel model = scann->state().model;
        model.by_direction = true;
        set_model(*scann, std::move(model));
    }
    if (c.train) {
        std::vector<float> x = rows(kSmallRows, kSmallD, 1);
        std::fill(x.end() - kFar * kSmallD, x.end(), 500.f);
        std::vector<int64_t> ids(kSmallRows);
        for (size_t i = 0; i < kSmallRows; i++) {
            ids[i] = 3 * i + 5;
        }
        bool own_ids = c.map != faiss::DirectMap::Array;
        index->add_with_ids(
                kSmallRows, x.data(), own_ids ? ids.data() : nullptr);
        scann->nprobe = 3;
        scann->calibrate(40, x.data(), .9f, 3);
        scann->nprobe = 3;
        scann->calibration = {.9f, 3, 3, 8, 6, .91f};
    }
    faiss::VectorIOWriter writer;
    faiss_ext::write_index(index.get(), &writer);
    return {writer.data.begin(), writer.data.end()};
}

/// For long runs: so many times as many trials, with other random numbers.
unsigned many_times() {
    const char* times = std::getenv("FAISS_EXT_HOSTILE_TIMES");
    return times == nullptr ? 1 : unsigned(std::strtoul(times, nullptr, 10));
}

/// Numbers as hostile as any, in 8 bytes, of which the first 1, 2, 4 count too.
const std::vector<std::string>& hostile_values() {
    static const std::vector<std::string> list = [] {
        std::vector<std::string> values;
        auto add = [&](auto value) {
            std::string bytes(reinterpret_cast<char*>(&value), sizeof(value));
            values.push_back(bytes);
        };
        for (uint64_t value :
             {0ull,
              1ull,
              2ull,
              3ull,
              4ull,
              31ull,
              33ull,
              62ull,
              64ull,
              127ull,
              255ull,
              65535ull,
              65536ull,
              65537ull,
              0x7fffffffull,
              0x80000000ull,
              0xffffffffull,
              0x100000000ull,
              0x300000000ull,
              1ull << 40,
              1ull << 53,
              1ull << 61,
              0x7fffffffffffffffull,
              0x8000000000000000ull,
              ~0ull - 1,
              ~0ull}) {
            add(value);
        }
        for (float value :
             {NAN,
              -NAN,
              HUGE_VALF,
              -HUGE_VALF,
              FLT_MAX,
              -FLT_MAX,
              1e-45f,
              -1e-45f,
              -0.f,
              -1.f,
              1e19f,
              -1e30f}) {
            add(value);
        }
        return values;
    }();
    return list;
}

/// Reads the bytes and does everything; only a FaissException may come.
/// @return whether they could be read
bool try_everything(
        const Directory& directory,
        const std::string& bytes,
        Way way) {
    largest_request = 0;
    IndexPtr index;
    std::string refusal =
            message_of([&] { index = open_bytes(directory, bytes, way); });
    EXPECT_LE(largest_request, kMostMemory + 8 * bytes.size());
    if (index == nullptr) {
        EXPECT_NE(refusal, "");
        return false;
    }
    EveryOperation(*index).run();
    EXPECT_LE(largest_request, kMostMemory + 8 * bytes.size());
    return true;
}

class HostileFiles : public testing::TestWithParam<Kind> {
 protected:
    void SetUp() override {
        omp_set_num_threads(1); // thousands of small calls
        bytes_ = file_of(GetParam());
    }

    /// @return whether they could be read
    bool try_out(const std::string& bytes, Way way) {
        return try_everything(directory_, bytes, way);
    }

    /// In one of the ways.
    bool try_out(const std::string& bytes, size_t count) {
        return try_out(bytes, kAllWays[count % std::size(kAllWays)]);
    }

    Directory directory_{true};
    std::string bytes_;
};

TEST_P(HostileFiles, UnchangedOnesCanBeUsed) {
    EXPECT_TRUE(put_together(take_apart(bytes_), bytes_) == bytes_);
    for (Way way : kAllWays) {
        EXPECT_TRUE(try_out(bytes_, way));
    }
}

TEST_P(HostileFiles, HostileValues) {
    const size_t trials = 250 * many_times();
    std::mt19937 random(many_times());
    Sections sections = take_apart(bytes_);
    std::erase_if(sections, [](auto& s) { return s.second.empty(); });
    auto places = sections_of(bytes_);
    size_t readable = 0;
    for (size_t t = 0; t < trials; t++) {
        // as often in every section, however small it is
        const auto& [name, contents] = sections[t % sections.size()];
        std::string value =
                hostile_values()[random() % hostile_values().size()];
        value.resize(std::min(value.size(), size_t(1) << random() % 4));
        size_t at = random() % contents.size();
        at -= random() % 4 == 0 ? 0 : at % value.size();
        std::string changed = bytes_;
        size_t n = std::min(value.size(), contents.size() - at);
        changed.replace(places.at(name).offset + at, n, value, 0, n);
        seal(changed);
        SCOPED_TRACE(testing::Message() << name << ' ' << at << " trial " << t);
        readable += try_out(changed, random());
        ASSERT_FALSE(HasFailure());
    }
    EXPECT_GT(readable, trials / 20);
}

TEST_P(HostileFiles, RandomFlips) {
    const size_t trials = 100 * many_times();
    std::mt19937 random(many_times() + 1000);
    for (size_t t = 0; t < trials; t++) {
        Sections sections = take_apart(bytes_);
        for (size_t flips = 1 + random() % 4; flips > 0; flips--) {
            auto& [name, contents] = sections[random() % sections.size()];
            if (!contents.empty()) {
                contents[random() % contents.size()] ^=
                        char(random() % 3 ? 1 << random() % 8 : random());
            }
        }
        SCOPED_TRACE(testing::Message() << "trial " << t);
        try_out(put_together(sections, bytes_), random());
        ASSERT_FALSE(HasFailure());
    }
}

/// Each section ends at each place, or goes on.
TEST_P(HostileFiles, SectionsOfOtherSizes) {
    const Sections sections = take_apart(bytes_);
    std::mt19937 random(3);
    for (size_t s = 0; s < sections.size(); s++) {
        const size_t size = sections[s].second.size();
        size_t step = std::max<size_t>(1, size / 16);
        for (size_t cut = 0; cut <= size + 8; cut += step) {
            Sections changed = sections;
            changed[s].second.resize(cut);
            EXPECT_EQ(
                    try_out(put_together(changed, bytes_), random()),
                    cut == size)
                    << sections[s].first << ' ' << cut << " of " << size;
            ASSERT_FALSE(HasFailure());
        }
    }
}

TEST_P(HostileFiles, SectionsMissingTwiceMovedOrUnknown) {
    const Sections sections = take_apart(bytes_);
    auto refused = [&](const Sections& changed) {
        std::string file = put_together(changed, bytes_);
        for (Way way : kAllWays) {
            EXPECT_FALSE(try_out(file, way));
        }
    };
    for (size_t s = 0; s < sections.size(); s++) {
        SCOPED_TRACE(sections[s].first);
        Sections changed = sections;
        changed.erase(changed.begin() + ptrdiff_t(s));
        refused(changed);
        changed = sections;
        changed.insert(changed.begin() + ptrdiff_t(s), changed[s]);
        refused(changed);
        changed = sections;
        std::swap(changed[s], changed[(s + 1) % sections.size()]);
        refused(changed);
        changed = sections;
        changed[s].first = "\x80\xff \n";
        refused(changed);
    }
}

/// What the table says of the sections: they overlap, lie at odd places, end
/// beyond the end.
TEST_P(HostileFiles, PlacesOfSections) {
    auto places = sections_of(bytes_);
    for (const auto& [name, place] : places) {
        for (size_t field : {16, 24}) {
            auto was = value_at<uint64_t>(bytes_, place.entry + field);
            for (uint64_t value :
                 {uint64_t(0),
                  was - 1,
                  was + 1,
                  was - 64,
                  was + 64,
                  uint64_t(1) << 40,
                  uint64_t(1) << 62,
                  UINT64_MAX - 63,
                  UINT64_MAX}) {
                std::string changed = bytes_;
                set_at(changed, place.entry + field, value);
                seal_header(changed);
                for (Way way : kAllWays) {
                    EXPECT_FALSE(try_out(changed, way)) << name << value;
                }
            }
        }
    }
    for (uint64_t size : {uint64_t(0), uint64_t(1) << 62, UINT64_MAX}) {
        std::string changed = bytes_;
        set_at(changed, 16, size);
        seal_header(changed);
        for (Way way : kAllWays) {
            EXPECT_FALSE(try_out(changed, way)) << size;
        }
    }
}

TEST_P(HostileFiles, EveryTruncation) {
    for (size_t size = 0; size < bytes_.size(); size++) {
        EXPECT_FALSE(try_out(bytes_.substr(0, size), size)) << size;
    }
}

/// Files that a fuzzer found: in tests/data, and where one says.
TEST(FoundFiles, AreRefusedOrSafe) {
    omp_set_num_threads(1);
    Directory directory(true);
    size_t count = 0;
    std::vector<std::string> folders = {FAISS_EXT_TEST_DATA "/hostile"};
    if (const char* more = std::getenv("FAISS_EXT_HOSTILE_FILES")) {
        folders.push_back(more);
    }
    for (const std::string& folder : folders) {
        for (auto& entry : std::filesystem::directory_iterator(folder)) {
            const std::string bytes = read_bytes(entry.path());
            for (Way way : kAllWays) {
                SCOPED_TRACE(entry.path());
                try_everything(directory, bytes, way);
            }
            count++;
        }
    }
    EXPECT_GE(count, 5u);
}

INSTANTIATE_TEST_SUITE_P(
        AllKinds,
        HostileFiles,
        testing::ValuesIn(kinds()),
        [](const auto& info) { return std::to_string(info.index); });

} // namespace
