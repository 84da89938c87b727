/* Filters and rescoring: whenever the scan asks the filter, the same rows are
 * rescored. */

#include <faiss_ext/index_factory.h>

#include <algorithm>

#include "fixtures/index_fixtures.h"

namespace {

using namespace fixtures;

constexpr size_t kD = 16;
constexpr size_t k = 10;

/** A scan may ask the filter before or after it compares codes: either way the
 * first `keep` rows that pass are rescored. They are found here without a
 * filter, by rescoring so many more that `keep` of them pass. */
void expect_first_that_pass(
        const IndexIVFScaNN& index,
        const std::vector<float>& query,
        faiss::IDSelector& sel,
        size_t keep) {
    SearchParametersScaNN params;
    params.nprobe = index.nlist;
    auto passing = [&](size_t count) { // of the `count` first, best first
        params.reorder_k = count;
        Hits hits = search(index, query, count, &params);
        std::erase_if(hits.labels, [&](int64_t label) {
            return !sel.is_member(label);
        });
        return hits.labels;
    };
    size_t low = keep - 1, high = index.ntotal;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        (passing(middle).size() < keep ? low : high) = middle;
    }
    std::vector<int64_t> expected = passing(high);
    ASSERT_EQ(expected.size(), keep);
    expected.resize(k);
    params.reorder_k = keep;
    params.sel = &sel;
    EXPECT_EQ(search(index, query, k, &params).labels, expected) << keep;
}

TEST(FilterOrder, TheFirstRowsThatPassAreRescored) {
    constexpr size_t n = 8000;
    std::mt19937 random(12);
    auto x = clustered_rows(n, kD, 1);
    for (auto metric : {kIP, kL2}) {
        std::unique_ptr<faiss::Index> made(
                faiss_ext::index_factory(kD, "IVF32,ScaNN,RFlat", metric));
        made->train(n, x.data());
        made->add(n, x.data());
        auto& index = dynamic_cast<IndexIVFScaNN&>(*made);
        for (double share : {.1, .4, .95}) {
            std::vector<int64_t> ids;
            for (size_t i = 0; i < n; i++) {
                if (random() < share * double(random.max())) {
                    ids.push_back(int64_t(i));
                }
            }
            auto bits = bitmap_of(n, ids);
            faiss::IDSelectorBitmap bitmap(bits.size(), bits.data());
            faiss::IDSelectorBatch batch(ids.size(), ids.data());
            for (size_t keep : {10, 60}) {
                for (int q = 0; q < 4; q++) {
                    auto query = clustered_rows(1, kD, 100 + q);
                    expect_first_that_pass(index, query, bitmap, keep);
                }
                expect_first_that_pass(
                        index, clustered_rows(1, kD, 99), batch, keep);
            }
        }
    }
}

} // namespace
