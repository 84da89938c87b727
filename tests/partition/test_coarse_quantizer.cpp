/* Searches in a quantizer of Faiss: its own answers, of so many rows a call as
 * bounded memory allows. */

#include <cstdint>
#include <memory>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/IndexPQ.h>
#include <faiss/IndexPreTransform.h>
#include <faiss/VectorTransform.h>
#include <gtest/gtest.h>

#include <faiss_ext/partition/coarse_quantizer.h>

#include "fixtures/random_rows.h"

namespace {

using idx_t = int64_t;

constexpr int kD = 8;
constexpr idx_t kK = 3;

/// Remembers how many rows each call had.
template <class Index>
class Counting : public Index {
 public:
    using Index::Index;
    void search(
            idx_t n,
            const float* x,
            idx_t k,
            float* distances,
            idx_t* labels,
            const faiss::SearchParameters* parameters) const override {
        calls.push_back(n);
        Index::search(n, x, k, distances, labels, parameters);
    }
    mutable std::vector<idx_t> calls;
};

struct Answers {
    std::vector<float> distances;
    std::vector<idx_t> labels;
    explicit Answers(idx_t n) : distances(n * kK, -7), labels(n * kK, -7) {}
    bool operator==(const Answers&) const = default;
};

/// Asks about n rows; the answers must be those of one call of Faiss.
/// @param rounding  of the distances, and so the order of labels: BLAS may
///        compute a row in another way where there are more of them
void expect_answers_of_faiss(
        const faiss::Index& quantizer,
        idx_t n,
        float rounding = 0) {
    std::vector<float> x = random_rows::normal(size_t(n) * kD, 5);
    Answers ours(n), theirs(n);
    faiss_ext::search_quantizer(
            quantizer,
            n,
            x.data(),
            kK,
            ours.distances.data(),
            ours.labels.data());
    quantizer.search(
            n, x.data(), kK, theirs.distances.data(), theirs.labels.data());
    if (rounding == 0) {
        EXPECT_EQ(ours, theirs);
        return;
    }
    idx_t others = 0;
    for (idx_t i = 0; i < n * kK; i++) {
        ASSERT_NEAR(ours.distances[i], theirs.distances[i], rounding) << i;
        others += ours.labels[i] != theirs.labels[i];
    }
    EXPECT_LE(others, n * kK / 1000);
}

TEST(CoarseQuantizer, OfNoTablesAnswersInOneCall) {
    Counting<faiss::IndexFlatL2> flat(kD);
    flat.add(100, random_rows::normal(100 * kD, 1).data());
    expect_answers_of_faiss(flat, 5000);
    EXPECT_EQ(flat.calls, (std::vector<idx_t>{5000, 5000}));
    flat.calls.clear();
    expect_answers_of_faiss(flat, 0);
    EXPECT_EQ(flat.calls.size(), 1u) << "nothing to ask, but by Faiss here";
}

/// Tables of 8 * 256 floats: 8192 rows have 64 MB.
std::unique_ptr<Counting<faiss::IndexPQ>> product_quantizer() {
    auto product = std::make_unique<Counting<faiss::IndexPQ>>(kD, 8, 8);
    std::vector<float> x = random_rows::normal(600 * kD, 1);
    product->pq.cp.niter = 2;
    product->train(600, x.data());
    product->add(600, x.data());
    return product;
}

TEST(CoarseQuantizer, OfTablesAnswersInParts) {
    auto product = product_quantizer();
    expect_answers_of_faiss(*product, 2 * 8192 + 5);
    EXPECT_EQ(product->calls, (std::vector<idx_t>{8192, 8192, 5, 16389}));
}

TEST(CoarseQuantizer, OfTablesBehindTransformsDoesToo) {
    auto product = product_quantizer();
    faiss::RandomRotationMatrix rotation(kD, kD);
    rotation.init(3);
    faiss::IndexPreTransform chain(&rotation, product.get());
    faiss::RandomRotationMatrix another(kD, kD);
    another.init(4);
    faiss::IndexPreTransform longer(&another, &chain);
    expect_answers_of_faiss(longer, 8192 + 1, 1e-4f);
    EXPECT_EQ(product->calls, (std::vector<idx_t>{8192, 1, 8193}));
}

} // namespace
