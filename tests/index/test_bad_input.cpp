/* Bad input: an error that names the value and what is allowed, and an index
 * that is as before. */

#include <algorithm>

#include <faiss_ext/model/index_state.h>

#include "fixtures/bad_input.h"

using namespace bad_input;

namespace {

// ---- an index that is not ready ----

TEST_F(BadInputTest, TrainingAgainChangesNothing) {
    auto index = index_of(Tier::Raw);
    index->options.seed++;
    Hits before = find(*index);
    const faiss_ext::Rotation before_rotation = index->state().model->rotation;
    for (size_t n : {kN, size_t(1)}) {
        index->train(int64_t(n), clustered_rows(n, kD, 9).data());
        EXPECT_EQ(find(*index), before);
        EXPECT_EQ(index->ntotal, int64_t(kN));
        EXPECT_EQ(
                index->state().model->rotation.matrix(),
                before_rotation.matrix());
    }
    index->reset(); // empty, but trained
    index->train(int64_t(kN), clustered_rows(kN, kD, 9).data());
    index->add(int64_t(kN), rows_.data());
    EXPECT_EQ(find(*index), before);
}

TEST_F(BadInputTest, UntrainedIndexRefusesWork) {
    IndexIVFScaNN index(kD, kLists);
    std::vector<uint8_t> codes(10000);
    std::vector<float> out(kN * kD);
    int64_t ids[] = {0, 1};
    faiss::RangeSearchResult result(2);
    const float* x = rows_.data();
    expect_error({"not trained"}, [&] { index.add(kN, x); });
    expect_error({"not trained"}, [&] { index.add_with_ids(2, x, ids); });
    expect_error({"not trained"}, [&] { index.add_core(2, x, ids, ids); });
    expect_error({"not trained"}, [&] { find(index); });
    expect_error(
            {"not trained"}, [&] { index.range_search(2, x, 1, &result); });
    expect_error({"not trained"}, [&] { index.update_vectors(1, ids, x); });
    expect_error({"not trained"}, [&] { index.sa_encode(1, x, codes.data()); });
    expect_error({"not trained"}, [&] {
        index.sa_decode(1, codes.data(), out.data());
    });
    expect_error(
            {"not trained"}, [&] { index.add_sa_codes(1, codes.data(), ids); });
    expect_error(
            {"not trained"}, [&] { delete index.get_InvertedListScanner(); });
    EXPECT_EQ(index.ntotal, 0);
}

TEST_F(BadInputTest, EmptyIndexFindsNothing) {
    for (Tier tier : {Tier::Codes, Tier::Int8, Tier::Raw, Tier::Int8Raw}) {
        for (auto metric : {kIP, kL2}) {
            auto index = trained({metric, tier}, rows_, kD, kLists);
            Hits hits = find(*index);
            for (size_t i = 0; i < 2 * k; i++) {
                EXPECT_EQ(hits.labels[i], -1);
                EXPECT_EQ(
                        hits.distances[i],
                        metric == kL2 ? kLargest : -kLargest);
            }
            faiss::RangeSearchResult result(2);
            index->range_search(2, queries_.data(), 1, &result);
            EXPECT_EQ(result.lims[2], 0u);
            EXPECT_EQ(index->remove_ids(faiss::IDSelectorAll()), 0u);
            index->reset();
        }
    }
}

TEST_F(BadInputTest, NoRowsAndNoQueriesAreNothingToDo) {
    auto index = index_of(Tier::Raw);
    index->add(0, nullptr);
    index->search(0, nullptr, k, nullptr, nullptr);
    index->update_vectors(0, nullptr, nullptr);
    EXPECT_EQ(index->ntotal, int64_t(kN));
}

// ---- search ----

TEST_F(BadInputTest, K) {
    auto index = index_of(Tier::Raw);
    for (int64_t value : {0, -1, -1000}) {
        expect_error(
                {std::to_string(value), ">= 1"}, [&] { find(*index, value); });
    }
}

TEST_F(BadInputTest, Nprobe) {
    auto index = index_of(Tier::Raw);
    faiss::RangeSearchResult result(2);
    for (size_t value : {0, 11, 1000}) {
        index->nprobe = value;
        expect_error({std::to_string(value), "10"}, [&] { find(*index); });
        expect_error({std::to_string(value), "10"}, [&] {
            index->range_search(2, queries_.data(), 1, &result);
        });
    }
    index->nprobe = 1;
    faiss::SearchParametersIVF params;
    params.nprobe = 11;
    expect_error({"11", "10"}, [&] { find(*index, k, &params); });
}

TEST_F(BadInputTest, ReorderKAndRefineKBelowK) {
    auto index = index_of(Tier::Int8Raw);
    SearchParametersScaNN params;
    params.reorder_k = 4;
    expect_error({"reorder_k", "4", "5"}, [&] { find(*index, k, &params); });
    params.reorder_k = 0;
    params.refine_k = 3;
    expect_error({"refine_k", "3", "5"}, [&] { find(*index, k, &params); });
    // those of the index hold for any k
    index->reorder_k = 2;
    index->refine_k = 1;
    find(*index);
}

TEST_F(BadInputTest, HugeReorderKAndKAreNoProblem) {
    auto index = index_of(Tier::Int8Raw);
    SearchParametersScaNN params;
    params.reorder_k = params.refine_k = size_t(-1) / 2;
    EXPECT_TRUE(find(*index, k, &params) == find(*index, k));
}

TEST_F(BadInputTest, NaNAndInfinityInQueries) {
    auto index = index_of(Tier::Raw);
    faiss::RangeSearchResult result(2);
    int64_t lists[] = {0, 1};
    float scores[] = {1, 1};
    index->nprobe = 1;
    for (float bad : {NAN, INFINITY, -INFINITY}) {
        std::vector<float> x = queries_, distances(2 * k);
        std::vector<int64_t> labels(2 * k);
        x[kD + 2] = bad;
        expect_error({"query 1", "finite"}, [&] {
            index->search(2, x.data(), k, distances.data(), labels.data());
        });
        expect_error({"query 1", "finite"}, [&] {
            index->range_search(2, x.data(), 1, &result);
        });
        expect_error({"query 1", "finite"}, [&] {
            index->search_preassigned(
                    2,
                    x.data(),
                    k,
                    lists,
                    scores,
                    distances.data(),
                    labels.data(),
                    false);
        });
    }
}

TEST_F(BadInputTest, PreassignedListsOutOfRange) {
    auto index = index_of(Tier::Raw);
    faiss::RangeSearchResult result(2);
    index->nprobe = 1;
    int64_t lists[] = {3, 10};
    float scores[] = {1, 1};
    std::vector<float> distances(2 * k);
    std::vector<int64_t> labels(2 * k);
    expect_error({"10", "nlist"}, [&] {
        index->search_preassigned(
                2,
                queries_.data(),
                k,
                lists,
                scores,
                distances.data(),
                labels.data(),
                false);
    });
    expect_error({"10", "nlist"}, [&] {
        index->range_search_preassigned(
                2, queries_.data(), 1, lists, scores, &result);
    });
}

// ---- rows ----

TEST_F(BadInputTest, NaNAndInfinityInRows) {
    auto index = index_of(Tier::Raw);
    Hits before = find(*index);
    for (float bad : {NAN, INFINITY, -INFINITY}) {
        std::vector<float> x = rows_;
        x[77 * kD] = bad;
        std::vector<uint8_t> codes(kN * index->sa_code_size());
        std::vector<int64_t> lists(kN);
        expect_error({"row 77", "finite"}, [&] { index->add(kN, x.data()); });
        expect_error({"row 77", "finite"}, [&] {
            index->add_core(kN, x.data(), nullptr, lists.data());
        });
        expect_error({"row 77", "finite"}, [&] {
            index->sa_encode(kN, x.data(), codes.data());
        });
        EXPECT_EQ(index->ntotal, int64_t(kN));
        EXPECT_TRUE(find(*index) == before);
    }
}

TEST_F(BadInputTest, ZeroVectorsHaveNoAngle) {
    ScaNNOptions options = tier_options(Tier::Raw);
    options.normalize = true;
    IndexIVFScaNN index(kD, kLists, kIP, options);
    std::vector<float> x = rows_;
    std::fill_n(x.begin() + 9 * kD, kD, 0.0f);
    expect_error({"row 9", "zero"}, [&] { index.train(kN, x.data()); });
    index.train(kN, rows_.data());
    expect_error({"row 9", "zero"}, [&] { index.add(kN, x.data()); });
    index.add(kN, rows_.data());
    index.nprobe = kLists;
    expect_error({"query 0", "zero"}, [&] {
        search(index, std::vector<float>(kD), k);
    });
    EXPECT_EQ(index.ntotal, int64_t(kN));

    options.allow_zero = true;
    IndexIVFScaNN allowing(kD, kLists, kIP, options);
    allowing.train(kN, x.data());
    allowing.add(kN, x.data());
    allowing.nprobe = kLists;
    // row 9 has similarity 0 with every query, and zeros with every row
    Hits all{std::vector<float>(2 * kN), std::vector<int64_t>(2 * kN)};
    allowing.search(
            2, queries_.data(), kN, all.distances.data(), all.labels.data());
    for (size_t i = 0; i < 2 * kN; i++) {
        ASSERT_GE(all.labels[i], 0);
        EXPECT_EQ(all.distances[i] == 0, all.labels[i] == 9) << i;
    }
    std::vector<float> zeros(kD);
    allowing.search(
            1, zeros.data(), kN, all.distances.data(), all.labels.data());
    for (size_t i = 0; i < kN; i++) {
        EXPECT_EQ(all.labels[i], int64_t(i));
        EXPECT_EQ(all.distances[i], 0);
    }

    options.normalize = false;
    expect_error({"allow_zero", "normalize"}, [&] {
        IndexIVFScaNN refused(kD, kLists, kIP, options);
    });
}

TEST_F(BadInputTest, UnknownIds) {
    auto index = index_of(Tier::Raw);
    std::vector<float> row(kD);
    EXPECT_ANY_THROW(index->reconstruct(5, row.data())); // no map
    index->make_direct_map();
    for (int64_t id : {int64_t(-1), int64_t(kN), int64_t(1) << 40}) {
        EXPECT_ANY_THROW(index->reconstruct(id, row.data())) << id;
        expect_error({std::to_string(id)}, [&] {
            index->update_vectors(1, &id, rows_.data());
        });
    }
    EXPECT_ANY_THROW(index->reconstruct_from_offset(0, 9999, row.data()));
    EXPECT_ANY_THROW(index->reconstruct_from_offset(99, 0, row.data()));
    faiss::IDSelectorRange unknown(kN, kN + 10);
    EXPECT_EQ(index->remove_ids(unknown), 0u);
    EXPECT_EQ(index->ntotal, int64_t(kN));
}

// ---- words ----

TEST_F(BadInputTest, EmptyIndexesHaveNoRangeBelowZero) {
    auto index = trained({kL2, Tier::Raw}, rows_, kD, kLists);
    for (int64_t rows : {0, 1}) {
        EXPECT_EQ(index->ntotal, rows);
        for (int64_t wanted : {-1, 0, 1, 5}) {
            expect_error({std::to_string(rows) + " rows", ">= 2"}, [&] {
                index->calibrate(0, nullptr, 0.9f, wanted);
            });
        }
        index->add(1, rows_.data());
    }
    expect_error(
            {"k = 2", "1..1,"}, [&] { index->calibrate(0, nullptr, 0.9f, 2); });
}

TEST_F(BadInputTest, CodesOfNoListAreCalledSo) {
    auto index = index_of(Tier::Raw);
    std::vector<uint8_t> codes(2 * index->sa_code_size());
    index->sa_encode(2, rows_.data(), codes.data());
    codes[index->sa_code_size()] = 200;
    std::vector<float> row(2 * kD);
    std::vector<std::string> words = {"code 1", "list 200", "0..9"};
    expect_error(words, [&] { index->sa_decode(2, codes.data(), row.data()); });
    expect_error(words, [&] { index->add_sa_codes(2, codes.data(), nullptr); });
    EXPECT_EQ(index->ntotal, int64_t(kN));
}

TEST_F(BadInputTest, MemoryOfMoreRowsThanThereCanBe) {
    auto index = index_of(Tier::Raw);
    EXPECT_GT(index->estimate_memory(size_t(1) << 40), size_t(1) << 45);
    for (size_t n : {(size_t(1) << 40) + 1, SIZE_MAX / 2, SIZE_MAX}) {
        expect_error({std::to_string(n), "2^40"}, [&] {
            index->estimate_memory(n);
        });
    }
}

} // namespace
