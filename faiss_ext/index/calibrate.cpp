/*
 * Search parameters for a wanted recall: measured on queries whose neighbours
 * an exhaustive search of the same index tells.
 *
 * Recall rises with nprobe, refine_k and reorder_k. The fewest lists that
 * reach the goal with plenty of candidates, and some more, each get the fewest
 * candidates that still do; the cheapest of these by a fixed model of the cost
 * wins, so that the choice does not depend on the clock.
 */

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>

#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

namespace {

/// Queries drawn from the rows.
constexpr size_t kDrawn = 1000;
/// Rows that decide the truth, at least.
constexpr size_t kTruthRows = 2000;
/// Further numbers of lists that are tried, over the fewest possible.
constexpr float kMoreLists[] = {1, 1.1f, 1.25f, 1.5f, 2};
/// Steps between numbers of candidates.
constexpr double kCandidateStep = 1.12;

// Nanoseconds of Zen 4 (bench/stages): what a list, a code byte, a rescored
// row and its bytes cost a query.
constexpr double kListCost = 60;
constexpr double kCodeByteCost = 0.03;
constexpr double kRowCost = 30;
constexpr double kRowByteCost = 0.04;

struct Setting {
    size_t nprobe;
    size_t refine_k;
    size_t reorder_k;
};

/// Searches with settings and counts what they find.
class Trials {
 public:
    /// @param own  the query's own id in the index, or -1, size nq
    Trials(const IndexIVFScaNN& index,
           std::vector<float> queries,
           std::vector<int64_t> own,
           size_t k)
            : index_(index),
              queries_(std::move(queries)),
              own_(std::move(own)),
              k_(k) {
        size_t all = std::max<size_t>(index.ntotal, 1);
        size_t rows = std::min(all, std::max(kTruthRows, 20 * k));
        truth_ = search({index.nlist, rows, rows}, nullptr);
    }

    struct Outcome {
        double recall;
        double error; ///< standard error of recall
        double cost;  ///< nanoseconds a query
    };
    Outcome run(const Setting& setting) {
        faiss::InterruptCallback::check();
        ScaNNSearchStats stats;
        std::vector<int64_t> found = search(setting, &stats);
        size_t nq = own_.size();
        double sum = 0, squares = 0;
        for (size_t q = 0; q < nq; q++) {
            auto truth = truth_.begin() + q * k_;
            auto mine = found.begin() + q * k_;
            size_t there = k_ - std::count(truth, truth + k_, -1);
            size_t hits = 0;
            for (size_t i = 0; i < there; i++) {
                hits += std::count(mine, mine + k_, truth[i]);
            }
            double share = there == 0 ? 1 : double(hits) / double(there);
            sum += share;
            squares += share * share;
        }
        double recall = sum / double(nq);
        double variance = std::max(0.0, squares / double(nq) - recall * recall);
        const EntryLayout& layout = index_.state().lists->layout();
        double cost =
                kListCost * double(stats.lists) +
                kCodeByteCost * double(stats.codes) *
                        double(layout.packed().list_bytes(320)) / 320 +
                double(stats.refined) *
                        (kRowCost +
                         kRowByteCost * double(layout.refine_row_bytes())) +
                double(stats.reranked) *
                        (kRowCost + kRowByteCost *
                                            double(layout.raw_row_floats()) *
                                            sizeof(float));
        return {recall, std::sqrt(variance / double(nq)), cost / double(nq)};
    }

 private:
    /// The k best of each query but itself. @return size nq * k, -1 for none
    std::vector<int64_t> search(const Setting& setting, ScaNNSearchStats* stats)
            const {
        size_t nq = own_.size();
        size_t wanted = k_ + 1;
        SearchParametersScaNN params;
        params.nprobe = setting.nprobe;
        params.refine_k = std::max(setting.refine_k, wanted);
        params.reorder_k = std::max(setting.reorder_k, wanted);
        params.stats = stats;
        std::vector<float> distances(nq * wanted);
        std::vector<int64_t> labels(nq * wanted);
        index_.search(
                nq,
                queries_.data(),
                wanted,
                distances.data(),
                labels.data(),
                &params);
        std::vector<int64_t> kept;
        kept.reserve(nq * k_);
        for (size_t q = 0; q < nq; q++) {
            auto row = labels.begin() + q * wanted;
            auto end = own_[q] < 0 ? row + k_
                                   : std::remove(row, row + wanted, own_[q]);
            size_t count = std::min(k_, size_t(end - row));
            kept.insert(kept.end(), row, row + count);
            kept.resize((q + 1) * k_, -1);
        }
        return kept;
    }

    const IndexIVFScaNN& index_;
    std::vector<float> queries_;
    std::vector<int64_t> own_;
    size_t k_;
    std::vector<int64_t> truth_;
};

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

/// Rows of the index, evenly at random, and their ids.
void draw_rows(
        const IndexIVFScaNN& index,
        size_t count,
        std::vector<float>& x,
        std::vector<int64_t>& ids) {
    const ScaNNLists& lists = *index.state().lists;
    const size_t nlist = lists.nlist;
    const size_t d = size_t(index.d);
    std::vector<size_t> ends(nlist);
    for (size_t l = 0; l < nlist; l++) {
        ends[l] = (l == 0 ? 0 : ends[l - 1]) + lists.list_size(l);
    }
    std::vector<size_t> chosen(ends.back());
    std::iota(chosen.begin(), chosen.end(), 0);
    std::mt19937_64 random(index.options.seed);
    count = std::min(count, chosen.size());
    for (size_t i = 0; i < count; i++) {
        std::swap(chosen[i], chosen[i + random() % (chosen.size() - i)]);
        size_t list = std::upper_bound(ends.begin(), ends.end(), chosen[i]) -
                      ends.begin();
        size_t offset = chosen[i] - (list == 0 ? 0 : ends[list - 1]);
        x.resize(x.size() + d);
        index.reconstruct_from_offset(list, offset, x.data() + i * d);
        ids.push_back(lists.get_single_id(list, offset));
    }
}

} // namespace

ScaNNCalibration IndexIVFScaNN::calibrate(
        idx_t n,
        const float* queries,
        float target_recall,
        idx_t k) {
    check_trained(*state_);
    FAISS_THROW_IF_NOT_FMT(
            target_recall > 0 && target_recall < 1,
            "target_recall = %g (allowed: above 0, below 1)",
            target_recall);
    FAISS_THROW_IF_NOT_FMT(
            ntotal >= 2,
            "calibrating an index of %lld rows (needed: >= 2)",
            static_cast<long long>(ntotal));
    FAISS_THROW_IF_NOT_FMT(
            k >= 1 && k < ntotal,
            "k = %lld to calibrate for (allowed: 1..%lld, below the rows)",
            static_cast<long long>(k),
            static_cast<long long>(ntotal - 1));
    FAISS_THROW_IF_NOT_MSG(
            queries != nullptr || options.with_raw_data,
            "calibrating without queries draws them from raw rows, and this "
            "index keeps none (allowed: queries, or with_raw_data)");
    FAISS_THROW_IF_NOT_FMT(
            queries == nullptr || n >= 1,
            "%lld queries to calibrate with (allowed: >= 1)",
            static_cast<long long>(n));
    std::vector<float> x;
    std::vector<idx_t> own;
    if (queries != nullptr) {
        x.assign(queries, queries + n * d);
        own.assign(n, -1);
    } else {
        draw_rows(*this, kDrawn, x, own);
    }
    Trials trials(*this, std::move(x), std::move(own), size_t(k));

    size_t step = 0;
    auto run = [&](const Setting& setting) {
        if (progress) {
            progress("calibrate", step++, 0);
        }
        return trials.run(setting);
    };
    bool refine = options.refine_type != RefineType::None;
    bool rerank = options.with_raw_data;
    size_t all = size_t(ntotal);
    size_t few = size_t(k);
    // As many candidates as the target takes with all lists visited, up to all
    // rows: then it is the codes, if anything, that keep it out of reach.
    size_t many = std::min(all, std::max<size_t>(40 * few, 400));
    Setting plenty{nlist, 0, 0};
    Trials::Outcome widest;
    for (;; many = std::min(all, 4 * many)) {
        plenty.refine_k = many;
        plenty.reorder_k =
                refine ? std::min(many, std::max(10 * few, many / 4)) : many;
        widest = run(plenty);
        if (many == all || !(refine || rerank) ||
            widest.recall >= target_recall + widest.error) {
            break;
        }
    }
    // One standard error above the target: the queries are a sample.
    double goal =
            std::min<double>(target_recall + widest.error / 2, widest.recall);
    size_t lists = smallest(1, nlist, 1.02, [&](size_t nprobe) {
        auto outcome = run({nprobe, plenty.refine_k, plenty.reorder_k});
        if (outcome.recall >= target_recall) {
            goal = std::min<double>(
                    target_recall + outcome.error, widest.recall);
        }
        return outcome.recall >= goal;
    });

    ScaNNCalibration best;
    double cheapest = HUGE_VAL;
    auto consider = [&](const Setting& s) {
        auto outcome = run(s);
        if (outcome.cost < cheapest) {
            cheapest = outcome.cost;
            best = {target_recall,
                    size_t(k),
                    s.nprobe,
                    refine ? s.refine_k : 0,
                    rerank ? s.reorder_k : 0,
                    float(outcome.recall)};
        }
    };
    for (float more : kMoreLists) {
        Setting s = plenty;
        s.nprobe = std::min(nlist, size_t(std::ceil(float(lists) * more)));
        auto reaches_goal = [&] { return run(s).recall >= goal; };
        if (!refine) {
            s.reorder_k = smallest(few, many, kCandidateStep, [&](size_t n) {
                s.reorder_k = n;
                return reaches_goal();
            });
            consider(s);
        } else {
            // reorder_k never exceeds refine_k: the search would lift it
            size_t least = smallest(few, many, kCandidateStep, [&](size_t n) {
                s.refine_k = n;
                s.reorder_k = std::min(n, plenty.reorder_k);
                return reaches_goal();
            });
            for (size_t refined : {least, std::min(many, least * 3 / 2)}) {
                s.refine_k = refined;
                s.reorder_k = std::min(refined, plenty.reorder_k);
                if (rerank) {
                    size_t high = s.reorder_k;
                    s.reorder_k =
                            smallest(few, high, kCandidateStep, [&](size_t n) {
                                s.reorder_k = n;
                                return reaches_goal();
                            });
                }
                consider(s);
            }
        }
        if (s.nprobe == nlist) {
            break;
        }
    }
    calibration = best;
    nprobe = best.nprobe;
    return best;
}

} // namespace faiss_ext
