/*
 * Search parameters for one wanted recall and k (measure_profile has the table
 * for all of them), measured on queries whose neighbours
 * an exhaustive search of the same index finds.
 *
 * Recall rises with nprobe, refine_k and reorder_k. First the fewest lists that
 * reach the target with very many candidates are found; then, for this number
 * of lists and a few larger ones, the fewest candidates that still reach it. Of
 * these settings the cheapest is chosen, by a fixed model of the cost, so that
 * the choice does not depend on measured times.
 */

#include <algorithm>
#include <cmath>

#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/calibration_queries.h>
#include <faiss_ext/index/measure_profile.h>
#include <faiss_ext/index/trial_searches.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

namespace {

/// Queries drawn from the rows, if the caller gives none.
constexpr size_t kDrawn = 1000;
/// Candidates that the search for the fewest lists begins with, likewise.
constexpr size_t kFirstCandidates = 400;
constexpr size_t kFirstCandidatesPerResult = 40;
/// Of these, those reranked from raw rows: at least this many times k.
constexpr size_t kFirstRerankedPerResult = 10;
/// Numbers of lists that are tried, as multiples of the fewest possible.
constexpr float kMoreLists[] = {1, 1.1f, 1.25f, 1.5f, 2};
/// Numbers of candidates and of lists are found up to this factor.
constexpr double kCandidateStep = 1.12;
constexpr double kListStep = 1.02;

/// Smallest value in [low, high] that passes; high if none does. Values are
/// tried by halves of their logarithm, up to `step` apart.
template <class Passes>
size_t smallest(size_t low, size_t high, double step, Passes&& passes) {
    while (low < high) {
        auto middle = size_t(std::sqrt(double(low) * double(high)));
        middle = std::clamp(middle, low, high - 1);
        if (passes(middle)) {
            high = middle;
        } else {
            low = middle + 1;
        }
        if (double(high) <= double(low) * step) {
            break;
        }
    }
    return high;
}

void check_arguments(
        const IndexIVFScaNN& index,
        int64_t n,
        const float* queries,
        float target_recall,
        int64_t k) {
    check_trained(index.state());
    FAISS_THROW_IF_NOT_FMT(
            target_recall > 0 && target_recall < 1,
            "target_recall = %g (allowed: above 0, below 1)",
            target_recall);
    FAISS_THROW_IF_NOT_FMT(
            index.ntotal >= 2,
            "calibrating an index of %lld rows (needed: >= 2)",
            static_cast<long long>(index.ntotal));
    FAISS_THROW_IF_NOT_FMT(
            k >= 1 && k < index.ntotal,
            "k = %lld to calibrate for (allowed: 1..%lld, below the rows)",
            static_cast<long long>(k),
            static_cast<long long>(index.ntotal - 1));
    check_can_draw(index, queries, "calibrating");
    FAISS_THROW_IF_NOT_FMT(
            queries == nullptr || n >= 1,
            "%lld queries to calibrate with (allowed: >= 1)",
            static_cast<long long>(n));
}

/// Tries settings to find the cheapest that reaches the target.
class Calibration {
 public:
    Calibration(
            const IndexIVFScaNN& index,
            TrialSearches& trials,
            float target,
            size_t k)
            : index_(index),
              trials_(trials),
              target_(target),
              k_(k),
              refine_(index.options.refine_type != RefineType::None),
              rerank_(index.options.with_raw_data) {}

    ScaNNCalibration run() {
        find_plenty();
        const size_t lists = fewest_lists();
        for (float more : kMoreLists) {
            const size_t nprobe = std::min(
                    index_.nlist, size_t(std::ceil(float(lists) * more)));
            refine_ ? fit_refined(nprobe) : fit_unrefined(nprobe);
            if (nprobe == index_.nlist) {
                break;
            }
        }
        return best_;
    }

 private:
    TrialSearches::Outcome outcome_of(const SearchSetting& setting) {
        if (index_.progress) {
            index_.progress("calibrate", step_++, 0);
        }
        return trials_.run(setting);
    }
    bool reaches_goal(const SearchSetting& setting) {
        return outcome_of(setting).recall >= goal_;
    }

    /// Finds how many candidates reach the target with all lists visited; at
    /// most all rows, since more cannot help.
    void find_plenty() {
        const size_t all = size_t(index_.ntotal);
        many_ = std::min(
                all,
                std::max(kFirstCandidatesPerResult * k_, kFirstCandidates));
        plenty_ = {index_.nlist, 0, 0};
        for (;; many_ = std::min(all, 4 * many_)) {
            plenty_.refine_k = many_;
            plenty_.reorder_k =
                    refine_ ? std::min(
                                      many_,
                                      std::max(
                                              kFirstRerankedPerResult * k_,
                                              many_ / 4))
                            : many_;
            widest_ = outcome_of(plenty_);
            if (many_ == all || !(refine_ || rerank_) ||
                widest_.recall >= target_ + widest_.error) {
                break;
            }
        }
    }

    /// The fewest lists that reach the target with plenty of candidates. Sets
    /// goal_: one standard error above the target, since the queries are a
    /// sample.
    size_t fewest_lists() {
        goal_ = std::min<double>(target_ + widest_.error / 2, widest_.recall);
        return smallest(1, index_.nlist, kListStep, [&](size_t nprobe) {
            auto outcome =
                    outcome_of({nprobe, plenty_.refine_k, plenty_.reorder_k});
            if (outcome.recall >= target_) {
                goal_ = std::min<double>(
                        target_ + outcome.error, widest_.recall);
            }
            return outcome.recall >= goal_;
        });
    }

    /// The fewest candidates for this many lists, from raw rows or codes alone.
    void fit_unrefined(size_t nprobe) {
        SearchSetting s{nprobe, plenty_.refine_k, 0};
        s.reorder_k = smallest(k_, many_, kCandidateStep, [&](size_t n) {
            return reaches_goal({nprobe, s.refine_k, n});
        });
        consider(s);
    }

    /// The same with refine codes. Tries the smallest refine_k, and one and a
    /// half times that, for which a smaller reorder_k may do. reorder_k is at
    /// most refine_k, which a search would raise otherwise.
    void fit_refined(size_t nprobe) {
        const size_t least = smallest(k_, many_, kCandidateStep, [&](size_t n) {
            return reaches_goal({nprobe, n, std::min(n, plenty_.reorder_k)});
        });
        for (size_t refined : {least, std::min(many_, least * 3 / 2)}) {
            size_t reorder_k = std::min(refined, plenty_.reorder_k);
            if (rerank_) {
                reorder_k =
                        smallest(k_, reorder_k, kCandidateStep, [&](size_t n) {
                            return reaches_goal({nprobe, refined, n});
                        });
            }
            consider({nprobe, refined, reorder_k});
        }
    }

    void consider(const SearchSetting& s) {
        auto outcome = outcome_of(s);
        if (outcome.cost < cheapest_) {
            cheapest_ = outcome.cost;
            best_ = {
                    .target_recall = target_,
                    .k = k_,
                    .nprobe = s.nprobe,
                    .refine_k = refine_ ? s.refine_k : 0,
                    .reorder_k = rerank_ ? s.reorder_k : 0,
                    .recall = float(outcome.recall)};
        }
    }

    const IndexIVFScaNN& index_;
    TrialSearches& trials_;
    const float target_;
    const size_t k_;
    const bool refine_;
    const bool rerank_;
    size_t step_ = 0;
    size_t many_ = 0; ///< most candidates that are tried
    SearchSetting plenty_{};
    TrialSearches::Outcome widest_{}; ///< of plenty_
    double goal_ = 0;
    ScaNNCalibration best_;
    double cheapest_ = HUGE_VAL;
};

} // namespace

ScaNNCalibration IndexIVFScaNN::calibrate(
        idx_t n,
        const float* queries,
        float target_recall,
        idx_t k) {
    check_arguments(*this, n, queries, target_recall, k);
    CalibrationQueries asked = queries_or_rows(*this, n, queries, kDrawn);
    auto measured =
            std::make_shared<const ScaNNProfile>(measure_profile(*this, asked));
    TrialSearches trials(*this, std::move(asked), size_t(k));
    calibration = Calibration(*this, trials, target_recall, size_t(k)).run();
    nprobe = calibration.nprobe;
    profile = std::move(measured);
    return calibration;
}

} // namespace faiss_ext
