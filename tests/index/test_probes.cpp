/* How many lists are visited, where nobody says or calibrate() does, on data
 * whose rows are not spread evenly over the lists; and that no probe is spent
 * on an empty list. */

#include <faiss_ext/IndexIVFScaNN.h>

#include <algorithm>
#include <map>
#include <memory>

#include <faiss/impl/AuxIndexStructures.h>

#include <faiss_ext/index_factory.h>

#include "fixtures/index_fixtures.h"
#include "fixtures/metamorphic_exact.h"
#include "fixtures/metamorphic_kinds.h"

namespace {

using namespace metamorphic;
using faiss_ext::IndexIVFScaNN;
using faiss_ext::ScaNNSearchStats;
using faiss_ext::SearchParametersScaNN;
using fixtures::Hits;

std::unique_ptr<IndexIVFScaNN>
built(const Set& set, Metric metric, const std::string& description) {
    std::unique_ptr<faiss::Index> index(faiss_ext::index_factory(
            int(set.d), description, faiss_metric(metric)));
    const std::vector<float>& training = set.trained_on();
    index->train(training.size() / set.d, training.data());
    index->add(set.n(), set.rows.data());
    return std::unique_ptr<IndexIVFScaNN>(
            dynamic_cast<IndexIVFScaNN*>(index.release()));
}

// ---- the automatic number of lists ----

/// The share of all rows that is scanned where lists are of one size.
constexpr size_t kShare = 32;

/// Recall of Faiss' IndexIVFFlat with as many lists, if it scans that share.
double faiss_recall_at_share(const Exact& exact, size_t nlist) {
    const Set& set = exact.set();
    auto metric = faiss_metric(exact.metric());
    faiss::IndexFlat quantizer(set.d, metric);
    faiss::IndexIVFFlat index(&quantizer, set.d, nlist, metric);
    index.cp.niter = 10;
    faiss_recall(index, exact, 1);
    std::vector<float> scores(set.nq() * nlist);
    std::vector<int64_t> lists(set.nq() * nlist);
    quantizer.search(
            set.nq(), set.queries.data(), nlist, scores.data(), lists.data());
    size_t rows = 0;
    size_t probes = 0;
    for (; rows * kShare < set.n() * set.nq() && probes < nlist; probes++) {
        for (size_t q = 0; q < set.nq(); q++) {
            rows += index.invlists->list_size(lists[q * nlist + probes]);
        }
    }
    index.nprobe = probes;
    return exact.recall(fixtures::search(index, set.queries, k));
}

/// Recall of an index told to visit as many lists as that takes.
double recall_at_share(const Exact& exact, const IndexIVFScaNN& index) {
    const Set& set = exact.set();
    SearchParametersScaNN params;
    for (params.nprobe = 1;; params.nprobe += 1 + params.nprobe / 8) {
        params.nprobe = std::min(params.nprobe, index.nlist);
        ScaNNSearchStats stats;
        params.stats = &stats;
        Hits hits = fixtures::search(index, set.queries, k, &params);
        if (stats.codes * kShare >= set.n() * set.nq() ||
            params.nprobe == index.nlist) {
            return exact.recall(hits);
        }
    }
}

struct Lengths {
    const char* name;
    Metric metric;
    float sigma; ///< lengths are lognormal; 0: as they are
};

void PrintTo(const Lengths& c, std::ostream* out) {
    *out << c.name;
}

class AutomaticProbes : public testing::TestWithParam<Lengths> {};

TEST_P(AutomaticProbes, ScanEnoughRows) {
    const auto& [name, metric, sigma] = GetParam();
    Set set = draw_words(20000, 200);
    if (sigma > 0) {
        // as bench and users have it: queries keep their lengths
        std::vector<float> queries = set.queries;
        set = lognormal_lengths(set, sigma);
        if (metric == IP) {
            set.queries = queries;
        }
    }
    auto index = built(set, metric, "ScaNN");
    Exact exact(set, metric);
    ScaNNSearchStats stats;
    SearchParametersScaNN params;
    params.stats = &stats;
    double reached =
            exact.recall(fixtures::search(*index, set.queries, k, &params));
    double faiss = faiss_recall_at_share(exact, index->nlist);
    double told = recall_at_share(exact, *index);
    RecordProperty("recall", std::to_string(reached));
    RecordProperty("faiss", std::to_string(faiss));
    RecordProperty("told", std::to_string(told));
    RecordProperty("codes", std::to_string(stats.codes / set.nq()));
    RecordProperty("lists", std::to_string(stats.lists / set.nq()));
    EXPECT_GE(reached, std::min(.9, std::max(faiss, told) - .03))
            << stats.lists / set.nq() << " of " << index->nlist << " lists, "
            << stats.codes / set.nq() << " of " << set.n()
            << " codes a query; Faiss " << faiss << ", told " << told;
}

INSTANTIATE_TEST_SUITE_P(
        Words,
        AutomaticProbes,
        testing::Values(
                Lengths{"IP_AsTheyAre", IP, 0},
                Lengths{"IP_Sigma0_5", IP, .5f},
                Lengths{"IP_Sigma1", IP, 1},
                Lengths{"IP_Sigma2", IP, 2},
                Lengths{"L2_AsTheyAre", L2, 0},
                Lengths{"L2_Sigma1", L2, 1},
                Lengths{"L2_Sigma2", L2, 2}),
        [](const auto& info) { return std::string(info.param.name); });

// ---- empty lists ----

struct Stored {
    const char* name;
    Metric metric;
    const char* description; ///< what follows the lists
};

void PrintTo(const Stored& c, std::ostream* out) {
    *out << c.description;
}

class EmptyLists : public testing::TestWithParam<Stored> {
 protected:
    /// All answers are rows, and each query scanned so many codes.
    static void
    expect_rows(const IndexIVFScaNN& index, const Set& set, size_t nprobe) {
        ScaNNSearchStats stats;
        SearchParametersScaNN params;
        params.nprobe = nprobe;
        params.stats = &stats;
        for (bool one_by_one : {false, true}) {
            size_t step = one_by_one ? 1 : set.nq();
            for (size_t q = 0; q < set.nq(); q += step) {
                auto begin = set.queries.begin() + q * set.d;
                Hits hits = fixtures::search(
                        index, {begin, begin + step * set.d}, k, &params);
                EXPECT_EQ(
                        std::count(hits.labels.begin(), hits.labels.end(), -1),
                        0)
                        << "nprobe " << nprobe << " query " << q << " of "
                        << step;
            }
        }
        size_t filled = 0;
        size_t smallest = index.ntotal;
        for (size_t list = 0; list < index.nlist; list++) {
            size_t size = index.invlists->list_size(list);
            filled += size > 0;
            smallest = size > 0 ? std::min(smallest, size) : smallest;
        }
        // a spilled copy of a list may be filled where the list is not; few
        // rows are all candidates, without a look at their codes
        EXPECT_GE(
                std::max(stats.codes, stats.candidates),
                2 * set.nq() * std::min(nprobe, filled) * smallest)
                << "nprobe " << nprobe << ", " << filled << " lists filled";
    }
};

TEST_P(EmptyLists, OfEqualRowsAreNoProbes) {
    const auto& [name, metric, description] = GetParam();
    Set set = repeated(3000, 1, 16);
    auto index = built(set, metric, std::string("IVF16,") + description);
    for (size_t nprobe : {1, 3, 16}) {
        expect_rows(*index, set, nprobe);
    }
}

TEST_P(EmptyLists, OfFewDistinctRowsAreNoProbes) {
    const auto& [name, metric, description] = GetParam();
    Set set = repeated(3000, 100, 16);
    auto index = built(set, metric, std::string("IVF128,") + description);
    for (size_t nprobe : {1, 8, 128}) {
        expect_rows(*index, set, nprobe);
    }
}

TEST_P(EmptyLists, WhoseRowsWereRemovedAreNoProbes) {
    const auto& [name, metric, description] = GetParam();
    Set set = split(
            16, random_rows::clustered(3100, 16, {50, 71}, 71), 3000, 100);
    auto index = built(set, metric, std::string("IVF32,") + description);
    // of every list but each fourth
    std::vector<int64_t> gone;
    for (size_t list = 0; list < index->nlist; list++) {
        const int64_t* ids = index->invlists->get_ids(list);
        if (list % 4 != 0) {
            gone.insert(
                    gone.end(), ids, ids + index->invlists->list_size(list));
        }
    }
    index->remove_ids(faiss::IDSelectorBatch(gone.size(), gone.data()));
    size_t left = set.n() - gone.size();
    ASSERT_EQ(index->ntotal, left);
    for (size_t list = 0; list < index->nlist; list++) {
        size_t size = index->invlists->list_size(list);
        ASSERT_TRUE(size == 0 || size >= k) << "the data of this test";
    }
    for (size_t nprobe : {1, 4, 32}) {
        expect_rows(*index, set, nprobe);
    }
}

TEST_P(EmptyLists, OfFewAddedRowsAreNoProbes) {
    const auto& [name, metric, description] = GetParam();
    Set set =
            split(16, random_rows::clustered(3010, 16, {50, 72}, 72), 3000, 10);
    auto index = built(set, metric, std::string("IVF64,") + description);
    index->reset();
    index->add(k, set.rows.data());
    // k rows lie in at most k lists
    expect_rows(*index, set, k);
}

TEST_P(EmptyLists, AreNoProbesOfRangeSearch) {
    const auto& [name, metric, description] = GetParam();
    Set set = repeated(3000, 1, 16);
    auto index = built(set, metric, std::string("IVF16,") + description);
    faiss::RangeSearchResult result(1);
    SearchParametersScaNN params;
    params.nprobe = 1;
    index->range_search(
            1, set.queries.data(), metric == L2 ? 1 : 0, &result, &params);
    EXPECT_EQ(result.lims[1], set.n());
}

INSTANTIATE_TEST_SUITE_P(
        Kinds,
        EmptyLists,
        testing::Values(
                Stored{"L2_Codes", L2, "ScaNN"},
                Stored{"L2_SQ8", L2, "ScaNN,SQ8"},
                Stored{"L2_RFlat", L2, "ScaNN,RFlat"},
                Stored{"L2_Spilled", L2, "ScaNN(soar_lambda=1),RFlat"},
                Stored{"IP_Codes", IP, "ScaNN"},
                Stored{"IP_SQ8", IP, "ScaNN,SQ8"},
                Stored{"IP_RFlat", IP, "ScaNN,RFlat"},
                Stored{"IP_Spilled", IP, "ScaNN(soar_lambda=1),RFlat"},
                Stored{"Cosine", IP, "ScaNN(normalize=1),RFlat"}),
        [](const auto& info) { return std::string(info.param.name); });

// ---- calibrate() ----

const Kind& kind_of(const std::string& name) {
    for (const Kind& kind : kinds()) {
        if (kind.name == name) {
            return kind;
        }
    }
    throw std::invalid_argument(name);
}

struct Calibrated {
    const char* kind;
    Metric metric;
    const char* storage;
};

void PrintTo(const Calibrated& c, std::ostream* out) {
    *out << c.kind << " " << c.storage;
}

std::string calibrated_name(const testing::TestParamInfo<Calibrated>& info) {
    return std::string(info.param.metric == L2 ? "L2_" : "IP_") +
           info.param.kind;
}

/// Halves of many queries: to calibrate with, and to measure with.
class CalibratedProbes : public testing::TestWithParam<Calibrated> {
 protected:
    static constexpr float kTarget = .95f;
    static constexpr double kNoise = .02; ///< of 800 queries

    void SetUp() override {
        const auto& [name, metric, storage] = GetParam();
        Set base = draw_words(kRows, 1600);
        set_ = kind_of(name).make(base, metric);
        index_ = built(set_, metric, std::string("IVF64,ScaNN,") + storage);
        auto middle = set_.queries.begin() + set_.queries.size() / 2;
        std::vector<float> first(set_.queries.begin(), middle);
        set_.queries.erase(set_.queries.begin(), middle);
        chosen_ = index_->calibrate(
                int64_t(first.size() / set_.d), first.data(), kTarget, k);
    }

    double recall(const faiss::SearchParameters* params = nullptr) const {
        Exact exact(set_, GetParam().metric);
        return exact.recall(fixtures::search(*index_, set_.queries, k, params));
    }

    Set set_;
    std::unique_ptr<IndexIVFScaNN> index_;
    faiss_ext::ScaNNCalibration chosen_;
};

class CalibratedRawRows : public CalibratedProbes {};

/// Raw rows can find everything: the target is in reach of any data.
TEST_P(CalibratedRawRows, ReachTheTarget) {
    double reached = recall();
    RecordProperty("recall", std::to_string(reached));
    RecordProperty("stated", std::to_string(chosen_.recall));
    EXPECT_GE(chosen_.recall, kTarget - 1e-6);
    EXPECT_GE(reached, kTarget - kNoise);
}

INSTANTIATE_TEST_SUITE_P(
        Words,
        CalibratedRawRows,
        testing::Values(
                Calibrated{"AsItIs", L2, "RFlat"},
                Calibrated{"YearAndMonth", L2, "RFlat"},
                Calibrated{"OneWildRow", L2, "RFlat"},
                Calibrated{"TwentyWildRows", IP, "RFlat"},
                Calibrated{"ZeroRows", IP, "RFlat"},
                Calibrated{"Lengths1", IP, "RFlat"},
                Calibrated{"Lengths1_5", L2, "RFlat"},
                Calibrated{"Drifted", L2, "RFlat"},
                Calibrated{"QueriesTimes1em3", IP, "SQ8,RFlat"}),
        calibrated_name);

class CalibratedCodes : public CalibratedProbes {};

/// Truth is the index' own best. Whether it is reached or not, what is stated
/// holds for other queries.
TEST_P(CalibratedCodes, SayWhatTheyReach) {
    SearchParametersScaNN exhaustive = fixtures::exhaustive(*index_);
    Hits best = fixtures::search(*index_, set_.queries, k, &exhaustive);
    Hits found = fixtures::search(*index_, set_.queries, k);
    double reached = fixtures::recall(found, best, k);
    RecordProperty("recall", std::to_string(reached));
    RecordProperty("stated", std::to_string(chosen_.recall));
    EXPECT_NEAR(reached, chosen_.recall, 1.5 * kNoise);
}

INSTANTIATE_TEST_SUITE_P(
        Words,
        CalibratedCodes,
        testing::Values(
                Calibrated{"AsItIs", L2, "SQ8"},
                Calibrated{"YearAndMonth", L2, "SQ8"},
                Calibrated{"TwentyWildRows", L2, "SQ8"},
                Calibrated{"Lengths1", IP, "SQ8"},
                Calibrated{"Lengths1_5", L2, "SQ8"},
                Calibrated{"Drifted", IP, "SQ8"}),
        calibrated_name);

} // namespace
