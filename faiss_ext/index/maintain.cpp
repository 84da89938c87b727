/*
 * Maintenance: lists get the centroids that a plan has for them, some at a time,
 * and their rows go to the lists that the plan's centroids give them.
 *
 * Each step leaves an index as good as any other: a row is encoded with the
 * centroid that its list has at that time. Rows that go to a list whose turn comes
 * later are encoded twice. In the end every row is where it would be if it were
 * added to lists with the planned centroids.
 */

#include <faiss_ext/index/maintain.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include <faiss/IndexFlat.h>
#include <faiss/impl/AuxIndexStructures.h>
#include <faiss/impl/FaissAssert.h>

#include <faiss_ext/IndexIVFScaNN.h>
#include <faiss_ext/index/list_statistics.h>
#include <faiss_ext/index/plan_partition.h>
#include <faiss_ext/index/removal.h>
#include <faiss_ext/index/stored_rows.h>
#include <faiss_ext/lists/copy_places.h>
#include <faiss_ext/lists/direct_map.h>
#include <faiss_ext/memory/row_products.h>
#include <faiss_ext/partition/nearest.h>
#include <faiss_ext/model/index_state.h>

namespace faiss_ext {

using faiss::lo_build;
using faiss::lo_listno;

namespace {

/// Rows that a step looks at, and the share of all rows. A step makes the
/// partition anew, which takes as long as encoding some hundred rows.
constexpr size_t kStepRows = 4096;
constexpr size_t kStepShare = 64;
/// Share of the rows that must have changed before an add looks for drift.
constexpr double kChangedBeforePlan = 0.1;

/// A row and the list that it goes to.
struct Move {
    uint64_t place;
    int64_t list;
};

/// Takes the next lists of the plan, at least one.
std::vector<size_t> next_lists(const IndexState& state, PartitionPlan& plan) {
    const size_t most =
            std::max(kStepRows, size_t(state.ivf.ntotal) / kStepShare);
    std::vector<size_t> lists;
    size_t rows = 0;
    while (!plan.finished() && (lists.empty() || rows < most)) {
        lists.push_back(plan.order[plan.next++]);
        rows += state.lists->list_size(lists.back());
    }
    return lists;
}

/// Rows of these lists, to where the plan's centroids put them.
void moves_of_rows(
        const IndexIVFScaNN& index,
        const PartitionPlan& plan,
        const std::vector<size_t>& lists,
        std::vector<Move>& moves) {
    std::vector<uint64_t> places;
    for (size_t l : lists) {
        for (size_t i = 0; i < index.state().lists->list_size(l); i++) {
            places.push_back(lo_build(l, i));
        }
    }
    const StoredRows rows(index, places.size(), places.data());
    const std::vector<float> x = rows.prepared(index);
    std::vector<int64_t> to(places.size());
    plan.partition.assign(places.size(), x.data(), to.data());
    for (size_t i = 0; i < places.size(); i++) {
        moves.push_back({places[i], to[i]});
    }
}

/// Rows of the neighbours of a plan that are nearer to one of the centroids which
/// have changed than to that of their own list.
void moves_of_neighbours(
        const IndexIVFScaNN& index,
        const PartitionPlan& plan,
        std::vector<Move>& moves) {
    const IndexState& state = index.state();
    if (state.model->by_direction) {
        return; // lists are not those of the nearest centroids
    }
    const size_t d = state.d();
    std::vector<float> changed;
    for (uint32_t l : plan.order) {
        changed.insert(
                changed.end(),
                &plan.centroids[l * d],
                &plan.centroids[l * d] + d);
    }
    const NearestRows centroids(plan.order.size(), d, changed.data(), true);
    for (uint32_t l : plan.neighbours) {
        std::vector<uint64_t> places(state.lists->list_size(l));
        for (size_t i = 0; i < places.size(); i++) {
            places[i] = lo_build(l, i);
        }
        const std::vector<float> x =
                StoredRows(index, places.size(), places.data()).prepared(index);
        std::vector<int64_t> nearest(places.size());
        centroids.find(places.size(), x.data(), nearest.data());
        for (size_t i = 0; i < places.size(); i++) {
            const float* row = &x[i * d];
            const float* other = centroids.row(size_t(nearest[i]));
            if (quick_distance(d, row, other) <
                quick_distance(d, row, &plan.centroids[l * d])) {
                moves.push_back({places[i], plan.order[size_t(nearest[i])]});
            }
        }
    }
}

/// Rows elsewhere whose copies are in a list that gets another centroid: they are
/// written again where they are, and get another copy.
void moves_of_copies(
        const IndexState& state,
        const std::vector<size_t>& lists,
        std::vector<Move>& moves) {
    if (state.spilled == nullptr) {
        return;
    }
    for (size_t l : lists) {
        const ScaNNList& copies = state.spilled->list(l);
        for (size_t i = 0; i < copies.size(); i++) {
            const uint64_t place = copies.primary[i];
            check_primary_place(place, *state.lists);
            moves.push_back({place, int64_t(lo_listno(place))});
        }
    }
    // of a row of these lists what moves_of_rows() says comes first, and stays
    std::stable_sort(
            moves.begin(), moves.end(), [](const Move& a, const Move& b) {
                return a.place < b.place;
            });
    const auto end = std::unique(
            moves.begin(), moves.end(), [](const Move& a, const Move& b) {
                return a.place == b.place;
            });
    moves.erase(end, moves.end());
}

/// Centroids of some lists, and all that follows from them. They get a quantizer
/// of their own, since views may read the old one.
class CentroidChange {
 public:
    explicit CentroidChange(IndexIVFScaNN& index)
            : index_(index),
              old_model_(index.state().model),
              old_partition_(index.state().partition),
              old_quantizer_(std::make_unique<Quantizer>()) {}

    /// @param spread  of all lists
    void apply(
            const PartitionPlan& plan,
            const std::vector<size_t>& lists,
            std::vector<float> spread) {
        IndexState& state = index_.state();
        const size_t d = state.d();
        auto changed =
                std::make_unique<faiss::IndexFlat>(*flat_quantizer(state));
        for (size_t l : lists) {
            std::copy_n(&plan.centroids[l * d], d, changed->get_xb() + l * d);
        }
        old_quantizer_->value.reset(index_.quantizer);
        index_.quantizer = changed.release();
        state.model.edit([&](ScaNNModel& model) {
            model.list_spread = std::move(spread);
            model.list_groups = make_list_groups(state, model);
        });
        state.partition = make_partition(state, state.model);
    }
    /// Does not fail.
    void undo() {
        if (old_quantizer_->value != nullptr) {
            delete index_.quantizer;
            index_.quantizer = old_quantizer_->value.release();
        }
        index_.state().model.swap(old_model_);
        index_.state().partition.swap(old_partition_);
    }
    /// Does not fail.
    void keep() {
        if (index_.state().retired != nullptr) {
            index_.state().retired->keep(std::move(old_quantizer_));
        }
    }

 private:
    using Quantizer = RetiredMemory::Holding<std::unique_ptr<faiss::Index>>;

    IndexIVFScaNN& index_;
    SharedValue<ScaNNModel> old_model_;
    SharedValue<Partition> old_partition_;
    std::unique_ptr<Quantizer> old_quantizer_;
};

/// list_spread with these rows in their lists.
std::vector<float> spread_with(
        const IndexState& state,
        const PartitionPlan& plan,
        const std::vector<size_t>& lists,
        const std::vector<Move>& moves,
        const std::vector<float>& x) {
    const size_t d = state.d();
    const size_t nlist = state.ivf.nlist;
    std::vector<double> sums(nlist);
    std::vector<size_t> counts(nlist);
    for (size_t i = 0; i < moves.size(); i++) {
        const size_t l = size_t(moves[i].list);
        sums[l] += quick_distance(d, &x[i * d], &plan.centroids[l * d]);
        counts[l]++;
    }
    std::vector<float> spread = state.model->list_spread;
    for (size_t l : lists) {
        const double mean = sums[l] / double(std::max<size_t>(1, counts[l]));
        if (counts[l] > 0 && std::isfinite(mean)) {
            spread[l] = float(mean);
        }
    }
    return spread;
}

/// @return  rows encoded
size_t run_step(IndexIVFScaNN& index, PartitionPlan& plan) {
    const size_t next = plan.next;
    std::optional<CentroidChange> change;
    try {
        const std::vector<size_t> lists = next_lists(index.state(), plan);
        std::vector<Move> moves;
        moves_of_rows(index, plan, lists, moves);
        if (plan.finished()) {
            moves_of_neighbours(index, plan, moves);
        }
        moves_of_copies(index.state(), lists, moves);
        std::vector<uint64_t> places(moves.size());
        std::vector<int64_t> to(moves.size());
        for (size_t i = 0; i < moves.size(); i++) {
            places[i] = moves[i].place;
            to[i] = moves[i].list;
        }
        const StoredRows rows(index, places.size(), places.data());
        std::vector<float> spread = spread_with(
                index.state(), plan, lists, moves, rows.prepared(index));
        const uint64_t changed = index.state().fit.changed;
        change.emplace(index);
        change->apply(plan, lists, std::move(spread));
        replace_rows(index, places, rows.ids.data(), rows.rows(), to.data());
        change->keep();
        index.state().fit.changed = changed;
        for (size_t l : lists) {
            index.state().lists->trim(l);
        }
        return moves.size();
    } catch (...) {
        plan.next = next;
        if (change) {
            change->undo();
        }
        throw;
    }
}

/// Notes what the lists were fitted to.
void set_fit(IndexIVFScaNN& index, float list_error, float imbalance) {
    ModelFit& fit = index.state().fit;
    fit.list_error = list_error;
    fit.imbalance = imbalance;
    fit.changed = 0;
}

/// Begins a plan if there is none. @return  whether there is one
bool have_plan(IndexIVFScaNN& index, const ScaNNProgress& progress) {
    IndexState& state = index.state();
    if (state.plan != nullptr) {
        return true;
    }
    if (index.ntotal == 0 || state.fit.changed == 0) {
        return false;
    }
    const PartitionCheck now = check_partition(index);
    if (!has_drifted(index, now)) {
        return false;
    }
    state.plan = plan_partition(index, now, progress);
    if (state.plan == nullptr) {
        set_fit(index, now.list_error, now.imbalance);
    }
    return state.plan != nullptr;
}

/// Does not fail: the rows have moved.
void end_of_whole_plan(IndexIVFScaNN& index) {
    IndexState& state = index.state();
    set_fit(index, state.plan->list_error, float(imbalance(*state.lists)));
    state.lists->trim_all();
    if (state.spilled != nullptr) {
        state.spilled->trim_all();
    }
}

/// One step; the last one ends the plan. @return  rows encoded
size_t next_step(IndexIVFScaNN& index) {
    IndexState& state = index.state();
    const size_t rows = run_step(index, *state.plan);
    if (state.plan->finished()) {
        if (state.plan->whole) {
            end_of_whole_plan(index);
        }
        state.plan.reset();
    }
    return rows;
}

/// @throws faiss::FaissException naming what is missing
void check_can_maintain(const IndexIVFScaNN& index) {
    const IndexState& state = index.state();
    check_trained(state);
    FAISS_THROW_IF_NOT_MSG(
            state.keeps_rows(),
            "maintain needs raw rows or refine codes: codes alone cannot be "
            "made anew");
    FAISS_THROW_IF_NOT_MSG(
            flat_quantizer(state) != nullptr && index.own_fields,
            "maintain changes centroids: the quantizer must be an IndexFlat "
            "that belongs to this index (own_fields)");
    FAISS_THROW_IF_NOT_MSG(
            !state.lists->is_borrowed() &&
                    (state.spilled == nullptr || !state.spilled->is_borrowed()),
            "maintain changes the lists, which are mapped from a file: read "
            "the "
            "index into memory");
}

/// Of comparing their rows with the divided lists, in encodings of a row.
double cost_of_neighbours(const IndexState& state) {
    constexpr double kPerRow = 1. / 8;
    double rows = 0;
    for (size_t i = 0; state.plan && i < state.plan->neighbours.size(); i++) {
        rows += double(state.lists->list_size(state.plan->neighbours[i]));
    }
    return kPerRow * rows;
}

} // namespace

ScaNNMaintenance IndexIVFScaNN::maintain(size_t rows, double seconds) {
    FAISS_THROW_IF_NOT_FMT(
            seconds >= 0, "seconds = %g (allowed: >= 0; 0: no bound)", seconds);
    check_can_maintain(*this);
    using Clock = std::chrono::steady_clock;
    const auto begin = Clock::now();
    const auto passed = [&] {
        return std::chrono::duration<double>(Clock::now() - begin).count();
    };
    drop_unfit_map(direct_map, *state_->lists, size_t(ntotal));
    ScaNNMaintenance done;
    const auto goes_on = [&] {
        return (rows == 0 || done.rows < rows) &&
               (seconds == 0 || passed() < seconds);
    };
    // at most two: one that an add began, and one of all lists
    while (goes_on() && have_plan(*this, progress)) {
        const size_t all = state_->plan->order.size();
        while (state_->plan != nullptr && goes_on()) {
            faiss::InterruptCallback::check();
            const size_t first = state_->plan->next;
            if (progress) {
                progress("maintain", first, all);
            }
            done.rows += next_step(*this);
            done.lists += (state_->plan ? state_->plan->next : all) - first;
        }
    }
    done.finished = state_->plan == nullptr;
    done.seconds = passed();
    return done;
}

void maintain_after_add(IndexIVFScaNN& index, size_t rows) {
    IndexState& state = index.state();
    const double share = index.options.auto_maintain;
    if (!(share > 0) || rows == 0) {
        return;
    }
    double& credit = state.maintenance_credit;
    credit += share * double(rows);
    try {
        check_can_maintain(index);
        const double cost = cost_of_plan(index);
        const bool much_changed = double(state.fit.changed) >=
                                  kChangedBeforePlan * double(index.ntotal);
        if (state.plan == nullptr && much_changed && credit >= cost) {
            have_plan(index, {});
            credit -= cost;
        }
        if (state.plan == nullptr && credit > 0) {
            state.plan = plan_divisions(index, size_t(credit));
            credit -= cost_of_neighbours(state);
        }
        while (state.plan != nullptr && credit > 0) {
            credit -= double(next_step(index));
        }
    } catch (const std::exception&) {
        // The rows are there, and a step that failed changed nothing: the next
        // call tries again.
    }
}

} // namespace faiss_ext
