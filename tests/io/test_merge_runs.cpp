/* Runs merged into an index file: the bytes that adding all rows at once and
 * saving gives; runs that are damaged, missing or too long. */

#include <numeric>

#include <faiss_ext/index/add.h>
#include <faiss_ext/io/list_sections.h>
#include <faiss_ext/io/merge_runs.h>
#include <faiss_ext/model/index_state.h>

#include "fixtures/index_cases.h"

using namespace cases;
using faiss_ext::IndexIVFScaNN;
using faiss_ext::RowType;
using faiss_ext::RunLayout;

namespace {

struct Kind {
    const char* description;
    faiss::MetricType metric;
};
constexpr auto kIP = faiss::METRIC_INNER_PRODUCT;
constexpr auto kL2 = faiss::METRIC_L2;
constexpr Kind kKinds[] = {
        {"IVF16,ScaNN", kL2},
        {"IVF16,ScaNN,SQ8", kIP},
        {"IVF16,ScaNN,SQfp16", kL2},
        {"IVF16,ScaNN,RFlat", kL2},
        {"IVF16,ScaNN(soar_lambda=1),SQ8,RFlat", kIP},
        {"IVF16,ScaNN(soar_lambda=1,normalize=1),RFP16", kIP},
        {"IVF16,ScaNN7x4(rotation=none,soar_lambda=1.5)", kL2},
        {"IVF16_HNSW8,ScaNN(normalize=1),RBF16", kIP},
        {"ScaNN", kL2},
};
/// Blocks of 32 codes that end anywhere; the last run has the rest.
constexpr size_t kPieces[] = {1, 30, 33, 64, 200, 5};

/// Some have codes that describe them badly.
std::vector<float> rows_with_outliers() {
    std::vector<float> x = rows(kRows, kD, 1);
    for (size_t i = 3; i < kRows; i += 50) {
        x[i * kD + i % kD] = 6e4f;
    }
    return x;
}

/// The runs of one build, and the file that they should become.
class MergeRuns : public testing::Test {
 protected:
    void make(const Kind& kind) {
        std::unique_ptr<IndexIVFScaNN> index(dynamic_cast<IndexIVFScaNN*>(
                faiss_ext::index_factory(kD, kind.description, kind.metric)));
        const std::vector<float> x = rows_with_outliers();
        index->train(kRows, x.data());
        faiss_ext::write_index(index.get(), trained);
        layout = RunLayout::of(index->state());
        size_t first = 0;
        for (size_t i = 0; first < kRows; i++) {
            const size_t n =
                    i < std::size(kPieces) ? kPieces[i] : kRows - first;
            std::vector<int64_t> ids(n);
            std::iota(ids.begin(), ids.end(), int64_t(first));
            index->add_with_ids(int64_t(n), x.data() + first * kD, ids.data());
            runs.push_back(directory.file("run" + std::to_string(i)));
            write_run(runs.back(), {first, n, 0, 0}, index->state());
            index->reset();
            first += n;
        }
        index->add(kRows, x.data());
        for (size_t l = 0; l < index->nlist; l++) {
            apart += index->state().lists->list(l).apart.size();
        }
        faiss_ext::write_index(index.get(), wanted);
    }
    void merge() {
        faiss_ext::merge_runs(trained, layout, runs, target, nullptr);
    }

    Directory directory;
    const std::string trained = directory.file("trained");
    const std::string wanted = directory.file("wanted");
    const std::string target = directory.file("target");
    RunLayout layout;
    std::vector<std::string> runs;
    size_t apart = 0;
};

class MergedKinds : public MergeRuns, public testing::WithParamInterface<Kind> {
 protected:
    /// Of all kinds, or this tests less than it says.
    static inline size_t entries_apart = 0;
    static void TearDownTestSuite() {
        EXPECT_GT(entries_apart, 20U);
    }
};

INSTANTIATE_TEST_SUITE_P(Kinds, MergedKinds, testing::ValuesIn(kKinds));

TEST_P(MergedKinds, GivesTheFileOfAllRowsAtOnce) {
    make(GetParam());
    entries_apart += apart;
    merge();
    EXPECT_TRUE(read_bytes(target) == read_bytes(wanted));
    IndexPtr a(faiss_ext::read_index(target));
    IndexPtr b(faiss_ext::read_index(wanted));
    expect_same(*a, *b);
}

TEST_F(MergeRuns, SaysWhatIsDoneOfHowMuch) {
    make(kKinds[4]);
    uint64_t last = 0, all = 0;
    faiss_ext::merge_runs(
            trained, layout, runs, target, [&](uint64_t done, uint64_t total) {
                EXPECT_GE(done, last);
                EXPECT_LE(done, total);
                last = done;
                all = total;
            });
    EXPECT_GT(all, 0U);
}

TEST_F(MergeRuns, NamesADamagedRunAndLeavesTheTarget) {
    make(kKinds[4]);
    write_bytes(target, "old");
    for (const std::string& run : runs) {
        const std::string bytes = read_bytes(run);
        for (size_t at = 100; at < bytes.size(); at += bytes.size() / 7) {
            std::string wrong = bytes;
            wrong[at] = char(wrong[at] ^ 0x10);
            write_bytes(run, wrong);
            const std::string message = message_of([&] { merge(); });
            EXPECT_NE(message.find(run), std::string::npos) << message;
        }
        write_bytes(run, bytes.substr(0, bytes.size() - 1));
        EXPECT_NE(message_of([&] { merge(); }).find(run), std::string::npos);
        write_bytes(run, bytes);
    }
    EXPECT_EQ(read_bytes(target), "old");
    merge();
    EXPECT_TRUE(read_bytes(target) == read_bytes(wanted));
}

TEST_F(MergeRuns, RefusesRunsInAnotherOrder) {
    make(kKinds[0]);
    std::swap(runs[1], runs[2]);
    const std::string message = message_of([&] { merge(); });
    EXPECT_NE(message.find("not with row 1 ("), std::string::npos) << message;
    runs.erase(runs.begin() + 1);
    EXPECT_NE(message_of([&] { merge(); }), "");
}

TEST_F(MergeRuns, RefusesRunsOfOtherOptions) {
    make(kKinds[0]);
    RunLayout other = layout;
    other.lists.with_raw_data = true;
    const std::string message = message_of([&] {
        faiss_ext::merge_runs(trained, other, runs, target, nullptr);
    });
    EXPECT_NE(message.find("do not fit the options"), std::string::npos);
}

/// Two runs that say that they have 2^31 rows each in the first list.
TEST_F(MergeRuns, RefusesListsOf32BitsAtOnce) {
    make(kKinds[0]);
    for (size_t i = 0; i < 2; i++) {
        constexpr uint64_t kMany = uint64_t(1) << 31;
        std::vector<uint64_t> sizes(layout.nlist);
        sizes[0] = kMany;
        faiss_ext::OutputFile file(runs[i]);
        stream_sections(
                {{"run",
                  [&](faiss_ext::SectionSink& sink) {
                      sink.put_value(uint64_t(i * kMany));
                      sink.put_value(kMany);
                      sink.put_value(uint64_t(0)); // training, ends
                  }},
                 {"lists",
                  [&](faiss_ext::SectionSink& sink) {
                      put_list_sizes(sink, layout.lists, sizes);
                  }}},
                file);
        file.become_target();
    }
    runs.resize(2);
    const std::string message = message_of([&] { merge(); });
    EXPECT_NE(
            message.find("list 0 would have 4294967296 rows (allowed: < 2^32)"),
            std::string::npos)
            << message;
}

} // namespace
