#include <faiss_ext/query_search.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

#include <faiss/impl/FaissAssert.h>
#include <faiss/invlists/DirectMap.h>

namespace faiss_ext {

namespace {

/// Adds the time of a scope to a figure, if the caller asked for figures.
class StageTimer {
   public:
    StageTimer(const SearchPlan& plan, double& total)
            : total_(plan.stats == nullptr ? nullptr : &total) {
        if (total_ != nullptr) {
            start_ = std::chrono::steady_clock::now();
        }
    }
    ~StageTimer() {
        if (total_ != nullptr) {
            std::chrono::duration<double> spent =
                    std::chrono::steady_clock::now() - start_;
            *total_ += spent.count();
        }
    }

   private:
    double* total_;
    std::chrono::steady_clock::time_point start_;
};

/// In table steps; far lists saturate, where order no longer matters.
int32_t integer_bias(float bias, float reference, float step) {
    constexpr float kLimit = 1 << 30;
    return int32_t(std::nearbyint(
            std::clamp((bias - reference) / step, -kLimit, kLimit)));
}

} // namespace

void QuerySearch::begin(
        const IndexIVFScaNN& index,
        const SearchPlan& plan,
        const kernels::Kernels& kernels,
        const float* query,
        ScaNNSearchStats& stats) {
    index_ = &index;
    plan_ = &plan;
    kernels_ = &kernels;
    query_ = query;
    stats_ = &stats;
    positions_ = 0;
    passing_ = 0;
    segments_.clear();
    candidates_.reset(plan.scan_keep);

    StageTimer timer(plan, stats.table_time);
    const float* rotated = query;
    if (!index.rotation().is_identity()) {
        rotated_.resize(index.d);
        index.rotation().apply(1, query, rotated_.data());
        rotated = rotated_.data();
    }
    // A term must not exceed 65535 table steps.
    float term_step = index.term_code().step;
    table_.build(kernels, index.pq(), rotated, term_step * 1.0001f);
    term_mult_ = uint32_t(std::nearbyint(65536 * term_step / table_.step));
}

void QuerySearch::add_probes(
        size_t n,
        const int64_t* lists,
        const float* scores) {
    const ScaNNLists* spilled = index_->spilled_lists();
    if (positions_ == 0 && n > 0) {
        reference_bias_ = scores[0];
    }
    for (size_t i = 0; i < n; i++) {
        if (plan_->max_codes > 0 && positions_ >= plan_->max_codes) {
            break;
        }
        int64_t list = lists[i];
        if (list < 0) {
            continue;
        }
        FAISS_THROW_IF_NOT_FMT(
                size_t(list) < index_->nlist,
                "list %lld is not below nlist = %zu",
                static_cast<long long>(list),
                size_t(index_->nlist));
        stats_->lists++;
        for (const ScaNNLists* source : {&index_->lists(), spilled}) {
            size_t size = source == nullptr ? 0 : source->list(list).size();
            if (size == 0) {
                continue;
            }
            segments_.push_back(
                    {source,
                     uint32_t(list),
                     uint32_t(positions_),
                     scores[i]});
            positions_ += size;
        }
    }
    FAISS_THROW_IF_NOT_FMT(
            positions_ <= std::numeric_limits<uint32_t>::max(),
            "the probed lists hold %llu codes (allowed: < 2^32); lower nprobe",
            static_cast<unsigned long long>(positions_));
}

void QuerySearch::scan(const Visit* visits, size_t n) {
    QuerySearch& first = *visits[0].query;
    const Segment& segment = first.segments_[visits[0].segment];
    const ScaNNList& list = segment.lists->list(segment.list);
    const EntryLayout& layout = segment.lists->layout();

    kernels::ScanList codes{
            list.packed.data(),
            list.size(),
            layout.packed().groups(),
            layout.has_term,
            nullptr};
    size_t passing = list.size();
    if (!first.plan_->filter.passes_all()) {
        passing = first.plan_->filter.masks(
                *first.kernels_, list.ids.data(), list.size(), first.masks_);
        codes.masks = first.masks_.data();
    }
    kernels::ScanQuery queries[kernels::kMaxScanQueries];
    for (size_t q = 0; q < n; q++) {
        QuerySearch& query = *visits[q].query;
        const Segment& at = query.segments_[visits[q].segment];
        queries[q].table = query.table_.bytes.data();
        queries[q].bias = integer_bias(
                at.bias, query.reference_bias_, query.table_.step);
        queries[q].term_mult = query.term_mult_;
        queries[q].position = at.position;
        query.passing_ += passing;
        query.stats_->codes += list.size();
    }
    for (size_t next = 0; passing > 0 && next < codes.n;) {
        for (size_t q = 0; q < n; q++) {
            visits[q].query->candidates_.lend(queries[q]);
        }
        next = first.kernels_->scan(codes, next, queries, n);
        for (size_t q = 0; q < n; q++) {
            visits[q].query->candidates_.take_back(queries[q]);
        }
    }
}

void QuerySearch::scan_all(size_t first) {
    for (size_t s = first; s < segments_.size(); s++) {
        Visit visit{this, s};
        scan(&visit, 1);
    }
}

void QuerySearch::locate_candidates() {
    candidates_.finish();
    stats_->candidates += candidates_.size();
    rows_.resize(candidates_.size());
    for (size_t i = 0; i < rows_.size(); i++) {
        uint64_t key = candidates_.keys()[i];
        uint32_t position = key_position(key);
        auto segment = std::upper_bound(
                segments_.begin(),
                segments_.end(),
                position,
                [](uint32_t p, const Segment& s) { return p < s.position; });
        --segment;
        rows_[i] = {
                segment->list,
                position - segment->position,
                segment->bias,
                float(key_score(key))};
        if (segment->lists->layout().has_primary) {
            // The same vector in its primary list, whose centroid has another
            // score than that of the list it was spilled to.
            uint64_t primary =
                    segment->lists->list(segment->list).primary[rows_[i].offset];
            rows_[i].list = uint32_t(faiss::lo_listno(primary));
            rows_[i].offset = uint32_t(faiss::lo_offset(primary));
            rows_[i].bias = index_->centroid_score(query_, rows_[i].list);
        }
    }
    if (index_->spilled_lists() != nullptr) {
        auto place = [](const Row& row) {
            return faiss::lo_build(row.list, row.offset);
        };
        std::sort(rows_.begin(), rows_.end(), [&](auto& a, auto& b) {
            return place(a) < place(b);
        });
        auto end = std::unique(
                rows_.begin(), rows_.end(), [&](auto& a, auto& b) {
                    return place(a) == place(b);
                });
        rows_.erase(end, rows_.end());
    }
}

void QuerySearch::write_results(float* distances, int64_t* labels) {
    locate_candidates();
    Rescorer rescorer(index_->lists(), index_->metric_type);
    rescorer.set_query(query_);
    if (plan_->refine) {
        StageTimer timer(*plan_, stats_->refine_time);
        stats_->refined += rows_.size();
        rescorer.refine(*kernels_, rows_);
        keep_best(rows_, plan_->refine_keep);
    }
    if (plan_->rerank) {
        StageTimer timer(*plan_, stats_->rerank_time);
        stats_->reranked += rows_.size();
        rescorer.rerank(*kernels_, rows_);
    }
    if (!plan_->refine && !plan_->rerank) {
        rescorer.rescore_codes(table_, index_->term_code(), rows_);
    }
    keep_best(rows_, plan_->k);
    output(distances, labels);
}

void QuerySearch::output(float* distances, int64_t* labels) const {
    bool l2 = index_->metric_type == faiss::METRIC_L2;
    struct Result {
        float score;
        int64_t label;
    };
    std::vector<Result> results(rows_.size());
    for (size_t i = 0; i < rows_.size(); i++) {
        const Row& row = rows_[i];
        int64_t label = plan_->store_pairs
                ? int64_t(faiss::lo_build(row.list, row.offset))
                : index_->lists().list(row.list).ids[row.offset];
        results[i] = {row.score, label};
    }
    std::sort(results.begin(), results.end(), [](auto& a, auto& b) {
        return a.score != b.score ? a.score > b.score : a.label < b.label;
    });
    float largest = std::numeric_limits<float>::max();
    for (size_t i = 0; i < plan_->k; i++) {
        bool found = i < results.size();
        labels[i] = found ? results[i].label : -1;
        if (l2) {
            distances[i] = found ? std::max(0.0f, -2 * results[i].score)
                                 : largest;
        } else {
            distances[i] = found ? results[i].score : -largest;
        }
    }
}

} // namespace faiss_ext
