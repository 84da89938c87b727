/* Codes of the leading dimensions only: chosen where they hold most of the
 * variance, and as good there as codes of all; files, and options. */

#include <cmath>

#include <faiss/impl/io.h>

#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/model/index_state.h>

#include "fixtures/index_fixtures.h"

using namespace fixtures;

namespace {

constexpr size_t kD = 512, kN = 4100, kQueries = 50, k = 10;

/// Rows around centres whose offsets have `rank` large directions of kD.
std::vector<float> rows_of_rank(size_t n, size_t rank, uint64_t seed) {
    const auto small = random_rows::clustered(n, rank, {30, 7}, seed);
    const auto axes = random_rows::normal(rank * kD, 3);
    auto x = random_rows::normal(n * kD, seed + 1);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < kD; j++) {
            float sum = .2f * x[i * kD + j];
            for (size_t l = 0; l < rank; l++) {
                sum += small[i * rank + l] * axes[l * kD + j] /
                       std::sqrt(float(rank));
            }
            x[i * kD + j] = sum;
        }
    }
    return x;
}

struct Rows {
    std::vector<float> base, queries;
};

const Rows& steep() {
    static const Rows rows{
            rows_of_rank(kN, 32, 10), rows_of_rank(kQueries, 32, 20)};
    return rows;
}

std::unique_ptr<IndexIVFScaNN> built(
        const Rows& rows,
        size_t coded_dims,
        size_t sub_dim = 8,
        faiss::MetricType metric = kL2,
        Tier tier = Tier::Codes) {
    ScaNNOptions options = tier_options(tier);
    options.sub_dim = sub_dim;
    options.coded_dims = coded_dims;
    auto index = std::make_unique<IndexIVFScaNN>(kD, 20, metric, options);
    index->train(kN, rows.base.data());
    index->add(kN, rows.base.data());
    index->nprobe = 20;
    return index;
}

/// L2, codes alone.
const IndexIVFScaNN& half_coded() {
    static const auto index = built(steep(), 0);
    return *index;
}
const IndexIVFScaNN& all_coded() {
    static const auto index = built(steep(), kD);
    return *index;
}

size_t coded(const IndexIVFScaNN& index) {
    return index.state().model->pq.d();
}

TEST(CodedDims, HalfWhereItHoldsMostOfTheVariance) {
    EXPECT_EQ(coded(half_coded()), kD / 2);
    EXPECT_EQ(coded(all_coded()), kD) << "as given";
    EXPECT_EQ(coded(*built(steep(), 100)), 100) << "as given";
    EXPECT_EQ(coded(*built(steep(), 0, 4)), kD) << "narrow codes";
    const Rows flat{random_rows::normal(kN * kD, 30), {}};
    EXPECT_EQ(coded(*built(flat, 0)), kD) << "no direction matters more";
}

TEST(CodedDims, AsManyCodesOfHalfFindAsMuch) {
    ASSERT_EQ(half_coded().code_size, all_coded().code_size);
    const Hits exact = exact_search(kL2, kD, steep().base, steep().queries, k);
    auto found = [&](const IndexIVFScaNN& index) {
        return recall(search(index, steep().queries, k), exact, k);
    };
    EXPECT_GE(found(half_coded()), found(all_coded()) - .03);
    EXPECT_GE(found(half_coded()), .5);
}

TEST(CodedDims, ReconstructsThatPart) {
    auto error = [](const IndexIVFScaNN& index) {
        std::vector<uint8_t> codes(100 * index.sa_code_size());
        std::vector<float> x(100 * kD);
        index.sa_encode(100, steep().base.data(), codes.data());
        index.sa_decode(100, codes.data(), x.data());
        double sum = 0;
        for (size_t i = 0; i < x.size(); i++) {
            sum += std::pow(double(x[i]) - steep().base[i], 2);
        }
        return sum;
    };
    EXPECT_LE(error(half_coded()), 1.05 * error(all_coded()));
}

TEST(CodedDims, FilesKeepWhatWasChosen) {
    for (size_t given : {size_t(0), size_t(200)}) {
        const auto index = built(steep(), given, 8, kIP, Tier::Int8Raw);
        const Hits hits = search(*index, steep().queries, k);
        faiss::VectorIOWriter writer;
        faiss_ext::write_index(index.get(), &writer);
        faiss::VectorIOReader reader;
        reader.data = std::move(writer.data);
        const std::unique_ptr<faiss::Index> again(
                faiss_ext::read_index(&reader));
        EXPECT_EQ(search(*again, steep().queries, k), hits) << given;
        const auto* scann = faiss_ext::find_scann(again.get());
        ASSERT_NE(scann, nullptr);
        EXPECT_EQ(coded(*scann), given == 0 ? kD / 2 : given);
        EXPECT_EQ(scann->options.coded_dims, given);
    }
}

TEST(CodedDims, OfTheFactory) {
    std::unique_ptr<faiss::Index> index(
            faiss_ext::index_factory(768, "IVF8,ScaNN96x4(coded_dims=384)"));
    const auto* scann = faiss_ext::find_scann(index.get());
    EXPECT_EQ(scann->options.sub_dim, 4);
    EXPECT_EQ(scann->state().lists->layout().M, 96);
    index.reset(faiss_ext::index_factory(768, "ScaNN"));
    scann = faiss_ext::find_scann(index.get());
    EXPECT_EQ(scann->options.sub_dim, 8);
    EXPECT_EQ(scann->options.coded_dims, 0) << "training chooses";
}

} // namespace
