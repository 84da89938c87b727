/* Rows of other types than float: taken, kept, searched and given back. The
 * oracle is an index that gets and keeps the same values as floats: all answers
 * are equal in bits. */

#include <filesystem>

#include <faiss_ext/index_factory.h>
#include <faiss_ext/index_io.h>
#include <faiss_ext/memory/row_types.h>

#include "fixtures/index_fixtures.h"

using namespace fixtures;
using faiss_ext::RowType;

namespace {

constexpr size_t kD = 13, kN = 500, kLists = 6, kK = 11;

/// Values that the type holds, as floats and in the type.
struct Values {
    std::vector<float> floats;
    std::vector<uint8_t> bytes;
    RowType type;

    Values(RowType type_, size_t n, uint64_t seed)
            : floats(whole_rows(n, kD, seed)), type(type_) {
        for (float& value : floats) {
            value *= 4;
            switch (type) {
                case RowType::UInt8:
                    value = std::clamp(value + 100, 0.f, 255.f);
                    break;
                case RowType::Int8:
                    value = std::clamp(value, -128.f, 127.f);
                    break;
                case RowType::FP16: // subnormal, ordinary and large ones
                    value = value == 20 ? 60000 : value / 16;
                    break;
                case RowType::BF16:
                    value = std::ldexp(value, -3);
                    break;
                case RowType::Float32:
                    break;
            }
        }
        bytes.resize(floats.size() * faiss_ext::value_bytes(type));
        faiss_ext::from_floats(
                type, floats.size(), floats.data(), bytes.data());
        faiss_ext::to_floats(type, floats.size(), bytes.data(), floats.data());
    }
    size_t n() const {
        return floats.size() / kD;
    }
};

struct Case {
    RowType type;
    const char* storage; ///< in a factory string
    faiss::MetricType metric;
    const char* options;
    const char* refine;
};

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (auto [type, storage] :
         {std::pair(RowType::FP16, "RFP16"),
          std::pair(RowType::BF16, "RBF16"),
          std::pair(RowType::Int8, "RI8"),
          std::pair(RowType::UInt8, "RU8")}) {
        cases.push_back({type, storage, kL2, "", ""});
        cases.push_back({type, storage, kL2, "(soar_lambda=1)", ",SQ8"});
        cases.push_back({type, storage, kIP, "", ",SQfp16"});
        cases.push_back({type, storage, kIP, "(normalize=1,allow_zero=1)", ""});
    }
    return cases;
}

using ScaNNPtr = std::unique_ptr<IndexIVFScaNN>;

ScaNNPtr make(const Case& c, const std::string& storage) {
    const std::string description = "IVF" + std::to_string(kLists) + ",ScaNN" +
                                    c.options + c.refine + "," + storage;
    ScaNNPtr index(dynamic_cast<IndexIVFScaNN*>(
            faiss_ext::index_factory(kD, description, c.metric)));
    index->nprobe = kLists / 2;
    return index;
}

std::vector<int64_t> some_ids(size_t n, int64_t first) {
    std::vector<int64_t> ids(n);
    for (size_t i = 0; i < n; i++) {
        ids[i] = first + 3 * int64_t(i);
    }
    return ids;
}

Hits search_typed(const IndexIVFScaNN& index, const Values& queries) {
    Hits hits{std::vector<float>(queries.n() * kK, -12345), {}};
    hits.labels.assign(queries.n() * kK, 9999999);
    index.search_rows(
            queries.n(),
            queries.bytes.data(),
            queries.type,
            kK,
            hits.distances.data(),
            hits.labels.data());
    return hits;
}

class TypedRows : public testing::TestWithParam<Case> {
 protected:
    /// Both trained, and filled with kN rows.
    void SetUp() override {
        const Case& c = GetParam();
        const auto ids = some_ids(kN, 5);
        floats_ = make(c, "RFlat");
        floats_->train(kN, rows_.floats.data());
        floats_->add_with_ids(kN, rows_.floats.data(), ids.data());
        typed_ = make(c, c.storage);
        typed_->train_rows(kN, rows_.bytes.data(), c.type);
        typed_->add_rows(kN, rows_.bytes.data(), c.type, ids.data());
    }
    void expect_same_answers(const IndexIVFScaNN& typed) const {
        ASSERT_EQ(typed.ntotal, floats_->ntotal);
        const Hits wanted = search(*floats_, queries_.floats, kK);
        EXPECT_EQ(search(typed, queries_.floats, kK), wanted);
        EXPECT_EQ(search_typed(typed, queries_), wanted);
    }

    const Values rows_{GetParam().type, kN, 1};
    const Values queries_{GetParam().type, 30, 2};
    ScaNNPtr floats_, typed_;
};

std::string case_name(const testing::TestParamInfo<Case>& info) {
    const Case& c = info.param;
    return std::string(c.storage) + (c.metric == kL2 ? "L2" : "IP") +
           (std::string(c.refine).empty() ? "" : c.refine + 1) +
           (std::string(c.options).find("normalize") != std::string::npos
                    ? "Cosine"
                    : "");
}

INSTANTIATE_TEST_SUITE_P(
        Cases,
        TypedRows,
        testing::ValuesIn(all_cases()),
        case_name);

TEST_P(TypedRows, AreAnsweredAndGivenBackAsFloats) {
    expect_same_answers(*typed_);
    std::vector<float> row(kD), other(kD);
    for (size_t l = 0; l < kLists; l++) {
        ASSERT_EQ(
                typed_->invlists->list_size(l),
                floats_->invlists->list_size(l));
        for (size_t i = 0; i < typed_->invlists->list_size(l); i++) {
            typed_->reconstruct_from_offset(l, i, row.data());
            floats_->reconstruct_from_offset(l, i, other.data());
            ASSERT_EQ(row, other);
        }
    }
    const size_t saved =
            kN * kD * (4 - faiss_ext::value_bytes(GetParam().type));
    EXPECT_NEAR(
            double(floats_->memory_usage() - typed_->memory_usage()),
            double(saved),
            .2 * double(saved));
    EXPECT_EQ(
            floats_->estimate_memory(kN) - typed_->estimate_memory(kN), saved);
}

TEST_P(TypedRows, RangesAreThoseOfFloats) {
    const Hits found = search(*floats_, queries_.floats, kK);
    for (size_t q = 0; q < 5; q++) {
        const float radius = found.distances[q * kK + kK / 2];
        faiss::RangeSearchResult a(1), b(1);
        floats_->range_search(1, &queries_.floats[q * kD], radius, &a);
        typed_->range_search(1, &queries_.floats[q * kD], radius, &b);
        ASSERT_EQ(a.lims[1], b.lims[1]);
        for (size_t i = 0; i < a.lims[1]; i++) {
            EXPECT_EQ(a.labels[i], b.labels[i]);
            EXPECT_EQ(a.distances[i], b.distances[i]);
        }
    }
}

TEST_P(TypedRows, ChangeAsFloatsDo) {
    const auto more_ids = some_ids(100, 100000);
    const Values more(GetParam().type, 100, 3), other(GetParam().type, 50, 4);
    typed_->add_rows(100, more.bytes.data(), more.type, more_ids.data());
    floats_->add_with_ids(100, more.floats.data(), more_ids.data());
    for (ScaNNPtr* index : {&typed_, &floats_}) {
        (*index)->set_direct_map_type(faiss::DirectMap::Hashtable);
    }
    const auto changed = some_ids(50, 35);
    typed_->update_rows(50, changed.data(), other.bytes.data(), other.type);
    floats_->update_vectors(50, changed.data(), other.floats.data());
    faiss::IDSelectorRange gone(300, 900);
    EXPECT_EQ(typed_->remove_ids(gone), floats_->remove_ids(gone));
    expect_same_answers(*typed_);

    auto second = trained_like(*typed_);
    second->nprobe = typed_->nprobe;
    typed_->set_direct_map_type(faiss::DirectMap::NoMap);
    second->merge_from(*typed_, 0);
    expect_same_answers(*second);
}

TEST_P(TypedRows, FloatsWithTheSameValuesAreTheSame) {
    auto index = make(GetParam(), GetParam().storage);
    const auto ids = some_ids(kN, 5);
    index->train(kN, rows_.floats.data());
    index->add_with_ids(kN, rows_.floats.data(), ids.data());
    expect_same_answers(*index);
}

TEST_P(TypedRows, FilesKeepThem) {
    const auto path = std::filesystem::temp_directory_path() /
                      ("typed_rows_" + std::to_string(getpid()) + ".scann");
    faiss_ext::write_index(typed_.get(), path);
    for (auto mode : {faiss_ext::ReadMode::Copy, faiss_ext::ReadMode::Mmap}) {
        std::unique_ptr<faiss::Index> read(faiss_ext::read_index(path, mode));
        const auto& index = dynamic_cast<const IndexIVFScaNN&>(*read);
        EXPECT_EQ(index.options.raw_type, GetParam().type);
        expect_same_answers(index);
    }
    std::filesystem::remove(path);
}

TEST_P(TypedRows, OneRowThatDoesNotFitAddsNone) {
    auto x = rows_.floats;
    const float wrong = GetParam().type == RowType::BF16 ? kLargest : 1e6f;
    x[400 * kD + 4] = wrong;
    std::string message;
    try {
        typed_->add(kN, x.data());
    } catch (const faiss::FaissException& error) {
        message = error.what();
    }
    EXPECT_NE(message.find("row 400, dimension 4"), message.npos) << message;
    EXPECT_NE(message.find(faiss_ext::name_of(GetParam().type)), message.npos)
            << message;
    expect_same_answers(*typed_);
}

TEST(TypedRowsOptions, HalvesRoundFloats) {
    for (auto [type, storage] :
         {std::pair(RowType::FP16, "RFP16"),
          std::pair(RowType::BF16, "RBF16")}) {
        const auto x = clustered_rows(300, kD, 9);
        std::unique_ptr<faiss::Index> index(faiss_ext::index_factory(
                kD, std::string("IVF4,ScaNN,") + storage));
        index->train(300, x.data());
        index->add(300, x.data());
        auto* scann = faiss_ext::find_scann(index.get());
        scann->make_direct_map();
        std::vector<uint8_t> bytes(2 * kD);
        std::vector<float> wanted(kD), row(kD);
        for (size_t i = 0; i < 300; i++) {
            faiss_ext::from_floats(type, kD, &x[i * kD], bytes.data());
            faiss_ext::to_floats(type, kD, bytes.data(), wanted.data());
            index->reconstruct(int64_t(i), row.data());
            EXPECT_EQ(row, wanted);
        }
    }
}

TEST(TypedRowsOptions, ARowThatIsNotFiniteIsNamedByItsNumber) {
    constexpr size_t kMany = 40000, kFew = 2; // rows of several chunks
    auto values = random_rows::normal(kMany * kFew, 3);
    std::vector<uint16_t> halves(values.size());
    faiss_ext::from_floats(
            RowType::FP16, values.size(), values.data(), halves.data());
    std::unique_ptr<faiss::Index> index(
            faiss_ext::index_factory(kFew, "IVF4,ScaNN(sub_dim=1),RFP16"));
    auto* scann = faiss_ext::find_scann(index.get());
    scann->train_rows(kMany, halves.data(), RowType::FP16);
    halves[33333 * kFew + 1] = 0x7E00; // NaN
    std::string message;
    try {
        scann->add_rows(kMany, halves.data(), RowType::FP16);
    } catch (const faiss::FaissException& error) {
        message = error.what();
    }
    EXPECT_NE(message.find("row 33333 "), message.npos) << message;
    EXPECT_EQ(scann->ntotal, 0);
}

TEST(TypedRowsOptions, ManyRowsTrainFromASample) {
    constexpr size_t kMany = 130000, kFew = 4;
    std::vector<uint8_t> bytes(kMany * kFew);
    const auto values = random_rows::clustered(kMany, kFew, {50, 7}, 8);
    for (size_t i = 0; i < bytes.size(); i++) {
        bytes[i] = uint8_t(std::clamp(128 + 25 * values[i], 0.f, 255.f));
    }
    std::unique_ptr<faiss::Index> index(
            faiss_ext::index_factory(kFew, "IVF64,ScaNN(sub_dim=1),RU8"));
    auto* scann = faiss_ext::find_scann(index.get());
    scann->train_rows(kMany, bytes.data(), RowType::UInt8);
    scann->add_rows(kMany, bytes.data(), RowType::UInt8);
    EXPECT_EQ(scann->ntotal, int64_t(kMany));
    scann->nprobe = 64;
    // each row finds itself, or an equal one
    std::vector<float> distances(1000);
    std::vector<int64_t> labels(1000);
    scann->search_rows(
            1000,
            bytes.data(),
            RowType::UInt8,
            1,
            distances.data(),
            labels.data());
    EXPECT_GE(std::count(distances.begin(), distances.end(), 0.f), 990);
}

TEST(TypedRowsOptions, AreCheckedAndNamed) {
    ScaNNOptions options;
    options.raw_type = RowType::Int8;
    EXPECT_THROW(IndexIVFScaNN(kD, 4, kL2, options), faiss::FaissException);
    for (const char* description :
         {"IVF4,ScaNN,RU8,RFlat", "IVF4,ScaNN,RI8,RI8", "IVF4,ScaNN,RU16"}) {
        EXPECT_THROW(
                delete faiss_ext::index_factory(kD, description),
                faiss::FaissException)
                << description;
    }
}

} // namespace
