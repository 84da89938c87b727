/* Files opened within a bound of memory: the same answers as all in memory,
 * wherever the columns are; what is where; a file that becomes shorter. */

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/io/file_sections.h>

#include "fixtures/index_cases.h"

using namespace cases;
using faiss_ext::ColumnBytes;
using faiss_ext::ReadBounds;
using faiss_ext::ReadMode;

namespace {

uint64_t sum(
        const std::vector<ColumnBytes>& columns,
        uint64_t ColumnBytes::*where) {
    return std::accumulate(
            columns.begin(),
            columns.end(),
            uint64_t(0),
            [where](uint64_t total, const ColumnBytes& c) {
                return total + c.*where;
            });
}

/// Which columns are where; bytes differ by the zeros between lists of a file.
std::vector<std::string> places(const std::vector<ColumnBytes>& columns) {
    std::vector<std::string> list;
    for (const ColumnBytes& c : columns) {
        list.push_back(
                c.column + (c.memory > 0 ? " memory" : "") +
                (c.mapped > 0 ? " mapped" : "") +
                (c.on_demand > 0 ? " on demand" : "") +
                (c.cache > 0 ? " cache " + std::to_string(c.cache) : ""));
    }
    return list;
}

/// A saved index, and what its file is made of.
struct Saved {
    Directory directory;
    std::string path = directory.file("a.scann");
    uint64_t columns = 0;
    uint64_t rest = 0; ///< the least bound that works

    explicit Saved(const faiss::Index& index) {
        faiss_ext::write_index(&index, path);
        columns =
                sum(faiss_ext::column_bytes(path, {UINT64_MAX}),
                    &ColumnBytes::memory);
        faiss::FileIOReader stream(path.c_str());
        faiss_ext::SectionReader reader(&stream, 0, true);
        for (const auto& [name, bytes] : reader.sections()) {
            rest += bytes;
        }
        rest -= columns;
    }
    IndexPtr open(uint64_t memory) const {
        return IndexPtr(faiss_ext::read_index(path, ReadBounds{memory}));
    }
    /// From nothing of the columns to all of them.
    std::vector<uint64_t> bounds() const {
        std::vector<uint64_t> list;
        for (int part = 0; part <= 8; part++) {
            list.push_back(rest + columns * part / 8);
        }
        return list;
    }
};

class ColumnTiers : public testing::TestWithParam<Case> {};

INSTANTIATE_TEST_SUITE_P(All, ColumnTiers, testing::ValuesIn(all()), label);

TEST_P(ColumnTiers, AnswersDoNotDependOnTheBound) {
    IndexPtr index = build(GetParam());
    const Saved saved(*index);
    size_t last = 0;
    for (uint64_t memory : saved.bounds()) {
        IndexPtr other = saved.open(memory);
        expect_same(*index, *other);
        const auto columns = faiss_ext::column_bytes(other.get());
        EXPECT_EQ(
                places(columns),
                places(faiss_ext::column_bytes(saved.path, {memory})));
        const size_t held = sum(columns, &ColumnBytes::memory);
        const size_t cache = sum(columns, &ColumnBytes::cache);
        EXPECT_LE(held + cache + saved.rest, memory);
        EXPECT_GE(held, last);
        last = held;
        for (const ColumnBytes& column : columns) {
            EXPECT_TRUE(column.on_demand == 0 || column.column == "raw");
            EXPECT_TRUE(column.cache == 0 || column.on_demand > 0);
        }
    }
    IndexPtr whole = saved.open(saved.rest + saved.columns);
    const auto columns = faiss_ext::column_bytes(whole.get());
    EXPECT_EQ(sum(columns, &ColumnBytes::mapped), 0u);
    EXPECT_EQ(sum(columns, &ColumnBytes::on_demand), 0u);
    EXPECT_EQ(sum(columns, &ColumnBytes::cache), 0u);
}

TEST_P(ColumnTiers, ChangesAreAsInMemory) {
    if (!GetParam().train || !GetParam().add) {
        return; // nothing to change
    }
    IndexPtr index = build(GetParam());
    const Saved saved(*index);
    const std::vector<float> more = rows(100, kD, 9);
    auto change = [&](faiss::Index& one) {
        const bool own_ids = GetParam().map != faiss::DirectMap::Array;
        std::vector<int64_t> ids(100);
        std::iota(ids.begin(), ids.end(), 100'000);
        one.add_with_ids(100, more.data(), own_ids ? ids.data() : nullptr);
        if (own_ids) {
            faiss::IDSelectorRange some(5, 800);
            one.remove_ids(some);
        }
    };
    change(*index);
    for (uint64_t memory : {saved.rest, saved.rest + saved.columns / 2}) {
        IndexPtr other = saved.open(memory);
        change(*other);
        expect_same(*index, *other);
        const std::string again = saved.directory.file("again.scann");
        faiss_ext::write_index(other.get(), again);
        expect_same(
                *index,
                *IndexPtr(faiss_ext::read_index(again, ReadMode::Copy)));
        expect_same(*other, *IndexPtr(faiss_ext::clone_index(other.get())));
    }
}

TEST(ColumnTiersOf, RawRowsComeLastIntoMemory) {
    IndexPtr index =
            build({"IVF16,ScaNN(soar_lambda=1),SQ8,RFlat", faiss::METRIC_L2});
    const Saved saved(*index);
    std::vector<std::string> order;
    for (uint64_t memory = saved.rest; memory <= saved.rest + saved.columns;
         memory += 64) {
        for (const ColumnBytes& c :
             faiss_ext::column_bytes(saved.path, {memory})) {
            if (c.memory > 0 &&
                std::find(order.begin(), order.end(), c.column) ==
                        order.end()) {
                order.push_back(c.column);
            }
        }
    }
    EXPECT_EQ(order.size(), 7u);
    EXPECT_EQ(order.back(), "raw");
}

TEST(ColumnTiersOf, ATooSmallBoundSaysTheLeast) {
    IndexPtr index = build({"IVF16,ScaNN,RFlat", faiss::METRIC_L2});
    const Saved saved(*index);
    for (uint64_t memory : {uint64_t(0), saved.rest - 1}) {
        const std::string message = message_of([&] { saved.open(memory); });
        EXPECT_NE(
                message.find("at least " + std::to_string(saved.rest)),
                message.npos)
                << message;
    }
    EXPECT_EQ(message_of([&] { saved.open(saved.rest); }), "");
}

TEST(ColumnTiersOf, StatsCountReadsOfTheFile) {
    IndexPtr index = build({"IVF16,ScaNN,RFlat", faiss::METRIC_L2});
    const Saved saved(*index);
    const std::vector<float> queries = rows(20, kD, 2);
    for (uint64_t memory : {saved.rest, saved.rest + saved.columns}) {
        IndexPtr other = saved.open(memory);
        faiss_ext::SearchParametersScaNN params;
        faiss_ext::ScaNNSearchStats stats;
        params.nprobe = 16;
        params.reorder_k = 30;
        params.stats = &stats;
        std::vector<float> distances(200);
        std::vector<int64_t> labels(200);
        other->search(
                20,
                queries.data(),
                10,
                distances.data(),
                labels.data(),
                &params);
        EXPECT_EQ(stats.reranked, 600u);
        EXPECT_LE(stats.file_reads, stats.reranked);
        EXPECT_LE(stats.disk_reads, stats.file_reads);
        EXPECT_EQ(stats.file_reads > 0, memory == saved.rest);
    }
}

/// Rows that were read are kept in what the bound leaves; of a batch as of single
/// queries.
TEST(ColumnTiersOf, WhatIsLeftOverKeepsRows) {
    IndexPtr index =
            build({"IVF16,ScaNN(soar_lambda=1),SQ8,RFlat", faiss::METRIC_L2});
    const Saved saved(*index);
    const auto all = faiss_ext::column_bytes(saved.path, {UINT64_MAX});
    const auto raw = std::find_if(all.begin(), all.end(), [](const auto& c) {
        return c.column == "raw";
    });
    const uint64_t without = saved.rest + saved.columns - raw->memory;
    constexpr int64_t n = 100, k = 10;
    const std::vector<float> queries = rows(n, kD, 2);
    std::vector<float> distances(n * k), want_distances(n * k);
    std::vector<int64_t> labels(n * k), want(n * k);
    faiss_ext::SearchParametersScaNN params;
    params.nprobe = 8;
    index->search(
            n, queries.data(), k, want_distances.data(), want.data(), &params);
    for (uint64_t left : {uint64_t(0), raw->memory / 2, raw->memory - 1}) {
        for (int64_t at_once : {n, int64_t(1)}) {
            IndexPtr other = saved.open(without + left);
            faiss_ext::ScaNNSearchStats stats[2];
            for (auto& each : stats) {
                params.stats = &each;
                for (int64_t i = 0; i < n; i += at_once) {
                    other->search(
                            at_once,
                            queries.data() + i * kD,
                            k,
                            distances.data() + i * k,
                            labels.data() + i * k,
                            &params);
                }
                EXPECT_EQ(labels, want);
                EXPECT_EQ(distances, want_distances);
                EXPECT_LE(each.cached_rows + each.file_reads, each.reranked);
            }
            EXPECT_EQ(stats[1].cached_rows > 0, left > 0);
            if (left == raw->memory - 1) {
                EXPECT_GE(stats[1].cached_rows, stats[1].reranked * 3 / 4);
            }
            params.stats = nullptr;
        }
    }
}

/// Codes and ids are in memory: only rows can fail.
TEST(ColumnTiersOf, AShorterFileIsAnErrorOfTheSearch) {
    IndexPtr index = build({"IVF16,ScaNN,RFlat", faiss::METRIC_L2});
    const Saved saved(*index);
    const auto columns = faiss_ext::column_bytes(saved.path, {UINT64_MAX});
    uint64_t memory = saved.rest;
    for (const ColumnBytes& c : columns) {
        memory += c.column == "raw" ? 0 : c.memory;
    }
    IndexPtr other = saved.open(memory);
    expect_same(*index, *other);
    const auto size = std::filesystem::file_size(saved.path);
    const std::string bytes = read_bytes(saved.path);
    std::filesystem::resize_file(saved.path, size / 3);
    const std::string message = message_of([&] { search(*other); });
    EXPECT_NE(message.find("the file has become shorter"), message.npos)
            << message;
    EXPECT_NE(message.find(saved.path), message.npos) << message;
    faiss::RangeSearchResult result(1);
    const std::vector<float> query = rows(1, kD, 2);
    EXPECT_NE(
            message_of(
                    [&] { other->range_search(1, query.data(), 9, &result); }),
            "");
    write_bytes(saved.path, bytes); // the same file again
    expect_same(*index, *other);
}

} // namespace
