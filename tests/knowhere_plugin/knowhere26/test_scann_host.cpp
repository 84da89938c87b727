/* Knowhere's index type SCANN with libknowhere_scann26.so preloaded: what the
 * host's own unit tests do not ask. */

#include <chrono>
#include <cmath>
#include <cstring>
#include <thread>

#include <folly/CancellationToken.h>

#include "common/OpContext.h"
#include "knowhere/index/index_static.h"
#include "knowhere_plugin/host_index.h"

using namespace host;

namespace {

constexpr size_t kK = 10;

const Data& data() {
    static const Data made(20000, 64, 1000);
    return made;
}

Json parameters(const std::string& metric = "L2") {
    return {{"metric_type", metric},
            {"dim", data().d},
            {"k", kK},
            {"nlist", 128}};
}

HostIndex build(const Json& with) {
    return built("SCANN", data(), with);
}

/// One query of the data, as data.
Data one_query(size_t q) {
    Data one = data();
    const auto begin = one.query.begin() + int64_t(q * one.d);
    one.query = {begin, begin + int64_t(one.d)};
    one.queries = 1;
    return one;
}

TEST(ScannHost, ManyQueriesFindWhatEachAloneFinds) {
    for (const char* metric : {"L2", "COSINE"}) {
        Json with = parameters(metric);
        with["nprobe"] = 8;
        HostIndex index = build(with);
        with["radius"] = metric == std::string("L2") ? 30 : .8;
        const Found all = search(index, data(), with);
        const std::vector<Found> ranges = range_search(index, data(), with);
        reference::Hits truth = host::truth(metric, data(), kK);
        EXPECT_GT(recall(all.ids, truth.labels, kK), .9);
        size_t hits = 0;
        for (size_t q = 0; q < data().queries; q += 37) {
            const Data one = one_query(q);
            const Found alone = search(index, one, with);
            EXPECT_TRUE(std::equal(
                    alone.ids.begin(),
                    alone.ids.end(),
                    all.ids.begin() + int64_t(q * kK)))
                    << q;
            EXPECT_EQ(range_search(index, one, with)[0], ranges[q]) << q;
            hits += ranges[q].ids.size();
        }
        EXPECT_GT(hits, 0u);
    }
}

/// Rows of a type of the host's, their values as floats, and an index of them.
template <class Row>
class TypedRows : public testing::Test {};
using RowTypes = testing::Types<knowhere::fp16, knowhere::bf16, knowhere::int8>;
TYPED_TEST_SUITE(TypedRows, RowTypes);

TYPED_TEST(TypedRows, AreFoundAndReturned) {
    const size_t n = 5000, queries = 20;
    Data rows(n, 32, queries);
    std::vector<TypeParam> base, query;
    auto typed = [](std::vector<float>& values, std::vector<TypeParam>& out) {
        for (float& value : values) {
            value = std::clamp(std::nearbyint(20 * value), -127.f, 127.f);
            out.push_back(TypeParam(value));
        }
    };
    typed(rows.base, base);
    typed(rows.query, query);
    auto set = [](size_t count, size_t d, const std::vector<TypeParam>& of) {
        auto made = knowhere::GenDataSet(int64_t(count), int64_t(d), of.data());
        made->SetIsOwner(false);
        return made;
    };
    const auto version = knowhere::Version::GetCurrentVersion().VersionNumber();
    auto index = knowhere::IndexFactory::Instance()
                         .Create<TypeParam>("SCANN", version)
                         .value();
    Json with = {{"metric_type", "L2"}, {"dim", 32}, {"k", kK}, {"nlist", 64}};
    with["nprobe"] = 64;
    with["reorder_k"] = 300;
    ASSERT_EQ(index.Build(set(n, 32, base), with), knowhere::Status::success);
    auto result = index.Search(set(queries, 32, query), with, nullptr);
    ASSERT_TRUE(result.has_value()) << result.what();
    const size_t hits = queries * kK;
    reference::Hits truth = host::truth("L2", rows, kK);
    const float* distances = result.value()->GetDistance();
    expect_near({distances, distances + hits}, truth.distances);

    ASSERT_TRUE(index.HasRawData("L2"));
    const std::vector<int64_t> ids = {0, 17, 4999};
    auto got = index.GetVectorByIds(
            knowhere::GenIdsDataSet(int64_t(ids.size()), ids.data()));
    ASSERT_TRUE(got.has_value()) << got.what();
    auto tensor = static_cast<const TypeParam*>(got.value()->GetTensor());
    for (size_t i = 0; i < ids.size(); i++) {
        EXPECT_EQ(
                std::memcmp(
                        tensor + i * 32,
                        &base[size_t(ids[i]) * 32],
                        32 * sizeof(TypeParam)),
                0);
    }
}

TEST(ScannHost, CancelledSearchesEndEarly) {
    HostIndex index = build(parameters());
    Json with = parameters();
    with["nprobe"] = 128;
    with["reorder_k"] = 2000;
    auto queries = data_set(data().queries, data().d, data().query);
    using Clock = std::chrono::steady_clock;
    auto begin = Clock::now();
    ASSERT_TRUE(index.Search(queries, with, nullptr).has_value());
    const auto whole = Clock::now() - begin;

    folly::CancellationSource source;
    milvus::OpContext context(source.getToken());
    std::thread canceller([&] {
        std::this_thread::sleep_for(whole / 10);
        source.requestCancellation();
    });
    begin = Clock::now();
    auto result = index.Search(queries, with, nullptr, &context);
    const auto cancelled = Clock::now() - begin;
    canceller.join();
    ASSERT_FALSE(result.has_value());
    EXPECT_EQ(result.error(), knowhere::Status::faiss_inner_error);
    EXPECT_LT(cancelled, whole * 4 / 5);
    with["radius"] = 8;
    EXPECT_FALSE(
            index.RangeSearch(queries, with, nullptr, &context).has_value());
    EXPECT_FALSE(index.AnnIterator(queries, with, nullptr, true, &context)
                         .has_value());
}

TEST(ScannHost, LoadCostsWhatWasEstimated) {
    using Static = knowhere::IndexStaticFaced<knowhere::fp32>;
    const auto version = knowhere::Version::GetCurrentVersion().VersionNumber();
    for (bool raw : {true, false}) {
        Json with = parameters();
        with["with_raw_data"] = raw;
        HostIndex index = build(with);
        knowhere::BinarySet set;
        ASSERT_EQ(index.Serialize(set), knowhere::Status::success);
        const auto file = uint64_t(set.GetByName("SCANN")->size);
        HostIndex loaded = create("SCANN");
        ASSERT_EQ(loaded.Deserialize(set, with), knowhere::Status::success);
        auto estimate = [&](bool mmap) {
            with["enable_mmap"] = mmap;
            return Static::EstimateLoadResource(
                           "SCANN",
                           version,
                           file,
                           int64_t(data().n),
                           int64_t(data().d),
                           with)
                    .value();
        };
        const knowhere::Resource copied = estimate(false);
        EXPECT_GE(copied.memoryCost, uint64_t(loaded.Size())) << raw;
        EXPECT_LT(double(copied.memoryCost), 1.4 * double(loaded.Size()));
        EXPECT_EQ(copied.diskCost, 0u);
        const knowhere::Resource mapped = estimate(true);
        EXPECT_EQ(mapped.diskCost, file);
        EXPECT_EQ(mapped.memoryCost + file, copied.memoryCost);
        EXPECT_EQ(Static::HasRawData("SCANN", version, with), raw);
    }
}

} // namespace
