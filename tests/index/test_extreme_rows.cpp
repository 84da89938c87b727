/* Rows of any finite size: they are trained on, added, found, saved and read
 * again. For UBSan too: a cast of an infinity to an integer is undefined. */

#include <algorithm>
#include <cfloat>
#include <cmath>

#include <faiss/impl/IDSelector.h>

#include "fixtures/index_cases.h"

using namespace cases;

namespace {

constexpr size_t kFewRows = 600, kFewD = 8;

struct Size {
    Case index;
    double factor;
};

void PrintTo(const Size& size, std::ostream* out) {
    *out << name_of(size.index) << " x " << size.factor;
}

std::vector<Size> sizes() {
    constexpr auto IP = faiss::METRIC_INNER_PRODUCT;
    constexpr auto L2 = faiss::METRIC_L2;
    std::vector<Size> list;
    for (double factor :
         {1e-44,
          1e-39,
          1e-30,
          1e-20,
          1.0,
          1e15,
          1e19,
          1e25,
          1e30,
          1e37,
          1e38}) {
        for (const Case& c : std::vector<Case>{
                     {"IVF16,ScaNN", L2},
                     {"IVF16,ScaNN", IP},
                     {"IVF16,ScaNN(soar_lambda=1),SQ8", L2},
                     {"IVF16,ScaNN(soar_lambda=1),SQ8,RFlat", IP},
                     {"IVF16,ScaNN(rotation=none),SQbf16,RFlat", L2},
                     {"IVF16,ScaNN(normalize=1,allow_zero=1),RFlat", IP}}) {
            list.push_back({c, factor});
        }
    }
    return list;
}

class ExtremeRows : public testing::TestWithParam<Size> {};

std::vector<float> scaled_rows(double factor) {
    std::vector<float> x = rows(kFewRows, kFewD, 1);
    for (float& value : x) {
        const double scaled = value * factor;
        value = float(std::clamp(scaled, -double(FLT_MAX), double(FLT_MAX)));
    }
    return x;
}

TEST_P(ExtremeRows, AreFoundAndSaved) {
    const auto& [c, factor] = GetParam();
    const std::vector<float> x = scaled_rows(factor);
    IndexPtr index(
            faiss_ext::index_factory(kFewD, c.description.c_str(), c.metric));
    index->train(kFewRows, x.data());
    index->add(kFewRows, x.data());
    auto scann = faiss_ext::find_scann(index.get());
    scann->nprobe = 4;

    faiss::VectorIOWriter writer;
    faiss_ext::write_index(index.get(), &writer);
    faiss::VectorIOReader reader;
    reader.data = writer.data;
    IndexPtr again(faiss_ext::read_index(&reader));

    constexpr size_t k = 5;
    auto answers = [&](const faiss::Index& from) {
        Found found{
                std::vector<float>(kFewRows * k),
                std::vector<int64_t>(kFewRows * k)};
        from.search(
                kFewRows,
                x.data(),
                k,
                found.distances.data(),
                found.labels.data());
        return found;
    };
    Found found = answers(*index);
    EXPECT_TRUE(found == answers(*again));
    size_t own = 0;
    for (size_t i = 0; i < kFewRows; i++) {
        for (size_t j = 0; j < k; j++) {
            EXPECT_FALSE(std::isnan(found.distances[i * k + j]));
            own += found.labels[i * k + j] == int64_t(i);
        }
    }
    // where floats have digits, squares and products too
    if (factor > 1e-5 && factor <= 1e15 && c.metric == faiss::METRIC_L2) {
        EXPECT_GE(own, kFewRows * 8 / 10);
    }
}

TEST_P(ExtremeRows, CanBeAddedToOthers) {
    const auto& [c, factor] = GetParam();
    constexpr size_t kFew = 20, k = 3;
    const std::vector<float> x = scaled_rows(factor);
    IndexPtr index = build(c, kFewRows, kFewD);
    auto& scann = *faiss_ext::find_scann(index.get());
    scann.nprobe = scann.nlist;
    const Found before = search(*index, k);
    std::vector<int64_t> ids(kFew);
    for (size_t i = 0; i < kFew; i++) {
        ids[i] = int64_t(1000000 + i);
    }
    index->add_with_ids(kFew, x.data(), ids.data());
    scann.update_vectors(kFew / 2, ids.data(), x.data() + kFew * kFewD);
    for (float distance : search(*index, k).distances) {
        EXPECT_FALSE(std::isnan(distance));
    }
    std::vector<float> distances(kFew * k);
    std::vector<int64_t> labels(kFew * k);
    index->search(kFew, x.data(), k, distances.data(), labels.data());
    index->remove_ids(faiss::IDSelectorBatch(kFew, ids.data()));
    EXPECT_TRUE(search(*index, k) == before);
}

INSTANTIATE_TEST_SUITE_P(
        Sizes,
        ExtremeRows,
        testing::ValuesIn(sizes()),
        [](const auto& info) { return std::to_string(info.index); });

} // namespace
