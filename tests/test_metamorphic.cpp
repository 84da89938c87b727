/* What searches find does not depend on how the data is written down: kinds of
 * data (metamorphic_data.h) x storage x metrics, beside exact search in doubles
 * and Faiss' IndexIVFFlat with as many lists. */

#include <faiss_ext/IndexIVFScaNN.h>

#include <map>
#include <memory>
#include <set>

#include <faiss/IndexIVFFlat.h>

#include <faiss_ext/index_factory.h>

#include "index_fixtures.h"
#include "metamorphic_data.h"

namespace {

using namespace metamorphic;
using fixtures::Hits;
using fixtures::IndexIVFScaNN;
using fixtures::SearchParametersScaNN;

constexpr size_t k = 10;
constexpr size_t kProbes = 8;
constexpr size_t kCandidates = 200;

/// Allowed below what is compared with.
constexpr double kLess = .02;
/// All lists visited and kCandidates rescored, at least.
constexpr double kRawFloor = .995;
constexpr double kInt8Floor = .97;

faiss::MetricType faiss_metric(Metric metric) {
    return metric == L2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
}

/// Exact neighbours, and what others find.
class Exact {
 public:
    Exact(Set set, Metric metric) : set_(std::move(set)), metric_(metric) {
        if (metric == Cosine) {
            set_.rows = reference::normalized(set_.rows, set_.d);
            set_.queries = reference::normalized(set_.queries, set_.d);
        }
        for (size_t q = 0; q < set_.nq(); q++) {
            std::vector<double> scores = scores_of(q);
            std::vector<size_t> order(scores.size());
            std::iota(order.begin(), order.end(), 0);
            size_t last = std::min(k, order.size()) - 1;
            std::nth_element(
                    order.begin(),
                    order.begin() + last,
                    order.end(),
                    [&](size_t a, size_t b) { return scores[a] > scores[b]; });
            size_t row = order[last];
            lowest_.push_back(scores[row] - rounding(q, row));
        }
    }

    /// Unit rows for the cosine.
    const Set& set() const {
        return set_;
    }

    /// Larger is better: the product, or minus the squared distance.
    double score(size_t q, size_t row) const {
        const float* a = &set_.queries[q * set_.d];
        const float* b = &set_.rows[row * set_.d];
        return metric_ == L2 ? -reference::squared_distance(set_.d, a, b)
                             : reference::dot(set_.d, a, b);
    }

    /// What floats may be off.
    double rounding(size_t q, size_t row) const {
        const float* a = &set_.queries[q * set_.d];
        const float* b = &set_.rows[row * set_.d];
        return metric_ == L2 ? 1e-5 * reference::squared_distance(set_.d, a, b)
                             : 1e-6 * std::sqrt(reference::dot(set_.d, a, a)) *
                                       std::sqrt(reference::dot(set_.d, b, b));
    }

    /// Share of k rows that are as near as the k nearest, so that ties do not
    /// count.
    double recall(const Hits& hits) const {
        size_t good = 0;
        for (size_t q = 0; q < set_.nq(); q++) {
            auto row = hits.labels.begin() + q * k;
            for (int64_t label : std::set<int64_t>(row, row + k)) {
                good += label >= 0 && score(q, label) >= lowest_[q];
            }
        }
        return double(good) / double(set_.nq() * k);
    }

    /// Answers whose distance is not that of their row.
    size_t wrong_distances(const Hits& hits) const {
        size_t wrong = 0;
        for (size_t i = 0; i < hits.labels.size(); i++) {
            int64_t label = hits.labels[i];
            double value = hits.distances[i] * (metric_ == L2 ? -1 : 1);
            wrong += label >= 0 && !(std::abs(value - score(i / k, label)) <=
                                     rounding(i / k, label));
        }
        return wrong;
    }

 private:
    /// Of all rows, in loops over rows that compilers vectorise.
    std::vector<double> scores_of(size_t q) {
        size_t n = set_.n(), d = set_.d;
        if (columns_.empty()) {
            columns_.resize(n * d);
            for (size_t i = 0; i < n * d; i++) {
                columns_[i % d * n + i / d] = set_.rows[i];
            }
        }
        std::vector<double> scores(n);
        for (size_t j = 0; j < d; j++) {
            double value = set_.queries[q * d + j];
            const float* column = &columns_[j * n];
            for (size_t i = 0; i < n; i++) {
                double other = column[i];
                scores[i] += metric_ == L2 ? (value - other) * (other - value)
                                           : value * other;
            }
        }
        return scores;
    }

    Set set_;
    Metric metric_;
    std::vector<float> columns_;
    std::vector<double> lowest_; ///< score of the k-th, less rounding
};

/// What Faiss finds in as many lists.
double
faiss_recall(const Set& made, const Exact& exact, Metric metric, size_t nlist) {
    const Set& set = exact.set();
    faiss::IndexFlat quantizer(set.d, faiss_metric(metric));
    faiss::IndexIVFFlat index(&quantizer, set.d, nlist, faiss_metric(metric));
    index.cp.min_points_per_centroid = 1; // no warnings
    std::vector<float> training = made.training;
    if (metric == Cosine) {
        training = reference::normalized(training, set.d);
    }
    const auto& from = training.empty() ? set.rows : training;
    index.train(from.size() / set.d, from.data());
    index.add(set.n(), set.rows.data());
    index.nprobe = kProbes;
    return exact.recall(fixtures::search(index, set.queries, k));
}

enum class Storage { Codes, SQ8, RFlat, Spilled };
constexpr Storage kStorages[] = {
        Storage::Codes,
        Storage::SQ8,
        Storage::RFlat,
        Storage::Spilled};

const char* storage_name(Storage storage) {
    static const char* const names[] = {"Codes", "SQ8", "RFlat", "Spilled"};
    return names[int(storage)];
}

std::unique_ptr<faiss::Index>
built(const Set& set, Metric metric, Storage storage, size_t nlist) {
    std::string options = metric == Cosine ? "normalize=1,allow_zero=1" : "";
    if (storage == Storage::Spilled) {
        options += options.empty() ? "soar_lambda=1" : ",soar_lambda=1";
    }
    std::string text = "IVF" + std::to_string(nlist) + ",ScaNN";
    text += options.empty() ? "" : "(" + options + ")";
    text += storage == Storage::SQ8 ? ",SQ8" : "";
    text += storage >= Storage::RFlat ? ",RFlat" : "";
    std::unique_ptr<faiss::Index> index(
            faiss_ext::index_factory(set.d, text, faiss_metric(metric)));
    const auto& from = set.training.empty() ? set.rows : set.training;
    index->train(from.size() / set.d, from.data());
    index->add(set.n(), set.rows.data());
    return index;
}

/// A kind of data with its neighbours. The last one is kept: tests of the same
/// data follow one another.
struct Prepared {
    const Set* base;
    const Kind* kind;
    Metric metric;
    Set made;
    Exact exact;
    double faiss;

    Prepared(const Set& base, const Kind& kind, Metric metric)
            : base(&base),
              kind(&kind),
              metric(metric),
              made(kind.make(base, metric)),
              exact(made, metric),
              faiss(faiss_recall(made, exact, metric, kind.nlist)) {}
};

const Prepared& prepared(const Set& base, const Kind& kind, Metric metric) {
    static std::unique_ptr<Prepared> last;
    if (last == nullptr || last->base != &base || last->kind != &kind ||
        last->metric != metric) {
        last = std::make_unique<Prepared>(base, kind, metric);
    }
    return *last;
}

Hits search_all_lists(const faiss::Index& index, const Set& set) {
    SearchParametersScaNN params;
    params.nprobe = faiss_ext::find_scann(&index)->nlist;
    params.reorder_k = params.refine_k = kCandidates;
    return fixtures::search(index, set.queries, k, &params);
}

/// Recall of codes alone on the base itself.
double codes_recall(const Set& base, Metric metric) {
    static std::map<std::pair<const Set*, Metric>, double> known;
    auto [at, is_new] = known.try_emplace({&base, metric}, 0);
    if (is_new) {
        auto index = built(base, metric, Storage::Codes, 64);
        at->second = Exact(base, metric).recall(search_all_lists(*index, base));
    }
    return at->second;
}

struct Case {
    const Set& (*base)();
    const Kind* kind;
    Metric metric;
    Storage storage;
};

std::string case_name(const testing::TestParamInfo<Case>& info) {
    const Case& c = info.param;
    std::string metric = c.metric == L2   ? "L2_"
                         : c.metric == IP ? "IP_"
                                          : "Cosine_";
    return metric + storage_name(c.storage) + "_" + c.kind->name;
}

std::vector<Case> cases(const Set& (*base)(), bool own_data) {
    std::vector<Case> list;
    for (const Kind& kind : kinds()) {
        for (Metric metric : {L2, IP, Cosine}) {
            for (Storage storage : kStorages) {
                if ((kind.metrics & metric) != 0 &&
                    (own_data || !kind.own_data)) {
                    list.push_back({base, &kind, metric, storage});
                }
            }
        }
    }
    return list;
}

void PrintTo(const Case& c, std::ostream* out) {
    *out << c.kind->name;
}

class Metamorphic : public testing::TestWithParam<Case> {
 protected:
    void figure(const char* name, double value) {
        RecordProperty(name, std::to_string(value));
    }
};

TEST_P(Metamorphic, FindsWhatIsThere) {
    const auto& [base, kind, metric, storage] = GetParam();
    if (base().rows.empty()) {
        GTEST_SKIP() << "no words in tests/data";
    }
    const Prepared& data = prepared(base(), *kind, metric);
    const Set& set = data.made;
    auto index = built(set, metric, storage, kind->nlist);

    Hits hits = search_all_lists(*index, set);
    EXPECT_EQ(std::count(hits.labels.begin(), hits.labels.end(), -1), 0)
            << "answers of -1, all lists visited";
    double all_lists = data.exact.recall(hits);
    figure("all_lists", all_lists);
    if (storage == Storage::Codes) {
        if ((kind->same_order & metric) != 0) {
            double before = codes_recall(base(), metric);
            figure("base", before);
            EXPECT_GE(all_lists, before - kLess) << "codes alone, as it was";
        }
        return;
    }
    if (storage == Storage::SQ8) {
        EXPECT_GE(all_lists, kInt8Floor) << "all lists, 8-bit codes";
        return;
    }
    EXPECT_GE(all_lists, kRawFloor) << "all lists, raw rows";
    EXPECT_EQ(data.exact.wrong_distances(hits), 0);

    SearchParametersScaNN params;
    params.nprobe = kProbes;
    double few_lists = data.exact.recall(
            fixtures::search(*index, set.queries, k, &params));
    figure("few_lists", few_lists);
    figure("faiss", data.faiss);
    EXPECT_GE(few_lists, data.faiss - kLess) << "equal lists, as Faiss";
}

INSTANTIATE_TEST_SUITE_P(
        Synthetic,
        Metamorphic,
        testing::ValuesIn(cases(synthetic, true)),
        case_name);
INSTANTIATE_TEST_SUITE_P(
        Words,
        Metamorphic,
        testing::ValuesIn(cases(words, false)),
        case_name);

} // namespace
